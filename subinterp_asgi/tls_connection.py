"""A connection over TLS: the same as a plain one, on an ``SSLSocket``.

An ``SSLSocket`` is read and written as a socket is, and says "not now" by exceptions of its own. A
read of ``READ_SIZE`` octets always takes a whole record, so that none is left where the poller
can't see it.
"""

from __future__ import annotations

import contextlib
import ssl

from .connection import Connection


class TLSConnection(Connection):
    """A connection over an ``SSLSocket`` whose handshake is complete."""

    __slots__ = ()

    would_block = (
        BlockingIOError,
        InterruptedError,
        ssl.SSLWantReadError,
        ssl.SSLWantWriteError,
    )

    def _send_file_part(self, file: int, offset: int, count: int) -> int:
        return self._copy_file_part(file, offset, count)  # what the kernel sends is not encrypted

    def _finish(self) -> None:
        if self._linger_left < 0:
            # Tell the peer that this is the end and nothing was cut off (RFC 8446 section 6.1). It
            # need not answer.
            with contextlib.suppress(OSError, ValueError):
                self._ssl_socket.unwrap()
        super()._finish()

    @property
    def _ssl_socket(self) -> ssl.SSLSocket:
        sock = self._sock
        assert isinstance(sock, ssl.SSLSocket)
        return sock
