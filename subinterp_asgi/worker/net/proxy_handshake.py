"""The PROXY protocol header of an accepted socket, which says for whom a proxy has connected."""

from __future__ import annotations

import socket

from ...types import TYPE_CHECKING
from ..proxies.proxy_protocol import ProxyProtocolError, read_header
from .handshake import Handshake

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...types import Address
    from .connection import Registry

_PEEK_SIZE = 4096


class ProxyHandshake(Handshake):
    """Reads the header and not an octet more, since the next may be those of a TLS handshake.

    The addresses are those of the proxy and the one that it connected to, for connections of its
    own. ``on_open()`` is called with the socket, the client's address and the one it connected to,
    ``on_refusal()`` with the reason if what comes is no header.
    """

    __slots__ = ("_client", "_data", "_on_open", "_on_refusal", "_server")

    def __init__(
        self,
        sock: socket.socket,
        registry: Registry,
        client: Address | None,
        server: Address | None,
        on_open: Callable[[socket.socket, Address | None, Address | None], None],
        on_refusal: Callable[[ProxyProtocolError], None],
    ) -> None:
        self._client = client
        self._server = server
        self._on_open = on_open
        self._on_refusal = on_refusal
        self._data = b""  # of a header that is not complete
        super().__init__(sock, registry)

    def _proceed(self) -> None:
        try:
            data = self._sock.recv(_PEEK_SIZE, socket.MSG_PEEK)
            header = read_header(self._data + data) if data else None
        except BlockingIOError:
            return
        except (OSError, ProxyProtocolError) as exc:
            if isinstance(exc, ProxyProtocolError):
                self._on_refusal(exc)
            self.abort()
            return
        if not data:
            self.abort()
            return
        # What is not the header's is left in the kernel's buffer.
        self._sock.recv(len(data) - (0 if header is None else len(header.leftover)))
        if header is None:
            self._data += data
            return
        client, server = self._client, self._server
        if not header.is_local:
            # A Unix socket's client has no address that ASGI could tell.
            source = header.source
            client = None if source is None or source[1] is None else source
            server = header.destination
        self._on_open(self.leave(), client, server)
