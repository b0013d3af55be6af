"""How long the end of workers is waited for, by a clock of the test's own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from subinterp_asgi import Config
from subinterp_asgi.supervisor.policy import shutdown
from subinterp_asgi.supervisor.policy.shutdown import Shutdown
from subinterp_asgi.supervisor.states import WorkerState


class Handle:
    """A worker that reads no command before its turn."""

    retiring = False
    exited = False
    busy_since = 0

    def __init__(self, state: WorkerState) -> None:
        self.state = state
        self.commands: list[tuple[str, ...]] = []

    def command(self, *command: str) -> None:
        self.commands.append(command)


class Ending:
    """The end of some workers, told to break off at once; what happens at each look is said."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *handles: Handle) -> None:
        self.now = 1000.0
        self.handles = handles
        monkeypatch.setattr(shutdown, "monotonic", lambda: self.now)

    def run(self, at_look: Callable[[float], None] = lambda seconds: None) -> float:
        """Return how long it was waited for."""
        ending = self

        class Changed(threading.Condition):
            def wait(self, timeout: float | None = None) -> bool:
                assert timeout is not None
                ending.now += timeout
                at_look(ending.now - 1000.0)
                return True

        handles: Any = self.handles
        end = Shutdown(Config(shutdown_timeout=5.0), Changed(), lambda: handles)
        end.limit(0)
        end.run(())
        assert all(("shutdown", "now") in handle.commands for handle in self.handles)
        return self.now - 1000.0


MUTE = [WorkerState.STARTING, WorkerState.SERVING, WorkerState.STUCK]


@pytest.mark.parametrize("state", MUTE)
def test_one_that_is_held_up_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, state: WorkerState
) -> None:
    handle = Handle(state)
    handle.busy_since = int(995.0 * 1e9)
    assert Ending(monkeypatch, handle).run() == pytest.approx(1.0)


@pytest.mark.parametrize("state", MUTE)
def test_one_that_had_no_turn_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, state: WorkerState
) -> None:
    """Its loop sleeps, or it is being made: nobody holds it up."""
    handle = Handle(state)

    def answer(seconds: float) -> None:
        handle.exited = seconds > 3.5

    assert 3.5 < Ending(monkeypatch, handle).run(answer) < 5


def test_one_that_never_gets_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Ending(monkeypatch, Handle(WorkerState.SERVING)).run() == pytest.approx(8.0)


def test_one_that_comes_round_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time that it is held up begins anew."""
    handle = Handle(WorkerState.SERVING)
    handle.busy_since = int(999.9 * 1e9)

    def come_round(seconds: float) -> None:
        if seconds < 3:
            handle.busy_since = int((1000.0 + seconds - 0.1) * 1e9)

    assert 3.5 < Ending(monkeypatch, handle).run(come_round) < 4.5


def test_one_that_hangs_beside_one_that_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as another one is at its end, which is bounded."""
    hanging, ending = Handle(WorkerState.SERVING), Handle(WorkerState.DRAINING)
    hanging.busy_since = int(995.0 * 1e9)

    def end(seconds: float) -> None:
        ending.exited = seconds > 1.5

    assert Ending(monkeypatch, hanging, ending).run(end) == pytest.approx(2.0)
