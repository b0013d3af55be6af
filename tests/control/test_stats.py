"""What ``Stats`` reads off a scoreboard."""

from __future__ import annotations

import dataclasses

import pytest

from subinterp_asgi.control.scoreboard import (
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
    SLOTS_USED,
    STATUS,
    WEBSOCKETS,
    WORKER,
    Slot,
    fold,
    new_board,
    slot_of,
)
from subinterp_asgi.control.stats import Stats, WorkerStats


def fill(board: Slot, index: int, **words: int) -> None:
    """Write words of a slot by name."""
    board[SLOTS_USED] = max(board[SLOTS_USED], index + 1)
    slot = slot_of(board, index)
    for name, value in words.items():
        slot[_NUMBERS[name]] = value


_NUMBERS = {
    "worker": WORKER,
    "generation": GENERATION,
    "lag": LAG,
    "connections": CONNECTIONS,
    "websockets": WEBSOCKETS,
    "in_flight": IN_FLIGHT,
    "accepted": ACCEPTED,
    "requests": REQUESTS,
    "errors": ERRORS,
    "bytes_in": BYTES_IN,
    "bytes_out": BYTES_OUT,
    "logs_dropped": LOGS_DROPPED,
    **{f"status_{kind}": STATUS + kind for kind in range(1, 6)},
}


@pytest.fixture
def board() -> Slot:
    """Of two workers, with an unused slot between them."""
    board = new_board(4)
    fill(board, 1, worker=1, generation=1, requests=10, in_flight=2, connections=5, errors=1)
    fill(board, 1, lag=250_000_000, accepted=6, bytes_in=100, bytes_out=1000, status_2=7)
    fill(board, 3, worker=2, generation=2, requests=4, in_flight=1, connections=3, websockets=1)
    fill(board, 3, lag=1_000_000, accepted=3, bytes_in=1, bytes_out=2, status_2=1, status_5=1)
    fill(board, 3, status_1=1, logs_dropped=9)
    return board


def test_sums(board: Slot) -> None:
    stats = Stats.read(board)
    assert stats.requests == 14
    assert stats.accepted == 9
    assert stats.errors == 1
    assert stats.responses == {1: 1, 2: 8, 3: 0, 4: 0, 5: 1}
    assert (stats.bytes_in, stats.bytes_out) == (101, 1002)
    assert stats.logs_dropped == 9
    assert stats.in_flight == 3
    assert stats.connections == 8
    assert stats.websockets == 1
    assert stats.lag == 0.25


def test_workers(board: Slot) -> None:
    first, second = Stats.read(board).workers
    assert first == WorkerStats(
        worker_id=0,
        generation=1,
        requests=10,
        in_flight=2,
        connections=5,
        websockets=0,
        errors=1,
        lag=0.25,
    )
    assert (second.worker_id, second.generation, second.websockets) == (1, 2, 1)
    assert second.lag == 0.001


def test_what_ended_workers_counted_stays_and_what_they_were_goes(board: Slot) -> None:
    before = Stats.read(board)
    fold(board, 1)
    after = Stats.read(board)
    for name in ("requests", "accepted", "errors", "responses", "bytes_in", "bytes_out"):
        assert getattr(after, name) == getattr(before, name), name
    assert (after.connections, after.in_flight, after.lag) == (3, 1, 0.001)
    assert [worker.worker_id for worker in after.workers] == [1]
    fold(board, 3)
    last = Stats.read(board)
    assert (last.requests, last.logs_dropped, last.responses[2]) == (14, 9, 8)
    assert (last.connections, last.in_flight, last.websockets, last.lag) == (0, 0, 0, 0.0)
    assert last.workers == ()


def test_a_slot_that_is_used_again_counts_from_0(board: Slot) -> None:
    fold(board, 1)
    fill(board, 1, worker=1, generation=3, requests=1)
    stats = Stats.read(board)
    assert stats.requests == 15
    assert [(w.generation, w.requests) for w in stats.workers] == [(3, 1), (2, 4)]


def test_an_empty_board() -> None:
    stats = Stats.read(new_board(3))
    assert stats.requests == stats.connections == 0
    assert stats.lag == 0.0
    assert stats.responses == {1: 0, 2: 0, 3: 0, 4: 0, 5: 0}


def test_they_are_values(board: Slot) -> None:
    stats = Stats.read(board)
    assert stats == Stats.read(board)
    slot_of(board, 3)[REQUESTS] += 1
    assert stats != Stats.read(board)  # and what was read does not change
    with pytest.raises(dataclasses.FrozenInstanceError):
        stats.requests = 0  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        stats.workers[0].lag = 0.0  # type: ignore[misc]
