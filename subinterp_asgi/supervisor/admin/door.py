"""Answers on ``metrics_bind`` when no worker does, so that a probe hears 503 rather than nothing.

Workers and supervisor listen on the same sockets. A connection is the workers' for ``PATIENCE``;
then, if none of them has come round meanwhile or none serves, the supervisor takes it. It does so
in the monitor's thread, which must not wait for a client: nothing here blocks, and what a client
may send, how long it may take and how many there may be is bounded.

With ``status_page`` workers don't listen there, and the supervisor answers all at once.
"""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial

from ...config import Config
from ...control.scoreboard import Slot
from ...http1 import (
    DefaultFields,
    Limits,
    ProtocolError,
    Request,
    RequestParser,
    ResponseWriter,
    simple_response,
)
from ...types import TYPE_CHECKING
from ...worker.asgi.endpoints import Reply, endpoints_alone, health_reply, metrics_reply
from ..listeners import Listeners
from ..pool.handle import ACCEPTING, WorkerHandle, held_up
from ..pool.selector import NEVER, Selector

if TYPE_CHECKING:
    from .status import Status

PATIENCE = 1.0
"""Seconds that a connection waits for a worker."""
LATE = 1.0
"""Seconds by which a look may come too late before the process is taken not to have run."""
_CLIENT_TIME = 5.0  # seconds from a client's connection to its end
_CLIENT_OCTETS = 256 * 1024  # most that are read of one
_MOST_CLIENTS = 32  # at a time; beyond them the oldest is closed


class _Client:
    __slots__ = ("ends", "octets", "out", "parser", "sock")

    def __init__(self, sock: socket.socket, limits: Limits, ends: float) -> None:
        self.sock = sock
        self.parser: RequestParser | None = RequestParser(limits)  # None: it is answered
        self.out = b""
        self.octets = 0
        self.ends = ends


class Admin:
    """The supervisor's own door; its steps are the monitor's, with the supervisor's lock held.

    Args:
        listeners: Those of ``metrics_bind``.
        board: The scoreboard.
        handles: Returns all workers.
        status: What the status page shows, if there is one.
    """

    def __init__(
        self,
        config: Config,
        listeners: Listeners,
        selector: Selector,
        board: Slot,
        handles: Callable[[], Sequence[WorkerHandle]],
        status: Status | None = None,
    ) -> None:
        self._listeners = listeners
        self._selector = selector
        self._handles = handles
        self._status = status
        self._patience = PATIENCE if status is None else 0.0
        others = None if status is None else status.endpoints
        metrics = partial(metrics_reply, board, config)
        self._endpoints = endpoints_alone(config, self._health, metrics, others)
        self._defaults = DefaultFields(server=config.server_header, date=config.date_header)
        self._limits = Limits.of(config)
        self._look_at: float | None = None  # when the selector tells of a connection
        self._clients: dict[int, _Client] = {}
        self._await_connections()

    def step(self, ready: Iterable[int], now: float) -> float:
        """Answer whom no worker does; return when to look again (``time.monotonic()``)."""
        for fd, client in tuple(self._clients.items()):
            if now >= client.ends:
                self._close(client)
            elif fd in ready:
                self._go_on(client)
        if self._look_at is None and any(sock.fileno() in ready for sock in self._listeners):
            self._look_at = now + self._patience
        if self._look_at is not None and now >= self._look_at:
            # If it is late nobody ran, and the workers shall have their time.
            late = self._status is None and now > self._look_at + LATE
            again = late or not self._take_over(now)
            self._look_at = now + PATIENCE if again else None
        deadlines = [client.ends for client in self._clients.values()]
        if self._status is not None:
            deadlines.append(self._status.step(now))
        return min([NEVER if self._look_at is None else self._look_at, *deadlines])

    def _take_over(self, now: float) -> bool:
        """Take the connections that wait if no worker will; ``False``: look again later."""
        if self._status is not None or held_up(self._handles()) >= PATIENCE:
            try:
                for sock in self._listeners:
                    self._accept(sock, now)
            except OSError:
                return False  # no descriptor is left
        self._await_connections()
        return True

    def _await_connections(self) -> None:
        """Have the selector tell of the next connection."""
        for sock in self._listeners:
            self._selector.arm(sock.fileno())

    # --- clients

    def _accept(self, listener: socket.socket, now: float) -> None:
        for _ in range(_MOST_CLIENTS):
            try:
                sock, _ = listener.accept()
            except BlockingIOError:
                return
            except ConnectionError:
                continue
            sock.setblocking(False)
            if len(self._clients) >= _MOST_CLIENTS:
                self._close(next(iter(self._clients.values())))
            client = _Client(sock, self._limits, now + _CLIENT_TIME)
            self._clients[sock.fileno()] = client
            self._go_on(client)

    def _go_on(self, client: _Client) -> None:
        """Do for a client what can be done at once: send what is due, then read, once."""
        try:
            if client.out:
                self._send(client)
            else:
                self._receive(client)
        except BlockingIOError:
            pass
        except OSError:
            self._close(client)
        if client.sock.fileno() in self._clients:
            self._selector.arm(client.sock.fileno(), write=bool(client.out))

    def _receive(self, client: _Client) -> None:
        data = client.sock.recv(65536)
        client.octets += len(data)
        if not data or client.octets > _CLIENT_OCTETS:
            self._close(client)
        elif client.parser is not None:
            client.parser.feed(data)
            try:
                request = client.parser.next_request()
                if request is None:
                    return
                client.out = self._answer(request)
            except ProtocolError as exc:
                client.out = simple_response(
                    exc.status,
                    self._defaults,
                    keep_alive=False,
                    head_request=client.parser.head_refused,
                )
            client.parser = None
            self._send(client)

    def _send(self, client: _Client) -> None:
        client.out = client.out[client.sock.send(client.out) :]
        if not client.out:
            # Its end is the client's: what it still sends would break the answer if it was closed.
            client.sock.shutdown(socket.SHUT_WR)

    def _close(self, client: _Client) -> None:
        fd = client.sock.fileno()
        self._selector.forget(fd)
        del self._clients[fd]
        client.sock.close()

    def close(self) -> None:
        """Close the clients; the listeners are somebody else's."""
        if self._status is not None:
            self._status.close()
        for client in tuple(self._clients.values()):
            self._close(client)

    # --- answers

    def _answer(self, request: Request) -> bytes:
        reply = self._endpoints.find(request)
        assert reply is not None  # here there is no application
        status, fields, body = reply
        head_request = request.method == "HEAD"
        writer = ResponseWriter(self._defaults, head_request=head_request, keep_alive=False)
        writer.start(status, fields)
        return writer.send(body, more=False)

    def _health(self) -> Reply:
        well = self._status is not None and held_up(self._handles()) < PATIENCE
        return health_reply(200, b"OK\n") if well else health_reply(503, self._reason())

    def _reason(self) -> bytes:
        """Why no worker answers."""
        kinds: Counter[str] = Counter()
        for handle in self._handles():
            kinds["held up" if handle.state in ACCEPTING else handle.state.value] += 1
        what = ", ".join(f"{number} {kind}" for kind, number in kinds.items()) or "none is running"
        seconds = held_up(self._handles())
        if seconds < NEVER:
            what += f", for {seconds:.1f} s"
        return f"No worker answers: {what}\n".encode()
