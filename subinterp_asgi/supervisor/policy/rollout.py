"""Replacing workers that serve by new ones, which serve before the old ones retire.

A rollout runs in the thread of the caller, who waits for it. Meanwhile the reconciler starts
nothing.
"""

from __future__ import annotations

import threading
from time import monotonic, monotonic_ns

from ...control.scoreboard import BUSY_SINCE, ERRORS, LAG, REQUESTS, slot_of
from ...errors import ReloadError, StateError
from ...types import TYPE_CHECKING
from ..states import WorkerState
from .reconciler import START_MARGIN

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ...config import Config
    from ...control.scoreboard import Slot as Words
    from ..pool.handle import WorkerHandle
    from ..pool.pool import Pool, Slot

CANARY_ERRORS = 0.01
"""Errors for each request that a canary may have beyond twice those of the others."""
CANARY_LAG = 0.25
"""Seconds by which its loop may be held up, unless the others' are held up a third as long."""


class Rollout:
    """Starts a generation and, once it serves, retires the one before.

    Args:
        config: The options.
        pool: The workers.
        changed: The supervisor's lock, notified when something has changed.
        broken_off: Tells whether the supervisor is ending.
        generation: Number of the new generation.
    """

    def __init__(
        self,
        config: Config,
        pool: Pool,
        changed: threading.Condition,
        broken_off: Callable[[], bool],
        generation: int,
    ) -> None:
        self._config = config
        self._pool = pool
        self._changed = changed
        self._broken_off = broken_off
        self.generation = generation
        self._before = pool.generation
        self._promoted = 0  # slots that the new generation serves
        self._retired: list[WorkerHandle] = []

    def run(self, strategy: str, canary: float) -> None:
        """Replace all workers.

        Args:
            strategy: ``"all"`` at once or ``"rolling"``, one by one.
            canary: Seconds for which one new worker is tried first; 0: none is.

        Raises:
            ReloadError: A new worker could not start, or the canary did worse than the others.
            StateError: The supervisor is ending.
        """
        slots = list(self._pool.slots)
        try:
            if canary:
                self.start(slots[:1])
                self._try(slots[0], canary)
            if strategy == "all":
                self.start([slot for slot in slots if slot.incoming is None])
                self.promote(slots)
            else:
                for slot in slots:
                    if slot.incoming is None:
                        self.start([slot])
                    self.promote([slot])
        except BaseException:
            self.give_up(slots)
            raise

    def start(self, slots: Sequence[Slot]) -> None:
        """Start new workers and wait until all of them serve.

        Raises:
            ReloadError: One could not.
        """
        with self._changed:
            if self._broken_off():  # nobody would tell them to end
                raise StateError("the supervisor is ending")
            for slot in slots:
                try:
                    slot.incoming = self._pool.start(slot, self.generation)
                except (OSError, RuntimeError, MemoryError) as exc:
                    raise self._error(f"worker {slot.index} could not be started: {exc}") from None
            # (A canary too, which may have died since.)
            new = [slot.incoming for slot in self._pool.slots if slot.incoming is not None]
            self._changed.wait_for(
                lambda: (
                    self._broken_off()
                    or any(handle.state is WorkerState.FAILED for handle in new)
                    or all(handle.state is WorkerState.SERVING for handle in new)
                ),
                self._config.startup_timeout + START_MARGIN,
            )
            for handle in new:
                if handle.state is WorkerState.FAILED:
                    raise self._error(f"worker {handle.worker_id} could not start: {handle.error}")
            if self._broken_off():
                raise StateError("the supervisor is ending")
            for handle in new:
                if handle.state is not WorkerState.SERVING:
                    raise self._error(
                        f"worker {handle.worker_id} did not start within "
                        f"startup_timeout={self._config.startup_timeout:g} s"
                    )

    def _error(self, reason: str) -> ReloadError:
        number, before = self.generation, self._before
        if self._promoted:
            reason = (
                f"generation {number} serves in {self._promoted} of {len(self._pool.slots)} "
                f"workers only, generation {before} goes on in the others: {reason}"
            )
        elif number != before:  # and not just a new worker of the same
            reason = f"generation {number} does not serve, generation {before} goes on: {reason}"
        return ReloadError(reason, number)

    def _try(self, slot: Slot, seconds: float) -> None:
        """Selector the canary for a while.

        Raises:
            ReloadError: It ended, or did worse than the others.
        """
        canary = slot.incoming
        assert canary is not None
        others = [other.current for other in self._pool.slots if other.current is not None]
        before = {other: _totals([other]) for other in others}
        began = monotonic()
        with self._changed:
            while (left := began + seconds - monotonic()) > 0:
                if self._broken_off():
                    raise StateError("the supervisor is ending")
                if canary.state is not WorkerState.SERVING:
                    raise self._error(f"the canary is {canary.state.value}: {canary.error}")
                self._changed.wait(min(left, 0.1))
                errors, requests, lag = _totals([canary])
                # (Of one that has ended nothing is left to read.)
                others = [other for other in others if other in self._pool.handles]
                other_errors, other_requests, other_lag = _totals(others)
                other_errors -= sum(before[other][0] for other in others)
                other_requests -= sum(before[other][1] for other in others)
                usual = other_errors / max(1, other_requests)
                if errors / max(1, requests) > 2 * usual + CANARY_ERRORS:
                    raise self._error(f"the canary failed {errors} of {requests} requests")
                if lag > max(CANARY_LAG, 3 * other_lag):
                    raise self._error(f"the canary's loop was held up for {lag:.2f} s")

    def promote(self, slots: Sequence[Slot]) -> None:
        """Let the new workers take the places of the old ones, which retire."""
        with self._changed:
            self._pool.generation = self.generation
            self._promoted += len(slots)
            for slot in slots:
                old = slot.current
                slot.current, slot.incoming = slot.incoming, None
                slot.restart_at = None
                if old is not None and not old.exited:
                    self._retire(old)

    def retire(self, slots: Sequence[Slot]) -> None:
        """Retire the workers of slots that were removed."""
        with self._changed:
            for slot in slots:
                for handle in slot.handles:
                    self._retire(handle)
                slot.current = slot.incoming = slot.restart_at = None

    def give_up(self, slots: Sequence[Slot]) -> None:
        """Retire the new workers that have not taken their places."""
        with self._changed:
            for slot in slots:
                if slot.incoming is not None:
                    self._retire(slot.incoming)
                    slot.incoming = None

    def _retire(self, handle: WorkerHandle) -> None:
        if not self._broken_off():  # or else all are told to end, which a second time would force
            self._pool.retire(handle)
        self._retired.append(handle)

    def finish(self) -> None:
        """Wait until those that were retired have ended, as long as that may take."""
        config = self._config
        patience = config.timeout_graceful_shutdown + 3 * config.shutdown_timeout
        with self._changed:
            self._changed.wait_for(
                lambda: (
                    self._broken_off()
                    or all(
                        handle not in self._pool.handles or handle.state is WorkerState.STUCK
                        for handle in self._retired
                    )
                ),
                patience,
            )


def _totals(handles: Sequence[WorkerHandle]) -> tuple[int, int, float]:
    """Errors and requests of some workers, and the longest time that one was held up lately."""
    slots = [slot_of(handle.job.board, handle.job.slot) for handle in handles]
    return (
        sum(slot[ERRORS] for slot in slots),
        sum(slot[REQUESTS] for slot in slots),
        max(map(_held_up, slots), default=0) / 1e9,
    )


def _held_up(slot: Words) -> int:
    """Nanoseconds for which a loop was held up lately, or has been up to now."""
    busy_since: int = slot[BUSY_SINCE]
    return max(slot[LAG], monotonic_ns() - busy_since if busy_since else 0)
