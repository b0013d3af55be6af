"""Changing the number of workers: nothing is lost on the way up or down."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from subinterp_asgi.errors import BindError, ConfigError, StartupError, StateError
from subinterp_asgi.supervisor import listeners
from subinterp_asgi.supervisor.events import GenerationChanged, Scaled, WorkerChanged, WorkerDied
from subinterp_asgi.supervisor.pool import pool as fleet_module
from subinterp_asgi.supervisor.states import GenerationState, WorkerState
from tests.support import get, open_descriptors, wait_until

from ..apps.pool import App
from ..load import Load
from ..rawclient import RawClient, request
from ..supervising import (
    Background,
    Heard,
    Servers,
    all_names,
    both,
    freeze_all,
    generations,
    in_flight,
    in_turn,
    status_of,
    who,
)

MIXED = {"keep_alive": 4, "fresh": 3, "slow": 2, "upload": 2, "stream": 2}


def ids(server: Any) -> list[int]:
    return [info.id for info in server.workers]


def test_nothing_is_lost_on_the_way_up_and_down(servers: Servers) -> None:
    server = servers.start(isolation="interpreter", workers=1, timeout_linger=5.0)
    with Load(server.addresses[0], **MIXED) as load:
        for workers in (3, 2, 4, 1, 2, 1):
            server.scale(workers)
            assert ids(server) == list(range(workers))
            load.wait_for(30)
    assert load.failures == []
    assert min(load.answered[kind] for kind in MIXED) >= 5
    server.stop()
    stats = server.stats()
    assert stats.requests == stats.responses[2] == load.requests
    assert stats.connections == 0


def test_nothing_is_lost_on_a_shared_socket(servers: Servers, tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    server = servers.start(workers=2, uds=path, timeout_linger=5.0)
    with Load(path, **MIXED) as load:
        for workers in (4, 1, 3, 1):
            server.scale(workers)
            load.wait_for(30)
    assert load.failures == []
    server.stop()
    assert server.stats().requests == load.requests


def test_new_ones_serve_when_it_returns_and_superfluous_are_gone(servers: Servers) -> None:
    heard = Heard()
    server = servers.start(on_event=heard)
    old = who(server)
    server.scale(3)
    assert [info.state for info in server.workers] == [WorkerState.SERVING] * 3
    assert old in all_names(server, 3)
    server.scale(2)
    assert ids(server) == [0, 1]
    assert old in all_names(server, 2)
    assert server.generation == 1
    assert generations(server) == [1, 1]
    server.stop()
    assert [(event.before, event.after) for event in heard.of(Scaled)] == [(1, 3), (3, 2)]
    assert {event.generation for event in heard.of(GenerationChanged)} == {1}


def test_to_the_same_number(servers: Servers) -> None:
    heard = Heard()
    server = servers.start(workers=2, on_event=heard)
    names = all_names(server, 2)
    server.scale(2)
    assert all_names(server, 2) == names
    server.stop()
    assert heard.of(Scaled) == []


@pytest.mark.parametrize("workers", [0, -1, 1025, 1.5, True, None])
def test_what_is_no_number_of_workers(servers: Servers, workers: Any) -> None:
    server = servers.start()
    with pytest.raises(ConfigError, match="workers"):
        server.scale(workers)
    assert ids(server) == [0]


def test_it_wants_a_supervisor_that_serves(servers: Servers) -> None:
    server = servers.make()
    with pytest.raises(StateError, match="can't scale: the supervisor is new"):
        server.scale(2)
    server.start()
    server.stop()
    with pytest.raises(StateError, match="can't scale: the supervisor is stopped"):
        server.scale(2)


@both
def test_a_new_worker_that_fails(servers: Servers, isolation: str, tmp_path: Path) -> None:
    """Then there are as many as before, and all of them serve."""
    heard = Heard()

    def make(number: int) -> App:
        if number == 4:
            raise LookupError("no more licences")
        return App()

    app: Any = in_turn(make)
    if isolation == "interpreter":
        app = "tests.integration.supervisor.test_scale:Licensed"
    state = {"licences": str(tmp_path / "licences")}
    server = servers.start(app, isolation, workers=2, on_event=heard, state=state, lifespan="on")
    names = all_names(server, 2)
    with pytest.raises(StartupError, match="LookupError: no more licences") as caught:
        server.scale(4)
    assert "generation" not in str(caught.value)
    wait_until(lambda: ids(server) == [0, 1], "the other new one to be gone")
    assert all_names(server, 2) == names
    assert heard.of(Scaled) == []
    for _ in range(20):  # also those that the kernel gives to the sockets of the new ones
        assert get(server.url).status == 200
    server.scale(3)
    assert len(all_names(server, 3)) == 3


class Licensed(App):
    """There are three; then, for one worker, none; then enough."""

    async def startup(self, state: Any) -> None:
        log = Path(state["licences"])
        with log.open("a") as file:
            file.write("x")
        if len(log.read_text()) == 4:
            raise LookupError("no more licences")


def test_no_socket_for_it(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    """The ones opened before, of other new workers, must not swallow connections."""
    server = servers.start(workers=1)
    another = listeners._another
    results = iter([another])

    def fail(sock: Any) -> Any:
        for function in results:
            return function(sock)
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(listeners, "_another", fail)
    with pytest.raises(BindError, match="Too many open files"):
        server.scale(3)
    monkeypatch.undo()
    for _ in range(20):
        assert get(server.url, timeout=5).status == 200
    server.scale(3)
    assert len(all_names(server, 3)) == 3


@pytest.mark.parametrize("error", [MemoryError(), OSError(24, "Too many open files")])
@pytest.mark.parametrize("where", [(listeners, "_another"), (listeners.Listeners, "_listen")])
def test_nothing_is_left_of_what_can_not_be(
    servers: Servers, monkeypatch: pytest.MonkeyPatch, error: Exception, where: tuple[Any, str]
) -> None:
    server = servers.start(workers=1)
    results = iter([getattr(*where)])

    def fail(*arguments: Any) -> Any:
        for function in results:
            return function(*arguments)
        raise error

    before = open_descriptors()
    monkeypatch.setattr(*where, fail)
    with pytest.raises((StartupError, BindError)):
        server.scale(3)
    monkeypatch.undo()
    assert open_descriptors() == before
    server.scale(2)
    assert len(all_names(server, 2)) == 2


def test_no_pipe_for_it(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    server = servers.start(workers=1)
    make = fleet_module.Slot
    results = iter([make])

    def fail(index: int) -> Any:
        for function in results:
            return function(index)
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(fleet_module, "Slot", fail)
    with pytest.raises(StartupError, match="Too many open files") as caught:
        server.scale(3)
    assert caught.value.kind == "resources"
    monkeypatch.undo()
    for _ in range(20):
        assert get(server.url, timeout=5).status == 200
    wait_until(lambda: ids(server) == [0])
    server.scale(3)
    assert len(all_names(server, 3)) == 3


def test_the_queue_of_a_slot_that_is_removed_is_emptied(servers: Servers, tmp_path: Path) -> None:
    """Connections that its worker has not got round to are not lost with it."""
    server = servers.start(workers=2, timeout_linger=5.0)
    path = tmp_path / "file"
    frozen = freeze_all(server, path, 2)
    clients = [RawClient(server.addresses[0]) for _ in range(30)]
    for client in clients:
        client.send(request(b"GET", b"/"))
    scaling = Background(lambda: server.scale(1))
    wait_until(lambda: all(not pool.slots[1:] for pool in [server._pool] if pool))
    path.touch()
    for client in clients:
        assert client.response().status == 200
        client.close()
    for pending in frozen:
        pending.close()
    assert scaling.outcome() is None
    assert ids(server) == [0]
    for _ in range(20):  # the kernel goes on to give some to the other's socket
        assert get(server.url).status == 200


def test_requests_in_flight_are_finished(servers: Servers, tmp_path: Path) -> None:
    heard = Heard()
    server = servers.start(workers=3, on_event=heard)
    paths = [tmp_path / f"file{n}" for n in range(8)]
    pending = [in_flight(server, path) for path in paths]
    scaling = Background(lambda: server.scale(1))
    heard.wait_for(Scaled)
    for path in paths:
        path.touch()
    assert [status_of(each) for each in pending] == [200] * 8
    assert scaling.outcome() is None


def test_scaling_and_reloading_take_turns(servers: Servers, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    gate.touch()
    heard = Heard()
    server = servers.start(workers=2, state={"gate": str(gate)}, on_event=heard)
    gate.unlink()
    reloading = Background(server.reload)
    heard.wait_for(GenerationChanged, generation=2)
    scaling = Background(lambda: server.scale(3))
    assert heard.of(Scaled) == []
    gate.touch()
    assert reloading.outcome() == 2
    assert scaling.outcome() is None
    wait_until(lambda: generations(server) == [2, 2, 2])
    server.stop()
    (serves,) = heard.wait_for(GenerationChanged, generation=2, state=GenerationState.SERVING)
    assert heard.events.index(serves) < heard.events.index(heard.of(Scaled)[0])


def test_a_stop_breaks_it_off(servers: Servers, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    gate.touch()
    server = servers.start(state={"gate": str(gate)})
    gate.unlink()
    Path(f"{gate}.reached").unlink()
    scaling = Background(lambda: server.scale(2))
    wait_until(Path(f"{gate}.reached").exists)
    server.stop()
    assert isinstance(scaling.outcome(), StateError)


def test_a_dead_one_that_is_not_needed_any_more(servers: Servers) -> None:
    heard = Heard()
    server = servers.start(workers=2, restart_delay=0.3, on_event=heard)
    with RawClient(server.addresses[0]) as client:
        client.get(b"/die")
    (died,) = heard.wait_for(WorkerDied)
    server.scale(1)
    # Whichever it was, there is one in the end, and no request waits for nobody.
    heard.wait_for(Scaled)
    for _ in range(10):
        assert get(server.url).status == 200
    assert ids(server) == [0]
    if died.worker_id == 0:
        heard.wait_for(WorkerChanged, worker_id=0, state=WorkerState.SERVING, count=2)
    server.scale(2)
    assert ids(server) == [0, 1]


@pytest.mark.timeout(240)
def test_many_and_then_reloads(servers: Servers) -> None:
    """There is room for more generations; nothing counted is lost, or there twice."""
    if sys.platform == "win32":
        pytest.skip("has no limit of descriptors to look up")
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 10_000:
        pytest.skip("needs 10,000 descriptors")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 10_000), hard))
    try:
        server = servers.start()
        for _ in range(5):
            get(server.url)
        server.scale(200)
        check_stats(server, 5, generation=1)
        assert len(open_descriptors()) < 200 * 20
        for generation in (2, 3):
            for _ in range(20):
                assert get(server.url).status == 200
            assert server.reload() == generation
            assert len(server.workers) == 200
            check_stats(server, 20 * generation - 15, generation=generation)
        server.scale(1)
        check_stats(server, 45, workers=1, generation=3)
        server.stop()
        assert server.stats().requests == 45
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def check_stats(server: Any, requests: int, *, generation: int, workers: int = 200) -> None:
    """Check that all workers are there, each once, and what was counted."""
    wait_until(lambda: server.stats().connections == 0)
    stats = server.stats()
    assert (stats.requests, stats.responses[2], stats.in_flight) == (requests, requests, 0)
    assert sorted(each.worker_id for each in stats.workers) == list(range(workers))
    assert {each.generation for each in stats.workers} == {generation}
