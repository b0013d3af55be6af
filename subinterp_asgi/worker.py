"""Serves one application on one asyncio loop: accepts, keeps time, drains, ends.

A worker knows nothing of interpreters or supervisors and can be run on any asyncio loop::

    worker = Worker(app, Config(), sock)
    await worker.serve()          # until worker.shutdown(), from the same thread
"""

from __future__ import annotations

import asyncio
import contextvars
import errno
import logging
import socket
import sys
from collections.abc import Awaitable, Callable, Sequence
from enum import Enum
from functools import partial
from time import monotonic

from . import logs
from .asgi.http import HTTPSession
from .asgi.lifespan import Lifespan
from .config import Config
from .connection import Connection
from .errors import StateError
from .poller import READ, make_poller
from .scoreboard import CONNECTIONS, REQUESTS, Slot, new_board
from .service import AccessLog, Service
from .types import TYPE_CHECKING, Address, ASGIApp

if TYPE_CHECKING:
    from ssl import SSLSocket
    from typing import Any

    from .opening import Opening
    from .poller import Poller
    from .tls import TLSContext


logger = logging.getLogger("subinterp_asgi.error")

_OUT_OF_RESOURCES = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))
_ACCEPT_PAUSE = 0.5  # seconds to leave the listeners alone when descriptors have run out
_BREAK_OFF_TIME = 1.0  # seconds between telling requests that it is over and cancelling them


class WorkerState(Enum):
    """The stages of a worker's life, in this order."""

    NEW = "new"
    STARTING = "starting"
    SERVING = "serving"
    DRAINING = "draining"
    STOPPED = "stopped"


class Worker:
    """Serves an ASGI application on listening sockets.

    Args:
        app: The application.
        config: The options; those about listening and about supervision have no meaning here.
        sock: A listening socket, or several. The worker makes them non-blocking and leaves closing
            them to the caller.
        worker_id: Number of this worker, for hooks and logs.
        state: Initial content of the lifespan's ``scope["state"]``.
        slot: Where to count on the supervisor's scoreboard.
        access_log: Where to report requests if ``config.access_log`` is on.
        on_serving: Called once connections are accepted.
        on_start: Awaited after the lifespan's startup; an exception makes ``serve()`` fail.
        on_end: Awaited before the lifespan's shutdown.

    Attributes:
        state: Where in its life the worker is.
    """

    def __init__(
        self,
        app: ASGIApp,
        config: Config | None = None,
        sock: socket.socket | Sequence[socket.socket] = (),
        *,
        worker_id: int = 0,
        state: dict[str, Any] | None = None,
        slot: Slot | None = None,
        access_log: AccessLog = logs.log_access,
        on_serving: Callable[[], None] | None = None,
        on_start: Callable[[], Awaitable[None]] | None = None,
        on_end: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.app = app
        self.config = config or Config()
        self.worker_id = worker_id
        self.state = WorkerState.NEW
        self._listeners = [sock] if isinstance(sock, socket.socket) else list(sock)
        self._lifespan_state = {} if state is None else state
        self._slot = new_board(1) if slot is None else slot
        self._access_log = access_log if self.config.access_log else None
        self._on_serving = on_serving
        self._on_start = on_start
        self._on_end = on_end
        self._connections: set[Connection | Opening] = set()
        self._tls: TLSContext | None = None
        self._accepting = False
        self._drain_asked = False
        self._linger_over = False  # a drain has given idle connections all the time they get
        self._hook_due = False  # on_start has been called, on_end has not
        self._timer: asyncio.TimerHandle | None = None
        self._stopping = asyncio.Event()
        self._forced = asyncio.Event()
        self._progress = asyncio.Event()  # something ended that the drain may wait for
        self._poller: Poller
        self._service: Service
        self._loop: asyncio.AbstractEventLoop

    # --- what a supervisor asks

    @property
    def active_connections(self) -> int:
        """Number of open connections, idle ones included."""
        return len(self._connections)

    @property
    def requests(self) -> int:
        """Number of requests that were begun."""
        return self._slot[REQUESTS]

    def is_idle(self) -> bool:
        """Whether no request is in flight, no head half received and no background work left.

        While the worker drains, idle connections may still bring a request for ``timeout_linger``.
        """
        if self.state is WorkerState.SERVING:
            return not self._service.tasks and all(c.idle for c in self._connections)
        if self.state is WorkerState.DRAINING:
            return not self._service.tasks and all(c.answered for c in self._connections)
        return True

    def drain(self) -> None:
        """Accept no more connections; finish what was accepted. Does nothing the second time."""
        self._drain_asked = True  # remembered, if it is too early
        if self.state is not WorkerState.SERVING:
            return
        self.state = WorkerState.DRAINING
        self._service.draining = True
        if self._accepting:
            for listener in self._listeners:
                # What has already connected is served.
                for _ in range(self.config.backlog):
                    if not self._accept_one(listener):
                        break
            self._pause_accepting()
        for connection in tuple(self._connections):
            connection.drain()
        self._loop.call_later(self.config.timeout_linger, self._close_idle_connections)

    def _close_idle_connections(self) -> None:
        self._linger_over = True
        for connection in tuple(self._connections):
            if connection.idle:
                connection.close()

    def shutdown(self) -> None:
        """Make ``serve()`` return: drain, then wait for requests in flight.

        They have ``timeout_graceful_shutdown``; called a second time, they are broken off at once.
        """
        if self._stopping.is_set():
            self._forced.set()
            self._progress.set()
        self._stopping.set()

    # --- the life of a worker

    async def serve(self) -> None:
        """Run the lifespan and serve until ``shutdown()``.

        Raises:
            LifespanError: The lifespan's startup or shutdown failed.
            StateError: The worker has served before.
        """
        if self.state is not WorkerState.NEW:
            raise StateError("a worker can serve only once")
        self.state = WorkerState.STARTING
        self._loop = asyncio.get_running_loop()
        self._tls = self._make_tls()
        lifespan = Lifespan(self.app, self.config.lifespan, self._lifespan_state)
        try:
            if await self._start(lifespan):
                self._poller = make_poller(self._loop)
                try:
                    self._begin_serving(lifespan)
                    await self._stopping.wait()
                    await self._finish_requests()
                finally:
                    self._abandon_connections()
                    self._poller.close()
        finally:
            self.state = WorkerState.STOPPED
            await self._end(lifespan)

    async def _start(self, lifespan: Lifespan) -> bool:
        """Run what comes before the first connection; ``False`` if ``shutdown()`` came first."""
        starting = asyncio.ensure_future(self._run_startup(lifespan))
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait((starting, stopping), return_when="FIRST_COMPLETED")
            if starting.done():
                starting.result()
            return not self._stopping.is_set()
        finally:
            starting.cancel()
            stopping.cancel()
            await asyncio.wait((starting, stopping))

    async def _run_startup(self, lifespan: Lifespan) -> None:
        await lifespan.startup(self.config.startup_timeout)
        self._hook_due = True
        if self._on_start is not None:
            await self._on_start()

    def _begin_serving(self, lifespan: Lifespan) -> None:
        context = lifespan.context if self.config.lifespan_context else contextvars.copy_context()
        self._service = Service(
            self.app,
            self.config,
            self._loop,
            state=self._lifespan_state,
            slot=self._slot,
            access_log=self._access_log,
            on_task_end=self._progress.set,
            context=context,
        )
        for listener in self._listeners:
            listener.setblocking(False)
        self._server_addresses = {s.fileno(): _fixed_address(s) for s in self._listeners}
        self._resume_accepting()
        self.state = WorkerState.SERVING
        if self._on_serving is not None:
            self._on_serving()
        if self._drain_asked:
            self.drain()

    async def _finish_requests(self) -> None:
        """Wait for what is in flight, then tell it that it is over, then cancel it."""
        self.drain()
        if await self._wait_until_idle(self.config.timeout_graceful_shutdown, forced=self._forced):
            return
        logger.warning(
            "worker %d: %d request(s) still in flight are broken off",
            self.worker_id,
            self._service.in_flight,
        )
        for connection in tuple(self._connections):
            connection.break_off()
        await self._wait_until_idle(_BREAK_OFF_TIME)
        for task in self._service.tasks:
            task.cancel("the worker is shutting down")
        await self._wait_until_idle(_BREAK_OFF_TIME)

    async def _wait_until_idle(self, timeout: float, forced: asyncio.Event | None = None) -> bool:
        deadline = monotonic() + timeout
        while not self.is_idle():
            if forced is not None and forced.is_set():
                return False
            self._progress.clear()
            try:
                async with asyncio.timeout(deadline - monotonic()):
                    await self._progress.wait()
            except TimeoutError:
                return self.is_idle()
        return True

    def _abandon_connections(self) -> None:
        self._pause_accepting()
        for connection in tuple(self._connections):
            connection.abort()
        if self._timer is not None:
            self._timer.cancel()

    async def _end(self, lifespan: Lifespan) -> None:
        try:
            if self._on_end is not None and self._hook_due:
                await self._on_end()
        finally:
            await lifespan.shutdown(self.config.shutdown_timeout)

    # --- accepting

    def _resume_accepting(self) -> None:
        if not self._accepting:
            self._accepting = True
            for listener in self._listeners:
                # One connection for each wake-up: what another worker could serve as well is left
                # to it, where accepting until the queue is empty gives nearly all to the first.
                self._poller.add(listener.fileno(), READ, partial(self._on_acceptable, listener))

    def _pause_accepting(self) -> None:
        if self._accepting:
            self._accepting = False
            for listener in self._listeners:
                self._poller.remove(listener.fileno())

    def _on_acceptable(self, listener: socket.socket, events: int) -> None:
        self._accept_one(listener)

    def _accept_one(self, listener: socket.socket) -> bool:
        """Accept a connection if one waits; return whether it is worth trying again."""
        try:
            sock, address = listener.accept()
        except (BlockingIOError, InterruptedError):
            return False  # another worker was faster
        except ConnectionError:
            return True  # it was gone before it could be accepted
        except OSError as exc:
            if exc.errno == errno.EINVAL:  # its owner has shut it down, and will tell us to end
                self._pause_accepting()
                return False
            if exc.errno not in _OUT_OF_RESOURCES:
                raise
            logger.error("can't accept connections: %s; trying again soon", exc.strerror)
            if self._accepting:
                self._pause_accepting()
                self._loop.call_later(_ACCEPT_PAUSE, self._try_accepting_again)
            return False
        try:
            sock.setblocking(False)
            client: Address | None = None
            if sock.family != _AF_UNIX:
                client = address[:2]
                if not _INHERITS_NODELAY:
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            server = self._server_addresses[listener.fileno()] or sock.getsockname()[:2]
        except OSError:
            sock.close()  # reset between accept() and here
            return True
        if self._tls is None:
            self._open(Connection, sock, client, server)
        else:
            self._open_tls(self._tls, sock, client, server)
        return True

    def _open(
        self,
        kind: type[Connection],
        sock: socket.socket,
        client: Address | None,
        server: Address,
    ) -> Connection:
        """Begin to serve a socket that is ready for requests."""
        connection = kind(
            sock,
            self._poller,
            self,
            client=client,
            server=server,
            write_timeout=self.config.timeout_write,
        )
        session = HTTPSession(connection, self._service)
        connection.session = session
        self._add(connection)
        limit = self.config.limit_connections
        if (
            limit is not None
            and len(self._connections) > limit
            # Those that were turned away and have not left yet must not keep others out.
            and sum(not other.answered for other in self._connections) > limit
        ):
            session.turn_away()
        return connection

    def _open_tls(
        self, tls: TLSContext, sock: socket.socket, client: Address | None, server: Address
    ) -> None:
        """Begin with a TLS handshake."""
        from .opening import Opening
        from .tls_connection import TLSConnection

        def on_open(wrapped: SSLSocket) -> None:
            description = tls.describe(wrapped)  # while it is surely open
            connection = self._open(TLSConnection, wrapped, client, server)
            connection.tls = description
            if self._service.draining:
                connection.drain()

        try:
            opening = Opening(
                sock,
                self._poller,
                self,
                context=tls.context,
                timeout=self.config.timeout_tls_handshake,
                on_open=on_open,
            )
        except OSError:
            sock.close()  # reset before the handshake could begin
            return
        self._add(opening)

    def _add(self, connection: Connection | Opening) -> None:
        self._connections.add(connection)
        self._slot[CONNECTIONS] = len(self._connections)
        if self._timer is None:
            self._timer = self._loop.call_later(self._tick_interval(), self._tick)

    def reload_tls(self) -> None:
        """Read the certificates again, for connections from now on; old ones go on as they are.

        If that fails the old ones stay in use, and the reason is logged.
        """
        if self._tls is not None:
            try:
                self._tls = self._make_tls()
            except Exception:
                logger.exception("worker %d: TLS was not reloaded", self.worker_id)

    def _make_tls(self) -> TLSContext | None:
        if not self.config.tls:
            return None
        from .tls import TLSContext  # ssl is imported only where it is needed

        return TLSContext(self.config)

    def _try_accepting_again(self) -> None:
        if self.state is WorkerState.SERVING:
            self._resume_accepting()

    def discard(self, connection: Connection | Opening) -> None:
        """Called by a connection that is closed."""
        self._connections.discard(connection)
        self._slot[CONNECTIONS] = len(self._connections)
        self._progress.set()

    def answered(self, connection: Connection) -> None:
        """Called by a connection whose last answer is out."""
        self._progress.set()

    # --- time

    def _tick_interval(self) -> float:
        """Seconds between looks at the deadlines: a fraction of the shortest timeout."""
        config = self.config
        timeouts = (
            config.timeout_keep_alive,
            config.timeout_header,
            config.timeout_body,
            config.timeout_write,
            config.timeout_tls_handshake,
        )
        return min(1.0, max(0.02, min((t for t in timeouts if t), default=1.0) / 4))

    def _tick(self) -> None:
        """Check all deadlines. One timer for all connections, and none while there are none."""
        now = monotonic()
        for connection in tuple(self._connections):
            connection.check_deadlines(now)
        if self._linger_over:
            self._close_idle_connections()
        self._timer = None
        if self._connections:
            self._timer = self._loop.call_later(self._tick_interval(), self._tick)


_AF_UNIX = getattr(socket, "AF_UNIX", None)
# Linux hands the option down from the listener, which saves a system call for each connection.
_INHERITS_NODELAY = sys.platform == "linux"


def _fixed_address(listener: socket.socket) -> Address | None:
    """The listener's address as ASGI has it, or ``None`` if each connection has one of its own."""
    name = listener.getsockname()
    if listener.family == _AF_UNIX:
        return (name if isinstance(name, str) else name.decode("utf-8", "surrogateescape"), None)
    if _INHERITS_NODELAY:
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return None if name[0] in ("0.0.0.0", "::") else name[:2]
