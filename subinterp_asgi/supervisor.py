"""Owns the workers, from the main interpreter: starts them, hears from them, stops them.

The supervisor belongs to the host's process and leaves that as it was: no signal handlers, no
logging configuration, no change of directory, and after ``stop()`` no thread, descriptor or
interpreter that was not there before.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import socket
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from time import monotonic

from . import exit_guard, interpreters, runners, scoreboard
from .config import Config
from .control import CMD_DRAIN, CMD_RELOAD_TLS, CMD_SHUTDOWN, QUEUE_SIZE, Doorbell
from .errors import (
    ConfigError,
    ShutdownIncompleteError,
    StartupError,
    StateError,
    WorkerDiedError,
)
from .handles import WorkerHandle, WorkerInfo, WorkerState
from .listeners import Listeners
from .types import TYPE_CHECKING, Address, ASGIApp

if TYPE_CHECKING:
    from typing import Any, Self


_START_MARGIN = 2.0  # seconds for a worker to report its own timeout before we report ours
_STOP_MARGIN = 5.0  # seconds for a worker to end beyond the timeouts it keeps itself


class SupervisorState(Enum):
    """The stages of a supervisor's life."""

    NEW = "new"
    STARTING = "starting"
    SERVING = "serving"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"
    """It could not start, or all workers died."""


class Supervisor:
    """Serves an ASGI application from workers in interpreters of their own.

    Used as a context manager it serves in the background::

        with Supervisor("package.module:app", workers=2, port=0) as server:
            print(server.url)

    with ``async with`` likewise, without blocking the caller's loop; ``run()`` serves until it is
    stopped. A supervisor starts once.

    Args:
        app: Import path ``"package.module:attribute"``, imported by each worker. An application
            object can't cross interpreters and needs ``isolation="thread"`` (or ``"auto"``).
        config: The options; by default all defaults.
        sockets: Bound stream sockets to listen on instead of what the options say. They stay the
            caller's, who also closes them.
        state: Initial content of each worker's lifespan ``scope["state"]``, as JSON can carry it.
        options: Options by name, over those of ``config``.

    Attributes:
        config: The options in effect.
        in_threads: Workers are threads of this interpreter rather than interpreters.

    Raises:
        ConfigError: An option is unknown or its value is bad, or ``state`` can't be carried.
    """

    def __init__(
        self,
        app: str | ASGIApp,
        config: Config | None = None,
        *,
        sockets: Sequence[socket.socket] = (),
        state: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        self.config = (config or Config()).with_options(**options)
        self._app = app
        self.in_threads = _choose_isolation(app, self.config)
        if not self.in_threads:
            _warn_if_untested()
        _check_tls(self.config)
        self._sockets = tuple(sockets)
        self._state_json = _encode_state(state or {})
        self._state = SupervisorState.NEW
        self._changed = threading.Condition()  # guards everything below, and announces changes
        self._handles: list[WorkerHandle] = []
        self._listeners: Listeners | None = None
        self._addresses: tuple[Address, ...] = ()
        self._url = ""
        self._bell: Doorbell | None = None
        self._monitor: threading.Thread | None = None
        self._stop_requested = False
        self._busy = False  # a thread is in start(), or ends the workers
        self._grace_ends = float("inf")  # when requests in flight will be broken off
        self._monitor_done = False
        self._mourned: set[int] = set()
        self._incomplete: tuple[str, ...] = ()
        self._failure: str | None = None

    # --- what it is

    @property
    def state(self) -> SupervisorState:
        """Where in its life the supervisor is."""
        return self._state

    @property
    def addresses(self) -> tuple[Address, ...]:
        """Addresses listened on: (host, port), or (path, None) for a Unix socket."""
        return self._addresses

    @property
    def url(self) -> str:
        """Base URL of the first address; with ``port=0``, with the port that was chosen."""
        if not self._url:
            raise StateError("the supervisor has no address before it is started")
        return self._url

    @property
    def workers(self) -> tuple[WorkerInfo, ...]:
        """The workers at this moment."""
        return tuple(handle.info() for handle in self._handles)

    # --- start

    def start(self) -> None:
        """Bind, start all workers and return when each of them serves.

        Raises:
            BindError: An address could not be bound.
            StartupError: A worker could not start; its own traceback is in the message.
            StateError: The supervisor was started before.
        """
        with self._changed:
            if self._state is not SupervisorState.NEW:
                raise StateError(f"can't start: the supervisor is {self._state.value}")
            self._state = SupervisorState.STARTING
            self._busy = True
        try:
            self._listeners = Listeners(self.config, self._sockets)
            self._addresses, self._url = self._listeners.addresses, self._listeners.url
            self._start_workers()
            self._wait_for_start()
        except BaseException as exc:
            self._failure = str(exc)
            self._grace_ends = 0.0
            self._tear_down(SupervisorState.FAILED)
            raise
        with self._changed:
            self._state = SupervisorState.SERVING
            self._busy = False
            self._changed.notify_all()
            assert self._bell is not None
            self._bell.ring()  # a worker may have died after it was last looked at
        if self._stop_requested:  # by another thread, meanwhile
            self.stop()

    def _start_workers(self) -> None:
        exit_guard.watch(self)
        assert self._listeners is not None
        self._bell = Doorbell()
        board = scoreboard.new_board(self.config.workers)
        path = tuple(entry or os.getcwd() for entry in sys.path)
        monitor = threading.Thread(target=self._watch, name="asgi-supervisor", daemon=True)
        monitor.start()
        self._monitor = monitor
        for worker_id in range(self.config.workers):
            command_bell = Doorbell()
            try:
                listeners = self._listeners.duplicate()
            except OSError:
                command_bell.close()
                raise
            job = runners.Job(
                app=self._app,
                config=self.config,
                state_json=self._state_json,
                worker_id=worker_id,
                listeners=listeners,
                path=path,
                board=board,
                slot=worker_id + 1,
                ctrl_queue=self._new_queue(),
                status_queue=self._new_queue(),
                command_bell=command_bell,
                status_bell=self._bell,
            )
            runner = runners.run_in_thread if self.in_threads else runners.run_in_interpreter
            handle = WorkerHandle(job, runner, generation=1)
            self._handles.append(handle)
            handle.start()

    def _new_queue(self) -> interpreters.Queue:
        return queue.Queue() if self.in_threads else interpreters.create_queue(QUEUE_SIZE)

    def _wait_for_start(self) -> None:
        deadline = monotonic() + self.config.startup_timeout + _START_MARGIN

        def settled() -> bool:
            return (
                self._stop_requested
                or any(h.state is WorkerState.FAILED for h in self._handles)
                or all(h.state is WorkerState.SERVING for h in self._handles)
            )

        with self._changed:
            self._changed.wait_for(settled, timeout=deadline - monotonic())
        for handle in self._handles:
            if handle.state is WorkerState.FAILED:
                raise StartupError(
                    f"worker {handle.worker_id} could not start: {handle.error}", handle.worker_id
                )
        if self._stop_requested:
            raise StartupError("stop() was called before the workers served")
        for handle in self._handles:
            if handle.state is not WorkerState.SERVING:
                raise StartupError(
                    f"worker {handle.worker_id} did not start within "
                    f"startup_timeout={self.config.startup_timeout:g} s",
                    handle.worker_id,
                )

    # --- serving

    def _watch(self) -> None:
        """The monitor's thread: sleeps until a worker has something to say."""
        bell = self._bell
        assert bell is not None
        while not self._monitor_done:
            bell.wait()
            bell.silence()
            with self._changed:
                for handle in self._handles:
                    handle.collect()
                if self._state is SupervisorState.SERVING:
                    self._note_deaths()
                self._changed.notify_all()

    def _note_deaths(self) -> None:
        dead = [h for h in self._handles if h.exited]
        for handle in dead:
            if handle.worker_id not in self._mourned:
                self._mourned.add(handle.worker_id)
                self._failure = f"worker {handle.worker_id} died: {handle.error}"
                _log_error(self._failure)
        if len(dead) == len(self._handles):
            self._monitor_done = True
            self._release()
            self._state = SupervisorState.FAILED

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the supervisor has stopped; return whether it has.

        Args:
            timeout: Seconds; ``None`` waits as long as it takes.

        Raises:
            WorkerDiedError: All workers died; the message has the last one's traceback.
            StateError: The supervisor was not started.
        """
        if self._state is SupervisorState.NEW:
            raise StateError("the supervisor was not started")
        with self._changed:
            done = self._changed.wait_for(lambda: self._state in _ENDED, timeout)
        if self._state is SupervisorState.FAILED:
            raise WorkerDiedError(self._failure or "all workers have died")
        return done

    def run(self) -> None:
        """Start, serve until ``stop()`` is called by another thread, and clean up.

        An exception in this thread, such as ``KeyboardInterrupt``, stops the workers and goes on.

        Raises:
            BindError, StartupError: As ``start()``.
            WorkerDiedError: All workers died.
            ShutdownIncompleteError: As ``stop()``.
        """
        with self:
            self.wait()

    def reload_tls(self) -> None:
        """Have the workers read the certificates again, for new connections; old ones go on.

        Raises:
            ConfigError: The files can't be used; the workers keep what they have. (A context
                factory is called by the workers only, which log its failures.)
            StateError: TLS is not on, or the supervisor does not serve.
        """
        if not self.config.tls:
            raise StateError("can't reload TLS: it is not on")
        if self.config.ssl_context_factory is None:
            from .tls import TLSContext  # ssl is imported only where it is needed

            TLSContext(self.config)
        with self._changed:  # stop() closes what a command goes through
            if self._state is not SupervisorState.SERVING:
                raise StateError(f"can't reload TLS: the supervisor is {self._state.value}")
            for handle in self._handles:
                handle.command(CMD_RELOAD_TLS)

    # --- stop

    def stop(self, timeout: float | None = None) -> None:
        """Stop gracefully and return when all is released. May be called from any thread, often.

        No more connections are accepted, requests in flight are served, lifespans are shut down.

        Args:
            timeout: Seconds that requests in flight may take; by default
                ``timeout_graceful_shutdown``. After that they are broken off. A second call, while
                the first one waits, can only shorten this.

        Raises:
            ShutdownIncompleteError: A worker did not end, even so. It is left alone.
            StateError: Called by a worker of this supervisor that is a thread, which can't wait
                for its own end.
        """
        if any(threading.current_thread() is handle.thread for handle in self._handles):
            raise StateError("a worker can't stop its own supervisor; do it in another thread")
        grace = self.config.timeout_graceful_shutdown if timeout is None else timeout
        with self._changed:
            if self._state is SupervisorState.NEW:
                self._state = SupervisorState.STOPPED
            self._stop_requested = True
            self._grace_ends = min(self._grace_ends, monotonic() + grace)
            self._changed.notify_all()
            # Another thread may be at it, or starting and about to see the request. If an exception
            # such as KeyboardInterrupt gets in its way, the rest falls to this one.
            self._changed.wait_for(lambda: self._state in _ENDED or not self._busy)
            ours = self._state not in _ENDED
            if ours:
                self._busy = True
                self._state = SupervisorState.STOPPING
        if ours:
            self._tear_down(SupervisorState.STOPPED)
        if self._monitor is not None:
            self._monitor.join()  # when all workers died it releases everything itself
        if self._incomplete:  # at that time; a thread that was left may have ended since
            with self._changed:
                self._release()
        if self._incomplete:
            raise ShutdownIncompleteError(
                f"still running: {', '.join(self._incomplete)}; a thread of the application, or "
                "the application itself, does not end",
                self._incomplete,
            )

    def _tear_down(self, final: SupervisorState) -> None:
        """End all workers as well as can be and release everything that they don't hold."""
        try:
            self._end_workers()
            with self._changed:
                self._release()
                self._state = final
        finally:
            with self._changed:
                self._busy = False
                self._changed.notify_all()

    def _end_workers(self) -> None:
        """Tell them to end and wait as long as that may take; called again, it forces them."""
        if self._listeners is not None:
            self._listeners.discourage()
        # Longer than the workers would wait by themselves once they were told to shut down?
        patient = self._grace_ends - monotonic() > self.config.timeout_graceful_shutdown
        self._send(CMD_DRAIN if patient else CMD_SHUTDOWN)
        self._wait_within_grace(self._none_accepts)
        if self._listeners is not None:
            # Who connects from now on is refused rather than left waiting for nobody.
            self._listeners.close()
        if patient:
            self._wait_within_grace(self._all_idle)
            self._send(CMD_SHUTDOWN)
        self._wait_within_grace(self._all_exited)
        if not self._all_exited():
            self._send(CMD_SHUTDOWN)  # the second one forces
            with self._changed:
                self._changed.wait_for(self._all_exited, _STOP_MARGIN)
                # One that is at it has the time it was given. One that has not even answered is
                # stuck in the application, and more patience would be in vain.
                self._changed.wait_for(self._none_is_ending, 2 * self.config.shutdown_timeout)
        self._monitor_done = True
        if self._bell is not None:
            self._bell.ring()
        if self._monitor is not None:
            self._monitor.join()

    def _wait_within_grace(self, condition: Callable[[], bool]) -> None:
        with self._changed:
            # Another call of stop() may shorten the time meanwhile.
            while not condition() and (left := self._grace_ends - monotonic()) > 0:
                self._changed.wait(left)

    def _send(self, command: str) -> None:
        for handle in self._handles:
            if not handle.exited:
                handle.command(command)

    def _none_accepts(self) -> bool:
        accepting = (WorkerState.STARTING, WorkerState.SERVING)
        return all(handle.exited or handle.state not in accepting for handle in self._handles)

    def _none_is_ending(self) -> bool:
        mute = (WorkerState.STARTING, WorkerState.SERVING)
        return all(handle.exited or handle.state in mute for handle in self._handles)

    def _all_idle(self) -> bool:
        return all(handle.exited or handle.state is WorkerState.IDLE for handle in self._handles)

    def _all_exited(self) -> bool:
        return all(handle.exited for handle in self._handles)

    def _release(self) -> None:
        """Close what workers that still run, if any, don't depend on."""
        if self._listeners is not None:
            self._listeners.close()
        for handle in self._handles:
            if handle.exited:
                handle.close()
        self._incomplete = tuple(h.thread.name for h in self._handles if not h.exited)
        if self._bell is not None and not self._incomplete:
            self._bell.close()
        if not self._incomplete:
            exit_guard.unwatch(self)

    @property
    def has_running_workers(self) -> bool:
        """Whether threads of workers are alive."""
        return any(handle.thread.is_alive() for handle in self._handles)

    # --- context managers

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        try:
            await _in_thread(self.start)
        except BaseException:
            if self._state not in _ENDED:  # cancelled
                await _in_thread(self.stop)
            raise
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await _in_thread(self.stop)


def _warn_if_untested() -> None:
    """Say what is known of interpreters on free-threaded builds: nothing."""
    if not getattr(sys, "_is_gil_enabled", lambda: True)():
        import warnings

        warnings.warn(
            "subinterpreters are untested on free-threaded builds; isolation='thread' runs the "
            "workers in parallel there",
            RuntimeWarning,
            stacklevel=3,
        )


def _log_error(text: str) -> None:
    import logging  # a host that has no use for it pays for it only when something is wrong

    logging.getLogger("subinterp_asgi.error").error("%s", text)


_ENDED = (SupervisorState.STOPPED, SupervisorState.FAILED)


async def _in_thread(function: Callable[[], None]) -> None:
    """Call a blocking function in a thread that, unlike an executor's, is gone afterwards."""
    import asyncio  # here, since hosts without a loop need not pay for it

    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def finish(exc: BaseException | None) -> None:
        if not done.done():
            done.set_result(None) if exc is None else done.set_exception(exc)

    def call() -> None:
        outcome = None
        try:
            function()
        except BaseException as exc:
            outcome = exc
        with contextlib.suppress(RuntimeError):  # the loop is closed: who asked was cancelled
            loop.call_soon_threadsafe(finish, outcome)

    thread = threading.Thread(target=call, name="asgi-supervisor-call")
    thread.start()
    try:
        await done
    finally:
        if done.done() and not done.cancelled():
            thread.join()  # it has only to return


def _choose_isolation(app: object, config: Config) -> bool:
    """Whether workers run in threads of this interpreter.

    Raises:
        ConfigError: The application can't be served with this isolation.
    """
    if not isinstance(app, str) and not callable(app):
        raise ConfigError("app", f"must be an import path or an ASGI application, not {app!r}")
    if config.isolation == "auto":
        return not isinstance(app, str)
    if config.isolation == "interpreter" and not isinstance(app, str):
        raise ConfigError(
            "app",
            "an application object can't be passed to another interpreter; pass its import path "
            "'module:attribute', or isolation='thread' to serve it from threads",
        )
    return config.isolation == "thread"


def _check_tls(config: Config) -> None:
    """Refuse what would leave a server less protected than its options seem to say.

    Raises:
        ConfigError: An option about TLS has no effect.
    """
    for name in ("keyfile", "keyfile_password", "ca_certs", "cert_reqs", "ciphers"):
        if not config.tls and getattr(config, f"ssl_{name}"):
            raise ConfigError(f"ssl_{name}", "has no effect: TLS is off without ssl_certfile")
    if config.ssl_cert_reqs and not (config.ssl_ca_certs or config.ssl_context_factory):
        raise ConfigError("ssl_cert_reqs", "needs ssl_ca_certs to verify clients by")


def _encode_state(state: Mapping[str, Any]) -> str:
    """Encode the lifespan state.

    Raises:
        ConfigError: A value is nothing that JSON can carry unchanged.
    """
    for name, value in state.items():
        try:
            unchanged = json.loads(json.dumps(value)) == value
        except (TypeError, ValueError):
            unchanged = False
        if not unchanged or not isinstance(name, str):
            raise ConfigError("state", f"{name!r} can't be carried by JSON unchanged: {value!r}")
    return json.dumps(dict(state))
