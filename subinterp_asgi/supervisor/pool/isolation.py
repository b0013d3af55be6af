"""The two kinds of place a worker can run in: an interpreter of its own, or a thread of ours.

A runner blocks its thread for as long as the worker lives. It is given everything as a ``Job``,
where it leaves only those listeners that the worker has not taken.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from ...config import Config
from ...control import interpreters
from ...control.interpreters import Interpreter, InterpreterFailed
from ...control.launch import Runtime
from ...control.scoreboard import Slot
from ...control.wakeup import Wakeup, WatchdogLine, close
from ...types import TYPE_CHECKING, Any
from .. import host_log
from ..kept import Kept, keep
from . import ahead, measured
from .reserve import Reserve, end, let_go

if TYPE_CHECKING:
    from typing import Protocol

    class Observer(Protocol):
        """Who watches a server under test; see ``testing.observer``.

        Attributes:
            environment: What the workers take for their environment variables.
            prelude: As in ``Runtime``.
            reserve: Interpreters that may be used again, by servers after this one, too.
        """

        environment: dict[str, str]
        prelude: tuple[str, Any] | None
        reserve: Reserve | None

        def make_interpreter(self) -> Interpreter:
            """Return one that nobody has used, loaded as by ``ahead``."""

        def end_interpreter(self, interpreter: Interpreter, /) -> None:
            """See to it that one is closed, which has no threads."""

        def take_answer(self, worker_id: int, number: int, answer: str, /) -> None:
            """Take an answer of a worker, or what it tells unasked (0)."""


type Runner = Callable[[Job], None]
"""Runs a job in the calling thread until its worker has ended."""

_THREAD_POLL_INTERVAL = 0.05  # seconds between looks at threads that keep an interpreter open


@dataclass(kw_only=True, slots=True)
class Job:
    """What a worker is to do.

    Attributes:
        app: Import path of the application, or (in threads) the application.
        state_json: Initial lifespan state.
        worker_id: Number of the worker; of a spare that becomes one, only from then on.
        listeners: (descriptor, family) of duplicates that are the worker's to close.
        metrics_listeners: As ``listeners``, for metrics and health only.
        path: Import path for the interpreter.
        slot: Number of the worker's slot on the board.
        command_wakeup: Set for commands.
        status_wakeup: Set for statuses.
        watchdog: Line to the worker's watchdog, if it has one.
        runtime: What else the worker is told; what is above is added.
        before_close: Called before the interpreter is closed, which empties its queues.
        on_files: Called with the files that it has imported, one in each line, if it tells them,
            and with the time from which on it has read them.
        on_said: Called with what it has logged of extension modules.
        left: What the worker has told of threads that are left: whether all are daemons, names.
        kept: Its interpreter, if that could not be closed.
        reserve: Where its interpreter may come from and go to, if it is to be used again.
        reuse: It may come from there.
        keep: It may go there: others have taken the worker's place.
        ended_well: The worker has told that it has stopped as it was told to.
        unfit: Why its interpreter can't be used again; empty if it can, ``None`` if nobody knows.
        turn: To be ended once the application has been imported.
        rejected: Why the application could not be loaded in one that was used before.
        observer: Who watches, if it is under test.
    """

    app: Any
    config: Config
    state_json: str
    worker_id: int
    generation: int
    listeners: list[tuple[int, int]]
    path: tuple[str, ...]
    board: Slot
    slot: int
    ctrl_queue: interpreters.Queue
    status_queue: interpreters.Queue
    command_wakeup: Wakeup
    status_wakeup: Wakeup
    metrics_listeners: list[tuple[int, int]] = field(default_factory=list)
    watchdog: WatchdogLine | None = None
    runtime: Runtime = field(default_factory=Runtime)
    before_close: Callable[[], None] = field(default=lambda: None)
    on_files: Callable[[str, int], None] | None = None
    on_said: Callable[[str], None] | None = None
    left: tuple[int, *tuple[str, ...]] | None = None
    kept: Kept | None = None
    reserve: Reserve | None = None
    reuse: bool = False
    keep: bool = False
    ended_well: bool = False
    unfit: str | None = None
    rejected: str | None = None
    observer: Observer | None = None
    turn: ahead.Turn = field(default_factory=ahead.Turn)

    def close_listeners(self) -> None:
        """Close the duplicates that no worker has taken."""
        for listeners in (self.listeners, self.metrics_listeners):
            while listeners:
                close(listeners.pop()[0])


_ATTACH_SLOT = "from subinterp_asgi.control import scoreboard\nscoreboard.attach(board, slot)"


_RETIRE = "from subinterp_asgi.worker.interpreter import reuse\nreuse.retire(status_queue)"


def run_in_interpreter(job: Job) -> None:
    """Run a worker in an interpreter and close that, unless it is to be used again.

    If it was used before and the application can't be loaded there, a new one is taken.

    ``InterpreterFailed``: the worker could not even be begun.
    """
    interpreter = job.reserve.take() if job.reserve is not None and job.reuse else None
    if interpreter is not None:
        listeners, metrics_listeners = job.listeners[:], job.metrics_listeners[:]
        _run_in(interpreter, job, reused=True)
        if job.rejected is None:
            return
        reason = job.rejected.partition("\n")[0]
        host_log.log("warning", f"worker {job.worker_id} takes a new interpreter: {reason}")
        job.listeners[:], job.metrics_listeners[:] = listeners, metrics_listeners
        job.rejected = job.left = None
    if job.observer is None:
        interpreter, job.turn = ahead.take(job.path, tls=job.config.tls)
    else:
        interpreter = job.observer.make_interpreter()
    try:
        _run_in(interpreter, job, reused=False)
    finally:
        job.turn.end()


def _run_in(interpreter: Interpreter, job: Job, *, reused: bool) -> None:
    try:
        _bootstrap_in(interpreter, job, reused)
    finally:
        _wait_for_threads(interpreter, job)
        if job.left is not None:
            let_go(interpreter)
            name = threading.current_thread().name
            job.kept = Kept(interpreter, name, daemons_only=bool(job.left[0]))
            keep(job.kept)
        elif not _put_by(interpreter, job):
            (end if job.observer is None else job.observer.end_interpreter)(interpreter)


def _wait_for_threads(interpreter: Interpreter, job: Job) -> None:
    """Wait until an interpreter can be closed, or it is told that it can't."""
    job.before_close()  # items of a closed interpreter vanish from its queues
    while job.left is None and interpreter.has_threads():
        time.sleep(_THREAD_POLL_INTERVAL)
    job.before_close()


def _put_by(interpreter: Interpreter, job: Job) -> bool:
    """Have an interpreter made ready to be used again; return whether that is so."""
    reserve = job.reserve
    if reserve is None or not (job.keep and job.ended_well):
        return False
    try:
        interpreter.execute(_RETIRE)
    except InterpreterFailed as exc:  # no memory or descriptor is left for that
        job.unfit = str(exc).rpartition("\n")[2]
    _wait_for_threads(interpreter, job)  # which objects may have started at their end
    if job.unfit:
        reserve.say_once(f"interpreters are not used again: {job.unfit}")
    return job.unfit == "" and reserve.put(interpreter)


def _bootstrap_in(interpreter: Interpreter, job: Job, reused: bool) -> None:
    interpreter.adopt_path(job.path)
    interpreter.prepare({"board": job.board, "slot": job.slot})
    interpreter.execute(_ATTACH_SLOT)
    (sock_fd, sock_family), *more = job.listeners or [(-1, 0)]
    runtime = replace(
        job.runtime,
        listeners=tuple(more),
        metrics_listeners=tuple(job.metrics_listeners),
        command_wakeup=job.command_wakeup.numbers,
        status_wakeup=job.status_wakeup.numbers,
        reusable=job.reserve is not None,
        reused=reused,
        coverage=measured.settings(),
        tell_loaded=True,
    )
    arguments = {
        "ctrl_queue": job.ctrl_queue,
        "status_queue": job.status_queue,
        "config_json": runtime.join(job.config),
        "lifespan_state_json": job.state_json,
        "app_import_path": job.app,
        "sock_fd": sock_fd,
        "sock_family": sock_family,
        "worker_id": job.worker_id,
        "parent_sys_path": job.path,
    }
    interpreter.prepare(arguments)
    job.listeners.clear()  # bootstrap() owns them from its first line on
    job.metrics_listeners.clear()
    passed = ", ".join(f"{name}={name}" for name in arguments)
    interpreter.execute(
        f"import subinterp_asgi.bootstrap\nsubinterp_asgi.bootstrap.bootstrap({passed})"
    )


def run_in_thread(job: Job) -> None:
    """Run a worker in this thread of the main interpreter."""
    import json

    from ...control.counters import Counters
    from ...control.wakeup import Channel
    from ...worker.run import WorkerRun, app_loader, report_error
    from . import thread_records

    thread_records.current.set(job)

    status_queue = Channel(job.status_queue, job.status_wakeup)
    try:
        WorkerRun(
            load_app=app_loader(job.app, factory=job.config.factory),
            config=job.config,
            listeners=job.listeners,
            ctrl_queue=Channel(job.ctrl_queue, job.command_wakeup),
            status_queue=status_queue,
            worker_id=job.worker_id,
            state=json.loads(job.state_json),
            counters=Counters(job.board, job.slot),
            own_interpreter=False,
            runtime=job.runtime,
            metrics_listeners=job.metrics_listeners,
        ).run()
    except BaseException as exc:
        report_error(status_queue, exc)
