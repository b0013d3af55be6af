"""When the supervisor takes a connection on ``metrics_bind``: its steps one by one."""

from __future__ import annotations

from collections.abc import Iterator
from time import monotonic_ns
from types import SimpleNamespace
from typing import Any

import pytest

from subinterp_asgi import Config
from subinterp_asgi.control.scoreboard import new_board
from subinterp_asgi.control.wakeup import Wakeup
from subinterp_asgi.supervisor.admin.door import LATE, PATIENCE, Admin
from subinterp_asgi.supervisor.listeners import Listeners
from subinterp_asgi.supervisor.pool.selector import NEVER, Selector
from subinterp_asgi.supervisor.states import WorkerState
from tests.integration.rawclient import RawClient, request
from tests.support import nothing_left


class Door:
    """A door, the time that it is told, and workers of which is known what they do."""

    def __init__(self) -> None:
        config = Config(port=0, health_path="/health")
        self.workers: list[Any] = []
        self.now = 1000.0
        self.listeners = Listeners(config)
        self.wakeup = Wakeup()
        self.selector = Selector(self.wakeup)
        self.admin = Admin(
            config, self.listeners, self.selector, new_board(1), lambda: self.workers
        )

    def add_worker(self, held_up: float, state: WorkerState = WorkerState.SERVING) -> None:
        since = monotonic_ns() - int(held_up * 1e9) if held_up else 0
        self.workers.append(SimpleNamespace(state=state, busy_since=since, exited=False))

    def wait(self) -> float:
        """Wait for what the selector tells, and take a step; how long until the next one."""
        return self.admin.step(self.selector.wait(5), self.now) - self.now

    def step(self, seconds: float) -> float:
        """Take a step so many seconds later, likewise."""
        self.now += seconds
        return self.admin.step([], self.now) - self.now

    def connect(self) -> RawClient:
        host, port = self.listeners.addresses[0]
        assert port is not None
        client = RawClient((host, port))
        client.send(request(b"GET", b"/health"))
        return client

    def close(self) -> None:
        self.admin.close()
        self.selector.close()
        self.wakeup.close()
        self.listeners.close()


@pytest.fixture
def door() -> Iterator[Door]:
    with nothing_left():
        door = Door()
        yield door
        door.close()


def test_workers_have_a_second(door: Door) -> None:
    assert door.step(0) == NEVER
    with door.connect() as client:
        assert door.wait() == PATIENCE
        assert door.step(PATIENCE / 2) == PATIENCE / 2
        door.step(PATIENCE / 2)
        assert client.response().status == 503
    door.wait()
    assert door.step(1) == NEVER


@pytest.mark.parametrize(
    ("state", "held_up", "who"),
    [
        (WorkerState.SERVING, 0, "worker"),
        (WorkerState.SERVING, 0.3, "worker"),
        (WorkerState.SERVING, 3, "supervisor"),
        (WorkerState.STUCK, 40, "supervisor"),
        (WorkerState.STUCK, 0, "worker"),
        (WorkerState.STARTING, 0, "supervisor"),
        (WorkerState.DRAINING, 0, "supervisor"),
        (WorkerState.FAILED, 0, "supervisor"),
    ],
)
def test_whose_it_is(door: Door, state: WorkerState, held_up: float, who: str) -> None:
    door.add_worker(10.0)
    door.add_worker(held_up, state)
    with door.connect():
        door.wait()
        door.step(PATIENCE)
        assert bool(door.admin._clients) is (who == "supervisor")
        if who == "worker":
            assert door.wait() == PATIENCE, "it is told of again, should the worker not take it"


def test_after_a_pause_of_the_process_workers_have_their_second(door: Door) -> None:
    door.add_worker(40.0)
    with door.connect():
        door.wait()
        assert door.step(PATIENCE + LATE + 1) == PATIENCE
        assert door.admin._clients == {}
        door.workers.clear()
        door.add_worker(0)
        assert door.step(PATIENCE) == NEVER
        assert door.admin._clients == {}


def test_it_waits_for_a_descriptor(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise OSError(24, "Too many open files")

    with door.connect() as client:
        door.wait()
        with monkeypatch.context() as patch:
            patch.setattr(door.admin, "_accept", fail)
            assert door.step(PATIENCE) == PATIENCE
        door.step(PATIENCE)
        assert client.response().status == 503
