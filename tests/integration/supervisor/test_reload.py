"""Reloading: nothing is lost, new code is served, and what does not start changes nothing."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from subinterp_asgi import Supervisor
from subinterp_asgi.errors import ConfigError, ReloadError, StateError
from subinterp_asgi.supervisor.events import (
    GenerationChanged,
    ReloadFailed,
    WorkerChanged,
    WorkerDied,
)
from subinterp_asgi.supervisor.policy import rollout
from subinterp_asgi.supervisor.policy.reconciler import Reconciler
from subinterp_asgi.supervisor.policy.shutdown import Shutdown
from subinterp_asgi.supervisor.pool.selector import NEVER
from subinterp_asgi.supervisor.states import GenerationState, SupervisorState, WorkerState
from tests.support import get, wait_until

from ..apps.pool import App
from ..load import Load
from ..supervising import (
    Background,
    Heard,
    Servers,
    all_names,
    both,
    generations,
    in_flight,
    in_turn,
    status_of,
    who,
)

MIXED = {"keep_alive": 5, "fresh": 2, "slow": 3, "upload": 3, "stream": 3}
PATIENT: dict[str, Any] = {"timeout_linger": 5.0}
"""A client's thread may not have its turn for longer than the default while all cores are busy. It
takes no time: a busy connection is told with its next response."""


# --- nothing is lost


def test_no_request_is_lost_over_20_reloads(servers: Servers) -> None:
    server = servers.start(isolation="interpreter", workers=2, **PATIENT)
    with Load(server.addresses[0], **MIXED) as load:
        load.wait_for(30)
        for number in range(2, 22):
            assert server.reload(strategy="rolling" if number % 5 == 0 else "all") == number
            load.wait_for(10)
        assert generations(server) == [21, 21]
    assert load.failures == []
    assert min(load.answered[kind] for kind in MIXED) >= 20, load.answered
    assert len(load.workers) > 10  # most of the forty have served somebody
    server.stop()
    stats = server.stats()
    assert stats.requests == sum(stats.responses.values()) == stats.responses[2] == load.requests
    assert stats.errors == stats.in_flight == stats.connections == 0


def test_no_request_is_lost_in_threads_and_over_a_unix_socket(
    servers: Servers, tmp_path: Path
) -> None:
    server = servers.start(workers=3, uds=str(tmp_path / "socket"), **PATIENT)
    with Load(str(tmp_path / "socket"), **MIXED) as load:
        for _ in range(5):
            server.reload()
            load.wait_for(10)
    assert load.failures == []
    server.stop()
    assert server.stats().requests == load.requests


# --- how long it takes


@both
def test_it_need_not_wait_for_the_old_ones(
    servers: Servers, isolation: str, tmp_path: Path
) -> None:
    heard, path = Heard(), tmp_path / "file"
    server = servers.start(isolation=isolation, on_event=heard, **PATIENT)
    pending = in_flight(server, path)
    assert server.reload(wait=False) == 2
    assert generations(server) == [1, 2]
    assert not [e for e in heard.of(GenerationChanged) if e.state is GenerationState.ENDED]
    path.touch()
    assert status_of(pending) == 200
    heard.wait_for(GenerationChanged, generation=1, state=GenerationState.ENDED)


@both
def test_requests_of_the_old_ones_have_a_time(
    servers: Servers, isolation: str, tmp_path: Path
) -> None:
    server = servers.start(isolation=isolation, timeout_graceful_shutdown=3600.0)
    pending = in_flight(server, tmp_path / "never")
    assert server.reload(timeout=0.1) == 2
    answer = pending.result()
    assert isinstance(answer, Exception) or answer.status in (500, 503)  # it was cancelled
    assert generations(server) == [2]


@pytest.mark.parametrize("factory", [True, False])
def test_in_threads_it_says_what_it_does_not(
    factory: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise NotImplementedError

    with Supervisor(App if factory else app, isolation="thread", port=0, factory=factory) as server:
        server.reload()
    assert "a reload does not import changed code" in caplog.text
    assert ("factory anew" in caplog.text) is factory


# --- new code


def write_module(directory: Path, name: str, body: str, version: int) -> None:
    """Write a module anew, such that no compiled file of the one before is taken for it."""
    path = directory / f"{name}.py"
    path.write_text(body)
    os.utime(path, (version, version))


VERSIONED = """
from tests.integration.apps.pool import App
def create():
    return App("version-{}")
"""


def test_new_code_is_imported(
    servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    write_module(tmp_path, "versioned", VERSIONED.format(1), 1)
    server = servers.start("versioned:create", "interpreter", workers=2)
    assert all_names(server, 1) == {"version-1"}
    write_module(tmp_path, "versioned", VERSIONED.format(2), 2)
    assert who(server) == "version-1"
    server.reload()
    assert {who(server) for _ in range(10)} == {"version-2"}

    write_module(tmp_path, "versioned", "def create():\n    return nonsense\n", 3)
    with pytest.raises(ReloadError, match="NameError: name 'nonsense'") as caught:
        server.reload()
    assert caught.value.generation == 3
    assert "generation 3 does not serve, generation 2 goes on" in str(caught.value)
    assert "versioned.py" in str(caught.value)  # its own traceback
    assert {who(server) for _ in range(10)} == {"version-2"}

    write_module(tmp_path, "versioned", VERSIONED.format(4), 4)
    assert server.reload() == 4
    assert {who(server) for _ in range(10)} == {"version-4"}


# --- strategies


def test_all_at_once_start_in_parallel(servers: Servers) -> None:
    """Each of the new ones waits for the others to have begun."""
    meeting = threading.Barrier(3)

    def make(number: int) -> App:
        if number > 3:
            meeting.wait(20)
        return App()

    heard = Heard()
    server = servers.start(in_turn(make), workers=3, on_event=heard)
    old = all_names(server, 3)
    assert server.reload() == 2
    assert generations(server) == [2, 2, 2]
    assert not all_names(server, 3) & old
    server.stop()
    assert [(event.generation, event.state.value) for event in heard.of(GenerationChanged)][:5] == [
        (1, "starting"),
        (1, "serving"),
        (2, "starting"),
        (2, "serving"),
        (1, "retiring"),
    ]


def test_rolling_replaces_one_by_one(servers: Servers) -> None:
    seen: list[list[int]] = []

    def make(number: int) -> App:
        if number > 3:
            serving = [x for x in server.workers if x.state is WorkerState.SERVING]
            seen.append([x.generation for x in serving])
        return App()

    server = servers.make(in_turn(make), workers=3)
    server.start()
    server.reload(strategy="rolling")
    assert generations(server) == [2, 2, 2]
    # The old one of each new one may drain already, or be about to.
    assert [serving.count(2) for serving in seen] == [0, 1, 2]


def test_the_strategy_of_the_options(servers: Servers) -> None:
    begun: list[int] = []
    barrier = threading.Barrier(2)

    def make(number: int) -> App:
        if number > 2:
            begun.append(number)
            with pytest.raises(threading.BrokenBarrierError):
                barrier.wait(0.05)  # nobody else comes
        return App()

    server = servers.start(in_turn(make), workers=2, reload_strategy="rolling")
    server.reload()
    assert begun == [3, 4]


def test_there_are_no_other_strategies(servers: Servers) -> None:
    server = servers.start()
    with pytest.raises(ConfigError, match="reload_strategy"):
        server.reload(strategy="some")
    with pytest.raises(ConfigError, match="reload_canary"):
        server.reload(canary=-1)
    assert server.reload() == 2  # no number was used up


# --- new workers that don't start


class Hanging(App):
    async def startup(self, state: Any) -> None:
        await asyncio.Event().wait()


class Refusing(App):
    async def startup(self, state: Any) -> None:
        raise LookupError("no database")


def failing_factory() -> App:
    raise LookupError("no configuration")


@pytest.mark.parametrize("strategy", ["all", "rolling"])
@pytest.mark.parametrize(
    ("factory", "reason"),
    [
        (failing_factory, "LookupError: no configuration"),
        (Refusing, "LookupError: no database"),
        (Hanging, r"lifespan startup took more than startup_timeout=1 s"),
    ],
)
def test_workers_that_fail_to_start_change_nothing(
    servers: Servers, strategy: str, factory: Callable[[], App], reason: str
) -> None:
    heard = Heard()
    server = servers.start(
        in_turn(lambda n: App() if n != 4 else factory()) if strategy == "all" else
        in_turn(lambda n: App() if n != 3 else factory()),
        workers=2,
        startup_timeout=1.0,  # which those that do start must have on a busy machine
        lifespan="on",
        on_event=heard,
    )  # fmt: skip
    old = all_names(server, 2)
    with Load(server.addresses[0], keep_alive=2, fresh=2) as load:
        with pytest.raises(ReloadError, match=reason) as caught:
            server.reload(strategy=strategy)
        load.wait_for(10)
    assert load.failures == []
    assert caught.value.generation == 2
    assert server.generation == 1
    assert all_names(server, 2) == old
    wait_until(lambda: len(server.workers) == 2, "those that had started to be gone")
    assert generations(server) == [1, 1]
    (failed,) = heard.wait_for(ReloadFailed)
    assert (failed.generation, failed.reason) == (2, str(caught.value))
    (changed,) = heard.wait_for(GenerationChanged, generation=2, state=GenerationState.FAILED)
    assert changed.reason == str(caught.value)
    assert server.reload(strategy=strategy) == 3  # a number is used once


def test_rolling_that_fails_half_way(servers: Servers) -> None:
    """What was replaced can't be brought back; it is said, and the next reload completes it."""
    heard = Heard()

    def make(number: int) -> App:
        if number == 5:
            raise LookupError("no configuration")
        return App()

    server = servers.start(in_turn(make), workers=3, on_event=heard)
    with Load(server.addresses[0], keep_alive=2, fresh=2) as load:
        with pytest.raises(ReloadError, match="LookupError: no configuration") as caught:
            server.reload(strategy="rolling")
        load.wait_for(10)
        assert "generation 2 serves in 1 of 3 workers only, generation 1 goes on" in str(
            caught.value
        )
        wait_until(lambda: generations(server) == [2, 1, 1])
        assert server.generation == 2
        assert server.reload() == 3
        assert generations(server) == [3, 3, 3]
    assert load.failures == []
    server.stop()
    course = [(event.generation, event.state.value) for event in heard.of(GenerationChanged)]
    assert course[2:8] == [
        (2, "starting"),
        (2, "serving"),
        (3, "starting"),
        (3, "serving"),
        (1, "retiring"),
        (2, "retiring"),
    ]
    assert sorted(course[8:10]) == [(1, "ended"), (2, "ended")]
    assert [event.generation for event in heard.of(ReloadFailed)] == [2]


def test_an_import_that_hangs(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    """No worker can be told to cease that; it ends when it may."""
    gate = threading.Event()

    def make(number: int) -> App:
        if number == 2:
            assert gate.wait(30)
        return App()

    server = servers.start(in_turn(make), startup_timeout=30)
    with monkeypatch.context() as hurried:
        hurried.setattr(rollout, "START_MARGIN", -29.8)  # for this one alone
        with pytest.raises(ReloadError, match="worker 0 did not start within startup_timeout=30 s"):
            server.reload()
    assert get(server.url).status == 200
    assert len(server.workers) == 2
    gate.set()
    wait_until(lambda: len(server.workers) == 1, "the late one to be gone")
    assert generations(server) == [1]
    assert server.reload() == 3


@both
def test_no_room_for_another_thread(
    servers: Servers, isolation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = servers.start(isolation=isolation, workers=2)
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name == "asgi-worker-1":
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(ReloadError, match="worker 1 could not be started: can't start new thread"):
        server.reload()
    monkeypatch.undo()
    assert get(server.url).status == 200
    wait_until(lambda: generations(server) == [1, 1], "the other new one to be gone")
    assert server.reload() == 3


def test_an_old_worker_that_dies_meanwhile(servers: Servers, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    gate.touch()
    heard = Heard()
    server = servers.start(state={"gate": str(gate)}, on_event=heard)
    gate.unlink()
    Path(f"{gate}.reached").unlink()
    reloading = Background(server.reload)
    wait_until(Path(f"{gate}.reached").exists)
    get(server.url, "/die")
    heard.wait_for(WorkerDied, generation=1)
    gate.touch()
    assert reloading.outcome() == 2
    assert get(server.url).status == 200
    assert generations(server) == [2]


# --- at the same time


def test_reloads_take_turns(servers: Servers, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    gate.touch()
    heard = Heard()
    server = servers.start(state={"gate": str(gate)}, on_event=heard)
    gate.unlink()
    reloading = [Background(server.reload), Background(server.reload)]
    heard.wait_for(GenerationChanged, generation=2, state=GenerationState.STARTING)
    gate.touch()
    assert {background.outcome() for background in reloading} == {2, 3}
    server.stop()
    course = [
        (event.generation, event.state.value)
        for event in heard.of(GenerationChanged)
        if event.generation > 1
    ]
    assert course.index((3, "starting")) > course.index((2, "serving"))


def test_a_stop_breaks_a_reload_off(servers: Servers, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    gate.touch()
    server = servers.start(workers=2, state={"gate": str(gate)})
    gate.unlink()
    Path(f"{gate}.reached").unlink()
    reloading, waiting = Background(server.reload), Background(server.reload)
    wait_until(Path(f"{gate}.reached").exists)
    server.stop()
    assert server.state is SupervisorState.STOPPED
    for background in reloading, waiting:
        assert isinstance(background.outcome(), StateError)


def test_a_stop_while_the_old_ones_drain(servers: Servers, tmp_path: Path) -> None:
    """What they are at is finished."""
    server = servers.start()
    path = tmp_path / "file"
    pending = in_flight(server, path)
    reloading = Background(server.reload)
    wait_until(lambda: server.generation == 2)
    stopping = Background(server.stop)
    wait_until(lambda: server.state is SupervisorState.STOPPING)
    assert reloading.outcome() == 2
    path.touch()
    assert status_of(pending) == 200
    assert stopping.outcome() is None


def test_a_stop_before_the_new_ones_are_started(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody would tell them to end."""
    heard = Heard()
    server = servers.start(on_event=heard, timeout_graceful_shutdown=3600.0)
    begun, told = threading.Event(), threading.Event()
    step, send = Reconciler.step, Shutdown._send

    def step_late(self: Reconciler, ready: Any = ()) -> float:
        if self._rollout is None or told.is_set():
            return step(self, ready)
        begun.set()
        return NEVER

    def send_first(self: Shutdown, command: str, **options: Any) -> None:
        told.set()
        send(self, command, **options)
        reloading.outcome()

    monkeypatch.setattr(Reconciler, "step", step_late)
    monkeypatch.setattr(Shutdown, "_send", send_first)
    reloading = Background(server.reload)
    assert begun.wait(20)
    stopping = Background(server.stop)
    assert isinstance(reloading.outcome(), StateError)
    assert stopping.outcome(20) is None
    assert {event.generation for event in heard.of(WorkerChanged)} == {1}


def test_reload_wants_a_supervisor_that_serves(servers: Servers) -> None:
    server = servers.make()
    with pytest.raises(StateError, match="can't reload: the supervisor is new"):
        server.reload()
    server.start()
    server.stop()
    with pytest.raises(StateError, match="can't reload: the supervisor is stopped"):
        server.reload()
