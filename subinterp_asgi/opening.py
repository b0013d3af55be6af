"""What may come on an accepted socket before the first request: a PROXY header, a TLS handshake.

An ``Opening`` stands among a worker's connections until it is through, then a ``Connection`` takes
its socket over. Plain connections, which need neither, never have one.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import ssl
from time import monotonic

from .connection import LINGER_SIZE, LINGER_TIME, NEVER
from .poller import READ, WRITE
from .types import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from .connection import ConnectionRegistry
    from .poller import Poller

logger = logging.getLogger("subinterp_asgi.error")

_DRAIN_TIME = 1.0  # seconds that are left to an opening when its worker ends
# OpenSSL knows some methods when it sees them, and of others only that this is no TLS.
_NOT_TLS = frozenset(("HTTP_REQUEST", "HTTPS_PROXY_REQUEST", "WRONG_VERSION_NUMBER"))
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

    Raises:
        OSError: The client has gone already. The socket is closed.
    """

    __slots__ = (
        "_deadline",
        "_fd",
        "_linger_left",
        "_on_open",
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
        context: ssl.SSLContext,
        timeout: float,
        on_open: Callable[[ssl.SSLSocket], None],
    ) -> None:
        self._sock: socket.socket = context.wrap_socket(
            sock, server_side=True, do_handshake_on_connect=False
        )
        self._fd = self._sock.fileno()
        self._poller = poller
        self._registry = registry
        self._on_open = on_open
        self._deadline = monotonic() + timeout if timeout else NEVER
        self._linger_left = -1
        self.closed = False
        poller.add(self._fd, READ, self.on_events)

    def on_events(self, events: int) -> None:
        """Called by the poller."""
        try:
            if self.answered:
                self._discard()
            else:
                self._shake_hands()
        except Exception:
            # As in a connection: it must cost this client only, and must not come again and again.
            logger.exception("internal error; the connection is dropped")
            self._sock.close()
            self.abort()

    def _shake_hands(self) -> None:
        assert isinstance(self._sock, ssl.SSLSocket)
        try:
            self._sock.do_handshake()
        except ssl.SSLWantReadError:
            self._poller.modify(self._fd, READ)
        except ssl.SSLWantWriteError:
            self._poller.modify(self._fd, WRITE)
        except OSError as exc:
            logger.debug("the TLS handshake failed: %s", exc)
            self._refuse(_PLAIN_ANSWER if getattr(exc, "reason", None) in _NOT_TLS else b"")
        else:
            self._leave()
            self._on_open(self._sock)

    def _refuse(self, answer: bytes) -> None:
        """Let the client read why, which may be an alert: see ``Connection.close()``."""
        self._sock = socket.socket(fileno=self._sock.detach())
        self._sock.setblocking(False)
        with contextlib.suppress(OSError):  # it is gone, which reading will tell
            if answer:
                self._sock.send(answer)
            self._sock.shutdown(socket.SHUT_WR)
        self._linger_left = LINGER_SIZE
        self._deadline = min(self._deadline, monotonic() + LINGER_TIME)
        self._poller.modify(self._fd, READ)
        self._registry.answered(self)

    def _discard(self) -> None:
        try:
            data = self._sock.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._linger_left -= len(data)
        if not data or self._linger_left < 0:
            self.abort()

    @property
    def answered(self) -> bool:
        """Whether the client was refused, and only its end is waited for."""
        return self._linger_left >= 0

    idle = answered  # who was accepted and not refused is to be served

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
