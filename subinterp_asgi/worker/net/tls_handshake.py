"""The TLS handshake of an accepted socket."""

from __future__ import annotations

import logging
import ssl

from ...types import TYPE_CHECKING
from .handshake import Handshake
from .poller import READ, WRITE

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from .connection import ConnectionRegistry
    from .poller import Poller

logger = logging.getLogger("subinterp_asgi.error")

# OpenSSL knows some methods when it sees them, and of others only that this is no TLS.
_NOT_TLS = frozenset(("HTTP_REQUEST", "HTTPS_PROXY_REQUEST", "WRONG_VERSION_NUMBER"))
_PLAIN_ANSWER = (
    b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\ncontent-length: 35\r\n"
    b"connection: close\r\n\r\nThis port speaks HTTPS, not HTTP.\r\n"
)


class TLSHandshake(Handshake):
    """Shakes hands.

    Args:
        sock, poller, registry, timeout: As ``Handshake``.
        context: Context to wrap the socket with.
        on_open: Called with the socket, wrapped, once it is through.

    Raises:
        OSError: The client has gone already.
    """

    __slots__ = ("_on_open", "_ssl_socket")

    def __init__(
        self,
        sock: socket.socket,
        poller: Poller,
        registry: ConnectionRegistry,
        *,
        timeout: float,
        context: ssl.SSLContext,
        on_open: Callable[[ssl.SSLSocket], None],
    ) -> None:
        self._ssl_socket = context.wrap_socket(
            sock, server_side=True, do_handshake_on_connect=False
        )
        self._on_open = on_open
        super().__init__(self._ssl_socket, poller, registry, timeout=timeout)

    def _proceed(self) -> None:
        try:
            self._ssl_socket.do_handshake()
        except ssl.SSLWantReadError:
            self._poller.modify(self._fd, READ)
        except ssl.SSLWantWriteError:
            self._poller.modify(self._fd, WRITE)
        except OSError as exc:
            logger.debug("the TLS handshake failed: %s", exc)
            self._refuse(_PLAIN_ANSWER if getattr(exc, "reason", None) in _NOT_TLS else b"")
        else:
            self.leave()
            self._on_open(self._ssl_socket)
