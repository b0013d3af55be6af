"""What the scoreboard says, in names instead of words."""

from __future__ import annotations

from ..config.records import dataclass
from ..types import TYPE_CHECKING, Any, Self
from .scoreboard import GENERATION, LAG, ROWS, STATUS, WORDS, WORKER, Slot, Totals, snapshot

if not TYPE_CHECKING:
    _rows = {"__module__": __name__, "__annotations__": dict.fromkeys(ROWS, int)}
    Totals = dataclass(frozen=True, slots=True, kw_only=True)(type("Totals", (), _rows))


_OF_A_WORKER = ("requests", "in_flight", "connections", "websockets", "errors")


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerStats:
    """A worker at one moment; counts are its own, ``lag`` is in seconds."""

    worker_id: int
    generation: int
    requests: int
    in_flight: int
    connections: int
    websockets: int
    errors: int
    lag: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats(Totals):
    """All workers at one moment: the rows of ``scoreboard.Totals``, and besides these more.

    Attributes:
        responses: Responses by class of their status, from 1 to 5; clients that left before they
            had one count as 4. As the other counters, since the start.
        lag: Seconds for which a loop was held up lately, in the worker where it was longest.
        workers: Each worker that has not ended.
    """

    responses: dict[int, int]
    lag: float
    workers: tuple[WorkerStats, ...]

    @classmethod
    def read(cls, board: Slot) -> Self:
        """Read a scoreboard."""
        sums, slots = snapshot(board)
        workers = tuple(
            WorkerStats(
                worker_id=slot[WORKER] - 1,
                generation=slot[GENERATION],
                **{name: slot[WORDS[name]] for name in _OF_A_WORKER},
                lag=slot[LAG] / 1e9,
            )
            for slot in slots.values()
        )
        rows: dict[str, Any] = {name: sums[word] for name, word in WORDS.items()}
        return cls(
            **rows,
            responses={kind: sums[STATUS + kind] for kind in range(1, 6)},
            lag=max((worker.lag for worker in workers), default=0.0),
            workers=workers,
        )
