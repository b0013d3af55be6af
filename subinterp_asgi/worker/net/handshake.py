"""What may come on an accepted socket before the first request, such as a TLS handshake.

An ``Handshake`` stands among a worker's connections until it is through, then what comes next takes
its socket over. Plain connections never have one.
"""

from __future__ import annotations

import contextlib
import logging
import socket
from time import monotonic

from ...types import TYPE_CHECKING
from .connection import NEVER, Accepted

if TYPE_CHECKING:
    from .connection import Registry

logger = logging.getLogger("subinterp_asgi.error")

_MOMENT = 1.0
"""Seconds that are left to a handshake when its worker ends, or was held up itself."""


class Handshake(Accepted):
    """Brings an accepted socket one stage nearer to its first request."""

    __slots__ = ("_overdue",)

    def __init__(self, sock: socket.socket, registry: Registry) -> None:
        super().__init__(sock, registry)
        self.deadline = monotonic() + (registry.config.timeout_tls_handshake or NEVER)
        self._overdue = False

    def on_events(self, events: int) -> None:
        """Called by the poller."""
        try:
            if self.answered:
                self._discard()
            else:
                self._proceed()
        except Exception:
            # As in a connection: it must cost this client only, and must not come again and again.
            logger.exception("internal error; the connection is dropped")
            self._sock.close()
            self.abort()

    def _proceed(self) -> None:
        """Go on, as far as that is possible; a subclass's."""
        raise NotImplementedError

    def _refuse(self, answer: bytes) -> None:
        """Let the client read why, which may be an alert: see ``Connection.close()``."""
        self._sock = socket.socket(fileno=self._sock.detach())
        self._sock.setblocking(False)
        with contextlib.suppress(OSError):  # it is gone, which reading will tell
            if answer:
                self._sock.send(answer)
            self._sock.shutdown(socket.SHUT_WR)
        self._linger()

    idle = Accepted.answered  # who was accepted and not refused is to be served

    def leave(self) -> socket.socket:
        """Give the socket up, to what comes next."""
        self.closed = True
        self._poller.remove(self._fd)
        self._registry.discard(self)
        return self._sock

    def abort(self) -> None:
        """Give up."""
        if not self.closed:
            self.leave().close()

    close = break_off = abort

    def drain(self) -> None:
        """The worker is ending: don't wait long for a client that says nothing."""
        self.deadline = min(self.deadline, monotonic() + _MOMENT)

    def check_deadlines(self, now: float) -> None:
        """Called by the worker's timer."""
        if now < self.deadline:
            return
        # As in Connection: what is overdue may wait in the socket. It may also be the client's turn
        # again after that, for which it has a moment, but that only once.
        if self.look() and not (self.answered or self._overdue):
            self._overdue = True
            self.deadline = now + _MOMENT
        if now >= self.deadline:
            self.abort()
