"""How a canary does, judged by what the workers of before do in the same time.

On a machine that has too much to do any loop is held up now and then, however good its application.
So nothing is held against a canary that holds up others a third as long: the loops of the workers
beside it, and the supervisor's own thread, which tells it when these have nothing to do.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Sequence
from time import monotonic_ns

from ...control.scoreboard import BOUNDS, BUSY_SINCE, ERRORS, LAG, REQUESTS, TURNS, Slot, slot_of
from ..pool.handle import WorkerHandle

CANARY_ERRORS = 0.01
"""Errors for each request that a canary may have beyond twice those of the others."""
CANARY_LAG = 0.25
"""Seconds by which its loop may be held up at one time, however often, and whatever the others'."""
CANARY_TIMES = 3
"""How often it may not be held up for longer, beyond twice as often as each of the others."""
CANARY_FREEZE = 1.0
"""Seconds by which it may not be held up even once."""
_AS_OTHERS = 3
"""How many times as long as anything else it may be held up."""


class Trial:
    """What is known of a canary and of the workers beside it since the trial began."""

    def __init__(self, canary: WorkerHandle, others: Sequence[WorkerHandle]) -> None:
        self._canary = _words(canary)
        self._others = {other: _words(other) for other in others}
        self._before = {other: _counted(words) for other, words in self._others.items()}
        self._lag = 0.0  # of the canary, at most
        self._usual_lag = 0.0  # of anything else

    def look(self, living: Collection[WorkerHandle], late: float) -> str:
        """Say what speaks against the canary; nothing: it does as well as the others.

        Args:
            living: The workers that have not ended; of others nothing is left to read.
            late: Seconds by which this look comes too late.
        """
        others = [other for other in self._others if other in living]
        usual = [0] * (2 + len(BOUNDS) + 1)
        for other in others:
            now = _counted(self._others[other])
            more = [n - before for n, before in zip(now, self._before[other], strict=True)]
            usual = [a + b for a, b in zip(usual, more, strict=True)]
            self._usual_lag = max(self._usual_lag, _lag(self._others[other], more[2:]))
        self._usual_lag = max(self._usual_lag, late)
        errors, requests, *turns = _counted(self._canary)
        self._lag = max(self._lag, _lag(self._canary, turns))
        if errors / max(1, requests) > 2 * usual[0] / max(1, usual[1]) + CANARY_ERRORS:
            return f"the canary failed {errors} of {requests} requests"
        if self._lag <= max(CANARY_LAG, _AS_OTHERS * self._usual_lag):
            return ""
        times, usually = _slow(turns), _slow(usual[2:]) / max(1, len(others))
        if self._lag > CANARY_FREEZE or times >= CANARY_TIMES + 2 * usually:
            often = f"{times} times, " if times > 1 else ""
            return (
                f"the canary's loop was held up for {self._lag:.2f} s "
                f"({often}anything else for {self._usual_lag:.2f} s at most)"
            )
        return ""


def _words(handle: WorkerHandle) -> Slot:
    return slot_of(handle.job.board, handle.job.slot)


def _counted(words: Slot) -> list[int]:
    """Errors, requests, and turns of the loop by how long they took."""
    return [words[ERRORS], words[REQUESTS], *words[TURNS : TURNS + len(BOUNDS) + 1]]


def _lag(words: Slot, turns: Sequence[int]) -> float:
    """Seconds for which a loop was held up at least: lately, in some turns, or up to now."""
    since: int = words[BUSY_SINCE]
    latest = max(words[LAG], monotonic_ns() - since if since else 0) / 1e9
    longest = max((i for i, count in enumerate(turns) if count), default=0)
    return max(latest, BOUNDS[longest - 1] if longest else 0.0)


def _slow(turns: Sequence[int]) -> int:
    """How many turns took longer than a canary's may."""
    return sum(turns[bisect_left(BOUNDS, CANARY_LAG) + 1 :])
