"""A worker as its supervisor sees it: a thread, two queues and what was last heard."""

from __future__ import annotations

import contextlib
import queue as stdlib_queue
import threading
from dataclasses import dataclass
from enum import Enum

from .control import (
    STATUS_DRAINING,
    STATUS_ERROR,
    STATUS_IDLE,
    STATUS_SERVING,
    STATUS_STARTED,
    STATUS_STOPPED,
)
from .scoreboard import REQUESTS, slot_of
from .types import TYPE_CHECKING

if TYPE_CHECKING:
    from .runners import Job, Runner


class WorkerState(Enum):
    """What a worker last said of itself; ``FAILED`` also if it ended without a word."""

    STARTING = "starting"
    SERVING = "serving"
    DRAINING = "draining"
    IDLE = "idle"
    STOPPED = "stopped"
    FAILED = "failed"


_STATES = {
    STATUS_STARTED: WorkerState.STARTING,
    STATUS_SERVING: WorkerState.SERVING,
    STATUS_DRAINING: WorkerState.DRAINING,
    STATUS_IDLE: WorkerState.IDLE,
    STATUS_STOPPED: WorkerState.STOPPED,
    STATUS_ERROR: WorkerState.FAILED,
}


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """A worker at one moment.

    Attributes:
        id: Number of the worker, from 0.
        generation: How many times the workers had been replaced when it began, from 1.
        state: What it was doing.
        thread_name: Name of the thread of this process that runs it.
        requests: Requests it had begun to serve.
    """

    id: int
    generation: int
    state: WorkerState
    thread_name: str
    requests: int


class WorkerHandle:
    """Runs one job in a thread of its own and keeps track of it.

    ``collect()`` may be called from any thread; all else is the supervisor's.

    Attributes:
        state: What the worker was last known to do.
        error: What went wrong, if something did: a line, then a traceback.
        exited: The thread has nothing left to do.
    """

    def __init__(self, job: Job, runner: Runner, generation: int) -> None:
        self.worker_id = job.worker_id
        self.generation = generation
        self.state = WorkerState.STARTING
        self.error: str | None = None
        self.exited = False
        self._job = job
        self._runner = runner
        self._lock = threading.Lock()
        self._slot = slot_of(job.board, job.slot)
        job.before_close = self.collect
        # A daemon: the interpreter must never wait for it at exit, which it would do for ever.
        self.thread = threading.Thread(
            target=self._run, name=f"asgi-worker-{job.worker_id}", daemon=True
        )

    def start(self) -> None:
        """Start the worker's thread."""
        try:
            self.thread.start()
        except (RuntimeError, MemoryError) as exc:
            # There is no thread. (Any other exception interrupts only the wait for its start.)
            self._job.close_listeners()
            self.error = f"{type(exc).__name__}: {exc}"
            self.state = WorkerState.FAILED
            self.exited = True
            raise

    def command(self, name: str) -> None:
        """Send a command; a worker that has ended does not mind."""
        # One that reads no commands any more would read this one no sooner.
        with contextlib.suppress(stdlib_queue.Full):
            self._job.ctrl_queue.put_nowait((name,))
        self._job.command_bell.ring()

    def collect(self) -> None:
        """Take in the statuses that have come."""
        with self._lock:
            while True:
                try:
                    status = self._job.status_queue.get_nowait()
                except stdlib_queue.Empty:
                    return
                if isinstance(status, tuple):  # not the remains of a closed interpreter's item
                    if status[0] == STATUS_ERROR:
                        self.error = status[1]
                    self.state = _STATES[status[0]]  # last: who sees it may ask for the error

    def info(self) -> WorkerInfo:
        """The worker at this moment."""
        return WorkerInfo(
            self.worker_id,
            self.generation,
            self.state,
            self.thread.name,
            self._slot[REQUESTS],
        )

    def close(self) -> None:
        """Release thread and doorbell; only after ``exited`` is set."""
        if self.thread.ident is not None:  # it was started
            self.thread.join()
        self._job.command_bell.close()

    def _run(self) -> None:
        try:
            self._runner(self._job)
        except BaseException as exc:
            self.error = f"{type(exc).__name__}: {exc}"
            self.state = WorkerState.FAILED
        self.collect()
        if self.state not in (WorkerState.STOPPED, WorkerState.FAILED):
            # Neither "stopped" nor "error": it could not even say so, as when out of memory.
            self.error = "the worker ended without saying why; it may have run out of memory"
            self.state = WorkerState.FAILED
        self.exited = True
        self._job.status_bell.ring()
