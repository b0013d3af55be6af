"""What runs inside a new interpreter: from plain values to a worker that serves.

A supervisor injects the arguments of ``bootstrap()`` into the interpreter and calls it there. A
framework may do the same with queues and an interpreter of its own; ``control`` documents what is
said on the queues. Nothing here refers to the supervisor.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import queue as stdlib_queue
import socket
import sys
import time
import traceback
from collections.abc import Callable
from inspect import signature
from time import monotonic, monotonic_ns
from types import ModuleType

from .config import Config
from .control import scoreboard
from .control.counters import Counters
from .control.launch import Runtime
from .control.messages import (
    CMD_ADOPT,
    CMD_DISOWN,
    CMD_DRAIN,
    CMD_FAULT,
    CMD_RELOAD_TLS,
    CMD_SERVE,
    CMD_SHUTDOWN,
    DRAIN_RESTART,
    STATUS_DRAINING,
    STATUS_ERROR,
    STATUS_EXHAUSTED,
    STATUS_IDLE,
    STATUS_SERVING,
    STATUS_SPARE,
    STATUS_STARTED,
    STATUS_STOPPED,
    listeners_of,
)
from .control.wakeup import Channel, Wakeup, WatchdogLine
from .errors import SubinterpASGIError
from .types import TYPE_CHECKING
from .worker import access_log
from .worker.interpreter import daemon_threads
from .worker.interpreter.importer import import_app
from .worker.interpreter.marks import takes_interrupts
from .worker.net.loop import ServerLoop
from .worker.worker import Worker

if TYPE_CHECKING:
    from typing import Any

    from .worker.interpreter.watchdog import Watchdog
    from .worker.log_forwarder import LogForwarder
else:
    Any = object  # for those who ask bootstrap() for its type hints

logger = logging.getLogger("subinterp_asgi.error")

_POLL_INTERVAL = 0.05  # seconds between looks at a control queue without a wakeup
_IDLE_POLL_INTERVAL = 0.01  # between looks at a draining worker
_MAX_ERROR_TEXT = 20_000
_EXITS = 100  # that may get in the way of a worker's end


def bootstrap(
    ctrl_queue: Any,
    status_queue: Any,
    config_json: str,
    lifespan_state_json: str,
    app_import_path: str,
    sock_fd: int,
    sock_family: int,
    worker_id: int,
    parent_sys_path: tuple[str, ...],
) -> None:
    """Bootstrap a Worker inside a subinterpreter, and return when it has ended.

    All arguments are of types that can cross interpreters; a supervisor injects them with
    ``prepare_main()``. No exception leaves: CPython 3.13 to 3.15 may crash when one crosses
    interpreters. What happened is told on ``status_queue``.

    Args:
        ctrl_queue: Where commands come from; see ``control``.
        status_queue: Where statuses go.
        config_json: ``Config.to_json()``, perhaps with a ``control.Runtime`` joined to it.
        lifespan_state_json: JSON object from which ``scope["state"]`` starts.
        app_import_path: ``"package.module:attribute"``, or ``"package.module:factory()"``.
        sock_fd: Descriptor of a listening socket. It is owned from entry on and closed on every
            path. A spare is given another one later.
        sock_family: Address family of that socket, as an int, so that the rebuilt socket matches.
        worker_id: Number of this worker.
        parent_sys_path: Becomes ``sys.path``.
    """
    listeners = [(sock_fd, sock_family)]
    metrics_listeners: list[tuple[int, int]] = []
    log_forwarder: LogForwarder | None = None
    try:
        sys.path[:] = parent_sys_path
        config_text, runtime = Runtime.split(config_json)
        if runtime.spare:
            listeners.clear()  # it is given them later
        listeners.extend(runtime.listeners)
        metrics_listeners.extend(runtime.metrics_listeners)
        if runtime.command_wakeup is not None:
            ctrl_queue = Channel(ctrl_queue, Wakeup(runtime.command_wakeup))
        if runtime.status_wakeup is not None:
            status_queue = Channel(status_queue, Wakeup(runtime.status_wakeup))
        config = Config.from_json(config_text)
        state = json.loads(lifespan_state_json)
        counters = Counters(*scoreboard.attached())
        if runtime.log_fd is not None:
            from .worker.log_forwarder import LogForwarder

            log_forwarder = LogForwarder(runtime.log_fd, config.log_level, counters)
            log_forwarder.attach()
        if config.daemon_threads == "demote":
            daemon_threads.demote()

        def load_app() -> Any:
            app = (
                import_app(app_import_path, factory=True)
                if config.factory
                else _import_app(app_import_path)
            )
            if log_forwarder is not None:
                log_forwarder.attach()  # which the application may have taken off
            access_log.configure_interpreter(config)
            return app

        run_worker(
            load_app,
            config,
            listeners,
            ctrl_queue,
            status_queue,
            worker_id=worker_id,
            state=state,
            counters=counters,
            own_interpreter=True,
            runtime=runtime,
            metrics_listeners=metrics_listeners,
            log_forwarder=log_forwarder,
        )
    except BaseException as exc:
        report_error(status_queue, exc)
    finally:
        _close_all(listeners)
        _close_all(metrics_listeners)
        if log_forwarder is not None:
            log_forwarder.end()


class _NotNeeded(Exception):
    """A spare was told to end."""


def run_worker(
    load_app: Callable[[], Any],
    config: Config,
    listeners: list[tuple[int, int]],
    ctrl_queue: Any,
    status_queue: Any,
    *,
    worker_id: int,
    state: dict[str, Any],
    counters: Counters,
    own_interpreter: bool,
    runtime: Runtime | None = None,
    metrics_listeners: list[tuple[int, int]] | None = None,
    log_forwarder: LogForwarder | None = None,
) -> None:
    """Run a worker in this thread, on a loop of its own, from ``started`` to ``stopped``.

    Args:
        load_app: Returns the application.
        config: The options.
        listeners: (descriptor, family) of listening sockets. Those that were closed are removed.
        ctrl_queue: Where commands come from.
        status_queue: Where statuses go.
        worker_id: Number of the worker.
        state: Initial lifespan state.
        counters: Where the worker counts.
        own_interpreter: The interpreter is this worker's alone: it may write log lines itself, and
            waits for all threads at the end.
        runtime: What else a supervisor has told.
        metrics_listeners: As ``listeners``, for metrics and health only.
        log_forwarder: Forwards what is logged in the interpreter.
    """

    def on_serving() -> None:
        if log_forwarder is not None:
            log_forwarder.attach()  # which the lifespan may have taken off
        counters.lag = 0  # what held the loop up until now held nobody up
        counters.flush(monotonic_ns())
        status_queue.put((STATUS_SERVING,))

    runtime = runtime or Runtime()
    inbox = runtime.inbox
    status_queue.put((STATUS_STARTED,))
    sockets: list[socket.socket] = []
    metrics_sockets: list[socket.socket] = []
    loop: asyncio.AbstractEventLoop | None = None
    worker: Worker | None = None
    main: asyncio.Task[None] | None = None
    watchdog: Watchdog | None = None
    ended_as_told = False
    try:
        counters.flush(monotonic_ns())  # importing an application may hold things up as well
        if runtime.watchdog is not None:
            from .worker.interpreter.watchdog import Watchdog

            line = WatchdogLine(runtime.watchdog)
            watchdog = Watchdog(line, counters, status_queue, daemon=not own_interpreter)
        app = load_app()
        counters.flush()
        if runtime.spare:
            status_queue.put((STATUS_SPARE,))
            command = _wait_for_command(ctrl_queue)
            if command[0] != CMD_SERVE:
                status_queue.put((STATUS_DRAINING,))
                raise _NotNeeded
            worker_id, inbox, listeners[:] = command[1], command[2], listeners_of(command)
        while listeners:  # each number has one owner at any time: the list, then the socket
            sockets += _take(listeners[:1])
            del listeners[0]
        while metrics_listeners:
            metrics_sockets += _take(metrics_listeners[:1])
            del metrics_listeners[0]
        loop = ServerLoop(counters)
        if log_forwarder is not None:
            log_forwarder.use_loop(loop, worker_id)
        if runtime.request_limit is not None:
            counters.limit = runtime.request_limit
            counters.on_limit = lambda: status_queue.put((STATUS_EXHAUSTED,))
        hooks = _hooks(app, worker_id, state) if config.worker_hooks else {}
        if runtime.start_delay or runtime.start_failure is not None:
            from .testing import faults

            hooks["on_start"] = faults.before_serving(runtime, hooks.get("on_start"))
        worker = Worker(
            app,
            config,
            sockets,
            worker_id=worker_id,
            state=state,
            counters=counters,
            inbox=None if inbox == -1 else inbox,
            metrics_sock=metrics_sockets,
            access_log=access_log.choose_access_log(own_interpreter, log_forwarder),
            on_serving=on_serving,
            **hooks,
        )
        main = loop.create_task(_run_to_end(worker, config, ctrl_queue, status_queue))
        loop.run_until_complete(main)
        ended_as_told = True
    except _NotNeeded:
        ended_as_told = True
    except BaseException as exc:
        report_error(status_queue, exc)  # at once: what follows may take its time
        if loop and worker and main and not main.done():
            # A SystemExit of the application's has left the loop where it stood.
            worker.stop_accepting()
            main.cancel()
            for _ in range(_EXITS):  # it may have more than one of them
                with contextlib.suppress(BaseException):
                    loop.run_until_complete(main)
                if main.done():
                    break
    finally:
        for sock in (*sockets, *metrics_sockets):
            sock.close()
        counters.flush()  # the last counts; and the loop, which has ended, is not held up
        if watchdog is not None:
            watchdog.close(config.shutdown_timeout)
        if own_interpreter:
            _end_threads(config, worker_id, loop)
        if loop is not None:
            loop.close()
    if ended_as_told:
        status_queue.put((STATUS_STOPPED,))


async def _run_to_end(worker: Worker, config: Config, ctrl_queue: Any, status_queue: Any) -> None:
    """Run the worker and end what the application left behind on the loop."""
    try:
        await _run_worker_with_iic(worker, ctrl_queue, status_queue)
    finally:
        deadline = monotonic() + config.shutdown_timeout
        loop: Any = asyncio.get_running_loop()  # (the stubs lack a parameter)
        leftovers = asyncio.all_tasks() - {asyncio.current_task()}
        for task in leftovers:
            task.cancel()
        if leftovers:
            _, pending = await asyncio.wait(leftovers, timeout=deadline - monotonic())
            for task in pending:
                logger.warning("worker %d: task %s did not end", worker.worker_id, task.get_name())
        await loop.shutdown_asyncgens()
        await loop.shutdown_default_executor(max(0.0, deadline - monotonic()))


async def _run_worker_with_iic(worker: Any, ctrl_queue: Any, status_queue: Any) -> None:
    """Run a worker's ``serve()`` with a bridge from the control queue beside it."""

    async def obey() -> None:
        while True:  # a bridge ends with each shutdown command; the second one forces
            await _iic_bridge(worker, ctrl_queue, status_queue)

    serving = asyncio.ensure_future(worker.serve())
    obeying = asyncio.ensure_future(obey())
    try:
        await asyncio.wait((serving, obeying), return_when="FIRST_COMPLETED")
        if not serving.done():
            obeying.result()  # a bridge that failed leaves a worker that nobody can command
        await serving
    finally:
        for task in (serving, obeying):
            task.cancel()
        await asyncio.wait((serving, obeying))


async def _iic_bridge(worker: Any, ctrl_queue: Any, status_queue: Any) -> None:
    """Translate commands into calls of the worker, until one says to shut down.

    A control queue with a wakeup is looked at when that rings; another is polled.
    """
    draining = told = idle_announced = False

    def tell_draining() -> None:
        nonlocal told
        told = True
        status_queue.put((STATUS_DRAINING,))
        waiter.wake()

    def drain(**options: bool) -> None:
        worker.drain(**options)
        if getattr(worker, "accepting", False):
            worker.on_draining = tell_draining  # when drain_delay is over
        else:
            tell_draining()

    with _Waiter(ctrl_queue) as waiter:
        while True:
            while (command := _try_get(ctrl_queue)) is not None:
                if command[0] == CMD_SHUTDOWN:
                    if not draining:
                        drain()
                    worker.shutdown()
                    return
                if command[0] == CMD_DRAIN:
                    if not draining:
                        draining = True
                        if command[1:] == (DRAIN_RESTART,):
                            drain(restarting=True)
                        else:
                            drain()
                elif command[0] == CMD_RELOAD_TLS:
                    worker.reload_tls()
                elif command[0] == CMD_ADOPT:
                    worker.adopt(command[1], _take(listeners_of(command)))
                elif command[0] == CMD_DISOWN:
                    worker.disown(command[1])
                elif command[0] == CMD_FAULT:
                    from .testing import faults

                    faults.inflict(*command[1:])
                else:
                    logger.error("unknown command %r on the control queue", command)
            if told and not idle_announced and worker.is_idle():
                idle_announced = True
                status_queue.put((STATUS_IDLE,))
            await waiter.wait(_IDLE_POLL_INTERVAL if told and not idle_announced else None)


def _take(listeners: list[tuple[int, int]]) -> list[socket.socket]:
    """Make sockets of (descriptor, family) pairs; they own the descriptors."""
    return [socket.socket(family, socket.SOCK_STREAM, fileno=fd) for fd, family in listeners]


def _wait_for_command(ctrl_queue: Any) -> tuple[Any, ...]:
    """Block this thread until a command to serve, or to end, has come; others are void."""
    while True:
        if isinstance(ctrl_queue, Channel):
            ctrl_queue.wakeup.wait()
            ctrl_queue.wakeup.clear()
        else:
            time.sleep(_POLL_INTERVAL)
        while (command := _try_get(ctrl_queue)) is not None:
            if command[0] in (CMD_SERVE, CMD_DRAIN, CMD_SHUTDOWN):
                return command


class _Waiter:
    """Waits for a control queue to have something."""

    def __init__(self, queue: Any) -> None:
        self._wakeup = queue.wakeup if isinstance(queue, Channel) else None
        self._woken = asyncio.Event()

    def __enter__(self) -> _Waiter:
        if self._wakeup is not None:
            asyncio.get_running_loop().add_reader(self._wakeup.fileno(), self._on_wakeup)
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._wakeup is not None:
            asyncio.get_running_loop().remove_reader(self._wakeup.fileno())

    def _on_wakeup(self) -> None:
        assert self._wakeup is not None
        self._wakeup.clear()
        self._woken.set()

    def wake(self) -> None:
        """Have a wait end, or the next one; a poll ends by itself."""
        self._woken.set()

    async def wait(self, timeout: float | None) -> None:
        """Wait for a ring, or for the time to look again."""
        if self._wakeup is None:
            await asyncio.sleep(_POLL_INTERVAL if timeout is None else timeout)
            return
        try:
            async with asyncio.timeout(timeout):
                await self._woken.wait()
        except TimeoutError:
            return
        self._woken.clear()


def _import_app(app_path: str) -> Any:
    """Import ``'myapp.main:app'``, or call the factory of ``'myapp.main:create_app()'``.

    Raises:
        AppImportError: One of its subclasses, which tell apart what can go wrong; see ``importer``.
    """
    return import_app(app_path)


def _try_get(queue: Any) -> tuple[Any, ...] | None:
    """Get an item without blocking; ``None`` if there is none, and only then."""
    try:
        item: tuple[Any, ...] = queue.get_nowait()
    except stdlib_queue.Empty:
        return None
    return item


async def _noop_receive() -> dict[str, str]:
    """The ``receive`` of life-cycle hooks, which have nothing to be told."""
    return {"type": "http.disconnect"}


async def _noop_send(message: dict[str, Any]) -> None:
    """The ``send`` of life-cycle hooks, whose messages go nowhere."""


def _hooks(app: Any, worker_id: int, state: dict[str, Any]) -> dict[str, Any]:
    """Make the hooks that call the application when the worker starts and ends."""

    @takes_interrupts
    def call(event: str) -> Any:
        scope = {
            "type": f"subinterp_asgi.worker.{event}",
            "asgi": {"version": "3.0"},
            "worker_id": worker_id,
            "state": state,
        }
        return app(scope, _noop_receive, _noop_send)

    return {"on_start": lambda: call("startup"), "on_end": lambda: call("shutdown")}


def _end_threads(config: Config, worker_id: int, loop: asyncio.AbstractEventLoop | None) -> None:
    """Wait for the application's threads: closing an interpreter under one aborts the process."""

    async def end_calls() -> None:
        # A thread that has called into the loop would wait for ever for one that has stopped.
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await asyncio.sleep(0)

    def meanwhile() -> None:
        if loop is not None:
            with contextlib.suppress(Exception, SystemExit):
                loop.run_until_complete(end_calls())

    for name in daemon_threads.join_all(config.shutdown_timeout, meanwhile):
        logger.warning(
            "worker %d: thread %s still runs after shutdown_timeout=%g s; the interpreter is kept",
            worker_id,
            name,
            config.shutdown_timeout,
        )


def report_error(status_queue: Any, exc: BaseException) -> None:
    """Send an exception as an error status, whatever its own methods do."""
    try:
        # Surrogates and NULs are legal in a str but not everywhere it may be sent to.
        text = _describe(exc).encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")
        status_queue.put((STATUS_ERROR, text))
    except BaseException:
        # Out of memory, or no queue any more: a worker that ends without its last status counts
        # as crashed, so that nothing is hidden by not raising, which could end the process.
        return


def _describe(exc: BaseException) -> str:
    try:
        summary = f"{type(exc).__name__}: {exc}"
    except BaseException:
        summary = f"{type(exc).__name__} (its message can't be shown)"
    if isinstance(exc, SubinterpASGIError) and exc.__cause__ is None:
        return summary  # it says all; a traceback would only show how this package found out
    try:
        details = "".join(traceback.format_exception(exc))
    except BaseException:
        details = "(its traceback can't be shown)"
    return f"{summary[:2000]}\n{details[-_MAX_ERROR_TEXT:]}"


def _close_all(listeners: list[tuple[int, int]]) -> None:
    for listener in listeners:
        with contextlib.suppress(Exception):  # it was no descriptor, which has been reported
            os.close(listener[0])
    listeners.clear()


class _CallableModule(ModuleType):
    """The package exports a function under the name of this very module: let it be both."""

    __signature__ = signature(bootstrap)

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        bootstrap(*args, **kwargs)


sys.modules[__name__].__class__ = _CallableModule
