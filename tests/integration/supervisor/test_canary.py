"""Reloading with a canary: one new worker is watched for a while, then promoted or rolled back."""

from __future__ import annotations

import asyncio
import contextlib
import re
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from subinterp_asgi import Supervisor
from subinterp_asgi.errors import ReloadError, StateError
from subinterp_asgi.supervisor.events import GenerationChanged, ReloadFailed, WorkerChanged
from subinterp_asgi.supervisor.policy import canary as trials
from subinterp_asgi.supervisor.policy import rollout
from subinterp_asgi.supervisor.pool.handle import WorkerHandle
from subinterp_asgi.supervisor.states import GenerationState, SupervisorState, WorkerState
from subinterp_asgi.testing import faults
from tests.support import get, wait_until

from ..apps.pool import App
from ..load import Load
from ..rawclient import RawClient, request
from ..supervising import Background, Heard, Servers, all_names, both, generations, who


class Old(App):
    """With the canary's name, so that the two can be told apart."""

    def __init__(self) -> None:
        super().__init__(f"old-{id(self):x}")


class Failing(App):
    async def http(self, scope: Any, receive: Any, send: Any) -> None:
        raise LookupError("the new code is bad")


class Lagging(App):
    async def startup(self, state: Any) -> None:
        self.lag = asyncio.create_task(self.hold_up())

    async def hold_up(self) -> None:
        for _ in range(10):
            await asyncio.sleep(0.05)
            time.sleep(1.0)  # more than an overloaded machine makes of an old worker's lag


class Dying(App):
    async def http(self, scope: Any, receive: Any, send: Any) -> None:
        asyncio.get_running_loop().call_soon(sys.exit, "the canary falls off its perch")
        await super().http(scope, receive, send)


class SlowToStart(App):
    async def startup(self, state: Any) -> None:
        time.sleep(1.0)


@pytest.fixture(autouse=True)
def busy_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """What holds any of them up by chance is not taken for what the tests do on purpose."""
    monkeypatch.setattr(trials, "CANARY_LAG", 0.9)


class Then:
    """A factory: so many old applications, then another kind."""

    def __init__(self, old: int, then: type[App]) -> None:
        self.left = old
        self.then = then
        self.lock = threading.Lock()

    def __call__(self) -> App:
        with self.lock:
            self.left -= 1
            return Old() if self.left >= 0 else self.then()


def connect_to_canary(server: Supervisor) -> RawClient:
    """Connect until it is the canary that answers."""
    found: list[RawClient] = []

    def try_again() -> bool:
        client = RawClient(server.addresses[0])
        found.append(client)
        return not client.get(b"/who").body.startswith(b"old-")

    wait_until(try_again, "the canary to answer")
    for client in found[:-1]:
        client.close()
    return found[-1]


def ask_while(reloading: Background, server: Supervisor) -> None:
    """Send requests until a reload has ended."""
    while reloading.running:
        with contextlib.suppress(OSError):  # the one that dies may take a request with it
            get(server.url)


class Clock:
    """The time of rollouts, which ends all waiting for it at a word."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ahead = 0.0
        self.looks = 0
        monkeypatch.setattr(rollout, "monotonic", self.now)

    def now(self) -> float:
        self.looks += 1
        return time.monotonic() + self.ahead

    def wait_for_looks(self) -> None:
        """Wait until what there was to be seen has been seen."""
        goal = self.looks + 4
        wait_until(lambda: self.looks >= goal, "a look at the canary")

    def advance(self) -> None:
        self.ahead = 7200.0


@both
def test_a_good_one_is_promoted(servers: Servers, isolation: str) -> None:
    heard = Heard()
    server = servers.start(isolation=isolation, workers=2, on_event=heard, timeout_linger=5.0)
    old = all_names(server, 2)
    with Load(server.addresses[0], keep_alive=2, fresh=2, stream=1) as load:
        assert server.reload(canary=0.4) == 2
        load.wait_for(10)
    assert load.failures == []
    assert not all_names(server, 2) & old
    server.stop()
    canary, other = heard.of(WorkerChanged), heard.of(WorkerChanged)
    canary = [e for e in canary if (e.worker_id, e.generation) == (0, 2)]
    other = [e for e in other if (e.worker_id, e.generation) == (1, 2)]
    assert canary[0].state is other[0].state is WorkerState.STARTING
    assert canary[1].state is other[1].state is WorkerState.SERVING
    assert other[0].at - canary[0].at >= 0.4
    assert server.stats().requests >= load.requests


def test_rolling_goes_on_after_it(servers: Servers) -> None:
    server = servers.start(Then(3, App), workers=3)
    assert server.reload(strategy="rolling", canary=0.05) == 2
    assert [info.generation for info in server.workers] == [2, 2, 2]


def test_the_option_is_the_default(servers: Servers) -> None:
    server = servers.start(Then(2, Dying), workers=2, reload_canary=20.0)
    reloading = Background(server.reload)
    ask_while(reloading, server)
    failure = reloading.outcome()
    assert isinstance(failure, ReloadError)
    assert "the canary is failed" in str(failure)
    assert server.reload(canary=0) == 3


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (Failing, r"the canary failed \d+ of \d+ requests"),
        (Lagging, r"the canary's loop was held up for \d\.\d+ s"),
        (Dying, r"the canary is failed: SystemExit: the canary falls off its perch"),
    ],
)
@pytest.mark.parametrize("workers", [1, 2])
def test_a_bad_one_is_rolled_back(
    servers: Servers, kind: type[App], reason: str, workers: int
) -> None:
    heard = Heard()
    server = servers.start(Then(workers, kind), workers=workers, on_event=heard)
    old = all_names(server, workers)
    reloading = Background(lambda: server.reload(canary=30.0))
    heard.wait_for(WorkerChanged, generation=2, state=WorkerState.SERVING)
    ask_while(reloading, server)
    failure = reloading.outcome()
    assert isinstance(failure, ReloadError)
    assert failure.generation == 2
    assert "generation 1 goes on" in str(failure)
    assert re.search(reason, str(failure)), failure
    (failed,) = heard.wait_for(ReloadFailed)
    assert failed.reason == str(failure)
    heard.wait_for(GenerationChanged, generation=2, state=GenerationState.FAILED)
    wait_until(lambda: len(server.workers) == workers, "the canary to be gone")
    assert [info.generation for info in server.workers] == [1] * workers
    assert server.generation == 1
    assert {who(server) for _ in range(10)} <= old
    assert server.state is SupervisorState.SERVING


def test_what_holds_it_up_before_it_serves_is_not_held_against_it(servers: Servers) -> None:
    server = servers.start(Then(1, SlowToStart))
    assert server.reload(canary=0.2) == 2
    assert server.stats().lag < 1.0


def test_one_that_freezes_for_good_is_rolled_back(servers: Servers, tmp_path: Path) -> None:
    """Although it never comes to say for how long it was held up."""
    path = tmp_path / "file"

    class Freezing(App):
        async def startup(self, state: Any) -> None:
            asyncio.get_running_loop().call_later(0.05, self.freeze)

        def freeze(self) -> None:
            while not path.exists():
                time.sleep(0.005)

    server = servers.start(Then(2, Freezing), workers=2)
    with pytest.raises(ReloadError, match=r"the canary's loop was held up for \d\.\d+ s"):
        server.reload(canary=20.0)
    path.touch()
    wait_until(lambda: len(server.workers) == 2, "the canary to be gone")


def test_errors_that_the_old_ones_have_too_are_not_held_against_it(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What fails anyway, fails with both, and with the old one first."""
    clock, heard = Clock(monkeypatch), Heard()
    server = servers.start(Then(1, App), on_event=heard)
    with contextlib.ExitStack() as stack:
        # (More than the requests that the old one answers until the canary is found.)
        clients = [stack.enter_context(RawClient(server.addresses[0])) for _ in range(16)]
        assert {client.get(b"/who").status for client in clients} == {200}
        reloading = Background(lambda: server.reload(canary=3600.0))
        heard.wait_for(WorkerChanged, generation=2, state=WorkerState.SERVING)
        clock.wait_for_looks()
        assert {client.get(b"/fail").status for client in clients} == {500}
    with connect_to_canary(server) as canary:
        assert canary.get(b"/fail").status == 500
    clock.wait_for_looks()
    clock.advance()
    assert reloading.outcome() == 2


def test_an_old_one_that_dies_meanwhile_is_replaced_and_not_held_against_it(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, heard = Clock(monkeypatch), Heard()
    server = servers.start(workers=2, on_event=heard, restart_delay=0.01)

    def all_have_failed() -> bool:
        get(server.url, "/fail")
        return all(worker.errors for worker in server.stats().workers)

    wait_until(all_have_failed)
    reloading = Background(lambda: server.reload(canary=3600.0))
    heard.wait_for(WorkerChanged, generation=2, state=WorkerState.SERVING)
    faults.crash_worker(server, 1)
    heard.wait_for(WorkerChanged, worker_id=1, generation=1, state=WorkerState.SERVING, count=2)
    clock.advance()
    assert reloading.outcome() == 2
    assert generations(server) == [2, 2]


def test_one_that_dies_after_its_trial_is_not_promoted(
    servers: Servers, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """While the others of its generation start."""
    clock, heard = Clock(monkeypatch), Heard()
    gate = tmp_path / "gate"
    gate.touch()
    server = servers.start(Then(2, App), workers=2, on_event=heard, state={"gate": str(gate)})
    reloading = Background(lambda: server.reload(canary=3600.0))
    heard.wait_for(WorkerChanged, generation=2, state=WorkerState.SERVING)
    gate.unlink()
    Path(f"{gate}.reached").unlink()
    clock.advance()
    wait_until(Path(f"{gate}.reached").exists)
    with connect_to_canary(server) as client:
        client.get(b"/die")
    heard.wait_for(WorkerChanged, worker_id=0, generation=2, state=WorkerState.FAILED)
    gate.touch()
    failure = reloading.outcome()
    assert isinstance(failure, ReloadError)
    assert "worker 0 could not start: SystemExit: told to die" in str(failure)
    wait_until(lambda: generations(server) == [1, 1])


def test_what_it_is_at_is_finished_when_it_is_rolled_back(servers: Servers, tmp_path: Path) -> None:
    class Bad(App):
        async def do_fail(self, argument: str, receive: Any, send: Any) -> None:
            raise LookupError("bad")

    server = servers.start(Then(1, Bad))
    reloading = Background(lambda: server.reload(canary=30.0))
    wait_until(lambda: len(server.workers) == 2)
    with connect_to_canary(server) as one, connect_to_canary(server) as other:
        path = tmp_path / "file"
        one.send(request(b"GET", b"/until" + bytes(path)))
        wait_until(Path(f"{path}.begun").exists)
        assert other.get(b"/fail").status == 500
        assert isinstance(reloading.outcome(), ReloadError)
        path.touch()
        response = one.response()
        assert (response.status, response.body) == (200, b"done")
        assert response.closes


def test_what_it_is_at_is_finished_when_the_supervisor_stops(
    servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told to end once, though the reload is given up too: told twice it would not wait."""
    server = servers.start(Then(1, App))
    told: list[WorkerHandle] = []
    command = WorkerHandle.command

    def listen(self: WorkerHandle, *words: Any, **listeners: Any) -> bool:
        if words == ("shutdown",):
            told.append(self)
        return command(self, *words, **listeners)

    monkeypatch.setattr(WorkerHandle, "command", listen)
    reloading = Background(lambda: server.reload(canary=30.0))
    wait_until(lambda: len(server.workers) == 2)
    with connect_to_canary(server) as client:
        path = tmp_path / "file"
        client.send(request(b"GET", b"/until" + bytes(path)))
        wait_until(Path(f"{path}.begun").exists)
        stopping = Background(server.stop)
        assert isinstance(reloading.outcome(), StateError)
        assert stopping.running
        path.touch()
        response = client.response()
        assert (response.status, response.body) == (200, b"done")
    assert stopping.outcome() is None
    assert len(told) == len(set(told)) == 2
