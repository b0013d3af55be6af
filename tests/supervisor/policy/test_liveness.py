"""When a worker counts as stuck, by a clock of the test's own."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from subinterp_asgi import Config
from subinterp_asgi.supervisor.policy import liveness
from subinterp_asgi.supervisor.policy.liveness import Liveness
from subinterp_asgi.supervisor.states import WorkerState


class Handle:
    """A worker whose loop has not come round since ``busy_since``."""

    worker_id = 0
    generation = 1
    retiring = False
    stack = None
    debugged_at = 0

    def __init__(self) -> None:
        self.state = WorkerState.SERVING
        self.busy_since = 0

    def become(self, state: WorkerState) -> None:
        self.state = state

    def event(self, kind: Any, **more: Any) -> Any:
        return kind(worker_id=self.worker_id, generation=self.generation, **more)

    def ask_for_stack(self, busy_since: int) -> None:
        pass

    def interrupt(self, busy_since: int) -> None:
        pass


class Watched:
    """One worker, and the clock."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, timeout: float) -> None:
        self.now = 1000.0
        self.handle = Handle()
        monkeypatch.setattr(liveness, "monotonic_ns", lambda: int(self.now * 1e9))
        config = Config(timeout_worker_healthcheck=timeout)
        pool: Any = SimpleNamespace(handles=[self.handle])
        self.liveness = Liveness(config, pool, lambda event: None, lambda level, text: None)
        self.next_look = self.look()

    def look(self) -> float:
        return self.liveness.step(self.now, at_end=False)

    def pass_time(self, seconds: float) -> None:
        """Let time pass with looks whenever one is wanted."""
        end = self.now + seconds
        while self.next_look < end:
            self.now = self.next_look
            self.next_look = self.look()
        self.now = end
        self.next_look = self.look()

    def pause(self, seconds: float) -> None:
        """Let time pass in which nobody runs."""
        self.now += seconds
        self.next_look = self.look()


def test_one_that_does_not_come_round_is_stuck(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(monkeypatch, timeout=30)
    watched.handle.busy_since = int(watched.now * 1e9)
    watched.pass_time(29.5)
    assert watched.handle.state is WorkerState.SERVING
    watched.pass_time(6)
    assert watched.handle.state is WorkerState.STUCK


@pytest.mark.parametrize("timeout", [2.0, 30.0])
def test_time_in_which_the_process_did_not_run_is_not_held_against_it(
    monkeypatch: pytest.MonkeyPatch, timeout: float
) -> None:
    watched = Watched(monkeypatch, timeout)
    watched.handle.busy_since = int(watched.now * 1e9)
    watched.pause(40)
    assert watched.handle.state is WorkerState.SERVING
    watched.pass_time(timeout * 0.9)
    assert watched.handle.state is WorkerState.SERVING
    watched.pass_time(timeout)  # but now it had its time
    assert watched.handle.state is WorkerState.STUCK


def test_one_that_comes_round_after_a_pause_is_never_stuck(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    watched = Watched(monkeypatch, timeout=2)
    for _ in range(5):
        watched.handle.busy_since = int(watched.now * 1e9)
        watched.pause(60)
        watched.handle.busy_since = 0
        watched.pass_time(1)
    assert watched.handle.state is WorkerState.SERVING


def test_one_that_is_debugged_is_not_stuck(monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(monkeypatch, timeout=30)
    handle = watched.handle

    def answer(busy_since: int) -> None:
        handle.debugged_at = int(watched.now * 1e9)

    monkeypatch.setattr(handle, "ask_for_stack", answer)
    handle.busy_since = int(watched.now * 1e9)
    watched.pass_time(300)
    assert handle.state is WorkerState.SERVING
    monkeypatch.undo()
    monkeypatch.setattr(liveness, "monotonic_ns", lambda: int(watched.now * 1e9))
    watched.pass_time(60)  # it goes on, and hangs in the same turn of the loop
    assert handle.state is WorkerState.STUCK
