"""Workers that have served for long enough: by requests, by time, by the memory of the process."""

from __future__ import annotations

import os
import sys

from ...config import Config
from ..pool.pool import Pool
from ..pool.selector import NEVER
from ..pool.slot import Slot
from ..states import WorkerState

RSS_INTERVAL = 5.0
"""Seconds between looks at the memory of the process."""


class Recycling:
    """Finds the worker that is to be replaced next."""

    def __init__(self, config: Config, pool: Pool) -> None:
        self._config = config
        self._pool = pool
        self._rss_at = 0.0
        self._rss_base: int | None = None

    def forget_memory(self) -> None:
        """Compare the process's memory with what it takes when all workers serve the next time."""
        self._rss_base = None

    def find(self, now: float) -> tuple[Slot, str] | float:
        """Return a slot whose worker is due and the option that says so, or when to look again."""
        slots = self._pool.slots
        lifetime = self._config.workers_lifetime or NEVER
        next_look = NEVER
        serving = [
            (slot, slot.current)
            for slot in slots
            if slot.current is not None and slot.current.state is WorkerState.SERVING
        ]
        full = self._too_much_memory(now, all_serve=len(serving) == len(slots))
        oldest = min((handle.since for _, handle in serving), default=NEVER)
        for slot, handle in serving:
            if handle.exhausted:
                return slot, handle.exhausted
            if now >= handle.since + lifetime:
                return slot, "workers_lifetime"
            if full and handle.since == oldest:
                return slot, "workers_max_rss"
            next_look = min(next_look, handle.since + lifetime)
        if self._config.workers_max_rss is not None:
            next_look = min(next_look, self._rss_at)
        return next_look

    def _too_much_memory(self, now: float, *, all_serve: bool) -> bool:
        """Whether the process has grown by more than its workers may.

        Memory is the process's, not a worker's. What it has grown by since all of the workers
        served is taken for theirs, in equal parts.
        """
        limit = self._config.workers_max_rss
        if limit is None or now < self._rss_at:
            return False
        self._rss_at = now + RSS_INTERVAL
        rss = resident_memory() if all_serve else None
        if rss is None:
            return False
        if self._rss_base is None:
            self._rss_base = rss
        return rss - self._rss_base > limit * 1024 * 1024 * len(self._pool.slots)


def resident_memory() -> int | None:
    """Octets of this process that are in memory, where the system tells."""
    if sys.platform == "win32":
        return None
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, AttributeError):
        return None
