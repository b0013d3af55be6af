"""The tables of states: what they allow, and that they leave no state out."""

from __future__ import annotations

from enum import Enum
from itertools import pairwise

import pytest

from subinterp_asgi.errors import StateError
from subinterp_asgi.supervisor.states import (
    GenerationState,
    SupervisorState,
    WorkerState,
    follow,
    may_follow,
)

KINDS: list[type[Enum]] = [SupervisorState, GenerationState, WorkerState]
FIRST: dict[type[Enum], Enum] = {
    SupervisorState: SupervisorState.NEW,
    GenerationState: GenerationState.STARTING,
    WorkerState: WorkerState.STARTING,
}
LAST: dict[type[Enum], set[Enum]] = {
    SupervisorState: {SupervisorState.STOPPED, SupervisorState.FAILED},
    GenerationState: {GenerationState.ENDED},
    WorkerState: {WorkerState.STOPPED, WorkerState.FAILED},
}


def after(state: Enum) -> set[Enum]:
    return {new for new in type(state) if may_follow(state, new)}


def reachable(state: Enum) -> set[Enum]:
    found, new = set[Enum](), {state}
    while new:
        found |= new
        new = {next_ for old in new for next_ in after(old)} - found
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_every_state_is_in_the_table_and_can_be_reached(kind: type[Enum]) -> None:
    assert reachable(FIRST[kind]) == set(kind)


@pytest.mark.parametrize("kind", KINDS)
def test_the_end_is_the_end_and_can_be_reached_from_everywhere(kind: type[Enum]) -> None:
    assert {state for state in kind if not after(state)} == LAST[kind]
    for state in kind:
        assert reachable(state) & LAST[kind], state


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_follows_itself_or_begins_anew(kind: type[Enum]) -> None:
    for state in kind:
        assert not may_follow(state, state)
        assert not may_follow(state, FIRST[kind])


@pytest.mark.parametrize(
    ("course", "legal"),
    [
        ("starting serving draining idle stopped", True),
        ("starting spare serving draining idle stopped", True),
        ("starting spare draining stopped", True),
        ("starting serving stuck serving draining stuck idle stopped", True),
        ("starting failed", True),
        ("serving spare", False),
        ("serving idle", False),
        ("draining serving", False),
        ("idle draining", False),
        ("stopped serving", False),
        ("failed stopped", False),
    ],
)
def test_courses_of_workers(course: str, legal: bool) -> None:
    states = [WorkerState(name) for name in course.split()]
    assert all(may_follow(old, new) for old, new in pairwise(states)) is legal


def test_follow_returns_the_new_state_or_names_both() -> None:
    assert follow(WorkerState.STARTING, WorkerState.SERVING) is WorkerState.SERVING
    with pytest.raises(StateError, match=r"WorkerState.STOPPED can't .* WorkerState.SERVING"):
        follow(WorkerState.STOPPED, WorkerState.SERVING)


def test_the_states_of_one_kind_never_follow_those_of_another() -> None:
    assert not may_follow(GenerationState.STARTING, WorkerState.SERVING)
    assert not may_follow(SupervisorState.SERVING, WorkerState.FAILED)
