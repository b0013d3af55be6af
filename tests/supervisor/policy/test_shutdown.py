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
    deaf = False

    def __init__(self, state: WorkerState) -> None:
        self.state = state
        self.commands: list[tuple[str, ...]] = []

    def command(self, *command: str) -> None:
        self.commands.append(command)

    def collect(self) -> None:
        pass


class Leaving(Handle):
    """One that drains as it is told, and ends; it notes what happens in which order."""

    def __init__(self) -> None:
        super().__init__(WorkerState.SERVING)

    def command(self, *command: str) -> None:
        super().command(*command)
        if command == ("drain",):
            self.state = WorkerState.DRAINING
        self.exited = command[0] == "shutdown"

    def bar(self, *, local: bool) -> None:
        self.commands.append(("bar", "local" if local else "remote"))

    def refuse(self) -> None:
        self.commands.append(("refuse",))


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


def test_one_that_sleeps_and_can_not_be_woken(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may wake by a timer of its own, and ends then; for that it has a moment."""
    handle = Handle(WorkerState.SERVING)
    handle.deaf = True
    assert Ending(monkeypatch, handle).run() == pytest.approx(1.0, abs=0.1)


def test_one_that_can_not_be_woken_but_is_at_something(monkeypatch: pytest.MonkeyPatch) -> None:
    handle = Handle(WorkerState.DRAINING)
    handle.deaf, handle.busy_since = True, int(999.0 * 1e9)

    def end(seconds: float) -> None:
        handle.exited = seconds > 3.5

    assert 3.5 < Ending(monkeypatch, handle).run(end) < 4.0


def test_one_that_has_failed_since_it_can_not_be_woken(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has only to be closed."""
    handle = Handle(WorkerState.FAILED)
    handle.deaf = True

    def end(seconds: float) -> None:
        handle.exited = seconds > 3.5

    assert 3.5 < Ending(monkeypatch, handle).run(end) < 4.0


# --- drain_delay


BARRED = [("bar", "remote"), ("bar", "local")]
LATER = [("drain", "later"), *BARRED, ("drain",), ("refuse",), ("shutdown",)]


class Clock(threading.Condition):
    """Goes on by what is waited, and a moment after the one that is said a call is made."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self.now = 1000.0
        self.waits: list[float] = []
        self.call: Callable[[], None] | None = None
        monkeypatch.setattr(shutdown, "monotonic", lambda: self.now)

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        self.waits.append(timeout)
        self.now += timeout
        if self.call is not None:
            call, self.call = self.call, None
            self.now -= timeout - 1.0
            call()
        return True


def leave(
    monkeypatch: pytest.MonkeyPatch, timeout: float | None = None, interrupt: bool | None = None
) -> tuple[list[tuple[str, ...]], float]:
    """Return what has happened, and when that was over; 60 seconds, unless it is cut short."""
    clock, worker = Clock(monkeypatch), Leaving()
    parts: Any = [worker]
    config = Config(drain_delay=60.0, timeout_graceful_shutdown=10.0)
    end = Shutdown(config, clock, lambda: parts)

    def stop() -> None:
        if interrupt:
            raise KeyboardInterrupt
        end.limit(0)

    clock.call = None if interrupt is None else stop
    end.limit(timeout)
    try:
        end.run(parts)
    except KeyboardInterrupt:
        end.run(parts)
    return worker.commands, clock.now - 1000.0


def test_a_drain_delay_is_the_same_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """They cease when nobody connects any more, and none ends before all have ceased."""
    assert leave(monkeypatch) == (LATER, pytest.approx(60.0 + shutdown.HANDSHAKE))


def test_a_drain_delay_ends_with_the_time_of_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    assert leave(monkeypatch, timeout=5.0) == (LATER, pytest.approx(5.0))


def test_a_drain_delay_is_cut_short(monkeypatch: pytest.MonkeyPatch) -> None:
    events, seconds = leave(monkeypatch, interrupt=False)
    assert events == [*LATER[:4], ("shutdown",), ("refuse",)]
    assert seconds == pytest.approx(1.0)


def test_a_drain_delay_is_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    """``stop()``, called once more, shortens all."""
    events, seconds = leave(monkeypatch, interrupt=True)
    assert events == [LATER[0], ("shutdown",), ("refuse",)]
    assert seconds == pytest.approx(1.0)


def test_without_a_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, worker = Clock(monkeypatch), Leaving()
    parts: Any = [worker]
    end = Shutdown(Config(), clock, lambda: parts)
    end.limit(None)
    end.run(parts)
    assert worker.commands == [*BARRED, ("shutdown",), ("refuse",)]
