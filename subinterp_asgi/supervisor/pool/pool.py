"""The workers of a supervisor and the slots that they serve.

All of this is called with the supervisor's lock held, and nothing here blocks for longer than a
thread takes to end.
"""

from __future__ import annotations

import contextlib
import os
import queue
from collections.abc import Callable, Container, Sequence
from random import randint

from ...config import Config
from ...control import handoff, interpreters, messages, output, scoreboard
from ...control.launch import Runtime
from ...control.scoreboard import GENERATION, INBOX, SLOTS_USED, WORKER
from ...control.wakeup import Wakeup, WatchdogLine
from ...errors import StateError
from ...types import TYPE_CHECKING, Any
from ..kept import Kept
from ..listeners import Listeners
from ..states import WorkerState
from . import ahead, isolation
from .handle import WorkerHandle
from .reserve import Reserve
from .slot import Slot

if TYPE_CHECKING:
    from ..log_receiver import LogReceiver

SPARE = -1
"""The worker number of a spare."""
MOST_ADOPTERS = 8
"""Neighbours that accept for a slot that nobody serves."""
_PLACES = 16 * 1024
"""Slots on the scoreboard: for sixteen generations of as many workers as there may be."""


class Pool:
    """Starts workers, tells them to end and releases what they held.

    The first of the ``listeners`` are the application's, others are for metrics and health only.

    Attributes:
        slots: The slots that are to be filled, by number.
        removed: Slots that need no worker of their own any more, to be used by the next ones. Their
            listeners are still open, where the kernel queues connections, and so are their inboxes:
            a worker may be about to write there, and the number would be another's.
        spares: Workers that wait to be needed.
        handles: All workers that were not released, retiring ones too.
        kept: Interpreters of workers that have ended, which could not be closed at that time.
        reserve: Interpreters of workers that have retired, to be used again.
        generation: Number of the newest generation that serves; 0: none has served yet.
        start_delay: Seconds that workers wait before they serve; for tests.
        start_failure: Generation whose workers fail to start, and why, or ``None``; for tests.
    """

    def __init__(
        self,
        app: Any,
        config: Config,
        state_json: str,
        *,
        in_threads: bool,
        listeners: Sequence[Listeners],
        logs: LogReceiver | None,
        wakeup: Wakeup,
        on_change: Callable[[WorkerHandle], None],
        on_files: Callable[[str, int], None] | None = None,
        observer: isolation.Observer | None = None,
    ) -> None:
        self._app = app
        self._config = config
        self._state_json = state_json
        self._in_threads = in_threads
        self._listeners, *self._metrics_listeners = listeners
        self._logs = logs
        self._wakeup = wakeup
        self._on_change = on_change
        self._on_files = on_files
        self._observer = observer
        self._has_begun = False  # a worker was made, which says more than the others
        self._said = ""  # by workers, of extension modules
        self.board = scoreboard.reserve_board(_PLACES)
        self._free: list[int] = []  # of the board's slots that were used
        self._path = ahead.search_path()
        self.slots: list[Slot] = []
        self.removed: list[Slot] = []
        self.spares: list[WorkerHandle] = []
        self.handles: list[WorkerHandle] = []
        self.kept: list[Kept] = []
        self.reserve = Reserve()
        self.generation = 0
        self.start_delay = 0.0
        self.start_failure: tuple[int, str] | None = None
        try:
            self.grow(config.workers)
        except BaseException:
            self.close()
            raise

    @property
    def shares_app(self) -> bool:
        """Whether all workers have one application object in common."""
        called = self._config.factory or (isinstance(self._app, str) and self._app.endswith(")"))
        return self._in_threads and not called

    # --- slots

    def grow(self, count: int) -> list[Slot]:
        """Add slots until there are so many; return the new ones, which are empty.

        ``BindError``: there can be no listeners for them.
        """
        before = len(self.slots)
        made: list[Slot] = []
        try:
            for index in range(before + len(self.removed), count):
                made.append(Slot(index))
            self._listeners.grow(count)
        except BaseException:  # all or none: what listens must be served
            for slot in made:
                slot.close()
            raise
        while len(self.slots) < count:
            self.slots.append(self.removed.pop() if self.removed else made.pop(0))
        self._limit_reserve()
        return self.slots[before:]

    def shrink(self, count: int) -> list[Slot]:
        """Remove slots until there are so many; return them."""
        gone, self.slots = self.slots[count:], self.slots[:count]
        self.removed += reversed(gone)
        self._limit_reserve()
        return gone

    def _limit_reserve(self) -> None:
        if self._config.reuse_interpreters:
            self.reserve.limit = len(self.slots) + self._config.spares

    def slot_of(self, handle: WorkerHandle) -> Slot | None:
        """Return the slot that a worker fills or will, if there is one."""
        return next((slot for slot in self.slots if handle in slot.handles), None)

    # --- workers

    def start(self, slot: Slot, generation: int, *, reuse: bool = False) -> WorkerHandle:
        """Start a worker for a slot, or let a spare become it.

        ``reuse``: in the interpreter of one that has retired, if there is one.

        ``OSError``: descriptors have run out; ``StateError``: there are too many workers.
        """
        listeners = self._listeners.duplicate(slot.index)
        for spare in self.spares:
            if spare.state is WorkerState.SPARE and spare.generation == generation:
                self.spares.remove(spare)
                self._mark(spare, slot)
                reading = -1 if slot.inbox is None else slot.inbox[0]
                spare.serve(slot.index, reading, listeners)
                if self._logs is not None and spare.job.runtime.log_fd is not None:
                    self._logs.became(spare.job.runtime.log_fd, slot.index)
                return spare
        handle = self._start(generation, listeners, slot, reuse=reuse)
        self._mark(handle, slot)
        return handle

    def start_spare(self) -> WorkerHandle:
        """Start a worker that imports the application and waits; errors as ``start()``."""
        handle = self._start(self.generation, [], None, reuse=True)
        self.spares.append(handle)
        return handle

    def _start(
        self,
        generation: int,
        listeners: list[tuple[int, int]],
        slot: Slot | None,
        *,
        reuse: bool,
    ) -> WorkerHandle:
        with contextlib.ExitStack() as cleanup:
            for fd, _ in listeners:
                cleanup.callback(os.close, fd)
            index = self._take_place()
            cleanup.callback(self._free.append, index)
            job = self._make_job(generation, index, listeners, slot, cleanup)
            if self._config.reuse_interpreters:
                job.reserve, job.reuse = self.reserve, reuse
            if self._observer is not None and self._observer.reserve is not None:
                job.reserve, job.reuse, job.keep = self._observer.reserve, True, True
            cleanup.pop_all()  # from here on they are the job's
        scoreboard.slot_of(self.board, index)[GENERATION] = generation
        runner = isolation.run_in_thread if self._in_threads else isolation.run_in_interpreter
        handle = WorkerHandle(job, runner, generation, self._on_change)
        self.handles.append(handle)
        self._on_change(handle)
        try:
            handle.start()
        except (RuntimeError, MemoryError):
            self.release(handle)  # it never was one
            raise
        return handle

    def _take_place(self) -> int:
        """Return the number of a slot on the board that is free, of a new one if there is none."""
        if self._free:
            return self._free.pop()
        index = self.board[SLOTS_USED]
        if index > _PLACES:
            raise StateError("too many workers: others have not ended yet")
        self.board[SLOTS_USED] = index + 1
        return index

    def _make_job(
        self,
        generation: int,
        index: int,
        listeners: list[tuple[int, int]],
        slot: Slot | None,
        cleanup: contextlib.ExitStack,
    ) -> isolation.Job:
        """Make what a worker is given, descriptors included, which ``cleanup`` closes again.

        (It only names one thing after the other, and so is longer than a screen.)
        """
        worker_id, inbox = (SPARE, None) if slot is None else (slot.index, slot.inbox)
        wakeup = Wakeup()
        cleanup.callback(wakeup.close)
        metrics_listeners = [pair for each in self._metrics_listeners for pair in each.duplicate()]
        for fd, _ in metrics_listeners:
            cleanup.callback(os.close, fd)
        watchdog = log_fd = None
        if self._config.timeout_worker_healthcheck:
            watchdog = WatchdogLine()
            cleanup.callback(watchdog.close)
        if self._logs is not None:
            log_fd = self._logs.open(worker_id, generation)
            cleanup.callback(self._logs.worker_ended, log_fd)
        limit = self._config.limit_max_requests
        if limit is not None:
            limit += randint(0, self._config.limit_max_requests_jitter)
        failure = self.start_failure
        has_begun, self._has_begun = self._has_begun, True
        runtime = Runtime(
            inbox=inbox and inbox[0],
            request_limit=limit,
            spare=worker_id == SPARE,
            brief=has_begun,
            said=self._said,
            watchdog=None if watchdog is None else watchdog.numbers,
            missing=output.missing(),
            log_fd=log_fd,
            start_delay=self.start_delay,
            start_failure=failure[1] if failure and failure[0] == generation else None,
            recording=self._observer is not None,
            environment=None if self._observer is None else self._observer.environment,
            prelude=None if self._observer is None else self._observer.prelude,
        )
        return isolation.Job(
            app=self._app,
            config=self._config,
            state_json=self._state_json,
            worker_id=worker_id,
            generation=generation,
            listeners=listeners,
            metrics_listeners=metrics_listeners,
            path=self._path,
            board=self.board,
            slot=index,
            ctrl_queue=self._new_queue(),
            status_queue=self._new_queue(),
            command_wakeup=wakeup,
            status_wakeup=self._wakeup,
            watchdog=watchdog,
            on_files=self._on_files,
            on_said=self._note_said,
            runtime=runtime,
            observer=self._observer,
        )

    def _note_said(self, text: str) -> None:
        self._said = text

    def _mark(self, handle: WorkerHandle, slot: Slot) -> None:
        """Write on the board whose words these are."""
        words = scoreboard.slot_of(self.board, handle.job.slot)
        words[WORKER] = slot.index + 1
        words[INBOX] = 0 if slot.inbox is None else slot.inbox[1] + 1

    def _new_queue(self) -> interpreters.Queue:
        return queue.Queue() if self._in_threads else interpreters.create_queue(messages.QUEUE_SIZE)

    def retire(self, handle: WorkerHandle, *, keep: bool = False) -> None:
        """Tell a worker to finish what it has, and to end; perhaps keep its interpreter."""
        if not handle.retiring:
            handle.retiring = True
            handle.job.keep = keep and not handle.exhausted  # whose memory may be why
            handle.command(messages.CMD_DRAIN, messages.DRAIN_RESTART)
            handle.command(messages.CMD_SHUTDOWN)

    def release(self, handle: WorkerHandle) -> None:
        """Release what a worker held that has exited."""
        self.handles.remove(handle)
        if handle in self.spares:
            self.spares.remove(handle)
        for slot in (*self.slots, *self.removed):
            slot.lent_to.discard(handle)
        handle.close()
        if self._logs is not None and handle.job.runtime.log_fd is not None:
            self._logs.worker_ended(handle.job.runtime.log_fd)
        if handle.job.kept is not None:
            self.kept.append(handle.job.kept)
        scoreboard.fold(self.board, handle.job.slot)
        self._free.append(handle.job.slot)

    # --- slots that nobody serves

    def adopt(self, slot: Slot, able: Sequence[WorkerHandle]) -> None:
        """Have some of those that are ``able`` accept for a slot, if not enough of them do.

        Not all of them: with many workers that would take as many descriptors squared.
        """
        missing = MOST_ADOPTERS - len(slot.lent_to.intersection(able))
        first = slot.index % len(able) if able else 0  # each slot has others, so that all have some
        for neighbour in (*able[first:], *able[:first]):
            if missing <= 0:
                return
            if neighbour.worker_id != slot.index and neighbour not in slot.lent_to:
                listeners = self._listeners.duplicate(slot.index, shared=False)
                if neighbour.command(messages.CMD_ADOPT, slot.index, listeners=listeners):
                    slot.lent_to.add(neighbour)
                    missing -= 1

    def disown(self, slot: Slot) -> None:
        """Leave a slot to its own worker again."""
        for handle in slot.lent_to:
            # (One that is stuck will read it when it comes round.)
            serves = handle.state in (WorkerState.SERVING, WorkerState.STUCK)
            if serves and not handle.retiring:
                handle.command(messages.CMD_DISOWN, slot.index)
        slot.lent_to.clear()

    def forward_inbox(self, slot: Slot, frozen: Container[int] = ()) -> None:
        """Give what lies in the inbox of a slot whose worker can't take it to others.

        Not to those of the slots with the numbers ``frozen``, whose workers can't either.
        """
        if slot.inbox is None:
            return
        others = [
            other.inbox[1]
            for other in self.slots
            if other.inbox is not None
            and other is not slot
            and other.index not in frozen
            and other.current in self.serving()
        ]
        if others:
            with contextlib.suppress(OSError):  # an application has closed it
                for turn, number in enumerate(handoff.receive(slot.inbox[0])):
                    if not handoff.send(others[turn % len(others)], number):
                        os.close(handoff.descriptor(number))

    def serving(self) -> list[WorkerHandle]:
        """The workers that serve and are to go on."""
        return [h for h in self.handles if h.state is WorkerState.SERVING and not h.retiring]

    def listening(self, slot: Slot) -> list[int]:
        """Descriptors that only this slot's worker accepts from."""
        return self._listeners.of_slot(slot.index)

    def watched(self, slot: Slot) -> list[int]:
        """Descriptors that are readable when something waits for this slot's worker."""
        return self.listening(slot) + ([] if slot.inbox is None else [slot.inbox[0]])

    def close(self) -> None:
        """Release the slots; for workers that can't be stopped nothing is released."""
        for slot in (*self.slots, *self.removed):
            slot.close()
