"""How often workers that died may be replaced, and how soon."""

from __future__ import annotations

import random
from collections import deque


class RestartBudget:
    """Counts restarts within a moving window; one budget for all workers of a supervisor.

    It outlives the workers, so that a worker which dies as often as it is replaced spends it.
    A slot's first restart in a window comes after ``delay`` seconds, which double with each. One
    that had served for ``PROVEN`` times ``delay`` is replaced at once.
    """

    LONGEST_DELAY = 30.0
    JITTER = 0.25
    """Part of a delay by which it may be shorter or longer."""
    PROVEN = 10

    def __init__(self, limit: int, window: float, delay: float) -> None:
        self._limit = limit
        self._window = window
        self._delay = delay
        self._spent: deque[tuple[float, int]] = deque()  # when, and for which slot

    def spend(self, now: float, slot: int = 0, served: float = 0.0) -> float | None:
        """Take one restart; return the seconds to wait before it, ``None`` if there is none left.

        A slot waits the longer the oftener *its* workers died: that others did is no reason to
        leave it empty. ``served``: seconds for which the worker that died had served.
        """
        while self._spent and self._spent[0][0] <= now - self._window:
            self._spent.popleft()
        if len(self._spent) >= self._limit:
            return None
        before = sum(other == slot for _, other in self._spent)
        self._spent.append((now, slot))
        delay = min(self.LONGEST_DELAY, self._delay * 2.0 ** min(before, 100))
        if served >= self._delay * self.PROVEN:
            return 0.0
        # (Workers that died of the same cause need not come back at the same moment.)
        return delay * random.uniform(1 - self.JITTER, 1 + self.JITTER)
