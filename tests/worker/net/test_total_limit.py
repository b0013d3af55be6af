"""A limit for all workers, without a server: one after the other, and truly at the same time."""

from __future__ import annotations

import os
import sys
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from subinterp_asgi.control import interpreters, scoreboard
from subinterp_asgi.control.counters import Counters
from subinterp_asgi.control.scoreboard import CONCURRENCY_SHARE, IN_FLIGHT, of_all
from subinterp_asgi.worker.net.total_limit import TotalLimit
from tests.support import ROOT

WORKERS = 4


class Workers:
    """Some that hold this and that, one of them at a time."""

    def __init__(self, limit: int, workers: int = WORKERS) -> None:
        self.board = scoreboard.new_board(WORKERS)
        self.limit = limit
        self.looks = 0
        self.limits: list[TotalLimit] = []
        self.held: list[int] = []
        for _ in range(workers):
            self.join()

    def join(self) -> None:
        """One more serves."""
        index = len(self.limits) + 1
        self.board[scoreboard.SLOTS_USED] = index + 1
        counters = Counters(self.board, index)
        counters.accepting(True)

        class Watched(TotalLimit):
            def _look(limit) -> bool:
                self.looks += 1
                return super()._look()

        self.held.append(0)
        self.limits.append(Watched(counters, self.limit, held=IN_FLIGHT, share=CONCURRENCY_SHARE))

    def begin(self, worker: int) -> bool:
        """Have one begin a request; return whether it did."""
        if self.limits[worker].reached(self.held[worker]):
            return False
        self.held[worker] += 1
        self.limits[worker].hold(self.held[worker])
        return True

    def end(self, worker: int) -> None:
        """Have one end a request."""
        self.held[worker] -= 1
        self.limits[worker].hold(self.held[worker])

    @property
    def claimed(self) -> int:
        """What is held, or may be without a look."""
        return sum(map(max, of_all(self.board, IN_FLIGHT), of_all(self.board, CONCURRENCY_SHARE)))


def test_a_limit_that_is_none() -> None:
    workers = Workers(10**30)
    assert all(workers.begin(worker) for worker in range(WORKERS))


@pytest.mark.parametrize("limit", [1, 3, 4, 10, 100])
@pytest.mark.parametrize("favourite", [None, 0, WORKERS - 1])
def test_all_of_it_wherever_it_is_wanted(limit: int, favourite: int | None) -> None:
    workers = Workers(limit)
    for number in range(limit):
        assert workers.begin(number % WORKERS if favourite is None else favourite)
    for _ in range(2):
        assert not any(workers.begin(worker) for worker in range(WORKERS))
    workers.end(favourite or 0)
    assert workers.begin(2)
    assert not any(workers.begin(worker) for worker in range(WORKERS))


@given(
    st.integers(1, 12),
    st.lists(st.tuples(st.integers(0, WORKERS), st.booleans()), max_size=120),
)
def test_never_too_few_and_never_too_many(limit: int, steps: list[tuple[int, bool]]) -> None:
    """One after the other there is nothing that a worker doesn't see."""
    workers = Workers(limit, 2)
    for worker, begins in steps:
        if worker >= len(workers.limits):
            if len(workers.limits) < WORKERS:
                workers.join()
        elif begins:
            room = sum(workers.held) < limit
            assert workers.begin(worker) == room
        elif workers.held[worker]:
            workers.end(worker)
        assert workers.claimed <= limit


def test_below_its_share_a_worker_does_not_look_at_others() -> None:
    workers = Workers(400)
    for worker in range(WORKERS):
        assert workers.begin(worker)
    assert workers.looks == WORKERS
    for _ in range(99):
        for worker in range(WORKERS):
            assert workers.begin(worker)
    assert workers.looks == WORKERS
    assert workers.claimed == 400


def test_who_has_more_than_others_need_not_look_each_time() -> None:
    workers = Workers(1000)
    for _ in range(900):
        assert workers.begin(0)
    assert workers.looks < 40


def test_a_slot_that_is_cleared_gives_back_what_its_worker_held() -> None:
    workers = Workers(10)
    for _ in range(10):
        assert workers.begin(1)
    assert not workers.begin(0)
    workers.board[scoreboard.SLOTS_USED] = WORKERS + 1
    scoreboard.fold(workers.board, 2)
    for _ in range(10):
        assert workers.begin(0)
    assert not workers.begin(2)


# --- at the same time


def test_two_that_take_the_same_places(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of them has to see that, and look again the next time."""
    workers = Workers(10, 2)
    begun: list[bool] = []

    def meanwhile(board: scoreboard.Slot, word: int) -> scoreboard.Slot:
        if word == scoreboard.ACCEPTING and not begun:
            begun.append(True)
            begun[:] = [workers.begin(1) for _ in range(8)]
        return of_all(board, word)

    monkeypatch.setattr("subinterp_asgi.worker.net.total_limit.of_all", meanwhile)
    assert workers.begin(0)
    assert begun == [True] * 8
    assert workers.claimed <= 10
    assert workers.begin(0)
    assert not workers.begin(0)
    assert not workers.begin(1)


# Who has taken a token of a pipe holds a place. What to ask for is taken from another one.
_WORKER = """
import os
from subinterp_asgi.control.counters import Counters
from subinterp_asgi.control.scoreboard import CONCURRENCY_SHARE, IN_FLIGHT
from subinterp_asgi.worker.net.total_limit import TotalLimit

def take(pipe):
    try:
        return len(os.read(pipe, 1))
    except BlockingIOError:
        return 0

counters = Counters(board, index)
counters.accepting(True)
total = TotalLimit(counters, limit, held=IN_FLIGHT, share=CONCURRENCY_SHARE)
held = begun = refused = exceeded = turn = 0
while begun + refused < asks:
    turn += 1
    if take(wishes[0]):
        if total.reached(held):
            refused += 1
            os.write(wishes[1], b"w")
        else:
            held += 1
            begun += 1
            total.hold(held)
            exceeded += not take(places[0])
    # (Now many, now few, and each has times of its own.)
    while held and turn * (index + 3) // 7 % (2 * limit) < held:
        os.write(places[1], b"p")
        held -= 1
        total.hold(held)
        os.write(wishes[1], b"w")
while held:
    os.write(places[1], b"p")
    held -= 1
    total.hold(held)
    os.write(wishes[1], b"w")
os.write(results, f"{begun} {refused} {exceeded}\\n".encode())
"""


def tokens(number: int) -> tuple[int, int]:
    """A pipe with so many octets in it."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    os.write(writing, b"t" * number)
    return reading, writing


def compete(limit: int, wishes: int, asks: int = 4000) -> tuple[int, int, int]:
    """Have workers in interpreters ask for places, at most so many at a time.

    Return how many they were given and refused, and how many were given while more than one for
    each worker beyond the limit were taken.
    """
    pipes = tokens(limit + WORKERS), tokens(wishes)
    reading, results = os.pipe()
    names = {
        "board": scoreboard.new_board(WORKERS),
        "limit": limit,
        "asks": asks,
        "places": pipes[0],
        "wishes": pipes[1],
        "results": results,
    }
    names["board"][scoreboard.SLOTS_USED] = WORKERS + 1  # type: ignore[index]
    others = [interpreters.Interpreter() for _ in range(WORKERS)]
    try:
        threads = []
        for index, other in enumerate(others, 1):
            other.adopt_path((str(ROOT), *sys.path))
            other.prepare({**names, "index": index})
            threads.append(threading.Thread(target=other.execute, args=(_WORKER,)))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        lines = os.read(reading, 4096).decode().splitlines()
    finally:
        for other in others:
            other.close()
        for fd in (*pipes[0], *pipes[1], reading, results):
            os.close(fd)
    assert len(lines) == WORKERS
    begun, refused, exceeded = (
        sum(map(int, column)) for column in zip(*map(str.split, lines), strict=True)
    )
    return begun, refused, exceeded


@pytest.mark.parametrize("limit", [2, 7, 40])
def test_as_many_as_there_is_room_for_are_never_refused(limit: int) -> None:
    begun, refused, exceeded = compete(limit, wishes=limit)
    assert (refused, exceeded) == (0, 0)
    assert begun == WORKERS * 4000


@pytest.mark.parametrize("limit", [2, 7, 40])
def test_it_is_exceeded_by_one_for_each_worker_at_most(limit: int) -> None:
    begun, refused, exceeded = compete(limit, wishes=3 * limit + WORKERS)
    assert exceeded == 0
    assert begun
    assert refused
