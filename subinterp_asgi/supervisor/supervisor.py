"""Owns the workers, from the main interpreter: starts them, hears from them, stops them.

The supervisor belongs to the host's process and leaves that as it was: no signal handlers, no
logging configuration, no change of directory, and after ``stop()`` no thread, descriptor or
interpreter that was not there before.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from time import monotonic

from ..config.options import Config, as_config
from ..control.messages import CMD_RELOAD_TLS, CMD_REOPEN_LOGS
from ..control.stats import Stats
from ..control.wakeup import Wakeup
from ..errors import (
    ConfigError,
    DescriptorsClosedError,
    ReloadError,
    ShutdownFailedError,
    ShutdownIncompleteError,
    StartupError,
    StateError,
    SubinterpASGIError,
    WorkerDiedError,
)
from ..types import TYPE_CHECKING, Address, Any, ASGIApp, Self
from . import events, host_log
from .events import Event, EventHub, EventStream
from .listeners import Listeners
from .policy.generations import Generations
from .policy.reconciler import Reconciler
from .policy.recycling import resident_memory
from .policy.rollout import Rollout
from .policy.shutdown import Shutdown, longest_end
from .pool.handle import WorkerHandle, WorkerInfo, held_up
from .pool.pool import Pool
from .pool.selector import NEVER, Selector
from .preflight import (
    check_on_event,
    check_reload,
    check_sockets,
    check_timeout,
    check_tls,
    choose_isolation,
    encode_state,
    tls_files,
    warn_if_tracing,
    warn_if_untested,
    warn_of_memory,
    warn_of_shared_modules,
)
from .process import exit_guard
from .process.limits import with_cure
from .states import GenerationState, SupervisorState, WorkerState, follow

if TYPE_CHECKING:
    from .admin import Admin
    from .log_receiver import LogReceiver
    from .pool.isolation import Observer
    from .pool.thread_records import ThreadRecords
    from .watch import FilesWatcher, Watcher, WatchThread

    type Path = str | os.PathLike[str]


_AFTER_DEFECT = 0.5
"""Seconds to wait after an exception that nobody has thought of."""
_LONGEST_SLEEP = 5.0
"""Seconds after which the monitor looks unasked: an application may have closed what wakes it."""
_OLD_REQUESTS = 1.0
"""Seconds that requests have once a file has changed: streams are not to keep old code."""
_DUMP_INTERVAL = 0.005
"""Seconds between looks whether workers have answered."""
_ENDED = (SupervisorState.STOPPED, SupervisorState.FAILED)


class Supervisor:
    """Serves an ASGI application from workers in interpreters of their own.

    Used as a context manager it serves in the background::

        with Supervisor("package.module:app", workers=2, port=0) as server:
            print(server.url)

    with ``async with`` likewise, without blocking the caller's loop, asyncio's or trio's; ``run()``
    serves until it is stopped. A supervisor starts once.

    Args:
        app: Import path ``"package.module:attribute"``, imported by each worker. An application
            object can't cross interpreters and needs ``isolation="thread"`` (or ``"auto"``).
        config: The options; by default all defaults.
        sockets: Bound stream sockets to listen on instead of what the options say. They stay the
            caller's, who also closes them.
        state: Initial content of each worker's lifespan ``scope["state"]``, as JSON can carry it.
        on_event: Called with each ``Event``, in a thread of the supervisor's.
        watch: Reload when a file has changed that the application has imported (``reload``), or
            that is in one of these folders (``reload_dir``).
        inherited: What ``hand_over_listeners()`` of the process has told that this one is to
            replace, whose listeners are served then. They are its own until ``take_over()``.
        options: Options by name, over those of ``config``.

    Attributes:
        config: The options in effect.
        in_threads: Workers are threads of this interpreter rather than interpreters.
        watcher: What watches the files, with ``reload``.

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
        on_event: Callable[[Event], object] | None = None,
        watch: bool | Path | Sequence[Path] = False,
        inherited: str | None = None,
        **options: Any,
    ) -> None:
        if watch:
            options["reload"] = True
            if watch is not True:
                folders = (watch,) if isinstance(watch, (str, os.PathLike)) else watch
                try:
                    options["reload_dir"] = tuple(map(os.fspath, folders))
                except TypeError:
                    text = f"must be True, a folder or a list of folders, not {watch!r}"
                    raise ConfigError("watch", text) from None
        self.config = as_config(config).with_options(**options)
        self._app = app
        self.in_threads = choose_isolation(app, self.config)
        if not self.in_threads:
            warn_if_untested()
        check_tls(self.config)
        check_reload(self.config, in_threads=self.in_threads)
        check_on_event(on_event)
        self._sockets = check_sockets(sockets)
        try:
            self._handed = [] if inherited is None else json.loads(inherited)
        except (TypeError, ValueError):
            text = f"must be what hand_over_listeners() has told, not {inherited!r}"
            raise ConfigError("inherited", text) from None
        self._state_json = encode_state({} if state is None else state)
        self._state = SupervisorState.NEW
        self._changed = threading.Condition()  # guards everything below, and announces changes
        self._hub = EventHub(on_event)
        self._observer: Observer | None = None  # of a server under test, set before its start
        self._pool: Pool | None = None
        self._reconciler: Reconciler | None = None
        self._last_workers: tuple[WorkerInfo, ...] = ()
        self._listeners: list[Listeners] = []  # the application's, and perhaps those for metrics
        self._logs: LogReceiver | None = None
        self._thread_records: ThreadRecords | None = None
        self._wakeup: Wakeup | None = None
        self._selector: Selector | None = None
        self._admin: Admin | None = None  # answers on metrics_bind when no worker does
        self.watcher: Watcher | None = None
        if self.config.reload:
            from .watch import Watcher

            self.watcher = Watcher(self.config)
        self._tls_watcher: FilesWatcher | None = None
        self._watch_threads: list[WatchThread] = []
        self._monitor: threading.Thread | None = None
        self._monitor_done = False
        self._failing: threading.Thread | None = None
        self._rollouts = threading.Lock()  # one reload or scaling at a time
        self._generations = Generations(self._hub.emit)
        self._stop_requested = False
        self._busy: threading.Thread | None = None  # it is in start(), or ends the workers
        self._end_is_due = False  # but there was no thread to be had for that
        self._rolling: threading.Thread | None = None  # it reloads or scales
        self._shutdown = Shutdown(self.config, self._changed, self._handles)
        self._incomplete: tuple[str, ...] = ()
        self._failed_ends: list[tuple[str, str]] = []  # of which workers, and what was told
        self._failure: str | None = None

    # --- what it is

    @property
    def state(self) -> SupervisorState:
        """Where in its life the supervisor is."""
        return self._state

    @property
    def addresses(self) -> tuple[Address, ...]:
        """The addresses listened on, as (host, port), or (path, None) for a Unix socket."""
        return self._listeners[0].addresses if self._listeners else ()

    @property
    def host(self) -> str:
        """Host of the first TCP address, or the path of the Unix socket if there is no other."""
        return self._first_address[0]

    @property
    def port(self) -> int | None:
        """Port of the first TCP address; with ``port=0``, that which was chosen. ``None``: none."""
        return self._first_address[1]

    @property
    def _first_address(self) -> Address:
        if not self._listeners:
            raise StateError("the supervisor has no address before it is started")
        return next((item for item in self.addresses if item[1] is not None), self.addresses[0])

    @property
    def url(self) -> str:
        """Base URL of the first address; with ``port=0``, with the port that was chosen."""
        if not self._listeners:
            raise StateError("the supervisor has no address before it is started")
        return self._listeners[0].url

    @property
    def workers(self) -> tuple[WorkerInfo, ...]:
        """The workers at this moment, by number, those included that retire or start.

        After the end: those that there were at last.
        """
        with self._changed:
            if self._pool is None or not self._pool.handles:
                return self._last_workers
            # (Not one that has died, although what it leaves behind may take its time to end.)
            handles = [
                handle
                for handle in self._pool.handles
                if handle not in self._pool.spares
                and not (handle.retiring and handle.state is WorkerState.FAILED)
            ]
            return tuple(h.info() for h in sorted(handles, key=lambda h: h.worker_id))

    @property
    def generation(self) -> int:
        """Number of the generation that serves; each reload that succeeds begins another."""
        return 1 if self._pool is None else max(1, self._pool.generation)

    @property
    def held_up(self) -> float:
        """Seconds for which no worker that accepts connections has come round; 0.0: one does.

        Infinite if none accepts. For watchdogs: what a service manager is told, for one.
        """
        return held_up(self._handles())

    def stats(self) -> Stats:
        """What all workers have counted since the start, those that have ended included.

        Raises:
            StateError: The supervisor was not started.
        """
        if self._pool is None:
            raise StateError("there are no statistics before the supervisor is started")
        with self._changed:  # so that no worker's counts are seen twice, or not at all
            return Stats.read(self._pool.board)

    def dump(self, timeout: float = 2.0) -> str:
        """Say what every worker is doing: the stacks of its threads, and of its tasks.

        Spares, and workers that start or end, are included, and nothing is stopped for it. Of a
        worker in a thread it is that thread only, with its tasks.

        Args:
            timeout: Seconds to wait for workers that do not answer, since C code lets no other
                thread run.
        """
        check_timeout(timeout)
        with self._changed:
            handles = self._handles()
            for handle in handles:
                handle.ask_for_dump()
        deadline = monotonic() + timeout
        while monotonic() < deadline and any(h.dump is None and not h.exited for h in handles):
            time.sleep(_DUMP_INTERVAL)
            for handle in handles:
                handle.collect()
        texts = [
            f"--- {handle.thread.name} ({handle.state.value}, generation {handle.generation})\n"
            f"{handle.dump or '(it gives no answer: C code lets no other thread run)'}\n"
            for handle in handles
            if not handle.exited
        ]
        return "".join(texts)

    def events(self) -> EventStream:
        """The events from now on, to be iterated over; it ends when the supervisor has ended."""
        return self._hub.stream()

    def _enter(self, state: SupervisorState) -> None:
        """Go on to another state."""
        self._state = follow(self._state, state)
        self._hub.emit(events.SupervisorChanged(state=state))

    def _on_worker_change(self, handle: WorkerHandle) -> None:
        self._hub.emit(handle.event(events.WorkerChanged, state=handle.state))

    # --- start

    def start(self) -> None:
        """Bind, start all workers and return when each of them serves.

        Raises:
            BindError: An address could not be bound.
            ConfigError: Files that options name can't be used.
            StartupError: A worker could not start; its own traceback is in the message. Or there
                is no thread, descriptor or memory to be had.
            StateError: The supervisor was started before.
        """
        if not self.in_threads:
            warn_if_tracing()
        with self._changed:
            if self._state is not SupervisorState.NEW:
                raise StateError(f"can't start: the supervisor is {self._state.value}")
            with _resources_needed():
                self._hub.start()
            self._busy = threading.current_thread()
            self._enter(SupervisorState.STARTING)
        try:
            if self.config.ssl_reload:
                from .watch import FilesWatcher

                self._tls_watcher = FilesWatcher(tls_files(self.config))  # before they are read
            self._check_files()
            handed, metrics_handed = self._handed or ((), ())
            self._listeners.append(Listeners(self.config, self._sockets, handed))
            if self.config.metrics_bind is not None:
                options = {"bind": self.config.metrics_bind, "uds": None, "fd": None, "workers": 1}
                config = self.config.with_options(**options)
                self._listeners.append(Listeners(config, (), metrics_handed))
            with _resources_needed():
                rollout = self._start_workers()
            self._wait_for_start(rollout)
        except BaseException as exc:
            self._failure = str(exc)
            self._shutdown.limit(0)
            self._wake()  # a worker that hangs is to be interrupted
            self._generations.enter(1, GenerationState.FAILED, str(exc))
            self._tear_down(SupervisorState.FAILED)
            raise
        with self._changed:
            self._generations.enter(1, GenerationState.SERVING)
            self._enter(SupervisorState.SERVING)
            self._busy = None
            self._changed.notify_all()
            self._wake()  # a worker may have died after it was last looked at
        if self._stop_requested:  # by another thread, meanwhile
            self.stop()

    def _start_workers(self) -> Rollout:
        """Make all that serving takes, and begin the first rollout."""
        exit_guard.watch(self)
        self._wakeup = Wakeup()
        self._selector = Selector(self._wakeup)
        if self.config.log_forwarding and not self.in_threads:
            from .log_receiver import LogReceiver

            self._logs = LogReceiver()
        if self.in_threads:
            from .pool.thread_records import ThreadRecords

            self._thread_records = ThreadRecords(of_applications=self.config.log_forwarding)
        with self._changed:
            pool = self._pool = Pool(
                self._app,
                self.config,
                self._state_json,
                in_threads=self.in_threads,
                # (With a status page the supervisor answers all that is asked beside it.)
                listeners=self._listeners[:1] if self.config.status_page else self._listeners,
                logs=self._logs,
                wakeup=self._wakeup,
                on_change=self._on_worker_change,
                on_files=None if self.watcher is None else self.watcher.add,
                observer=self._observer,
            )
            self._reconciler = Reconciler(
                self.config, pool, self._selector, self._hub.emit, self._fail
            )
            if self.config.metrics_bind is not None:
                self._admin = self._make_admin(pool, self._selector)
            rollout = Rollout(self._all_at_once, pool, self._generations.begin(), pool.slots)
            self._reconciler.begin(rollout)
            self._wakeup.set()
            monitor = threading.Thread(target=self._keep, name="asgi-supervisor", daemon=True)
            monitor.start()
            self._monitor = monitor
            self._watch(self.watcher, self._on_files_changed)
            self._watch(self._tls_watcher, self._on_tls_files_changed)
        return rollout

    def _watch(
        self, watcher: FilesWatcher | None, on_change: Callable[[tuple[str, ...]], None]
    ) -> None:
        if watcher is not None:
            from .watch import WatchThread

            self._watch_threads.append(WatchThread(watcher, on_change))

    def _make_admin(self, pool: Pool, selector: Selector) -> Admin:
        from .admin import Admin

        status = None
        if self.config.status_page:
            from .admin.status import Status

            stream, state = self._hub.stream(), lambda: self._state.value
            status = Status(pool.board, self._handles, stream, state, resident_memory)
        return Admin(self.config, self._listeners[1], selector, pool.board, self._handles, status)

    @property
    def _all_at_once(self) -> Config:
        return self.config.with_options(reload_strategy="all", reload_canary=0.0)

    def _wait_for_start(self, rollout: Rollout) -> None:
        with self._changed:
            self._changed.wait_for(lambda: rollout.done or self._stop_requested)
        if rollout.failure is not None:
            raise rollout.failure
        if not rollout.done:
            raise StartupError("stop() was called before the workers served", kind="stopped")

    # --- serving

    def _wake(self) -> None:
        """Have the monitor look at everything."""
        if self._wakeup is not None:
            self._wakeup.set()

    def _keep(self) -> None:
        """The monitor's thread: sleeps until a worker has something to say, or time has come."""
        selector, reconciler = self._selector, self._reconciler
        assert selector is not None
        assert reconciler is not None
        next_look = NEVER
        while not self._monitor_done:
            try:
                timeout = max(0.0, min(next_look - monotonic(), _LONGEST_SLEEP))
                next_look = self._look(selector.wait(timeout), reconciler)
                reconciler.write_log()  # not locked: handlers are the host's, and may want the lock
            except Exception as exc:
                # A defect of this package. It must not cost the workers their supervisor.
                host_log.log("error", "internal error of the supervisor, which goes on", exc)
                time.sleep(_AFTER_DEFECT)  # whatever it is that would fail again at once
                next_look = 0.0

    def _look(self, ready: Sequence[int], reconciler: Reconciler) -> float:
        """Look at everything, and act; return when to look again (``time.monotonic()``)."""
        with self._changed:
            if self._monitor_done and self._is_lost:
                return NEVER  # all has ended, and nobody has waited for it
            if self._state is SupervisorState.SERVING and not self._is_ending and self._is_lost:
                reconciler.fail(str(DescriptorsClosedError()))
            if self._is_ending:
                next_look = reconciler.step_at_end(ready)
            elif self._state is SupervisorState.STARTING:
                next_look = reconciler.step_at_start(ready)
            else:
                next_look = reconciler.step(ready)
                self._generations.end_all_but({h.generation for h in self._handles()})
            if self._nobody_ends:
                self._end_apart()
                next_look = min(next_look, monotonic() + _AFTER_DEFECT)
            if self._admin is not None:
                next_look = min(next_look, self._admin.step(ready, monotonic()))
            self._changed.notify_all()
        return next_look

    @property
    def _is_ending(self) -> bool:
        """Whether all workers are to end, or will be told so in a moment."""
        return (
            self._stop_requested
            or self._failure is not None
            or self._state not in (SupervisorState.STARTING, SupervisorState.SERVING)
        )

    def _fail(self, reason: str) -> None:
        """Workers die too often: end."""
        self._failure = reason
        if self._failing is None and not self._stop_requested:
            self._shutdown.limit(None)
            self._end_apart()

    @property
    def _is_lost(self) -> bool:
        """Whether an application has closed what workers are heard by: nobody can serve then."""
        return self._wakeup is not None and self._wakeup.lost

    def _end_apart(self) -> None:
        """End in a thread of its own, since the monitor is needed; without one, try again later."""
        self._end_is_due = True
        if not self._nobody_ends:
            return
        thread = threading.Thread(
            target=self._tear_down,
            args=(self._begin_end(),),
            name="asgi-supervisor-end",
            daemon=True,
        )
        self._busy = self._failing = thread
        try:
            thread.start()
        except RuntimeError:
            self._busy = self._failing = None

    @property
    def _nobody_ends(self) -> bool:
        """Whether no thread could be had for the end, and nobody else has begun with it."""
        return self._end_is_due and self._busy is None and self._state not in _ENDED

    def _begin_end(self) -> SupervisorState:
        """Begin to end if that was not begun; return the state to be reached."""
        if self._state is not SupervisorState.STOPPING:
            self._enter(SupervisorState.STOPPING)
        return SupervisorState.STOPPED if self._stop_requested else SupervisorState.FAILED

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the supervisor has stopped; return whether it has.

        Args:
            timeout: Seconds; ``None`` waits as long as it takes.

        Raises:
            WorkerDiedError: Workers died more often than ``restart_limit`` allows; the message
                has the last one's traceback. Or the application has closed all descriptors.
            StateError: The supervisor was not started.
        """
        check_timeout(timeout)
        if self._state is SupervisorState.NEW:
            raise StateError("the supervisor was not started")
        with self._changed:
            self._changed.wait_for(lambda: self._state in _ENDED or self._nobody_ends, timeout)
            final = None
            if self._nobody_ends:
                self._busy = threading.current_thread()
                final = self._begin_end()
        if final is not None:
            self._tear_down(final)
        done = self._state in _ENDED
        if self._state is SupervisorState.FAILED:
            raise WorkerDiedError(self._failure or "workers have died")
        return done

    def run(self) -> None:
        """Start, serve until ``stop()`` is called by another thread, and clean up.

        An exception in this thread, such as ``KeyboardInterrupt``, stops the workers and goes on.

        Raises:
            BindError, StartupError: As ``start()``.
            WorkerDiedError: Workers died too often.
            ShutdownFailedError, ShutdownIncompleteError: As ``stop()``.
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
        self._reload_tls()

    def _reload_tls(self, files: tuple[str, ...] = ()) -> None:
        try:
            self._check_tls_files()
        except ConfigError as exc:
            self._hub.emit(events.TLSReloadFailed(files=files, reason=str(exc)))
            raise
        with self._changed:  # stop() closes what a command goes through
            for handle in self._serving_pool("reload TLS").handles:
                handle.command(CMD_RELOAD_TLS)
        self._hub.emit(events.TLSReloaded(files=files))

    def reopen_logs(self) -> None:
        """Have workers in interpreters open their log files anew, where these were renamed.

        That is for files that ``log_config`` or the application has their ``logging`` write, once
        they were rotated. Logging of this interpreter, and of workers in threads, is the host's.
        """
        if not self.in_threads:
            with self._changed:  # stop() closes what a command goes through
                for handle in self._handles():
                    handle.command(CMD_REOPEN_LOGS)

    def _on_tls_files_changed(self, files: tuple[str, ...]) -> None:
        self._wait_while_starting()
        try:
            self._reload_tls(files)
        except StateError:
            pass  # it is ending
        except ConfigError as exc:
            host_log.log("error", f"{exc}; new connections get the certificate of before")
        else:
            host_log.log("info", f"new connections use what is in {', '.join(files)} now")

    def _check_files(self) -> None:
        """``ConfigError``: workers could not use them."""
        if self.config.log_config is not None:
            from ..config import log_file

            log_file.read(self.config.log_config)
        self._check_tls_files()

    def _check_tls_files(self) -> None:
        if self.config.tls:
            from ..worker.net import tls  # ssl is imported only where it is needed

            tls.check_files(self.config)

    def _serving_pool(self, what: str) -> Pool:
        """Return the pool; ``StateError``: the supervisor does not serve."""
        if self._state is not SupervisorState.SERVING or self._pool is None:
            raise StateError(f"can't {what}: the supervisor is {self._state.value}")
        return self._pool

    # --- replacing workers

    def reload(
        self,
        *,
        strategy: str | None = None,
        canary: float | None = None,
        timeout: float | None = None,
        wait: bool = True,
    ) -> int:
        """Replace all workers by new ones, which import the application anew.

        The new ones serve before the old ones finish what they have and end, so that no request is
        lost. Returns once the old ones have ended, with the number of the generation that serves.
        (Workers in threads share the modules of this interpreter, which are not imported again.)

        Args:
            strategy: ``"all"`` at once or ``"rolling"``, one by one; by default
                ``reload_strategy``.
            canary: Seconds for which one new worker is tried first; by default ``reload_canary``.
            timeout: Seconds that requests of the old workers may take to end before they are broken
                off; by default ``timeout_graceful_shutdown``.
            wait: Return when the old workers have ended, rather than when the new ones serve.

        Raises:
            ReloadError: The new workers could not start; the old ones go on, save those that were
                replaced one by one already.
            StateError: The supervisor does not serve, or was told to end meanwhile.
            ConfigError: There is no such strategy.
        """
        check_timeout(timeout)
        config = self.config
        if strategy is not None:
            config = config.with_options(reload_strategy=strategy)
        if canary is not None:
            config = config.with_options(reload_canary=canary)
        with self._rolling_out("reload") as pool:
            number = self._generations.begin()
            if self.in_threads:
                warn_of_shared_modules(self.config)
            else:
                warn_of_memory(self.config)
            rollout = Rollout(config, pool, number, pool.slots, timeout)
            self._roll_out_generation(rollout, pool, number)
            before = self._generations.replace(number)
        if wait:
            self._wait_for_end(rollout.retired)
            for old in before:  # a worker that does not end is no reason to call it living
                self._generations.enter(old, GenerationState.ENDED)
        return number

    restart = reload
    """The same: all workers are replaced, and no request is lost."""

    def _on_files_changed(self, files: tuple[str, ...]) -> None:
        self._wait_while_starting()
        if self._is_ending:  # be it that the start has failed, which these may mend
            if self.watcher is not None:
                self.watcher.tell_again(files)
            return
        self._hub.emit(events.FilesChanged(files=files))
        try:
            self.reload(strategy="all", canary=0.0, timeout=_OLD_REQUESTS, wait=False)
        except StateError:
            pass  # it is ending
        except SubinterpASGIError as exc:
            host_log.log("error", str(exc))

    def _wait_while_starting(self) -> None:
        with self._changed:
            self._changed.wait_for(
                lambda: self._state is SupervisorState.SERVING or self._is_ending
            )

    def scale(self, workers: int) -> None:
        """Change the number of workers; returns when new ones serve, and superfluous have ended.

        Raises:
            ConfigError: That is no number of workers.
            StartupError: A new worker could not start; there are as many as before.
            BindError: There can be no listeners for them.
            StateError: The supervisor does not serve.
        """
        self.config.with_options(workers=workers)  # which checks it
        with self._rolling_out("scale") as pool:
            before = len(pool.slots)
            retired: list[WorkerHandle] = []
            if workers > before:
                with _resources_needed(), self._changed:
                    new = pool.grow(workers)
                try:
                    self._roll_out(Rollout(self._all_at_once, pool, pool.generation, new))
                except BaseException:
                    with self._changed:
                        pool.shrink(before)
                    raise
            else:
                with self._changed:
                    retired = [handle for slot in pool.shrink(workers) for handle in slot.handles]
            if workers != before:
                self._hub.emit(events.Scaled(before=before, after=workers))
        self._wait_for_end(retired)

    def _roll_out_generation(self, rollout: Rollout, pool: Pool, number: int) -> None:
        """Roll out a new generation, and say what has become of it if that fails."""
        try:
            try:
                self._roll_out(rollout)
            except StartupError as exc:
                raise rollout.reload_error(exc) from None
        except BaseException as exc:
            # One by one, it may have got somewhere.
            got_somewhere = pool.generation == number
            state = GenerationState.SERVING if got_somewhere else GenerationState.FAILED
            self._generations.enter(number, state, str(exc))
            if isinstance(exc, ReloadError):
                self._hub.emit(events.ReloadFailed(generation=number, reason=str(exc)))
            raise

    def _roll_out(self, rollout: Rollout) -> None:
        """Have the reconciler go on with a rollout and wait until it is done.

        ``StartupError``: it was given up; ``StateError``: the supervisor is ending.
        """
        assert self._reconciler is not None
        with self._changed:
            if not self._is_ending:
                self._reconciler.begin(rollout)
                self._wake()
            try:
                self._changed.wait_for(lambda: rollout.done or self._is_ending)
            except BaseException:
                if not self._is_ending:  # or else all are told to end, which twice would force
                    self._reconciler.abandon()
                raise
        if rollout.failure is not None:
            raise rollout.failure
        if not rollout.done:
            raise StateError("the supervisor is ending")

    def _wait_for_end(self, retired: Sequence[WorkerHandle]) -> None:
        """Wait until workers have ended that were told so, as long as that may take."""

        def is_over() -> bool:
            there = [handle for handle in self._handles() if handle in retired]
            return self._is_ending or all(each.state is WorkerState.STUCK for each in there)

        with self._changed:
            self._changed.wait_for(is_over, longest_end(self.config))

    @contextlib.contextmanager
    def _rolling_out(self, what: str) -> Iterator[Pool]:
        """Keep other calls from changing what is desired meanwhile."""
        thread = threading.current_thread()
        if self._rolling is thread or self._is_own_worker(thread):
            # (A signal handler, or a worker that is a thread.)
            raise StateError(f"can't {what} here: it would wait for itself; use another thread")
        with self._rollouts:
            with self._changed:
                pool = self._serving_pool(what)
                self._rolling = thread
            try:
                yield pool
            finally:
                self._rolling = None
                self._wake()

    # --- another process in place of this one

    def hand_over_listeners(self) -> tuple[str, tuple[int, ...]]:
        """Describe the listeners for a process that is to take over: ``inherited``, descriptors.

        The new process gets these descriptors under the same numbers (``pass_fds`` of
        ``subprocess.Popen``) and serves them with ``Supervisor(..., inherited=)`` beside this one.
        Once it does, it calls ``take_over()`` and this process ``hand_over()``. If it never does,
        nothing has changed here.

        Raises:
            StateError: The supervisor does not serve.
        """
        with self._changed:
            self._serving_pool("hand over listeners")
            handed = [each.hand_over() for each in self._listeners]
        descriptors = tuple(fd for each in handed for fd, *_ in each)
        return json.dumps([*handed, []][:2]), descriptors

    def take_over(self) -> None:
        """Own the listeners that were inherited: close them and remove sockets' files at the end.

        From now on the process that had them must call ``hand_over()``, or end at once.
        """
        with self._changed:
            for each in self._listeners:
                each.take_over()

    def hand_over(self, timeout: float | None = None) -> None:
        """Stop as ``stop()`` does, but leave the listeners to the process that serves them now.

        Nothing is refused meanwhile, and the peers of WebSockets are told 1012, as in a reload.
        Arguments and errors are those of ``stop()``.
        """
        check_timeout(timeout)
        with self._changed:
            self._serving_pool("hand over")
            for each in self._listeners:
                each.give_up()
            self._shutdown.handing_over = True
        self.stop(timeout)

    # --- stop

    def stop(self, timeout: float | None = None) -> None:
        """Stop gracefully and return when all is released. May be called from any thread, often.

        No more connections are accepted, requests in flight are served, lifespans are shut down.
        (A signal handler may call it, too. If it has interrupted ``start()`` or ``stop()``, whose
        end it can't wait for, it returns at once, and those see to it; if it has interrupted
        another method, which holds a lock, a thread does.)

        Args:
            timeout: Seconds that requests in flight may take; by default
                ``timeout_graceful_shutdown``. After that they are broken off. A second call, while
                the first one waits, can only shorten this.

        Raises:
            ShutdownFailedError: All has ended, but the application's shutdown failed in a worker.
            ShutdownIncompleteError: A worker did not end, even so. It is left alone.
            StateError: Called by a worker of this supervisor that is a thread, which can't wait
                for its own end.
        """
        check_timeout(timeout)
        if self._is_own_worker(threading.current_thread()):
            raise StateError("a worker can't stop its own supervisor; do it in another thread")
        interrupts = self._changed._is_owned()  # type: ignore[attr-defined]
        with self._changed:
            if self._state is SupervisorState.NEW:
                self._enter(SupervisorState.STOPPED)
                self._hub.close()
            self._stop_requested = True
            self._shutdown.limit(timeout)
            self._changed.notify_all()
            if self._busy is threading.current_thread():
                return  # a signal handler, which interrupts what will see to it
            if interrupts:  # a signal handler, and others could not get the lock meanwhile
                name = "asgi-supervisor-stop"
                thread = threading.Thread(
                    target=self._stop_apart, args=(timeout,), name=name, daemon=True
                )
                try:
                    thread.start()
                except RuntimeError:
                    self._end_is_due = True
                    self._wake()
                return
            ours = self._take_over()
        if ours:
            self._tear_down(SupervisorState.STOPPED)
        if self._failing is not None and self._failing is not threading.current_thread():
            self._failing.join()
        if self._incomplete:  # at that time; a thread that was left may have ended since
            with self._changed:
                self._release()
        if self._incomplete:
            why = "a thread of the application, or the application itself, does not end"
            if self._is_lost:
                why = str(DescriptorsClosedError())
            raise ShutdownIncompleteError(
                f"still running: {', '.join(self._incomplete)}; {why}", self._incomplete
            )
        if self._failed_ends and self._failure is None:  # which says more
            names = tuple(name for name, _ in self._failed_ends)
            text = f"{', '.join(names)} did not end well: {self._failed_ends[0][1]}"
            raise ShutdownFailedError(text, names)

    def _take_over(self) -> bool:
        """Wait for who is at the end, or at the start; return whether it falls to this thread.

        It does if nobody is, or if an exception such as ``KeyboardInterrupt`` got in the way.
        """
        self._changed.wait_for(lambda: self._state in _ENDED or not self._busy)
        if self._state in _ENDED:
            return False
        self._busy = threading.current_thread()
        self._begin_end()  # which another one may have begun that was interrupted
        return True

    def _is_own_worker(self, thread: threading.Thread) -> bool:
        return any(thread is handle.thread for handle in self._handles())

    def _stop_apart(self, timeout: float | None) -> None:
        # The next call raises it, too.
        with contextlib.suppress(ShutdownFailedError, ShutdownIncompleteError):
            self.stop(timeout)

    def _tear_down(self, final: SupervisorState) -> None:
        """End all workers as well as can be and release everything that they don't hold."""
        try:
            self._shutdown.run(self._listeners)
            self._monitor_done = True
            self._wake()
            if self._monitor is not None:
                # (If it can't be woken it ends when it next looks.)
                self._monitor.join(_AFTER_DEFECT if self._is_lost else None)
            for each in self._watch_threads:
                each.close()
            if self._pool is not None:
                self._pool.reserve.close()
            with self._changed:
                self._release()
            if self._reconciler is not None:
                self._reconciler.write_log()
            if self._logs is not None:
                self._logs.close()  # not locked: handlers are the host's, and may want the lock
            with self._changed:
                self._generations.end()
                self._enter(final)
        finally:
            with self._changed:
                self._busy = None
                self._changed.notify_all()
        self._hub.close()

    def _handles(self) -> tuple[WorkerHandle, ...]:
        return () if self._pool is None else tuple(self._pool.handles)

    def _release(self) -> None:
        """Close what workers that still run, if any, don't depend on."""
        for listeners in self._listeners:
            listeners.refuse()
        if self._admin is not None:
            self._admin.close()
        pool = self._pool
        if pool is not None:
            if pool.handles:
                self._last_workers = self.workers
            for handle in tuple(pool.handles):
                if handle.exited:
                    if self._state is SupervisorState.STOPPING and self._reconciler is not None:
                        self._reconciler.report_end(handle)
                        if handle.shutdown_failed:
                            self._failed_ends.append((handle.thread.name, handle.error or ""))
                        self._reconciler.report_kept(handle)
                    pool.release(handle)
            self._incomplete = (
                *(handle.thread.name for handle in pool.handles),
                *(kept.name for kept in pool.kept if not (kept.closed or kept.daemons_only)),
            )
        if not self._incomplete:
            for listeners in self._listeners:
                listeners.close()
            if pool is not None:
                pool.close()
            for resource in (self._selector, self._wakeup):
                if resource is not None:
                    resource.close()
            if self._thread_records is not None:
                self._thread_records.close()
            exit_guard.unwatch(self)

    @property
    def has_running_workers(self) -> bool:
        """Whether a worker does not end, or threads of one that has ended."""
        pool = self._pool
        return pool is not None and (
            any(handle.thread.is_alive() for handle in pool.handles)
            or any(not (kept.closed or kept.daemons_only) for kept in pool.kept)
        )

    # --- context managers

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        try:
            self.stop()
        except ShutdownFailedError:  # which was logged, and must not hide what came first
            if exc_info[1] is None:
                raise

    async def __aenter__(self) -> Self:
        try:
            await _in_thread(self.start)
        except BaseException:
            if self._state not in _ENDED:  # cancelled
                await _in_thread(self.stop, shield=True)
            raise
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await _in_thread(lambda: self.__exit__(*exc_info), shield=True)


async def _in_thread(function: Callable[[], object], *, shield: bool = False) -> None:
    """Call a blocking function in a thread that, unlike those of the loop, is gone afterwards.

    If no thread can be had it blocks the loop, which is better than not to stop. ``shield`` is for
    trio, where a scope that is cancelled cancels all that is awaited in it.
    """
    event, wake, scope = _loop_of_caller(shield)
    failures: list[BaseException] = []

    def call() -> None:
        try:
            function()
        except BaseException as exc:
            failures.append(exc)
        with contextlib.suppress(RuntimeError):  # nobody waits any more, not even the loop
            wake(event.set)

    thread = threading.Thread(target=call, name="asgi-supervisor-call")
    try:
        thread.start()
    except RuntimeError:
        function()
        return
    with scope:
        await event.wait()
    thread.join()  # which has only to return
    if failures:
        raise failures[0]


def _loop_of_caller(shield: bool) -> tuple[Any, Callable[..., object], Any]:
    """An event of the loop that runs the caller, what wakes that from a thread, and a scope."""
    trio: Any = sys.modules.get("trio")
    if trio is not None:
        with contextlib.suppress(RuntimeError):  # it is there, but not what runs
            wake = trio.lowlevel.current_trio_token().run_sync_soon
            return trio.Event(), wake, trio.CancelScope(shield=shield)
    import asyncio  # hosts without a loop need not pay for it

    return (
        asyncio.Event(),
        asyncio.get_running_loop().call_soon_threadsafe,
        contextlib.nullcontext(),
    )


@contextlib.contextmanager
def _resources_needed() -> Iterator[None]:
    """Say what it means if there is no thread, descriptor or memory to be had."""
    try:
        yield
    except SubinterpASGIError:
        raise
    except (RuntimeError, OSError, ImportError, MemoryError) as exc:
        if isinstance(exc, RuntimeError):
            what = f"a thread that the system refuses: {with_cure(exc)}"
        else:
            what = f"more than the system grants: {type(exc).__name__}: {with_cure(exc)}"
        text = f"the supervisor needs {what}"
        raise StartupError(text, kind="resources") from exc
