"""Keeps each slot served: replaces workers that die, are stuck, or have served for long enough.

``Reconciler.step()`` looks at everything once and says when it wants to look again. It is called in
the supervisor's thread, with its lock held, whenever a worker has said something or the time has
come. What is decided is said in events; the work is the pool's.
"""

from __future__ import annotations

import os
from time import monotonic

from ...errors import SubinterpASGIError
from ...types import TYPE_CHECKING
from .. import host_log
from ..events import Event, WorkerAbandoned, WorkerDied, WorkerRecycled
from ..pool.selector import NEVER
from ..states import WorkerState
from .budget import RestartBudget
from .failover import Failover
from .liveness import Liveness

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ...config import Config
    from ..pool.handle import WorkerHandle
    from ..pool.pool import Pool, Slot
    from ..pool.selector import Selector

START_MARGIN = 2.0
"""Seconds for a worker to report its own timeout before it is reported for it."""
RSS_INTERVAL = 5.0
"""Seconds between looks at the memory of the process."""


class Reconciler:
    """Decides which workers are to be started and to be retired.

    Args:
        config: The options.
        pool: The workers.
        selector: Where listeners are watched.
        emit: Takes events.
        on_failure: Called with the reason when workers die too often.

    Attributes:
        paused: Somebody else is replacing workers; only what has ended is taken note of.
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
        self.paused = False
        self._failed = False
        self._failover = Failover(pool, selector, self._log)
        self._liveness = Liveness(config, pool, emit, self._log)
        self._retiring: dict[WorkerHandle, float] = {}  # and when they should have ended
        self._dead: set[WorkerHandle] = set()  # that are replaced, but have not exited
        self._spare_at = 0.0
        self._rss_at = 0.0
        self._rss_base: int | None = None
        self._unreplaced: set[WorkerHandle] = set()  # stuck ones, for want of a restart
        self._messages: list[tuple[str, str]] = []

    def resume(self) -> None:
        """Go on after a pause; what serves now is what the process's memory is compared with."""
        self.paused = False
        self._rss_base = None

    def write_log(self) -> None:
        """Log what there is to be said; without the lock, which the host's handlers may want."""
        while self._messages:
            host_log.log(*self._messages.pop(0))

    def _log(self, level: str, text: str) -> None:
        self._messages.append((level, text))

    def step(self, ready: Iterable[int] = ()) -> float:
        """Look at everything, and act.

        Args:
            ready: Listeners where connections are queued.

        Returns:
            When to look again (``time.monotonic()``); ``NEVER``: when something happens.
        """
        now = monotonic()
        pool = self._pool
        for handle in tuple(pool.handles):
            handle.collect()
            if handle.exited:
                self._bury(handle, now)
            elif handle.state is WorkerState.FAILED and not handle.retiring:
                self._give_up(handle, now)
        if self._failed:
            return NEVER
        deadlines = [self._check_stuck(now)]
        if not self.paused:
            deadlines += [self._fill(slot, now) for slot in pool.slots]
            deadlines += [self._recycle(now), self._keep_spares(now)]
        else:  # a canary may take long: those that die meanwhile are replaced all the same
            deadlines += [
                self._fill(slot, now)
                for slot in pool.slots
                if slot.restart_at is not None and not slot.handles
            ]
        deadlines += [self._check_retiring(now), self._failover.step(ready, now)]
        return min(deadlines, default=NEVER)

    def step_at_end(self, ready: Iterable[int] = ()) -> float:
        """Look only for workers that are stuck, and could not end; replace none.

        Returns:
            When to look again, as ``step()``.
        """
        self.paused = True
        for handle in self._pool.handles:
            handle.collect()
        now = monotonic()
        next_look = self._check_stuck(now, at_end=True)
        if self._config.drain_delay:  # connections are still to be accepted
            next_look = min(next_look, self._failover.step(ready, now))
        return next_look

    # --- those that ended

    def _give_up(self, handle: WorkerHandle, now: float) -> None:
        """See to the replacement of one that has died; its end may still take its time."""
        slot = self._pool.slot_of(handle)
        if slot is not None and handle is slot.incoming and self.paused:
            return  # who paused looks after those it has started
        self._note_death(handle, slot, now)
        self._dead.add(handle)
        handle.retiring = True
        if slot is not None:
            self._vacate(slot, handle)
        elif handle in self._pool.spares:
            self._pool.spares.remove(handle)

    def _bury(self, handle: WorkerHandle, now: float) -> None:
        """Release a worker that has exited; if nobody had asked it to, see to its replacement."""
        slot = self._pool.slot_of(handle)
        if slot is not None and handle is slot.incoming and self.paused:
            return  # who paused looks after those it has started
        if handle.retiring:
            self.report_end(handle)
        else:
            self._note_death(handle, slot, now)
        self._forget(handle)
        if slot is not None:
            self._vacate(slot, handle)
        self._pool.release(handle)

    def report_end(self, handle: WorkerHandle) -> None:
        """Say it if a worker that was told to end did not do that well."""
        if handle.error is not None and handle not in self._dead:
            self._emit(
                WorkerDied(
                    worker_id=handle.worker_id,
                    generation=handle.generation,
                    error=handle.error,
                    restart_in=None,
                )
            )
            self._log("error", f"worker {handle.worker_id} did not end well: {handle.error}")

    def _vacate(self, slot: Slot, handle: WorkerHandle) -> None:
        if slot.current is handle:
            slot.current = None
        else:
            slot.incoming = None

    def _forget(self, handle: WorkerHandle) -> None:
        self._failover.forget(handle)
        self._liveness.forget(handle)
        self._unreplaced.discard(handle)
        self._retiring.pop(handle, None)
        self._dead.discard(handle)

    def _note_death(self, handle: WorkerHandle, slot: Slot | None, now: float) -> None:
        """Spend a restart, and fail if there is none left."""
        if self._failed:
            return
        delay = self._budget.spend(now)
        error = handle.error or "it ended without being told to"
        self._emit(
            WorkerDied(
                worker_id=handle.worker_id,
                generation=handle.generation,
                error=error,
                restart_in=delay,
            )
        )
        name = f"worker {handle.worker_id}" if handle.worker_id >= 0 else "a spare"
        self._log("error", f"{name} died: {error}")
        if delay is None:
            self._failed = True
            self._on_failure(f"{name} died: {error}")
        elif slot is None:
            self._spare_at = now + delay
        else:
            slot.restart_at = now + delay

    # --- slots

    def _fill(self, slot: Slot, now: float) -> float:
        """See that a slot has a worker; return when to look again."""
        incoming, current = slot.incoming, slot.current
        if incoming is not None and incoming.state is WorkerState.SERVING:
            slot.current, slot.incoming, slot.restart_at = incoming, None, None
            if current is not None:
                self._pool.retire(current)
            current, incoming = slot.current, None
        for handle in slot.handles:
            deadline = self._start_deadline(handle)
            if now < deadline < NEVER:
                return deadline
            if deadline <= now:
                self._give_up_start(handle, slot, now)
                self._vacate(slot, handle)
        if slot.restart_at is None and not slot.handles:
            slot.restart_at = now
        due = slot.restart_at
        if due is not None and due <= now:
            slot.restart_at = None
            self.start(slot)
            due = slot.restart_at
        return NEVER if due is None else due

    def _start_deadline(self, handle: WorkerHandle) -> float:
        """When a worker has been starting for too long; ``NEVER`` if it has started."""
        spare = handle in self._pool.spares
        if handle.state is WorkerState.STARTING or (
            handle.state is WorkerState.SPARE and not spare
        ):
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
            handle = self._pool.start(slot, self._pool.generation)
        except (OSError, SubinterpASGIError, RuntimeError, MemoryError) as exc:
            delay = self._budget.spend(now)
            reason = f"worker {slot.index} could not be started: {exc}"
            self._emit(
                WorkerDied(
                    worker_id=slot.index,
                    generation=self._pool.generation,
                    error=f"{type(exc).__name__}: {exc}",
                    restart_in=delay,
                )
            )
            self._log("error", reason)
            if delay is None:
                self._failed = True
                self._on_failure(reason)
            else:
                slot.restart_at = now + delay
            return
        if slot.current is None:
            slot.current = handle
        else:
            slot.incoming = handle

    def _keep_spares(self, now: float) -> float:
        spares = self._pool.spares
        for spare in tuple(spares):
            if self._start_deadline(spare) <= now:
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
        except (OSError, SubinterpASGIError, RuntimeError, MemoryError) as exc:
            self._log("warning", f"a spare could not be started: {exc}")
            self._spare_at = now + RestartBudget.LONGEST_DELAY
        return next_look

    # --- those that have served for long enough

    def _recycle(self, now: float) -> float:
        """Begin to replace one worker, if one is due and no other is being replaced."""
        slots = self._pool.slots
        if any(slot.incoming or slot.restart_at is not None for slot in slots):
            return NEVER
        if any(x.retiring and self._retiring.get(x) != NEVER for x in self._pool.handles):
            return NEVER  # its memory is still there, though not for ever
        lifetime = self._config.workers_lifetime or NEVER
        next_look = NEVER
        full = self._too_much_memory(now)
        oldest = min(
            (slot for slot in slots if slot.current is not None),
            key=lambda slot: slot.current.since if slot.current else NEVER,
            default=None,
        )
        for slot in slots:
            handle = slot.current
            if handle is None or handle.state is not WorkerState.SERVING:
                continue
            if handle.exhausted:
                reason = "limit_max_requests"
            elif now >= handle.since + lifetime:
                reason = "workers_lifetime"
            elif full and slot is oldest:
                reason = "workers_max_rss"
            else:
                next_look = min(next_look, handle.since + lifetime)
                continue
            self._emit(
                WorkerRecycled(worker_id=slot.index, generation=handle.generation, reason=reason)
            )
            self.start(slot)
            self._rss_base = None
            return NEVER
        if self._config.workers_max_rss is not None:
            next_look = min(next_look, self._rss_at)
        return next_look

    def _too_much_memory(self, now: float) -> bool:
        """Whether the process has grown by more than its workers may.

        Memory is the process's, not a worker's. What it has grown by since all of the workers
        served is taken for theirs, in equal parts.
        """
        limit = self._config.workers_max_rss
        if limit is None or now < self._rss_at:
            return False
        self._rss_at = now + RSS_INTERVAL
        rss = resident_memory()
        if rss is None or any(
            slot.current is None or slot.current.state is not WorkerState.SERVING
            for slot in self._pool.slots
        ):
            return False
        if self._rss_base is None:
            self._rss_base = rss
        return rss - self._rss_base > limit * 1024 * 1024 * len(self._pool.slots)

    # --- those that don't come round

    def _check_stuck(self, now: float, *, at_end: bool = False) -> float:
        """Find workers that are stuck, and have them replaced; return when to look again."""
        next_look = self._liveness.step(now, at_end=at_end)
        for handle in self._liveness.recovered:
            self._unreplaced.discard(handle)
            self._failover.forget(handle)  # which slots are to be shared may have changed meanwhile
        for handle in self._liveness:  # those too that could not be replaced before
            slot = self._pool.slot_of(handle)
            if slot is not None and not self.paused and slot.replaceable:
                self._replace_stuck(handle, slot, now)
        return next_look

    def _replace_stuck(self, handle: WorkerHandle, slot: Slot, now: float) -> None:
        if self._budget.spend(now) is not None:
            self.start(slot)
        elif handle not in self._unreplaced:
            self._unreplaced.add(handle)
            text = f"worker {handle.worker_id} is stuck; restart_limit forbids another"
            self._log("error", text)

    def _check_retiring(self, now: float) -> float:
        """Report those that don't end; return when to look again."""
        config, deadlines = self._config, [NEVER]
        for handle in self._pool.handles:
            if handle.retiring and handle not in self._retiring:
                patience = config.timeout_graceful_shutdown + 3 * config.shutdown_timeout
                self._retiring[handle] = now + patience
            deadline = self._retiring.get(handle, NEVER)
            if now >= deadline:
                self._retiring[handle] = NEVER
                deadline = now  # others may have waited for its end to be recycled
                self._emit(
                    WorkerAbandoned(worker_id=handle.worker_id, generation=handle.generation)
                )
                self._log("error", f"worker {handle.worker_id} does not end; it is left alone")
            deadlines.append(deadline)
        return min(deadlines)


def resident_memory() -> int | None:
    """Octets of this process that are in memory, where the system tells."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, AttributeError):
        return None
