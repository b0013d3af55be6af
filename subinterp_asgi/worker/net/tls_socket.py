"""A connection over TLS: the same as a plain one, on an ``SSLSocket``.

An ``SSLSocket`` is read and written as a socket is, and says "not now" by exceptions of its own. A
read of ``READ_SIZE`` octets always takes a whole record, so that none is left where the poller
can't see it.
"""

from __future__ import annotations

import ssl
from collections import deque
from time import monotonic

from ...types import TYPE_CHECKING
from .connection import Connection

if TYPE_CHECKING:
    from typing import Any

WRITE_SIZE = 65536
"""Octets encrypted at once. OpenSSL reports a piece only when all of it is written, so that a large
one would look like no progress at all to a slow client's write deadline."""


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

    def __init__(self, sock: ssl.SSLSocket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        send = sock.send

        def send_piece(data: bytes | memoryview) -> int:
            return send(data if len(data) <= WRITE_SIZE else memoryview(data)[:WRITE_SIZE])

        self._send = send_piece

    def _send_file_part(self, file: int, offset: int, count: int) -> int:
        return self._copy_file_part(file, offset, count)  # what the kernel sends is not encrypted

    def _finish(self) -> None:
        if self._linger_left < 0:
            # Tell the peer that this is the end and nothing was cut off (RFC 8446 section 6.1). It
            # need not answer.
            try:
                self._ssl_socket.unwrap()
            except ssl.SSLWantWriteError:
                self._out = deque()  # there is no room for it yet: come back when there is
                self._write_deadline = monotonic() + self._write_timeout
                self._watch()
                return
            except (OSError, ValueError):
                pass
        super()._finish()

    @property
    def _ssl_socket(self) -> ssl.SSLSocket:
        sock = self._sock
        assert isinstance(sock, ssl.SSLSocket)
        return sock
