"""The counters in shared memory."""

from __future__ import annotations

import itertools
import sys

import pytest

from subinterp_asgi import interpreters, scoreboard
from subinterp_asgi.scoreboard import CONNECTIONS, REQUESTS, SLOT_WORDS
from tests.support import ROOT


@pytest.fixture(autouse=True)
def nothing_attached(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoreboard, "_attached", None)


def test_a_new_board_is_all_zero() -> None:
    board = scoreboard.new_board(3)
    assert len(board) == 3 * SLOT_WORDS
    assert not any(board)


def test_words_have_64_bits() -> None:
    slot = scoreboard.slot_of(scoreboard.new_board(1), 0)
    slot[REQUESTS] = 2**64 - 1
    assert slot[REQUESTS] == 2**64 - 1
    assert slot.itemsize == 8


def test_slots_fill_cache_lines() -> None:
    assert SLOT_WORDS * 8 == 64
    assert max(REQUESTS, CONNECTIONS) < SLOT_WORDS
    assert len({REQUESTS, CONNECTIONS}) == 2


def test_slots_are_views_of_the_board_and_of_nothing_else_in_it() -> None:
    board = scoreboard.new_board(3)
    slots = [scoreboard.slot_of(board, i) for i in range(3)]
    for i, slot in enumerate(slots):
        assert len(slot) == SLOT_WORDS
        for word in range(SLOT_WORDS):
            slot[word] = 100 * i + word
    assert [slot.tolist() for slot in slots] == [
        [100 * i + word for word in range(SLOT_WORDS)] for i in range(3)
    ]
    assert board.tolist() == list(itertools.chain(*slots))


def test_attached_is_what_was_attached() -> None:
    slot = scoreboard.slot_of(scoreboard.new_board(2), 1)
    scoreboard.attach(slot)
    assert scoreboard.attached() is slot


def test_without_a_supervisor_each_worker_counts_for_itself() -> None:
    first, second = scoreboard.attached(), scoreboard.attached()
    first[REQUESTS] = 1
    assert second[REQUESTS] == 0


def test_another_interpreter_writes_into_the_same_memory() -> None:
    board = scoreboard.new_board(2)
    other = interpreters.Interpreter()
    try:
        other.adopt_path((str(ROOT), *sys.path))
        other.prepare({"slot": scoreboard.slot_of(board, 1)})
        other.execute(
            "from subinterp_asgi import scoreboard\n"
            "scoreboard.attach(slot)\n"
            "scoreboard.attached()[scoreboard.CONNECTIONS] += 5\n"
        )
        assert board[SLOT_WORDS + CONNECTIONS] == 5
        board[SLOT_WORDS + CONNECTIONS] = 7
        other.execute("assert scoreboard.attached()[scoreboard.CONNECTIONS] == 7")
    finally:
        other.close()
    assert board[SLOT_WORDS + CONNECTIONS] == 7  # it outlives the interpreter
