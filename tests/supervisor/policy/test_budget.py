"""The restart budget: a moving window, and delays that double."""

from __future__ import annotations

import pytest

from subinterp_asgi.supervisor.policy import budget
from subinterp_asgi.supervisor.policy.budget import RestartBudget


@pytest.fixture
def no_jitter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RestartBudget, "JITTER", 0.0)


def test_as_many_as_the_limit_says() -> None:
    spender = RestartBudget(3, 60, 0.1)
    assert all(spender.spend(now) is not None for now in (0, 1, 2))
    assert spender.spend(3) is None
    assert spender.spend(4) is None


def test_a_limit_of_0_allows_none() -> None:
    assert RestartBudget(0, 60, 0.1).spend(0) is None


@pytest.mark.usefixtures("no_jitter")
def test_each_delay_is_twice_the_one_before() -> None:
    spender = RestartBudget(6, 60, 0.5)
    assert [spender.spend(0) for _ in range(6)] == [0.5, 1, 2, 4, 8, 16]


@pytest.mark.usefixtures("no_jitter")
def test_no_delay_is_longer_than_the_longest() -> None:
    spender = RestartBudget(5000, 60, 10)
    delays = [spender.spend(0) for _ in range(5000)]  # (2.0 ** 1024 would be too much)
    assert delays[:3] == [10, 20, RestartBudget.LONGEST_DELAY]
    assert set(delays[2:]) == {RestartBudget.LONGEST_DELAY}


@pytest.mark.usefixtures("no_jitter")
def test_a_delay_of_0_stays_0() -> None:
    spender = RestartBudget(3, 60, 0)
    assert [spender.spend(0) for _ in range(3)] == [0, 0, 0]


@pytest.mark.usefixtures("no_jitter")
def test_what_is_older_than_the_window_is_forgiven() -> None:
    spender = RestartBudget(2, 10, 1)
    assert spender.spend(100) == 1
    assert spender.spend(105) == 2
    assert spender.spend(109.9) is None  # refused, and not counted
    assert spender.spend(110) == 2  # the first one is as old as the window
    assert spender.spend(114) is None
    assert spender.spend(200) == 1


def test_the_jitter_goes_both_ways_and_no_further(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[float, float]] = []

    def uniform(low: float, high: float) -> float:
        asked.append((low, high))
        return high

    monkeypatch.setattr(budget.random, "uniform", uniform)
    assert RestartBudget(1, 60, 4).spend(0) == 5
    assert asked == [(0.75, 1.25)]


def test_two_budgets_don_t_come_back_at_the_same_moment() -> None:
    delays = {RestartBudget(1, 60, 1).spend(0) for _ in range(20)}
    assert len(delays) > 1
    assert all(delay is not None and 0.75 <= delay <= 1.25 for delay in delays)


@pytest.mark.usefixtures("no_jitter")
def test_each_slot_backs_off_for_itself() -> None:
    spender = RestartBudget(6, 60, 1)
    assert [spender.spend(0, slot) for slot in (0, 1, 0, 1, 0)] == [1, 1, 2, 2, 4]
    assert spender.spend(0, 2) == 1
    assert spender.spend(0, 3) is None  # the limit is one for all
