"""Serves one application on one asyncio loop: accepts, keeps time, drains, ends.

A worker knows nothing of interpreters or supervisors and can be run on any asyncio loop::

    worker = Worker(app, Config(), sock)
    await worker.serve()          # until worker.shutdown(), from the same thread
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from enum import Enum
from functools import partial
from time import monotonic

from ..config.options import Config, as_config
from ..control import handoff
from ..control.counters import Counters
from ..control.scoreboard import private_board
from ..errors import BindError, ConfigError, StateError
from ..types import TYPE_CHECKING, Any, ASGIApp
from . import access_log
from .access_log import is_detailed
from .asgi.http import HTTPSession
from .asgi.lifespan import Lifespan
from .asgi.state import NO_FAILURES, AccessLog, ServerState
from .interpreter.importer import check_application, import_function
from .interpreter.marks import takes_interrupts
from .net.acceptor import Acceptor
from .net.connections import Connections
from .net.loop import make_poller

if TYPE_CHECKING:
    from .asgi.state import DetailedLog
    from .net.poller import Poller


logger = logging.getLogger("subinterp_asgi.error")

_BREAK_OFF_TIME = 0.1  # seconds between telling requests that it is over and cancelling them
_CANCEL_TIME = 1.0  # seconds that they may take to end then

_current: contextvars.ContextVar[Worker] = contextvars.ContextVar("subinterp_asgi worker")


class WorkerState(Enum):
    """The stages of a worker's life, in this order."""

    NEW = "new"
    STARTING = "starting"
    SERVING = "serving"
    DRAINING = "draining"
    STOPPED = "stopped"


class _Port:
    """Listening sockets, and the connections that are accepted there."""

    def __init__(
        self,
        listeners: list[socket.socket],
        poller: Poller,
        state: ServerState,
        inbox: int | None = None,
        session_kind: type[HTTPSession] = HTTPSession,
    ) -> None:
        self.state = state
        self.connections = Connections(
            state.loop, poller, state.config, state.counters, state.on_task_end
        )
        self.acceptor = Acceptor(
            listeners,
            self.connections,
            lambda connection: session_kind(connection, state),
            state.trusted,
            inbox,
        )

    def drain(self, linger: float, pass_on: Callable[[int], bool] | None = None) -> None:
        """Accept what has connected already, then cease; close connections as they become idle.

        Those that are idle now are left to another worker, if ``pass_on`` finds one; others have
        ``linger`` seconds for one more request.
        """
        self.state.drain()
        self.acceptor.drain()
        if pass_on is not None:
            self.connections.move_idle(pass_on)
        self.connections.drain()
        self.state.loop.call_later(linger, self.connections.close_idle)

    def close(self) -> None:
        """Close all connections."""
        self.acceptor.close()
        self.connections.abort()


def _sockets(name: str, given: Any) -> list[socket.socket]:
    found = list(given) if hasattr(given, "__iter__") else [given]
    if not all(isinstance(each, socket.socket) for each in found):
        raise ConfigError(name, f"must be a listening socket, or several, not {given!r}")
    return found


class Worker:
    """Serves an ASGI application on listening sockets.

    Args:
        config: The options; those about listening and about supervision have no meaning here.
        sock: A listening socket, or several. The worker makes them non-blocking and leaves closing
            them to the caller.
        worker_id: Number of this worker, for hooks and logs.
        state: Initial content of the lifespan's ``scope["state"]``.
        counters: Where to count; by default one of its own.
        inbox: Descriptor through which other workers of the process hand sockets over.
        metrics_sock: Listening sockets, as ``sock``, on which only metrics and health are served.
        access_log: Where to report requests if ``config.access_log`` is on.
        on_serving: Called once connections are accepted.
        on_start: Awaited after the lifespan's startup; an exception makes ``serve()`` fail.
        on_end: Awaited before the lifespan's shutdown.
        on_lifespan_failure: Called with what the lifespan has raised while the worker serves.

    Attributes:
        state: Where in its life the worker is.
        shutdown_failed: The lifespan's shutdown has failed, or ``on_end``.
        on_draining: Called once a drain has come so far that no more connections are accepted.
        on_break_off: Called before requests in flight are broken off.
        brief: Others have said what is to be said of the application itself.
        on_question: Called with the questions of a test: a number, and JSON.
    """

    def __init__(
        self,
        app: ASGIApp,
        config: Config | None = None,
        sock: socket.socket | Sequence[socket.socket] = (),
        *,
        worker_id: int = 0,
        state: dict[str, Any] | None = None,
        counters: Counters | None = None,
        inbox: int | None = None,
        metrics_sock: socket.socket | Sequence[socket.socket] = (),
        access_log: AccessLog = access_log.log_access,
        on_serving: Callable[[], None] | None = None,
        on_start: Callable[[], Awaitable[None]] | None = None,
        on_end: Callable[[], Awaitable[None]] | None = None,
        on_lifespan_failure: Callable[[BaseException], None] | None = None,
    ) -> None:
        check_application(app, repr(app))
        self.app = app
        self.config = as_config(config)
        self.worker_id = worker_id
        self.state = WorkerState.NEW
        self.shutdown_failed = False
        self.brief = False
        self.on_draining: Callable[[], None] | None = None
        self.on_break_off: Callable[[], None] | None = None
        self.on_question: Callable[[int, str], None] | None = None
        self._listeners = _sockets("sock", sock)
        self._metrics_listeners = _sockets("metrics_sock", metrics_sock)
        self._lifespan_state = {} if state is None else state
        self._inbox = inbox
        self._counters = Counters(*private_board()) if counters is None else counters
        self._access_log: AccessLog | None = access_log if self.config.access_log else None
        self._detailed_log: DetailedLog | None = None
        if is_detailed(self.config):
            from .detailed_log import make_detailed_log

            self._access_log, self._detailed_log = None, make_detailed_log(self.config, access_log)
        if (factory := self.config.ssl_context_factory) is not None:
            import_function("ssl_context_factory", factory)  # called when the lifespan has started
        self._on_serving = on_serving
        self._on_start = on_start
        self._on_end = on_end
        self._on_lifespan_failure = on_lifespan_failure
        self._leaving = False
        self._drain_asked = False
        self._restarting = False
        self._handing_over = False
        self._drain_callbacks: dict[object, Callable[[], object]] = {}
        self._hook_due = False  # on_start has been called, on_end has not
        self._draining = asyncio.Event()
        self._stopping = asyncio.Event()
        self._forced = asyncio.Event()
        self._hurried = asyncio.Event()  # the lifespan's shutdown is not to be waited for
        self._end_by: float | None = None
        self._progress = asyncio.Event()  # something ended that the drain may wait for
        self._loop: asyncio.AbstractEventLoop
        self._server_state: ServerState
        self._acceptor: Acceptor
        self._connections: Connections
        self._ports: list[_Port] = []  # the application's, and perhaps one for metrics and health

    # --- what a supervisor asks

    @property
    def active_connections(self) -> int:
        """Number of open connections, idle ones included."""
        return self._counters.connections

    @property
    def requests(self) -> int:
        """Number of requests that were begun."""
        return self._counters.requests

    def is_idle(self) -> bool:
        """Whether no request is in flight, no head half received and no background work left.

        While the worker drains, idle connections may still bring a request for ``timeout_linger``.
        """
        if self.state not in (WorkerState.SERVING, WorkerState.DRAINING):
            return True
        if self._server_state.tasks:
            return False
        if self.state is WorkerState.SERVING:
            return all(port.connections.all_idle for port in self._ports)
        return all(port.connections.all_answered for port in self._ports)

    @property
    def accepting(self) -> bool:
        """Whether new connections are accepted, which ``drain_delay`` prolongs."""
        return self.state is WorkerState.SERVING

    def leave(self) -> None:
        """Let health fail; all else goes on until ``drain()``, which then waits for no delay.

        One that does not serve yet drains as soon as it does: no load balancer has seen it.
        """
        if self.state is WorkerState.SERVING:
            self._leaving = self._server_state.leaving = True
        else:
            self.drain()

    def drain(self, *, restarting: bool = False, handing_over: bool = False) -> None:
        """Accept no more connections; finish what was accepted. Does nothing the second time.

        Health fails at once. All else goes on for ``drain_delay``, in which load balancers notice.

        Args:
            restarting: Another worker takes this one's place, which the peers of WebSockets are
                told: they are closed with 1012 rather than 1001. Nobody has to look for another
                server then: health does not fail, and there is no delay.
            handing_over: That is one of another process, which can't take over connections: those
                that are idle are kept for ``timeout_keep_alive``, as if nothing was going on.
        """
        if self._drain_asked:
            return
        self._drain_asked = True  # remembered, if it is too early
        self._restarting = restarting
        self._handing_over = handing_over
        if self.state is not WorkerState.SERVING:
            return
        if restarting or self._leaving or not self.config.drain_delay:
            self._begin_drain()
        else:
            self._server_state.leaving = True
            self._server_state.loop.call_later(self.config.drain_delay, self._begin_drain)

    def _begin_drain(self) -> None:
        if self.state is not WorkerState.SERVING:
            return  # a forced shutdown did not wait for drain_delay
        self.state = WorkerState.DRAINING
        if self._restarting:
            self._server_state.going_away = 1012
            self._acceptor.leave_inbox()
        else:
            self._server_state.leaving = True
        linger = self.config.timeout_linger
        pass_on = None
        if self._handing_over:  # all workers here drain: none of them is to pass on to another
            linger = max(linger, self.config.timeout_keep_alive)
        elif self._restarting and not (self.config.tls or self.config.proxy_protocol):
            # (Else something was said at the beginning that only this worker knows.)
            pass_on = partial(handoff.leave, self._counters)
        for port in self._ports:
            port.drain(linger, pass_on if port is self._ports[0] else None)
        self._call_drain_callbacks()
        self._draining.set()
        if self.on_draining is not None:
            self.on_draining()

    def on_drain(self, callback: Callable[[], object]) -> Callable[[], None]:
        """As the function ``on_drain()``, from any thread."""
        key = object()
        self._drain_callbacks[key] = callback
        if self.state in (WorkerState.DRAINING, WorkerState.STOPPED):
            self._loop.call_soon_threadsafe(self._call_drain_callbacks)

        def forget() -> None:
            self._drain_callbacks.pop(key, None)

        return forget

    def _call_drain_callbacks(self) -> None:
        for key in tuple(self._drain_callbacks):
            callback = self._drain_callbacks.pop(key, None)
            try:
                if callback is not None:
                    callback()
            except NO_FAILURES:
                raise
            except BaseException:
                logger.exception("worker %d: a callback of on_drain() failed", self.worker_id)

    def stop_accepting(self) -> None:
        """Leave new connections to others, at once; what was accepted goes on."""
        if self.state in (WorkerState.SERVING, WorkerState.DRAINING):
            for port in self._ports:
                port.acceptor.stop()
                port.acceptor.leave_inbox()

    def adopt(self, slot: int, listeners: list[socket.socket]) -> None:
        """Accept from another worker's sockets too, while that one can't; this one closes them."""
        if self.state is WorkerState.SERVING:
            self._acceptor.adopt(slot, listeners)
        else:
            for listener in listeners:
                listener.close()

    def disown(self, slot: int) -> None:
        """Leave another worker's sockets to it again."""
        if self.state in (WorkerState.SERVING, WorkerState.DRAINING):
            self._acceptor.disown(slot)

    def reload_tls(self) -> None:
        """Read the certificates again, for connections from now on; old ones go on as they are.

        If that fails the old ones stay in use, and the reason is logged.
        """
        if self.state is WorkerState.SERVING:
            try:
                self._acceptor.reload_tls()
            except Exception:
                logger.exception("worker %d: TLS was not reloaded", self.worker_id)

    def shutdown(self, *, now: bool = False) -> None:
        """Make ``serve()`` return: drain, then wait for requests in flight.

        They have ``timeout_graceful_shutdown``, after ``drain_delay``. Called again, this shortens
        what is going on: requests are broken off at once, and after that the lifespan's shutdown.
        With ``now`` requests are broken off at once, but nothing else.
        """
        if self.state is WorkerState.STOPPED and not now:
            self._hurried.set()
            self._end_by = monotonic()
        elif self._stopping.is_set() or now:
            self._forced.set()
            self._progress.set()
            self._begin_drain()
        self._stopping.set()

    def time_to_end(self) -> float:
        """Seconds left for what comes after the last request, which share ``shutdown_timeout``."""
        if self._end_by is None:
            self._end_by = monotonic() + self.config.shutdown_timeout
        return max(0.0, self._end_by - monotonic())

    # --- the life of a worker

    async def serve(self) -> None:
        """Run the lifespan and serve until ``shutdown()``.

        Raises:
            LifespanError: The lifespan's startup or shutdown failed.
            BindError, ConfigError: A socket does not listen, or there is none.
            StateError: The worker has served before.
        """
        if self.state is not WorkerState.NEW:
            raise StateError("a worker can serve only once")
        if self._on_serving is None:  # else a supervisor listens, or has ceased to meanwhile
            self._check_listeners()
        self.state = WorkerState.STARTING
        self._loop = asyncio.get_running_loop()
        context = _current.set(self)
        lifespan = Lifespan(
            self.app, self.config.lifespan, self._lifespan_state, self._on_lifespan_failure
        )
        lifespan.brief = self.brief
        try:
            if await self._start(lifespan):
                poller = make_poller(asyncio.get_running_loop())
                try:
                    await self._serve(lifespan, poller)
                finally:
                    poller.close()
        finally:
            self.state = WorkerState.STOPPED
            try:
                await self._end(lifespan)
            finally:
                _current.reset(context)

    def _check_listeners(self) -> None:
        if not self._listeners:
            raise ConfigError("sock", "the worker needs a listening socket, or several")
        for sock in (*self._listeners, *self._metrics_listeners):
            if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                raise BindError(
                    str(sock.getsockname()), "the socket does not listen: listen() first"
                )

    async def _start(self, lifespan: Lifespan) -> bool:
        """Run what comes before the first connection; ``False`` if ``shutdown()`` came first."""
        async with first_of(self._run_startup(lifespan), self._stopping.wait()) as (starting, _):
            if starting.done():
                starting.result()
            return not self._stopping.is_set()

    @takes_interrupts
    async def _run_startup(self, lifespan: Lifespan) -> None:
        await lifespan.startup(self.config.startup_timeout)
        self._hook_due = True
        if self._on_start is not None:
            await self._on_start()

    async def _serve(self, lifespan: Lifespan, poller: Poller) -> None:
        loop = asyncio.get_running_loop()
        context = lifespan.context if self.config.lifespan_context else contextvars.copy_context()
        state_kind, session_kind = ServerState, HTTPSession
        if self.config.limit_concurrency_total is not None:
            from .asgi.in_total import SessionInTotal as session_kind
            from .asgi.in_total import StateInTotal as state_kind
        self._server_state = server_state = state_kind(
            self.app,
            self.config,
            loop,
            state=self._lifespan_state,
            counters=self._counters,
            access_log=self._access_log,
            detailed_log=self._detailed_log,
            on_task_end=self._progress.set,
            context=context,
        )
        port = _Port(self._listeners, poller, server_state, self._inbox, session_kind)
        self._connections, self._acceptor = port.connections, port.acceptor
        self._ports = [port]
        if self._metrics_listeners:
            from .asgi.admin import admin_state

            admin = admin_state(server_state, on_task_end=self._progress.set, context=context)
            self._ports.append(_Port(self._metrics_listeners, poller, admin))
        try:
            for port in self._ports:
                port.acceptor.start()
            self.state = WorkerState.SERVING
            if self._on_serving is not None:
                self._on_serving()
            if self._drain_asked:
                self._begin_drain()
            await self._stopping.wait()
            await self._finish_requests()
        finally:
            for port in self._ports:
                port.close()

    async def _finish_requests(self) -> None:
        """Wait for what is in flight, then tell it that it is over, then cancel it."""
        self.drain()
        await self._draining.wait()
        if await self._wait_until_idle(self.config.timeout_graceful_shutdown, forced=self._forced):
            return
        if self._server_state.counters.in_flight:
            logger.warning(
                "worker %d: %d request(s) still in flight are broken off",
                self.worker_id,
                self._server_state.counters.in_flight,
            )
        if self.on_break_off is not None:
            self.on_break_off()
        for port in self._ports:
            port.connections.break_off()
        await self._wait_until_idle(_BREAK_OFF_TIME)
        for task in self._server_state.tasks:
            task.cancel("the worker is shutting down")
        await self._wait_until_idle(_CANCEL_TIME)

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

    async def _end(self, lifespan: Lifespan) -> None:
        """Run what comes after the last request; a further ``shutdown()`` breaks it off."""
        self.shutdown_failed = True  # until it is through: a SystemExit leaves the loop at once
        async with first_of(self._run_shutdown(lifespan), self._hurried.wait()) as (ending, _):
            self.shutdown_failed = ending.done() and ending.exception() is not None
            if ending.done():
                ending.result()
            else:
                logger.warning("worker %d: its lifespan's shutdown is broken off", self.worker_id)
                await lifespan.cancel()

    @takes_interrupts
    async def _run_shutdown(self, lifespan: Lifespan) -> None:
        try:
            if self._on_end is not None and self._hook_due:
                async with asyncio.timeout(self.time_to_end()):
                    await self._on_end()
        finally:
            await lifespan.shutdown(self.time_to_end(), self.config.shutdown_timeout)


def on_drain(callback: Callable[[], object]) -> Callable[[], None]:
    """Have a function called when the worker that runs the caller begins to drain.

    For applications: to be called in the lifespan or in a request, also in threads of
    ``asyncio.to_thread()`` and the like. The function is called once, in the worker's loop, after
    the worker has ceased to accept; at once if that has happened already. What it raises is logged.

    Returns:
        A function that takes it back.

    Raises:
        StateError: No worker of this package runs the caller.
    """
    worker = _current.get(None)
    if worker is None:
        raise StateError(
            "on_drain() was called where no worker of subinterp_asgi runs; "
            "call it in the lifespan's startup, or in a request"
        )
    return worker.on_drain(callback)


@contextlib.asynccontextmanager
async def first_of(*calls: Coroutine[Any, Any, Any]) -> AsyncIterator[list[asyncio.Task[Any]]]:
    """Begin some calls and wait until one of them is done; others are cancelled in the end."""
    tasks = [asyncio.ensure_future(call) for call in calls]
    try:
        await asyncio.wait(tasks, return_when="FIRST_COMPLETED")
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
