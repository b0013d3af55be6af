"""What may come on an accepted socket before the first request: a PROXY header, a TLS handshake.

An ``Opening`` stands among a worker's connections until it is through, then a ``Connection`` takes
its socket over. Plain connections, which need neither, never have one.
"""

from __future__ import annotations

import socket
import ssl
from time import monotonic

from .connection import NEVER
from .poller import READ, WRITE
from .types import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from .connection import ConnectionRegistry
    from .poller import Poller

_DRAIN_TIME = 1.0  # seconds that are left to an opening when its worker ends
_PLAIN_ANSWER = (
    b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\ncontent-length: 35\r\n"
    b"connection: close\r\n\r\nThis port speaks HTTPS, not HTTP.\r\n"
)


class Opening:
    """Brings an accepted socket to where its first request can be read.

    Args:
        sock: The socket, non-blocking.
        poller: Watches it.
        registry: The worker's connections.
        context: Context to wrap the socket with.
        timeout: Seconds it may take; 0: no bound.
        on_open: Called with the socket, wrapped, once it is through.
    """

    __slots__ = ("_deadline", "_fd", "_on_open", "_poller", "_registry", "_sock", "closed")

    idle = answered = False  # its client has been accepted, and is to be served

    def __init__(
        self,
        sock: socket.socket,
        poller: Poller,
        registry: ConnectionRegistry,
        *,
        context: ssl.SSLContext,
        timeout: float,
        on_open: Callable[[ssl.SSLSocket], None],
    ) -> None:
        self._sock = context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
        self._fd = self._sock.fileno()
        self._poller = poller
        self._registry = registry
        self._on_open = on_open
        self._deadline = monotonic() + timeout if timeout else NEVER
        self.closed = False
        poller.add(self._fd, READ, self.on_events)

    def on_events(self, events: int) -> None:
        """Go on with the handshake; called by the poller."""
        try:
            self._sock.do_handshake()
        except ssl.SSLWantReadError:
            self._poller.modify(self._fd, READ)
        except ssl.SSLWantWriteError:
            self._poller.modify(self._fd, WRITE)
        except OSError as exc:
            self._leave()
            if getattr(exc, "reason", None) == "HTTP_REQUEST":
                self._answer_plainly()
            self._sock.close()
        else:
            self._leave()
            self._on_open(self._sock)

    def _answer_plainly(self) -> None:
        """Tell a client that spoke HTTP what is wrong."""
        try:
            with socket.socket(fileno=self._sock.detach()) as plain:
                plain.setblocking(False)
                plain.send(_PLAIN_ANSWER)
                plain.shutdown(socket.SHUT_WR)
                plain.recv(65536)  # closing with octets unread would destroy the answer
        except OSError:
            return

    def _leave(self) -> None:
        self.closed = True
        self._poller.remove(self._fd)
        self._registry.discard(self)

    def abort(self) -> None:
        """Give up."""
        if not self.closed:
            self._leave()
            self._sock.close()

    close = break_off = abort

    def drain(self) -> None:
        """The worker is ending: don't wait long for a client that says nothing."""
        self._deadline = min(self._deadline, monotonic() + _DRAIN_TIME)

    def check_deadlines(self, now: float) -> None:
        """Called by the worker's timer."""
        if now >= self._deadline:
            self.abort()
