"""Queues that nobody looks at: connections to slots whose worker is dead, starting or frozen.

Each slot has listeners of its own. Those of a slot that no worker serves are adopted by others at
once. A worker may also be frozen without anybody's knowledge, so that listeners where something
is queued are watched for a moment, until their worker has accepted something or let it wait.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from time import monotonic_ns

from ..pool.pool import Pool
from ..pool.selector import NEVER, Selector
from ..pool.slot import Slot
from ..states import WorkerState

PATIENCE = 0.05
"""Seconds that a connection may stay in a slot's queue while the slot's worker is busy; then the
neighbours accept there too."""


class Failover:
    """Decides who accepts from whose listeners."""

    def __init__(self, pool: Pool, selector: Selector, log: Callable[[str, str], None]) -> None:
        self._pool = pool
        self._selector = selector
        self._log = log
        self._armed: set[int] = set()
        self._probes: dict[int, tuple[float, int]] = {}  # by slot: when to look, accepted so far
        self._frozen: set[int] = set()

    def step(self, ready: Iterable[int], now: float) -> float:
        """Have neighbours accept for slots whose worker can't; return when to look again.

        ``ready`` are the listeners where connections are queued.
        """
        pool = self._pool
        next_look = NEVER
        able = [handle for handle in pool.serving() if handle.worker_id not in self._frozen]
        for slot in (*pool.slots, *pool.removed):
            # (Alone it has no neighbours; but one that was found frozen before has to come round.)
            if len(pool.slots) > 1 or slot in pool.removed or slot.index in self._frozen:
                next_look = min(next_look, self._probe(slot, ready, now))
            handles = [h for h in slot.handles if h.state is WorkerState.SERVING]
            served = bool(handles) and slot.index not in self._frozen
            if served and slot.lent_to:
                pool.disown(slot)
            elif not served and pool.listening(slot):
                try:
                    pool.adopt(slot, able)
                except OSError as exc:
                    # No descriptor is left to share a queue by, perhaps because it is long.
                    text = "connections wait for a worker that can't accept them"
                    self._log("error", f"{text}: {exc.strerror}")
                    next_look = now + 1.0
            if not served:
                pool.forward_inbox(slot, self._frozen)
        return next_look

    def _probe(self, slot: Slot, ready: Iterable[int], now: float) -> float:
        """Find out whether a slot's worker leaves connections waiting; return when to look again.

        A worker that is held up leaves its heartbeat as it is, and accepts nothing meanwhile.
        """
        index, handle = slot.index, slot.current
        listening = self._pool.watched(slot)
        if handle is None or handle.state is not WorkerState.SERVING:
            self._probes.pop(index, None)
            self._frozen.discard(index)
            self._armed.difference_update(listening)
            return NEVER
        since = handle.busy_since
        held_up = bool(since) and monotonic_ns() - since > PATIENCE * 1e9
        if index in self._frozen:
            if held_up:
                return now + PATIENCE
            self._frozen.remove(index)
            self._armed.difference_update(listening)
        if index in self._probes:
            at, accepted = self._probes[index]
            if now < at:
                return at
            del self._probes[index]
            if held_up and handle.accepted == accepted:
                self._frozen.add(index)
                return now + PATIENCE
            self._armed.difference_update(listening)
        if any(fd in ready for fd in listening):
            self._probes[index] = (now + PATIENCE, handle.accepted)
            return now + PATIENCE
        if not self._armed.issuperset(listening):
            self._armed.update(listening)
            for fd in listening:
                self._selector.arm(fd)
        return NEVER
