"""The counters in shared memory, and how a worker's get there."""

from __future__ import annotations

import itertools
import sys

import pytest

from subinterp_asgi.control import interpreters, scoreboard
from subinterp_asgi.control.counters import Counters
from subinterp_asgi.control.scoreboard import (
    BOUNDS,
    BUSY_SINCE,
    BYTES_OUT,
    CONNECTIONS,
    LATENCY,
    LATENCY_SUM,
    REQUESTS,
    SLOT_WORDS,
    SLOTS_USED,
    STATUS,
    TURN_SUM,
    TURNS,
    WORKER,
)
from subinterp_asgi.supervisor.policy.recycling import resident_memory
from tests.support import ROOT


@pytest.fixture(autouse=True)
def nothing_attached(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoreboard, "_attached", None)


def test_a_new_board_is_all_zero_but_for_the_header() -> None:
    board = scoreboard.new_board(3)
    assert len(board) == 4 * SLOT_WORDS
    assert board[SLOTS_USED] == 1
    assert not any(board[1:])


def test_words_have_64_bits() -> None:
    slot = scoreboard.slot_of(scoreboard.new_board(1), 1)
    slot[REQUESTS] = 2**64 - 1
    assert slot[REQUESTS] == 2**64 - 1
    assert slot.itemsize == 8


def test_slots_fill_cache_lines_and_hold_all_words() -> None:
    assert SLOT_WORDS * 8 % 64 == 0
    assert LATENCY + len(BOUNDS) < SLOT_WORDS


def test_slots_are_views_of_the_board_and_of_nothing_else_in_it() -> None:
    board = scoreboard.new_board(2)
    slots = [scoreboard.slot_of(board, i) for i in range(3)]
    for i, slot in enumerate(slots):
        assert len(slot) == SLOT_WORDS
        for word in range(SLOT_WORDS):
            slot[word] = 100 * i + word
    assert [slot.tolist() for slot in slots] == [
        [100 * i + word for word in range(SLOT_WORDS)] for i in range(3)
    ]
    assert board.tolist() == list(itertools.chain(*slots))


def test_sums_are_those_of_workers_that_are_and_of_those_that_were() -> None:
    board = scoreboard.new_board(3)
    board[SLOTS_USED] = 4
    header, first, free, third = (scoreboard.slot_of(board, i) for i in range(4))
    header[REQUESTS] = 1000
    first[WORKER], third[WORKER] = 1, 2
    for slot, number in ((first, 1), (free, 10), (third, 100)):
        slot[REQUESTS] = number
        slot[CONNECTIONS] = number
    assert scoreboard.slots_in_use(board) == [first, third]
    sums = scoreboard.counted(board)
    assert sums[REQUESTS] == 1101
    assert sums[CONNECTIONS] == sums[SLOTS_USED] == 0


def test_a_slot_that_is_folded_is_free_and_its_counts_are_kept() -> None:
    board = scoreboard.new_board(2)
    board[SLOTS_USED] = 3
    slot = scoreboard.slot_of(board, 2)
    slot[:] = memoryview(bytes(range(1, 9)) * SLOT_WORDS).cast("Q")
    before = scoreboard.counted(board)
    scoreboard.fold(board, 2)
    assert not any(slot)
    assert scoreboard.slots_in_use(board) == []
    assert scoreboard.counted(board) == before
    assert board[SLOTS_USED] == 3


def test_what_is_folded_while_somebody_sums_is_not_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    board, index = scoreboard.private_board()
    scoreboard.slot_of(board, index)[REQUESTS] = 5

    class FoldedWhenRead:
        """The slot, whose worker ends just after the header was read."""

        def __getitem__(self, word: int) -> int:
            if board[scoreboard.FOLDS] == 0:
                scoreboard.fold(board, index)
            return scoreboard.slot_of(board, index)[word]

    slots = iter([[FoldedWhenRead()]])
    in_use = scoreboard.slots_in_use
    monkeypatch.setattr(scoreboard, "slots_in_use", lambda board: next(slots, in_use(board)))
    assert scoreboard.counted(board)[REQUESTS] == 5


def test_sums_are_given_even_if_the_supervisor_is_held_up_while_it_folds() -> None:
    board = scoreboard.private_board()[0]
    board[scoreboard.FOLDS] = 1
    board[SLOT_WORDS + REQUESTS] = 4
    assert scoreboard.counted(board)[REQUESTS] == 4


def test_attached_is_what_was_attached() -> None:
    board = scoreboard.new_board(2)
    scoreboard.attach(board, 2)
    assert scoreboard.attached() == (board, 2)


def test_without_a_supervisor_each_worker_counts_for_itself() -> None:
    (first, one), (second, two) = scoreboard.attached(), scoreboard.attached()
    scoreboard.slot_of(first, one)[REQUESTS] = 1
    assert scoreboard.slot_of(second, two)[REQUESTS] == 0


def test_a_private_board_has_its_worker_on_it() -> None:
    board, index = scoreboard.private_board()
    (slot,) = scoreboard.slots_in_use(board)
    slot[REQUESTS] = 3
    assert scoreboard.slot_of(board, index)[REQUESTS] == scoreboard.counted(board)[REQUESTS] == 3


def test_interpreters_share_the_board() -> None:
    board = scoreboard.new_board(2)
    other = interpreters.Interpreter()
    try:
        other.adopt_path((str(ROOT), *sys.path))
        other.prepare({"board": board})
        other.execute(
            "from subinterp_asgi.control import scoreboard\n"
            "scoreboard.attach(board, 2)\n"
            "slot = scoreboard.slot_of(*scoreboard.attached())\n"
            "slot[scoreboard.CONNECTIONS] += 5\n"
        )
        assert board[2 * SLOT_WORDS + CONNECTIONS] == 5
        board[2 * SLOT_WORDS + CONNECTIONS] = 7
        other.execute("assert slot[scoreboard.CONNECTIONS] == 7")
    finally:
        other.close()
    assert board[2 * SLOT_WORDS + CONNECTIONS] == 7  # it outlives the interpreter


def test_a_meter_writes_its_own_slot_only() -> None:
    board = scoreboard.new_board(3)
    counters = Counters(board, 2)
    counters.connections, counters.requests, counters.bytes_out = 3, 4, 5
    counters.statuses[2] += 1
    counters.statuses[5] += 1
    counters.took(0.003)
    counters.took(60)
    counters.flush(9)
    slot = scoreboard.slot_of(board, 2)
    assert (slot[CONNECTIONS], slot[REQUESTS], slot[BYTES_OUT], slot[BUSY_SINCE]) == (3, 4, 5, 9)
    assert slot[STATUS + 1 : STATUS + 6].tolist() == [0, 1, 0, 0, 1]
    assert slot[LATENCY_SUM] == 60_003_000
    buckets = slot[LATENCY:][: len(BOUNDS) + 1].tolist()
    assert [i for i, count in enumerate(buckets) if count] == [2, len(BOUNDS)]
    for _ in range(2):
        counters.turned(2_000_000)
        counters.turns += 1
        counters.turn_sum += 5
        counters.serving = True
    counters.flush()
    assert slot[TURN_SUM] == 2_000_010
    assert slot[TURNS:LATENCY_SUM].tolist() == [2, 1, *[0] * (len(BOUNDS) - 1)]
    assert not any(scoreboard.slot_of(board, 1))
    assert not any(scoreboard.slot_of(board, 3))


def test_a_reserved_board_is_one_like_others_in_all_interpreters() -> None:
    board = scoreboard.reserve_board(100_000)
    assert len(board) == 100_001 * SLOT_WORDS
    assert board[SLOTS_USED] == 1
    other = interpreters.Interpreter()
    try:
        other.adopt_path((str(ROOT), *sys.path))
        other.prepare({"board": board})
        other.execute(
            "from subinterp_asgi.control import scoreboard\n"
            f"scoreboard.slot_of(board, 100_000)[{REQUESTS}] = 2**64 - 1"
        )
    finally:
        other.close()
    assert scoreboard.slot_of(board, 100_000)[REQUESTS] == 2**64 - 1
    assert not any(board[1:1000])


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it can't be looked up so")
def test_places_that_nobody_has_used_take_no_memory() -> None:
    before = resident_memory()
    boards = [scoreboard.reserve_board(100_000) for _ in range(10)]  # 320 MB
    assert resident_memory() - before < 20_000_000
    assert sum(board[SLOTS_USED] for board in boards) == 10
