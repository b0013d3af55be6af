"""A worker as its supervisor sees it: a thread, two queues and what was last heard."""

from __future__ import annotations

import contextlib
import queue as stdlib_queue
import threading
from collections.abc import Callable, Iterable, Sequence
from time import monotonic, monotonic_ns

from ...config.records import dataclass
from ...control import messages
from ...control.scoreboard import ACCEPTED, BUSY_SINCE, CONNECTIONS, REQUESTS, slot_of
from ...control.wakeup import close
from ...types import Any
from ..events import WorkerEvent
from ..states import WorkerState, may_follow
from .isolation import Job, Runner

_STATES = {
    messages.STATUS_STARTED: WorkerState.STARTING,
    messages.STATUS_SPARE: WorkerState.SPARE,
    messages.STATUS_SERVING: WorkerState.SERVING,
    messages.STATUS_DRAINING: WorkerState.DRAINING,
    messages.STATUS_IDLE: WorkerState.IDLE,
    messages.STATUS_STOPPED: WorkerState.STOPPED,
    messages.STATUS_ERROR: WorkerState.FAILED,
}


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """A worker at one moment.

    Attributes:
        id: Number of the worker, from 0; that which replaces it has the same. -1: a spare.
        generation: Generation that it belongs to, from 1; each reload begins another.
        thread_name: Name of the thread of this process that runs it.
        requests: Requests it had begun to serve.
    """

    id: int
    generation: int
    state: WorkerState
    thread_name: str
    requests: int
    connections: int


ACCEPTING = (WorkerState.SERVING, WorkerState.STUCK)  # the latter may have come round just now


class WorkerHandle:
    """Runs one job in a thread of its own and keeps track of it.

    ``collect()`` may be called from any thread; all else is the supervisor's. ``on_change()`` is
    called with the handle when its state has changed, while it is locked.

    Attributes:
        worker_id: Number of the worker; -1: it is a spare.
        state: What the worker was last known to do.
        error: What went wrong, if something did: a line, then a traceback.
        error_kind: What kind of thing that is, as ``StartupError`` names it.
        error_cause: The exception behind it in one line, if it was one.
        shutdown_failed: What went wrong was the application's shutdown.
        exited: The thread has nothing left to do.
        retiring: It was told to end.
        given_up: That was before it served, and why was told.
        break_off_at: When its requests are to be broken off, in the time of ``monotonic``.
        exhausted: The option by which it has served for long enough, or ``None``.
        lifespan_errors: What its lifespan has raised, not reported yet.
        stack: Where its thread was when that was asked for, once that is known.
        debugged_at: When it was last seen in a debugger (``time.monotonic_ns()``); 0: never.
        dump: What all its threads and tasks did when that was asked for, once that is known.
        since: When it was started, and since it serves, when it began to (``time.monotonic()``).
        has_served: It has begun to serve at some time.
    """

    def __init__(
        self,
        job: Job,
        runner: Runner,
        generation: int,
        on_change: Callable[[WorkerHandle], None],
    ) -> None:
        self.worker_id = job.worker_id
        self.generation = generation
        self.state = WorkerState.STARTING
        self.error: str | None = None
        self.error_kind = "other"
        self.error_cause: str | None = None
        self.shutdown_failed = False
        self.exited = False
        self.retiring = False
        self.given_up = False
        self.break_off_at = float("inf")
        self.exhausted: str | None = None
        self.lifespan_errors: list[str] = []
        self.stack: str | None = None
        self.debugged_at = 0
        self.dump: str | None = None
        self.since = monotonic()
        self.has_served = False
        self.job = job
        self._runner = runner
        self._on_change = on_change
        self._lock = threading.RLock()
        self._slot = slot_of(job.board, job.slot)
        self._last: tuple[int, int] | None = None  # requests and connections, once it has ended
        job.before_close = self.collect
        # A daemon: the interpreter must never wait for it at exit, which it would do for ever.
        self.thread = threading.Thread(target=self._run, name=self._thread_name(), daemon=True)

    def _thread_name(self) -> str:
        return f"asgi-worker-{self.worker_id}" if self.worker_id >= 0 else "asgi-spare"

    def start(self) -> None:
        """Start the worker's thread."""
        try:
            self.thread.start()
        except (RuntimeError, MemoryError) as exc:
            # There is no thread. (Any other exception interrupts only the wait for its start.)
            self.job.close_listeners()
            self.error = f"{type(exc).__name__}: {exc}"
            self.exited = True
            self.become(WorkerState.FAILED)
            raise

    # --- commands

    def command(
        self, name: str, *arguments: str | int, listeners: Sequence[messages.Listener] = ()
    ) -> bool:
        """Send a command; a worker that has ended does not mind. ``False`` if it reads none.

        Listeners that it carries are the worker's to close from now on.
        """
        sent, unsent = False, listeners
        try:
            if not (self.exited and listeners):
                command = messages.command(name, *arguments, listeners=listeners)
                self.job.ctrl_queue.put_nowait(command)
                sent, unsent = True, ()
        except stdlib_queue.Full:
            pass
        finally:
            self.job.command_wakeup.set()
            for fd, _ in unsent:
                close(fd)
        return sent

    def serve(self, worker_id: int, inbox: int, listeners: Sequence[messages.Listener]) -> None:
        """Make a spare this worker; the listeners are its to close."""
        self.worker_id = self.job.worker_id = worker_id
        self.since = monotonic()
        self.thread.name = self._thread_name()
        self.command(messages.CMD_SERVE, worker_id, inbox, listeners=listeners)

    def ask_for_stack(self, busy_since: int) -> None:
        """Have ``stack`` set, if the worker has been held up since then."""
        if self.job.watchdog is not None:
            self.job.watchdog.report(busy_since)

    def ask_for_dump(self) -> None:
        """Have ``dump`` set."""
        self.dump = None
        if self.job.watchdog is not None:
            self.job.watchdog.dump()
        else:
            self.dump = "(it has no watchdog: timeout_worker_healthcheck is 0)"

    def interrupt(self, busy_since: int) -> None:
        """Break off what has held it up since then, if that is Python code."""
        self.job.reserve = None  # nobody knows what was left half-done
        if self.job.watchdog is not None:
            self.job.watchdog.interrupt(busy_since)

    # --- what it says

    def collect(self) -> None:
        """Take in the statuses that have come."""
        with self._lock:
            while True:
                try:
                    status = self.job.status_queue.get_nowait()
                except stdlib_queue.Empty:
                    return
                if isinstance(status, tuple):  # not the remains of a closed interpreter's item
                    self._take(status)

    def _take(self, status: tuple[Any, ...]) -> None:
        if status[0] == messages.STATUS_EXHAUSTED:
            self.exhausted = status[1] if len(status) > 1 else "limit_max_requests"
        elif status[0] == messages.STATUS_LIFESPAN_FAILED:
            self.lifespan_errors.append(status[1])
        elif status[0] == messages.STATUS_SHUTDOWN_FAILED:
            self.shutdown_failed = True
        elif status[0] == messages.STATUS_STUCK:
            self.stack = status[1]
        elif status[0] == messages.STATUS_FILES and self.job.on_files is not None:
            self.job.on_files(*status[1:])
        elif status[0] == messages.STATUS_DEBUGGED:
            self.debugged_at = monotonic_ns()
        elif status[0] == messages.STATUS_DUMP:
            self.dump = status[1]
        elif status[0] == messages.STATUS_SAID and self.job.on_said is not None:
            self.job.on_said(status[1])
        elif status[0] == messages.STATUS_LOADED:
            self.job.turn.end()
        elif status[0] == messages.STATUS_LEFT:
            self.job.left = status[1:]
        elif status[0] == messages.STATUS_REUSABLE:
            self.job.unfit = status[1]
        elif status[0] == messages.STATUS_ANSWER:
            if self.job.observer is not None:
                self.job.observer.take_answer(self.worker_id, *status[1:])
        elif status[0] == messages.STATUS_REJECTED:
            self.job.rejected = status[1]
        elif status[0] == messages.STATUS_FAILURE:
            self.error_kind, self.error_cause = status[1:]
        elif status[0] in _STATES:
            if status[0] == messages.STATUS_ERROR:
                self.error = status[1]
            self.job.ended_well = status[0] == messages.STATUS_STOPPED
            self.become(_STATES[status[0]])  # last: who sees it may ask for the error

    def become(self, state: WorkerState) -> None:
        """Change the state, if it may follow the present one.

        (A worker that is told to drain while it starts says first that, then that it serves.)
        """
        with self._lock:
            if may_follow(self.state, state):
                if state is WorkerState.SERVING and self.state is not WorkerState.STUCK:
                    self.since = monotonic()
                    self.has_served = True
                self.state = state
                self._on_change(self)

    def event[E: WorkerEvent](self, kind: type[E], **more: Any) -> E:
        """Make an event about it."""
        return kind(worker_id=self.worker_id, generation=self.generation, **more)

    @property
    def deaf(self) -> bool:
        """Whether an application has closed what wakes it; it ends if it comes round by itself."""
        return not self.exited and self.job.command_wakeup.lost

    # --- what it has counted

    @property
    def accepted(self) -> int:
        """Connections it had accepted."""
        return self._slot[ACCEPTED]

    @property
    def busy_since(self) -> int:
        """Time (``time.monotonic_ns()``) since which its loop has not come round; 0: it sleeps."""
        return self._slot[BUSY_SINCE] if self._last is None else 0

    def info(self) -> WorkerInfo:
        """The worker at this moment."""
        requests, connections = self._last or (self._slot[REQUESTS], self._slot[CONNECTIONS])
        return WorkerInfo(
            self.worker_id, self.generation, self.state, self.thread.name, requests, connections
        )

    # --- its end

    def close(self) -> None:
        """Release what it was lent; only after ``exited`` is set, and once."""
        self._last = (self._slot[REQUESTS], 0)
        if self.thread.ident is not None:  # it was started
            self.thread.join()
        with contextlib.suppress(stdlib_queue.Empty):
            while True:  # listeners in commands that it has not read are nobody's
                for fd, _ in messages.listeners_of(self.job.ctrl_queue.get_nowait()):
                    close(fd)
        self.job.command_wakeup.close()
        if self.job.watchdog is not None:
            self.job.watchdog.close()

    def _run(self) -> None:
        try:
            self._runner(self.job)
        except BaseException as exc:
            self.error = f"{type(exc).__name__}: {exc}"
            if isinstance(exc, (OSError, MemoryError)) or getattr(exc, "lacking", False):
                self.error_kind = "resources"
            self.become(WorkerState.FAILED)
        self.job.close_listeners()
        self.collect()
        if self.state not in (WorkerState.STOPPED, WorkerState.FAILED):
            # Neither "stopped" nor "error": it could not even say so, as when out of memory.
            self.error = "the worker ended without saying why; it may have run out of memory"
            self.become(WorkerState.FAILED)
        self.exited = True
        self.job.status_wakeup.set()


def held_up(handles: Iterable[WorkerHandle]) -> float:
    """Seconds for which none of those that accept has come round; infinite if none accepts."""
    now = monotonic_ns()
    shortest = float("inf")
    for handle in handles:
        if handle.state in ACCEPTING and not handle.exited:
            since = handle.busy_since
            shortest = min(shortest, max(0, now - since) / 1e9 if since else 0.0)
    return shortest
