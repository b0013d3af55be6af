"""Interpreters kept for the next generation, and whose they may be."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from subinterp_asgi.supervisor.pool import reserve
from subinterp_asgi.supervisor.pool.pool import Pool


class Interpreter:
    def __init__(self, *, current: bool = True) -> None:
        self.current = current
        self.closed = False

    def confirms(self, preparation: str, condition: str) -> bool:
        return self.current

    def execute(self, source: str) -> None:
        assert not self.closed

    def close(self) -> None:
        self.closed = True


def make(limit: int) -> Any:
    made = reserve.Reserve()
    made.limit = limit
    return made


def test_it_keeps_no_more_than_its_limit_and_nothing_once_closed() -> None:
    kept, first, second = make(1), Interpreter(), Interpreter()
    assert kept.put(first)
    assert not kept.put(second)
    kept.close()
    assert first.closed
    assert not kept.put(second)
    assert kept.take() is None


def test_those_that_are_outdated_are_closed() -> None:
    kept = make(3)
    outdated, good = Interpreter(current=False), Interpreter()
    for interpreter in (good, outdated):
        kept.put(interpreter)
    assert kept.take() is good
    assert outdated.closed
    assert kept.take() is None


def test_those_that_are_distrusted_are_closed() -> None:
    kept, first, later = make(3), Interpreter(), Interpreter()
    kept.put(first)
    kept.distrust()
    kept.put(later)
    assert kept.take() is later
    assert kept.take() is None
    assert first.closed


@pytest.mark.parametrize(
    ("keep", "exhausted", "kept"),
    [(True, None, True), (False, None, False), (True, "limit_max_requests", False)],
)
def test_what_is_due_to_be_recycled_is_not_kept(
    keep: bool, exhausted: str | None, kept: bool
) -> None:
    job = SimpleNamespace(keep=False)
    handle: Any = SimpleNamespace(
        retiring=False, exhausted=exhausted, job=job, command=lambda *arguments: True
    )
    Pool.retire(SimpleNamespace(), handle, keep=keep)  # type: ignore[arg-type]
    assert job.keep is kept
