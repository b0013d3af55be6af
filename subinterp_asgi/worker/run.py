"""One run of a worker in a thread, on a loop of its own: from ``started`` to ``stopped``.

It puts together what serves, tells ``status_queue`` what becomes of it, and leaves nothing behind
that could hold up the end of the interpreter. ``bootstrap()`` calls it, and so does a supervisor
whose workers are threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import logging
import os
import socket
import traceback
from collections.abc import Callable
from time import monotonic, monotonic_ns

from .. import errors
from ..config import Config
from ..control import messages, output
from ..control.counters import Counters
from ..control.launch import Runtime
from ..control.wakeup import Channel, WatchdogLine
from ..errors import SubinterpASGIError
from ..types import TYPE_CHECKING, Any
from . import access_log, commands
from .interpreter import daemon_threads
from .interpreter.importer import call_factory, import_app, is_lacking, line_of, refusal
from .interpreter.marks import takes_interrupts
from .net.loop import ServerLoop
from .worker import Worker

if TYPE_CHECKING:
    from ..control.messages import Listener
    from .interpreter.watchdog import Watchdog
    from .log_forwarder import LogForwarder
    from .recorder import Recorder
    from .sources import Sources

logger = logging.getLogger("subinterp_asgi.error")

_MAX_ERROR_TEXT = 20_000
_MAX_LINE = 2000
_OUR_FOLDERS = tuple(
    os.path.join(os.path.dirname(file), "")
    for file in (os.path.dirname(__file__), asyncio.__file__, importlib.__file__)
)
"""Where the frames lie that lead to the application's: this package, asyncio, importlib."""
_EXITS = 100  # that may get in the way of a worker's end
_CANCEL_INTERVAL = 1.0  # seconds after which a task that goes on is cancelled once more
_LEAST_TIME = 0.05  # seconds that each step of the end is given, however late it is
_DAEMON_TIME = 0.5  # seconds for threads that were to be daemons to end after the exit callbacks


class _NotNeeded(Exception):
    """A spare was told to end."""


class _Rejected(Exception):
    """The application can't be loaded in an interpreter that has served before."""


class WorkerRun:
    """What a worker is to do, and the steps in which that is done.

    Args:
        load_app: Returns the application.
        listeners: (descriptor, family) of listening sockets. Those that were closed are removed.
        own_interpreter: The interpreter is this worker's alone: it may write log lines itself, and
            waits for all threads at the end.
        runtime: What else a supervisor has told.
        metrics_listeners: As ``listeners``, for metrics and health only.
    """

    def __init__(
        self,
        *,
        load_app: Callable[[], Any],
        config: Config,
        listeners: list[Listener],
        ctrl_queue: Any,
        status_queue: Any,
        worker_id: int,
        state: dict[str, Any],
        counters: Counters,
        own_interpreter: bool,
        runtime: Runtime | None = None,
        metrics_listeners: list[Listener] | None = None,
        log_forwarder: LogForwarder | None = None,
    ) -> None:
        self.load_app = load_app
        self.config = config
        self.listeners = listeners
        self.ctrl_queue = ctrl_queue
        self.status_queue = status_queue
        self.worker_id = worker_id
        self.state = state
        self.counters = counters
        self.own_interpreter = own_interpreter
        self.runtime = runtime or Runtime()
        self.metrics_listeners = [] if metrics_listeners is None else metrics_listeners
        self.log_forwarder = log_forwarder
        self._sources: Sources | None = None
        if config.reload:
            from .sources import Sources  # nobody else needs it

            self._sources = Sources(status_queue)
        self.recorder: Recorder | None = None

    def run(self) -> None:
        """Run the worker in this thread until it has ended.

        (In one piece, for what it makes is what it has to end, however far it came.)
        """
        self.status_queue.put((messages.STATUS_STARTED,))
        sockets: list[socket.socket] = []
        metrics_sockets: list[socket.socket] = []
        loop: asyncio.AbstractEventLoop | None = None
        worker: Worker | None = None
        main: asyncio.Task[None] | None = None
        watchdog: Watchdog | None = None
        ended_as_told = False
        of_the_loss: tuple[type[Exception], ...] = ()  # what may be raised for want of descriptors
        try:
            self.counters.flush(monotonic_ns())  # importing an application may hold up as well
            if (numbers := self.runtime.watchdog) is not None:
                from .interpreter.watchdog import Watchdog

                # (It finds this thread by the frame that it is made in, which has to stay.)
                line, daemon = WatchdogLine(numbers), not self.own_interpreter
                try:
                    watchdog = Watchdog(line, self.counters, self.status_queue, daemon=daemon)
                except RuntimeError as exc:
                    text = "%s has no watchdog, and can't be interrupted: %s"
                    name = "a spare" if self.runtime.spare else f"worker {self.worker_id}"
                    logger.warning(text, name, exc)
            app = self._load_app()
            if self.runtime.tell_loaded:
                self.status_queue.put((messages.STATUS_LOADED,))
            self.counters.flush()
            inbox = self._wait_for_turn() if self.runtime.spare else self.runtime.inbox
            _take_all(self.listeners, sockets)
            _take_all(self.metrics_listeners, metrics_sockets)
            loop = ServerLoop(self.counters)
            if watchdog is not None:
                watchdog.loop = loop
            worker = self._make_worker(app, loop, sockets, metrics_sockets, inbox)
            main = loop.create_task(self._run_to_end(worker))
            loop.run_until_complete(main)
            ended_as_told = True
        except _Rejected:
            pass  # that was told
        except _NotNeeded:
            ended_as_told = True
        except BaseException as exc:
            if self._has_lost_descriptors():
                exc = self._explain(exc, sockets, metrics_sockets)
                of_the_loss = OSError, ValueError
            if worker is not None and worker.shutdown_failed:
                self.status_queue.put((messages.STATUS_SHUTDOWN_FAILED,))
            if self._sources is not None:
                self._sources.tell(exc)
            report_error(self.status_queue, exc)  # at once: what follows may take its time
            if loop and worker and main and not main.done():
                with contextlib.suppress(*of_the_loss):
                    _end_left_loop(loop, worker, main)
        finally:
            for sock in (*sockets, *metrics_sockets):
                sock.close()
            self.counters.flush()  # the last counts; and the loop, which has ended, is not held up
            end_by = monotonic() + (
                self.config.shutdown_timeout if worker is None else worker.time_to_end()
            )
            if watchdog is not None:
                watchdog.close(max(_LEAST_TIME, end_by - monotonic()))
            if self.own_interpreter:
                output.stderr.end()  # whose thread would be waited for
                self._end_interpreter(loop, end_by)
            if self.recorder is not None:
                self.recorder.end()
            if loop is not None:
                with contextlib.suppress(*of_the_loss):
                    loop.close()
        if ended_as_told:
            self.status_queue.put((messages.STATUS_STOPPED,))

    def _load_app(self) -> Any:
        try:
            app = self.load_app()
        except Exception as exc:
            if not self.runtime.reused or self._has_lost_descriptors():
                raise
            # The listeners stay open for another interpreter, where it may do.
            self.listeners.clear()
            self.metrics_listeners.clear()
            self.status_queue.put((messages.STATUS_REJECTED, text_of(exc)))
            raise _Rejected from None
        if self._has_lost_descriptors():
            raise errors.DescriptorsClosedError
        return app

    def _has_lost_descriptors(self) -> bool:
        """Whether the application has closed those that are not its own."""
        queues = (self.ctrl_queue, self.status_queue)
        return any(isinstance(each, Channel) and each.wakeup.lost for each in queues)

    def _explain(
        self, exc: BaseException, *taken: list[socket.socket]
    ) -> errors.DescriptorsClosedError:
        """Say what has led to an exception: there are no descriptors any more."""
        for sockets in taken:
            for sock in sockets:
                sock.detach()  # others may have the number
        self.listeners.clear()
        self.metrics_listeners.clear()
        if isinstance(exc, errors.DescriptorsClosedError):
            return exc
        error = errors.DescriptorsClosedError()
        error.__cause__ = exc
        return error

    def _wait_for_turn(self) -> int:
        """Be a spare until a command says whose place to take; return the inbox.

        ``_NotNeeded``: it says to end.
        """
        self.status_queue.put((messages.STATUS_SPARE,))
        command = commands.wait_for_command(self.ctrl_queue)
        if command[0] != messages.CMD_SERVE:
            self.status_queue.put((messages.STATUS_DRAINING,))
            raise _NotNeeded
        self.worker_id = command[1]
        self.listeners[:] = messages.listeners_of(command)
        inbox: int = command[2]
        return inbox

    def _make_worker(
        self,
        app: Any,
        loop: asyncio.AbstractEventLoop,
        sockets: list[socket.socket],
        metrics_sockets: list[socket.socket],
        inbox: int | None,
    ) -> Worker:
        counters, status_queue, runtime = self.counters, self.status_queue, self.runtime
        if self.log_forwarder is not None:
            self.log_forwarder.use_loop(loop, self.worker_id)
        if runtime.request_limit is not None:
            counters.limit = runtime.request_limit
            counters.on_limit = lambda: status_queue.put((messages.STATUS_EXHAUSTED,))
        hooks = _hooks(app, self.worker_id, self.state) if self.config.worker_hooks else {}
        if runtime.start_delay or runtime.start_failure is not None:
            from . import faults

            hooks["on_start"] = faults.before_serving(runtime, hooks.get("on_start"))
        if runtime.recording:
            from .recorder import Recorder

            app = self.recorder = Recorder(
                app,
                loop=loop,
                status_queue=status_queue,
                counters=counters,
                log_forwarder=self.log_forwarder,
                own_interpreter=self.own_interpreter,
            )
        worker = Worker(
            app,
            self.config,
            sockets,
            worker_id=self.worker_id,
            state=self.state,
            counters=counters,
            inbox=None if inbox == -1 else inbox,
            metrics_sock=metrics_sockets,
            access_log=access_log.choose_access_log(
                self.own_interpreter,
                None if access_log.is_detailed(self.config) else self.log_forwarder,
            ),
            on_serving=self._on_serving,
            on_lifespan_failure=self._on_lifespan_failure,
            **hooks,
        )
        worker.brief = runtime.brief
        if self.recorder is not None:
            worker.on_question, worker.on_break_off = self.recorder.ask, self.recorder.tell_hung
        return worker

    def _on_serving(self) -> None:
        if self.log_forwarder is not None:
            self.log_forwarder.attach()  # which the lifespan may have taken off
        if self.recorder is not None:
            self.recorder.attach()
        self.counters.lag = 0  # what held the loop up until now held nobody up
        self.counters.serving = True
        self.counters.flush(monotonic_ns())
        if self._sources is not None:
            self._sources.keep_telling(asyncio.get_running_loop())
        self.status_queue.put((messages.STATUS_SERVING,))
        if self.own_interpreter:
            # Its start does not pay for it, and its end may find no descriptor to import it by.
            with contextlib.suppress(ImportError, OSError):
                from .interpreter import closing  # noqa: F401

    def _on_lifespan_failure(self, error: BaseException) -> None:
        self.status_queue.put((messages.STATUS_LIFESPAN_FAILED, text_of(error)))
        if self.config.lifespan_restart:
            self.status_queue.put((messages.STATUS_EXHAUSTED, "lifespan_restart"))

    async def _run_to_end(self, worker: Worker) -> None:
        """Run the worker and end what the application left behind on the loop."""
        try:
            await commands.run_with_bridge(worker, self.ctrl_queue, self.status_queue)
        finally:
            loop: Any = asyncio.get_running_loop()  # (the stubs lack a parameter)
            leftovers = asyncio.all_tasks() - {asyncio.current_task()}
            if self.recorder is not None:
                self.recorder.tell_tasks(leftovers)
            while leftovers:
                for task in leftovers:
                    task.cancel()
                left = max(_LEAST_TIME, worker.time_to_end())
                # (Some swallow a cancellation, and end with the next one.)
                _, leftovers = await asyncio.wait(leftovers, timeout=min(left, _CANCEL_INTERVAL))
                if not worker.time_to_end():
                    break
            for task in leftovers:
                name = task.get_name()
                logger.warning("worker %d: task %s did not end", worker.worker_id, name)
                # (That is all there is to say; asyncio would say it when it can't be logged.)
                task._log_destroy_pending = False  # type: ignore[attr-defined]
            await loop.shutdown_asyncgens()
            with contextlib.suppress(RuntimeError):  # no thread, which only asyncio needs for that
                await loop.shutdown_default_executor(worker.time_to_end())

    def _end_interpreter(self, loop: asyncio.AbstractEventLoop | None, end_by: float) -> None:
        """Do what an ordinary process does at its end, in that order, since libraries rely on it.

        That is: wait for threads, call the ``atexit`` callbacks, and leave daemon threads to their
        fate, who have mostly been ended by one of these. But an interpreter can't be closed under
        a thread, not even a daemon.
        """

        async def end_calls() -> None:
            # A thread that has called into the loop would wait for ever for one that has stopped.
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()
            await asyncio.sleep(0)

        def meanwhile() -> bool:
            if loop is not None:
                with contextlib.suppress(Exception, SystemExit):
                    loop.run_until_complete(end_calls())
            return commands.told_to_hurry(self.ctrl_queue)

        closing: Any = None
        try:
            from .interpreter import closing  # loaded since it serves, if it has ever served
        except (ImportError, OSError) as exc:
            text = "worker %d: no exit callbacks are called, which can't be loaded: %r"
            logger.warning(text, self.worker_id, exc)
        daemon_threads.release_pools()
        if closing is not None:
            closing.call_before_threads(self.worker_id)
        left = daemon_threads.join_all(end_by - monotonic(), meanwhile, demoted=False)
        if closing is not None:
            closing.call_exit_callbacks(self.worker_id)
            if loop is not None:
                closing.tell_failures(loop)
        daemon_threads.join_all(_DAEMON_TIME / 2, meanwhile, demoted=True)
        with contextlib.suppress(ImportError, OSError):  # they are left, and told below
            daemon_threads.end_demoted()
        daemons = daemon_threads.join_all(_DAEMON_TIME / 2, meanwhile, demoted=True)
        number = daemon_threads.count(known=len(left + daemons))
        if not number:
            return
        if number > len(left + daemons):
            daemons.append("of _thread")  # which no process waits for either
        self.status_queue.put((messages.STATUS_LEFT, int(not left), *left, *daemons))
        if self.recorder is not None:
            self.recorder.tell_left(f"thread {name}" for name in (*left, *daemons))
        for name in (*left, *daemons):
            logger.warning(
                "worker %d: thread %s still runs after shutdown_timeout=%g s; "
                "the interpreter is kept",
                self.worker_id,
                name,
                self.config.shutdown_timeout,
            )


def app_loader(app: Any, *, factory: bool) -> Callable[[], Any]:
    """Make the ``load_app`` of a worker that shares its host's interpreter.

    ``app`` is the application, or its import path; a ``factory`` is to be called first.
    """

    def load_app() -> Any:
        if isinstance(app, str):
            return import_app(app, factory=factory)
        return call_factory(app, _name(app)) if factory else app

    return load_app


def _name(app: Any) -> str:
    return str(getattr(app, "__qualname__", type(app).__qualname__))


def _take_all(listeners: list[Listener], sockets: list[socket.socket]) -> None:
    while listeners:  # each number has one owner at any time: the list, then the socket
        sockets += commands.take(listeners[:1])
        del listeners[0]


def _end_left_loop(
    loop: asyncio.AbstractEventLoop, worker: Worker, main: asyncio.Task[None]
) -> None:
    """End a worker whose loop a SystemExit of the application's has left where it stood."""
    worker.stop_accepting()
    main.cancel()
    for _ in range(_EXITS):  # it may have more than one of them
        with contextlib.suppress(BaseException):
            loop.run_until_complete(main)
        if main.done():
            break


async def noop_receive() -> dict[str, str]:
    """The ``receive`` of life-cycle hooks, which have nothing to be told."""
    return {"type": "http.disconnect"}


async def noop_send(message: dict[str, Any]) -> None:
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
        return app(scope, noop_receive, noop_send)

    return {"on_start": lambda: call("startup"), "on_end": lambda: call("shutdown")}


def report_error(status_queue: Any, exc: BaseException) -> None:
    """Send an exception as an error status, whatever its own methods do."""
    with contextlib.suppress(BaseException):  # its methods may raise; then this is not told
        cause = exc.__cause__ if isinstance(exc, SubinterpASGIError) else None
        line = messages.sendable(line_of(exc if cause is None else cause)[:_MAX_LINE])
        status_queue.put((messages.STATUS_FAILURE, _kind(exc), line))
    try:
        status_queue.put((messages.STATUS_ERROR, text_of(exc)))
    except BaseException:
        # Out of memory, or no queue any more: a worker that ends without its last status counts
        # as crashed, so that nothing is hidden by not raising, which could end the process.
        return


_KINDS: tuple[tuple[type[BaseException], str], ...] = (
    (errors.LifespanTimeoutError, "timeout"),
    (errors.LifespanError, "lifespan"),
    (errors.ConfigError, "config"),
    (errors.AppModuleFailedError, "import"),
    (errors.AppFactoryError, "import"),
    (errors.AppTypeError, "not_asgi"),
    (errors.AppImportError, "not_found"),
)


def _kind(exc: BaseException) -> str:
    """What ``StartupError`` calls it."""
    if refusal(exc) is not None:
        return "refused_module"
    if is_lacking(exc):
        return "resources"
    return next((name for kind, name in _KINDS if isinstance(exc, kind)), "other")


def text_of(exc: BaseException) -> str:
    """Describe an exception in a text that can be sent anywhere."""
    return messages.sendable(_describe(exc))


def _describe(exc: BaseException) -> str:
    """A line, and the traceback of the application's frames: from the first of them on, once."""
    summary = line_of(exc)[:_MAX_LINE]
    known = isinstance(exc, SubinterpASGIError)  # its line says all that is to be said of it
    shown = exc.__cause__ if known else exc
    if shown is None:
        return summary
    try:
        trace = traceback.TracebackException.from_exception(shown)
        _begin_at_user_code(trace, known)
        details = "".join(trace.format()).rstrip()
    except BaseException:
        details = "(its traceback can't be shown)"
    return f"{summary}\n{details[-_MAX_ERROR_TEXT:]}"


def _begin_at_user_code(trace: traceback.TracebackException, known: bool) -> None:
    """Leave out the frames of this package, and of importing, that led to the application's.

    Where there are no others all stay, for it may be a defect of this package, unless that is
    ``known``. (A syntax error has a place of its own, ``lineno``.)
    """
    theirs = next((i for i, frame in enumerate(trace.stack) if _is_theirs(frame.filename)), None)
    if theirs is not None:
        del trace.stack[:theirs]
    elif known or hasattr(trace, "lineno"):
        trace.stack = None  # type: ignore[assignment]  # which leaves out its heading, too
    for other in (trace.__cause__, trace.__context__, *(trace.exceptions or ())):
        if other is not None:
            _begin_at_user_code(other, known)


def _is_theirs(filename: str) -> bool:
    return not filename.startswith((*_OUR_FOLDERS, "<frozen importlib"))
