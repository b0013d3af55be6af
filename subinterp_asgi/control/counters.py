"""What a worker counts.

Counting is on the path of each request, and a word of shared memory takes four times as long to
write as an attribute. So ``Counters`` are attributes, and are copied to the board when the loop has
nothing left to do: once for all requests that came together.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from struct import Struct
from time import monotonic_ns

from . import scoreboard
from .scoreboard import BOUNDS, ROWS, Slot, Totals


def _compile_pack() -> Callable[[Counters, int, list[int]], None]:
    """Make the function that packs the words from BUSY_SINCE to the first of TURNS.

    They stand in a row, and one call costs less than writing four of them. It is compiled of the
    table, since ``attrgetter`` would make each turn's ``flush()`` a third slower.
    """
    values = [
        "busy_since",
        *(f"counters.{name}" for name in ("lag", *ROWS)),
        *(f"statuses[{n}]" for n in range(6)),
        "counters.turn_sum",
        "counters.turns",
    ]
    code = f"lambda counters, busy_since, statuses: pack(counters._buffer, 0, {', '.join(values)})"
    pack = Struct(f"@{len(values)}Q").pack_into
    compiled: Callable[[Counters, int, list[int]], None] = eval(code, {"pack": pack})
    return compiled


class Counters(Totals):
    """The counters of one worker; ``Totals`` and ``scoreboard`` say what each of them means.

    Attributes:
        slot: Its words on the board, of which it is the only writer.
        statuses: Responses by the first digit of their status.
        turns: Turns of the loop that took no longer than the first of ``BOUNDS``.
        turn_sum: Nanoseconds that all turns took.
        serving: Longer turns are counted: those before hold nobody up.
        on_limit: Called once ``limit`` requests have begun.
    """

    # Beside class attributes those of slots are counted up in half the time that others take.
    __slots__ = (
        "_buffer",
        "_changed",
        "_latencies",
        "_latency_sum",
        "_words",
        "board",
        "index",
        "lag",
        "limit",
        "on_limit",
        "serving",
        "slot",
        "statuses",
        "turn_sum",
        "turns",
        *ROWS,
    )

    def __init__(self, board: Slot, index: int) -> None:
        self.board = board
        self.index = index
        self.slot = scoreboard.slot_of(board, index)
        self._words = self.slot[scoreboard.BUSY_SINCE : scoreboard.TURNS + 1]
        self._buffer = memoryview(bytearray(self._words.nbytes)).cast("Q")
        for name in ROWS:
            setattr(self, name, 0)
        self.lag = 0
        self.limit = 0  # none
        self.on_limit: Callable[[], None] | None = None
        self.statuses = [0] * 6
        self.turns = self.turn_sum = 0
        self.serving = False
        self._latency_sum = 0
        self._latencies = [0] * (len(BOUNDS) + 1)
        self._changed: set[int] = set()  # of the latencies, since they were written to the board

    def took(self, seconds: float) -> None:
        """Count how long a response took."""
        self._latency_sum += int(seconds * 1_000_000)
        bucket = bisect_left(BOUNDS, seconds)
        self._latencies[bucket] += 1
        self._changed.add(bucket)

    def turned(self, nanoseconds: int) -> None:
        """Count a turn of the loop that took longer than the first of ``BOUNDS``."""
        if self.serving:
            self.turn_sum += nanoseconds
            self.slot[scoreboard.TURNS + bisect_left(BOUNDS, nanoseconds / 1e9)] += 1

    def accepting(self, yes: bool) -> None:
        """Tell the others whether this worker accepts connections."""
        self.slot[scoreboard.ACCEPTING] = yes

    def held_up(self) -> float:
        """For how many seconds the loop has not gone on."""
        woken: int = self.slot[scoreboard.BUSY_SINCE]
        return (monotonic_ns() - woken) / 1e9 if woken else 0.0

    def flush(self, busy_since: int = 0) -> None:
        """Bring the scoreboard up to date, with the heartbeat; 0: the loop is about to sleep."""
        _pack(self, busy_since, self.statuses)
        self._words[:] = self._buffer  # at once: packing clears what it writes to first
        if self.on_limit is not None and self.requests >= self.limit:
            on_limit, self.on_limit = self.on_limit, None
            on_limit()
        if self._changed:
            slot, latencies = self.slot, self._latencies
            slot[scoreboard.LATENCY_SUM] = self._latency_sum
            for bucket in self._changed:
                slot[scoreboard.LATENCY + bucket] = latencies[bucket]
            self._changed.clear()


_pack = _compile_pack()
