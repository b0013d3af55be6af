"""TLS on an accepted socket: the handshake, then a connection, the same as a plain one.

Imported only where TLS is on. An ``SSLSocket`` is read and written as a socket is, and says "not
now" by exceptions of its own. A read of ``READ_SIZE`` octets always takes a whole record, so that
none is left where the poller can't see it.
"""

from __future__ import annotations

import logging
import ssl
from collections import deque

from ...types import TYPE_CHECKING
from .connection import Connection
from .handshake import Handshake
from .poller import READ, WRITE

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from typing import Any

    from .connection import Registry

logger = logging.getLogger("subinterp_asgi.error")

WRITE_SIZE = 65536
"""Octets encrypted at once. OpenSSL reports a piece only when all of it is written, so that a large
one would look like no progress at all to a slow client's write deadline."""

# OpenSSL knows some methods when it sees them, and of others only that this is no TLS.
_NOT_TLS = frozenset(("HTTP_REQUEST", "HTTPS_PROXY_REQUEST", "WRONG_VERSION_NUMBER"))
_PLAIN_ANSWER = (
    b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\ncontent-length: 35\r\n"
    b"connection: close\r\n\r\nThis port speaks HTTPS, not HTTP.\r\n"
)


class TLSHandshake(Handshake):
    """Shakes hands; ``on_open()`` is called with the socket, wrapped, once it is through.

    ``OSError``: the client has gone already.
    """

    __slots__ = ("_on_open", "_ssl_socket")

    def __init__(
        self,
        sock: socket.socket,
        registry: Registry,
        context: ssl.SSLContext,
        on_open: Callable[[ssl.SSLSocket], None],
    ) -> None:
        self._ssl_socket = context.wrap_socket(
            sock, server_side=True, do_handshake_on_connect=False
        )
        self._on_open = on_open
        super().__init__(self._ssl_socket, registry)

    def _proceed(self) -> None:
        try:
            self._ssl_socket.do_handshake()
        except ssl.SSLWantReadError:
            self._watch_for(READ)
        except ssl.SSLWantWriteError:
            self._watch_for(WRITE)
        except OSError as exc:
            logger.debug("the TLS handshake failed: %s", exc)
            self._refuse(_PLAIN_ANSWER if getattr(exc, "reason", None) in _NOT_TLS else b"")
        else:
            self.leave()
            self._on_open(self._ssl_socket)


class TLSConnection(Connection):
    """A connection over an ``SSLSocket`` whose handshake is complete."""

    __slots__ = ()

    _can_gather = False

    would_block = (
        BlockingIOError,
        InterruptedError,
        ssl.SSLWantReadError,
        ssl.SSLWantWriteError,
    )

    def __init__(self, sock: ssl.SSLSocket, *args: Any) -> None:
        super().__init__(sock, *args)
        send = sock.send

        def send_piece(data: bytes | memoryview) -> int:
            return send(data if len(data) <= WRITE_SIZE else memoryview(data)[:WRITE_SIZE])

        self._send = send_piece

    def _send_file_part(self, file: int, offset: int, count: int) -> int:
        return self._copy_file_part(file, offset, count)  # what the kernel sends is not encrypted

    def _finish(self) -> None:
        sock = self._sock
        assert isinstance(sock, ssl.SSLSocket)
        if not self._linger_end:
            # Tell the peer that this is the end and nothing was cut off (RFC 8446 section 6.1). It
            # need not answer.
            try:
                sock.unwrap()
            except ssl.SSLWantWriteError:
                self._out = deque()  # there is no room for it yet: come back when there is
                self._expect_room()
                self._watch()
                return
            except (OSError, ValueError):
                pass
        super()._finish()
