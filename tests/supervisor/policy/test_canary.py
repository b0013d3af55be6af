"""What is held against a canary: beyond what the others, and the machine, are like meanwhile."""

from __future__ import annotations

from bisect import bisect_left
from time import monotonic_ns
from types import SimpleNamespace
from typing import Any

import pytest

from subinterp_asgi.control.scoreboard import (
    BOUNDS,
    BUSY_SINCE,
    ERRORS,
    LAG,
    REQUESTS,
    TURNS,
    new_board,
    slot_of,
)
from subinterp_asgi.supervisor.policy.canary import CANARY_FREEZE, CANARY_TIMES, Trial


class Worker:
    """One that counts as it is told."""

    def __init__(self, board: Any, slot: int) -> None:
        self.job = SimpleNamespace(board=board, slot=slot)
        self.words = slot_of(board, slot)

    def turn(self, seconds: float, times: int = 1) -> None:
        self.words[LAG] = max(self.words[LAG], int(seconds * 1e9))
        self.words[TURNS + bisect_left(BOUNDS, seconds)] += times


class Beside:
    """A canary that is tried beside so many others, which had bad times before."""

    def __init__(self, others: int = 2) -> None:
        board = new_board(others + 1)
        self.canary, *self.others = (Worker(board, slot) for slot in range(1, others + 2))
        for other in self.others:
            other.turn(0.7, times=50)
            other.words[LAG] = 0  # since then it has decayed
        self.living: list[Any] = [*self.others]
        canary: Any = self.canary
        self.trial = Trial(canary, self.living)

    def verdict(self, late: float = 0.0) -> str:
        return self.trial.look(self.living, late)


def test_one_that_does_nothing() -> None:
    assert Beside().verdict() == ""


@pytest.mark.parametrize("others", [0, 1, 2])
def test_one_that_is_slow_again_and_again(others: int) -> None:
    beside = Beside(others)
    for _ in range(CANARY_TIMES):
        assert beside.verdict() == ""
        beside.canary.turn(0.3)
        beside.canary.words[LAG] = 0  # before anyone has looked
    beside.canary.words[LAG] = int(0.31e9)
    text = "held up for 0.31 s (3 times, anything else for 0.00 s at most)"
    assert text in beside.verdict()


def test_one_that_is_slow_for_once() -> None:
    """By chance, or since something is needed for the first time."""
    beside = Beside()
    beside.canary.turn(CANARY_FREEZE - 0.1)
    assert beside.verdict() == ""


def test_one_that_is_very_slow_for_once() -> None:
    beside = Beside()
    beside.canary.turn(CANARY_FREEZE + 0.1)
    assert "held up for 1.10 s (anything else for 0.00 s at most)" in beside.verdict()


def test_one_that_is_frozen() -> None:
    beside = Beside()
    beside.canary.words[BUSY_SINCE] = monotonic_ns() - int(2e9)
    assert "held up for 2." in beside.verdict()


@pytest.mark.parametrize("when", ["before", "after"])
def test_others_that_are_slow_meanwhile(when: str) -> None:
    """A third as slow, even if that was some time ago: the machine has too much to do."""
    beside = Beside()
    if when == "before":
        beside.others[1].turn(0.5)
        beside.verdict()
        beside.others[1].words[LAG] = 0
    beside.canary.turn(CANARY_FREEZE + 0.4, times=5)
    if when == "after":
        beside.others[1].words[BUSY_SINCE] = monotonic_ns() - int(0.5e9)
    assert beside.verdict() == ""
    if when == "before":
        beside.canary.turn(CANARY_FREEZE + 0.6)
        assert "held up for 1.60 s (6 times, anything else for 0.50 s at most)" in beside.verdict()


def test_others_that_are_slow_without_anybody_looking() -> None:
    """The number of their turns tells."""
    beside = Beside()
    beside.others[0].words[TURNS + bisect_left(BOUNDS, 0.6)] += 1  # from 0.5 s on
    beside.canary.turn(1.4, times=5)
    assert beside.verdict() == ""


def test_others_that_are_slow_as_often() -> None:
    beside = Beside()
    for worker in (beside.canary, *beside.others):
        worker.turn(0.3, times=10)
    assert beside.verdict() == ""


def test_others_that_do_nothing_while_the_machine_has_too_much_to_do() -> None:
    """The supervisor is late then."""
    beside = Beside()
    beside.canary.turn(1.1, times=5)
    assert beside.verdict(late=0.4) == ""
    beside.canary.turn(1.3)
    assert "anything else for 0.40 s at most" in beside.verdict()


def test_others_that_have_ended() -> None:
    """Nothing is left to read of them."""
    beside = Beside()
    gone = beside.living.pop()
    gone.words[:] = type(gone.words)(bytearray(gone.words.nbytes)).cast("Q")
    beside.canary.turn(0.3, times=CANARY_TIMES)
    assert "held up for 0.30 s" in beside.verdict()


def test_errors() -> None:
    beside = Beside()
    beside.canary.words[REQUESTS] = 100
    beside.canary.words[ERRORS] = 5
    beside.others[0].words[REQUESTS] += 100
    beside.others[0].words[ERRORS] += 2
    assert beside.verdict() == ""
    beside.canary.words[ERRORS] = 6
    assert beside.verdict() == "the canary failed 6 of 100 requests"
