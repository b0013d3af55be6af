"""Keeps things as they are desired: each slot served, by the generation that was asked for.

``Reconciler.step()`` looks at everything once and says when it wants to look again. It is called in
the supervisor's thread, with its lock held, whenever a worker has said something or the time has
come. It is the only one that starts and retires workers. What is desired others say: the number of
slots, a rollout, that all is to end. What it does is said in events; the work is the pool's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from sys import maxsize
from time import monotonic

from ...config import Config
from ...control.messages import CMD_SHUTDOWN, SHUTDOWN_NOW
from ...errors import SubinterpASGIError
from .. import host_log
from ..events import Event, LifespanFailed, WorkerAbandoned, WorkerDied, WorkerRecycled
from ..pool.handle import WorkerHandle
from ..pool.pool import Pool
from ..pool.selector import NEVER, Selector
from ..pool.slot import Slot
from ..process.limits import with_cure
from ..states import WorkerState
from .budget import RestartBudget
from .failover import Failover
from .liveness import Liveness
from .recycling import Recycling
from .rollout import SHARED_APP, START_MARGIN, Rollout
from .shutdown import longest_end

_START_INTERVAL = 1.0
"""Seconds between looks at a start: an application may close all descriptors as it is imported, and
with them those by which a worker wakes the supervisor."""
_CANT_START = (OSError, SubinterpASGIError, RuntimeError, MemoryError)


class Reconciler:
    """Decides which workers are to be started and to be retired.

    ``on_failure`` is called with the reason when workers die too often.
    """

    def __init__(
        self,
        config: Config,
        pool: Pool,
        selector: Selector,
        emit: Callable[[Event], None],
        on_failure: Callable[[str], None],
    ) -> None:
        self._config = config
        self._pool = pool
        self._emit = emit
        self._on_failure = on_failure
        self._budget = RestartBudget(
            config.restart_limit, config.restart_window, config.restart_delay
        )
        # That the system has no thread or descriptor for a worker is no death, and may last.
        self._refusals = RestartBudget(maxsize, config.restart_window, config.restart_delay)
        # Of its own: that workers were stuck says nothing about how often they may die.
        self._stuck_budget = RestartBudget(config.restart_limit, config.restart_window, 0.0)
        self._rollout: Rollout | None = None
        self._failed = False
        self._failover = Failover(pool, selector, self._log)
        self._liveness = Liveness(config, pool, emit, self._log)
        self._recycling = Recycling(config, pool)
        self._retiring: dict[WorkerHandle, float] = {}  # and when they should have ended
        self._abandoned: set[WorkerHandle] = set()  # of which that was said
        self._dead: set[WorkerHandle] = set()  # that are replaced, but have not exited
        self._spare_at = 0.0
        self._unreplaced: set[WorkerHandle] = set()  # stuck ones, for want of a restart
        self._messages: list[tuple[str, str]] = []

    # --- what is desired

    def begin(self, rollout: Rollout) -> None:
        """Have ``step()`` go on with a rollout until that is done; one at a time."""
        assert self._rollout is None
        self._rollout = rollout

    def abandon(self) -> None:
        """Give the rollout up that was begun; nobody waits for it any more."""
        if self._rollout is not None:
            self._rollout.give_up()
            self._rollout = None

    # --- what is done about it

    def step(self, ready: Iterable[int] = ()) -> float:
        """Look at everything, and act; ``ready`` are listeners where connections are queued.

        Returns when to look again (``time.monotonic()``); ``NEVER``: when something happens.
        """
        deadlines = [self._go_on()]
        now = monotonic()
        self._report_lifespans()
        self._see_to_ended(now)
        if self._failed:
            return NEVER
        for slot in self._pool.removed:
            for handle in slot.clear():
                self._pool.retire(handle)
        deadlines.append(self._check_stuck(now))
        deadlines += [self._fill(slot, now) for slot in self._pool.slots]
        if self._rollout is None:
            deadlines += [self._recycle(now), self._keep_spares(now)]
        deadlines += [self._check_retiring(now), self._failover.step(ready, now)]
        return min(deadlines)

    def step_at_start(self, ready: Iterable[int] = ()) -> float:
        """Go on with the rollout; those that serve accept for the others; as ``step()``."""
        now = monotonic()
        return min(self._go_on(), self._failover.step(ready, now), now + _START_INTERVAL)

    def _go_on(self) -> float:
        for handle in self._pool.handles:
            handle.collect()
        if self._rollout is None:
            return NEVER
        next_look = self._rollout.step()
        if self._rollout.done:
            self._rollout = None
            self._recycling.forget_memory()
        return next_look

    def step_at_end(self, ready: Iterable[int] = ()) -> float:
        """Look only for workers that are stuck, and could not end; replace none; as ``step()``."""
        for handle in self._pool.handles:
            handle.collect()
        now = monotonic()
        next_look = self._check_stuck(now, at_end=True)
        if self._config.drain_delay:  # connections are still to be accepted
            next_look = min(next_look, self._failover.step(ready, now))
        return next_look

    def _is_candidate(self, handle: WorkerHandle) -> bool:
        """Whether it is the rollout that looks after a worker."""
        return self._rollout is not None and handle in self._rollout.candidates

    # --- what there is to say

    def write_log(self) -> None:
        """Log what there is to be said; without the lock, which the host's handlers may want."""
        while self._messages:
            host_log.log(*self._messages.pop(0))

    def _log(self, level: str, text: str) -> None:
        self._messages.append((level, text))

    def _report_lifespans(self) -> None:
        for handle in self._pool.handles:
            while handle.lifespan_errors:
                error = handle.lifespan_errors.pop(0)
                self._emit(handle.event(LifespanFailed, error=error))

    # --- those that ended

    def _see_to_ended(self, now: float) -> None:
        for handle in tuple(self._pool.handles):
            if self._is_candidate(handle):
                continue
            if handle.exited:
                self._bury(handle, now)
            elif handle.state is WorkerState.FAILED and not handle.retiring:
                self._give_up(handle, now)

    def _give_up(self, handle: WorkerHandle, now: float) -> None:
        """See to the replacement of one that has died; its end may still take its time."""
        slot = self._pool.slot_of(handle)
        self._note_death(handle, slot, now)
        self._dead.add(handle)
        handle.retiring = True
        if slot is not None:
            slot.vacate(handle)
        elif handle in self._pool.spares:
            self._pool.spares.remove(handle)

    def _bury(self, handle: WorkerHandle, now: float) -> None:
        """Release a worker that has exited; if nobody had asked it to, see to its replacement."""
        slot = self._pool.slot_of(handle)
        if handle.retiring:
            self.report_end(handle)
        else:
            self._note_death(handle, slot, now)
        self.report_kept(handle)
        self._forget(handle)
        if slot is not None:
            slot.vacate(handle)
        self._pool.release(handle)

    def report_end(self, handle: WorkerHandle) -> None:
        """Say it if a worker that was told to end did not do that well."""
        if handle.error is not None and handle not in self._dead:
            self._emit(handle.event(WorkerDied, error=handle.error, restart_in=None))
            if handle.given_up:
                return
            hint = ""
            if handle.shutdown_failed and self._pool.shares_app and len(self._pool.slots) > 1:
                hint = f" {SHARED_APP}"
            self._log("error", f"worker {handle.worker_id} did not end well{hint}: {handle.error}")

    def _forget(self, handle: WorkerHandle) -> None:
        self._liveness.forget(handle)
        self._unreplaced.discard(handle)
        self._retiring.pop(handle, None)
        self._dead.discard(handle)
        self._abandoned.discard(handle)

    def report_kept(self, handle: WorkerHandle) -> None:
        """Say it if the interpreter of a worker that has ended is kept."""
        if handle.job.kept is not None and handle not in self._abandoned:
            self._emit(handle.event(WorkerAbandoned))

    def _note_death(self, handle: WorkerHandle, slot: Slot | None, now: float) -> None:
        if self._failed:
            return
        error = handle.error or "it ended without being told to"
        name = f"worker {handle.worker_id}" if handle.worker_id >= 0 else "a spare"
        served = now - handle.since if handle.has_served else 0.0
        refused = handle.error_kind == "resources" and not handle.has_served
        budget = self._refusals if refused else self._budget
        text = f"{name} died: {with_cure(error) if refused else error}"
        self._spend_restart(
            handle.worker_id, handle.generation, slot, error, text, now, budget, served
        )

    def _spend_restart(
        self,
        worker_id: int,
        generation: int,
        slot: Slot | None,
        error: str,
        text: str,
        now: float,
        budget: RestartBudget,
        served: float = 0.0,
    ) -> None:
        """Say that one has died and have another started later; fail if no restart is left."""
        number = worker_id if slot is None else slot.index
        delay = budget.spend(now, number, served)
        died = WorkerDied(worker_id=worker_id, generation=generation, error=error, restart_in=delay)
        self._emit(died)
        if delay is None:
            self.fail(text)
            return
        self._log("error", text)
        if slot is None:
            self._spare_at = died.at + delay  # as the event says, however late it is
        else:
            slot.restart_later(died.at + delay)

    def fail(self, reason: str) -> None:
        """Begin and replace no worker any more, and have all end."""
        self._failed = True
        self._log("error", reason)
        self._on_failure(reason)

    # --- slots

    def _fill(self, slot: Slot, now: float) -> float:
        """See that a slot has a worker; return when to look again."""
        incoming = slot.incoming
        if (
            incoming is not None
            and incoming.state is WorkerState.SERVING
            and not self._is_candidate(incoming)
        ):
            old = slot.promote()
            if old is not None:
                self._pool.retire(old)
        for handle in slot.handles:
            if self._is_candidate(handle):
                return NEVER
            deadline = self._start_deadline(handle)
            if now < deadline < NEVER:
                return deadline
            if deadline <= now:
                self._give_up_start(handle, slot, now)
                slot.vacate(handle)
        due = slot.restart_at
        if slot.handles and (due is None or self._rollout is not None):
            return NEVER  # nothing is to be done, or a rollout will do it
        if due is None or due <= now:
            self.start(slot)
            due = slot.restart_at
        return NEVER if due is None else due

    def _start_deadline(self, handle: WorkerHandle) -> float:
        """When a worker has been starting for too long; ``NEVER`` if it has started."""
        spare = handle.state is WorkerState.SPARE and handle not in self._pool.spares
        if spare or handle.state is WorkerState.STARTING:
            return handle.since + self._config.startup_timeout + START_MARGIN
        return NEVER

    def _give_up_start(self, handle: WorkerHandle, slot: Slot | None, now: float) -> None:
        handle.error = f"it did not start within startup_timeout={self._config.startup_timeout:g} s"
        self._note_death(handle, slot, now)
        self._pool.retire(handle)

    def start(self, slot: Slot) -> None:
        """Start a worker for a slot: to fill it, or to replace the one that does."""
        now = monotonic()
        try:
            slot.fill(self._pool.start(slot, self._pool.generation))
        except _CANT_START as exc:
            error = f"{type(exc).__name__}: {exc}"
            text = f"worker {slot.index} could not be started: {with_cure(exc)}"
            budget = self._budget if isinstance(exc, SubinterpASGIError) else self._refusals
            self._spend_restart(slot.index, self._pool.generation, slot, error, text, now, budget)

    def _keep_spares(self, now: float) -> float:
        spares = self._pool.spares
        for spare in tuple(spares):
            if spare.generation != self._pool.generation:  # it knows the old code
                self._pool.retire(spare, keep=True)
                spares.remove(spare)
            elif self._start_deadline(spare) <= now:
                self._give_up_start(spare, None, now)
                spares.remove(spare)
        next_look = min(map(self._start_deadline, spares), default=NEVER)
        missing = self._config.spares - len(spares)
        if missing <= 0:
            return next_look
        if any(slot.current is None for slot in self._pool.slots):
            return NEVER  # first things first
        if now < self._spare_at:
            return self._spare_at
        try:
            for _ in range(missing):
                next_look = min(next_look, self._start_deadline(self._pool.start_spare()))
        except _CANT_START as exc:
            self._log("warning", f"a spare could not be started: {with_cure(exc)}")
            self._spare_at = now + RestartBudget.LONGEST_DELAY
        return next_look

    def _recycle(self, now: float) -> float:
        """Begin to replace one worker, if one is due and no other is being replaced."""
        if not all(slot.settled for slot in self._pool.slots):
            return NEVER
        if any(x.retiring and self._retiring.get(x) != NEVER for x in self._pool.handles):
            return NEVER  # its memory is still there, though not for ever
        found = self._recycling.find(now)
        if isinstance(found, float):
            return found
        slot, reason = found
        assert slot.current is not None
        generation = slot.current.generation
        self._emit(WorkerRecycled(worker_id=slot.index, generation=generation, reason=reason))
        self.start(slot)
        self._recycling.forget_memory()
        return NEVER

    # --- those that don't come round

    def _check_stuck(self, now: float, *, at_end: bool = False) -> float:
        """Find workers that are stuck, and have them replaced; return when to look again."""
        next_look = self._liveness.step(now, at_end=at_end)
        for handle in self._liveness.recovered:
            self._unreplaced.discard(handle)
            self._keep_recovered(handle)
        if not at_end and self._rollout is None:
            for handle in self._liveness:  # those too that could not be replaced before
                slot = self._pool.slot_of(handle)
                if slot is not None and slot.settled:
                    self._replace_stuck(handle, slot, now)
        return next_look

    def _keep_recovered(self, handle: WorkerHandle) -> None:
        """A worker has come round: its place need not be taken, unless that is about to happen."""
        slot = self._pool.slot_of(handle)
        if slot is not None and slot.current is handle and not handle.retiring:
            incoming = slot.incoming
            if (
                incoming is not None
                and incoming.state is not WorkerState.SERVING
                and not self._is_candidate(incoming)
            ):
                slot.vacate(incoming)
                self._pool.retire(incoming)

    def _replace_stuck(self, handle: WorkerHandle, slot: Slot, now: float) -> None:
        if self._stuck_budget.spend(now, slot.index) is not None:
            self.start(slot)
        elif handle not in self._unreplaced:
            self._unreplaced.add(handle)
            text = f"worker {handle.worker_id} is stuck; restart_limit forbids another"
            self._log("error", text)

    def _check_retiring(self, now: float) -> float:
        """Report those that don't end; return when to look again."""
        deadlines = [NEVER]
        for handle in self._pool.handles:
            if handle.retiring and handle not in self._retiring:
                self._retiring[handle] = now + longest_end(self._config)
            if now >= handle.break_off_at:
                handle.break_off_at = NEVER
                handle.command(CMD_SHUTDOWN, SHUTDOWN_NOW)
            deadlines.append(handle.break_off_at)
            deadline = self._retiring.get(handle, NEVER)
            if now >= deadline:
                self._retiring[handle] = NEVER
                deadline = now  # others may have waited for its end to be recycled
                self._abandoned.add(handle)
                self._emit(handle.event(WorkerAbandoned))
                self._log("error", f"worker {handle.worker_id} does not end; it is left alone")
            deadlines.append(deadline)
        return min(deadlines)
