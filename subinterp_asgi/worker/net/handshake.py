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
from .connection import LINGER_SILENCE, LINGER_TIME, NEVER, waste
from .poller import READ, ready

if TYPE_CHECKING:
    from .connection import ConnectionRegistry
    from .poller import Poller

logger = logging.getLogger("subinterp_asgi.error")

_MOMENT = 1.0
"""Seconds that are left to a handshake when its worker ends, or was held up itself."""


class Handshake:
    """Brings an accepted socket one stage nearer to its first request.

    Args:
        sock: The socket, non-blocking.
        poller: Watches it.
        registry: The worker's connections.
        timeout: Seconds it may take; 0: no bound.
    """

    __slots__ = (
        "_deadline",
        "_fd",
        "_linger_end",
        "_overdue",
        "_poller",
        "_registry",
        "_sock",
        "closed",
    )

    def __init__(
        self,
        sock: socket.socket,
        poller: Poller,
        registry: ConnectionRegistry,
        *,
        timeout: float,
    ) -> None:
        self._sock = sock
        self._fd = sock.fileno()
        self._poller = poller
        self._registry = registry
        self._deadline = monotonic() + timeout if timeout else NEVER
        self._overdue = False
        self._linger_end = 0.0  # as in Connection
        self.closed = False
        poller.add(self._fd, READ, self.on_events)

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
        now = monotonic()
        self._linger_end = now + LINGER_TIME
        self._deadline = now + min(LINGER_SILENCE, LINGER_TIME)
        self._poller.modify(self._fd, READ)
        self._registry.answered(self)

    def _discard(self) -> None:
        try:
            size = self._sock.recv_into(waste)
        except BlockingIOError:
            return
        except OSError:
            size = 0
        if size:
            self._deadline = min(monotonic() + LINGER_SILENCE, self._linger_end)
        else:
            self.abort()

    @property
    def answered(self) -> bool:
        """Whether the client was refused, and only its end is waited for."""
        return self._linger_end > 0

    idle = answered  # who was accepted and not refused is to be served

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
        self._deadline = min(self._deadline, monotonic() + _MOMENT)

    def check_deadlines(self, now: float) -> None:
        """Called by the worker's timer."""
        if now < self._deadline:
            return
        # As in Connection: what is overdue may wait in the socket. It may also be the client's turn
        # again after that, for which it has a moment, but that only once.
        if self.look() and not (self.answered or self._overdue):
            self._overdue = True
            self._deadline = now + _MOMENT
        if now >= self._deadline:
            self.abort()

    def look(self) -> bool:
        """Do now what the socket is ready for, without a poller; return whether it was."""
        if self.closed or not ready(self._fd, READ):
            return False
        self.on_events(READ)
        return True
