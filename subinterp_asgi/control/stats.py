"""What the scoreboard says, in names instead of words."""

from __future__ import annotations

from dataclasses import dataclass

from ..types import TYPE_CHECKING
from .scoreboard import (
    ACCEPTED,
    BYTES_IN,
    BYTES_OUT,
    CONNECTIONS,
    ERRORS,
    GENERATION,
    IN_FLIGHT,
    LAG,
    LOGS_DROPPED,
    REQUESTS,
    STATUS,
    WEBSOCKETS,
    WORKER,
    counted,
    slots_in_use,
)

if TYPE_CHECKING:
    from typing import Self

    from .scoreboard import Slot


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
class Stats:
    """All workers at one moment.

    Attributes:
        accepted: Connections accepted since the start.
        requests: Requests begun since the start, WebSockets included.
        errors: Exceptions that left the application since the start.
        responses: Responses since the start by class of their status, from 1 to 5; clients that
            left before they had one count as 4.
        bytes_in: Octets received since the start.
        bytes_out: Octets sent since the start.
        logs_dropped: Log records that could not be forwarded, since the start.
        in_flight: Requests whose response is not complete.
        connections: Open connections.
        websockets: Open WebSockets.
        lag: Seconds for which a loop was held up lately, in the worker where it was longest.
        workers: Each worker that has not ended.
    """

    accepted: int
    requests: int
    errors: int
    responses: dict[int, int]
    bytes_in: int
    bytes_out: int
    logs_dropped: int
    in_flight: int
    connections: int
    websockets: int
    lag: float
    workers: tuple[WorkerStats, ...]

    @classmethod
    def read(cls, board: Slot) -> Self:
        """Read a scoreboard."""
        sums = counted(board)
        workers = tuple(
            WorkerStats(
                worker_id=slot[WORKER] - 1,
                generation=slot[GENERATION],
                requests=slot[REQUESTS],
                in_flight=slot[IN_FLIGHT],
                connections=slot[CONNECTIONS],
                websockets=slot[WEBSOCKETS],
                errors=slot[ERRORS],
                lag=slot[LAG] / 1e9,
            )
            for slot in slots_in_use(board)
        )
        return cls(
            accepted=sums[ACCEPTED],
            requests=sums[REQUESTS],
            errors=sums[ERRORS],
            responses={kind: sums[STATUS + kind] for kind in range(1, 6)},
            bytes_in=sums[BYTES_IN],
            bytes_out=sums[BYTES_OUT],
            logs_dropped=sums[LOGS_DROPPED],
            in_flight=sum(worker.in_flight for worker in workers),
            connections=sum(worker.connections for worker in workers),
            websockets=sum(worker.websockets for worker in workers),
            lag=max((worker.lag for worker in workers), default=0.0),
            workers=workers,
        )
