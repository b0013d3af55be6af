"""Workers that die: they are replaced, and the others go on."""

from __future__ import annotations

from pathlib import Path

import pytest

from subinterp_asgi.supervisor.events import WorkerChanged, WorkerDied
from subinterp_asgi.supervisor.policy.budget import RestartBudget
from subinterp_asgi.supervisor.policy.reconciler import Reconciler
from subinterp_asgi.supervisor.pool.selector import Selector
from subinterp_asgi.supervisor.states import SupervisorState, WorkerState
from tests.support import get, wait_until

from ..load import Load
from ..rawclient import RawClient, request
from ..supervising import (
    Background,
    Heard,
    Servers,
    all_names,
    both,
    generations,
    in_flight,
    status_of,
)
from .killing import CAUSES, SOON, heard_now, kill, kill_another

# --- it is replaced


@pytest.mark.parametrize("how", CAUSES)
@both
def test_a_worker_that_dies_is_replaced(servers: Servers, isolation: str, how: str) -> None:
    heard = Heard()
    server = servers.start(isolation=isolation, workers=2, on_event=heard, **SOON)
    before = all_names(server, 2)
    dead = kill(server, how)
    (died,) = heard.wait_for(WorkerDied)
    assert died.error.startswith(CAUSES[how])
    assert "Traceback" in died.error
    assert died.restart_in is not None
    heard.wait_for(WorkerChanged, worker_id=died.worker_id, state=WorkerState.SERVING, count=2)
    after = all_names(server, 2)
    assert dead not in after
    assert len(after & before) == 1
    assert [info.id for info in server.workers] == [0, 1]
    assert generations(server) == [1, 1]
    assert server.state is SupervisorState.SERVING


def test_the_others_go_on_all_the_while(servers: Servers) -> None:
    """Only who was connected to the one that died may notice."""
    heard = Heard()
    server = servers.start(isolation="interpreter", workers=2, on_event=heard, **SOON)
    with Load(server.addresses[0], keep_alive=6, slow=2, stream=2) as load:
        dead = []
        for number in range(4):
            load.wait_for(50)
            dead.append(kill(server))
            heard.wait_for(WorkerChanged, state=WorkerState.SERVING, count=number + 3)
        load.wait_for(50)
    explained = [failure for failure in load.failures if failure.worker in dead]
    # (Who had no answer yet can't say whom it was connected to.)
    assert [f for f in load.failures if f.worker and f not in explained] == []
    assert len(load.failures) <= 10 * len(dead)
    assert len(set(dead)) == 4
    server.stop()
    stats = server.stats()
    own = 2 * len(dead)  # the requests of kill()
    assert load.requests + own <= stats.requests <= load.requests + own + len(load.failures)


def test_a_single_worker_that_dies_leaves_the_port_open(servers: Servers, tmp_path: Path) -> None:
    """Who connects while there is nobody is served as soon as there is."""
    gate = tmp_path / "gate"
    gate.touch()
    heard = Heard()
    server = servers.start(state={"gate": str(gate)}, on_event=heard, **SOON)
    gate.unlink()
    kill(server)
    heard.wait_for(WorkerDied)
    clients = [RawClient(server.addresses[0]) for _ in range(10)]
    for client in clients:
        client.send(request(b"GET", b"/"))
    gate.touch()
    for client in clients:
        assert client.response().status == 200
        client.close()


def test_a_request_in_flight_elsewhere_is_not_disturbed(servers: Servers, tmp_path: Path) -> None:
    heard = Heard()
    server = servers.start(workers=2, on_event=heard, **SOON)
    path = tmp_path / "file"
    with RawClient(server.addresses[0]) as client:
        name = client.get(b"/who").body.decode()
        client.send(request(b"GET", b"/until" + bytes(path)))
        while (dead := kill_another(server, name)) is None:
            pass
        heard.wait_for(WorkerDied)
        path.touch()
        assert client.response().body == b"done"
    assert dead != name


def test_a_worker_may_die_while_it_retires(servers: Servers, tmp_path: Path) -> None:
    """Which is told, and costs nothing: nobody needs it any more."""
    heard = Heard()
    server = servers.start(on_event=heard, restart_limit=0, timeout_linger=30.0)
    with RawClient(server.addresses[0]) as client:
        client.send(b"GET /die HTTP/1.1\r\n")
        pending = in_flight(server, tmp_path / "file")
        reloading = Background(server.reload)
        heard.wait_for(WorkerChanged, generation=1, state=WorkerState.DRAINING)
        client.send(b"Host: test\r\n\r\n")
        (died,) = heard.wait_for(WorkerDied)
        assert died.restart_in is None
        assert reloading.outcome() == 2
        assert isinstance(pending.result(), Exception)
    assert get(server.url).status == 200


# --- and stopping


def test_a_stop_does_not_wait_for_the_back_off(servers: Servers) -> None:
    heard = Heard()
    server = servers.start(workers=2, restart_delay=30.0, on_event=heard)
    kill(server)
    heard.wait_for(WorkerDied)
    assert Background(server.stop).outcome(15) is None
    assert RestartBudget.LONGEST_DELAY >= 30


def test_a_reload_fills_the_place_of_a_dead_one(servers: Servers) -> None:
    """And nobody comes later to fill it again."""
    heard = Heard()
    server = servers.start(workers=2, restart_delay=0.5, on_event=heard)
    kill(server)
    (died,) = heard.wait_for(WorkerDied)
    assert server.reload() == 2
    assert generations(server) == [2, 2]
    names = all_names(server, 2)
    wait_until(lambda: heard_now() > died.at + 1.0)
    assert all_names(server, 2) == names


def test_requests_in_the_dead_ones_queue(servers: Servers, tmp_path: Path) -> None:
    """Of a single worker; ``test_sharing`` has those of several."""
    heard = Heard()
    server = servers.start(on_event=heard, **SOON)
    path = tmp_path / "file"
    freezing = in_flight(server, path, "freeze")
    clients = [RawClient(server.addresses[0]) for _ in range(5)]
    for client in clients:
        client.send(request(b"GET", b"/"))
    path.touch()
    assert status_of(freezing) == 200
    for client in clients:
        assert client.response().status == 200
        client.close()


# --- the supervisor's own defects


@pytest.mark.parametrize(
    "where", [(Selector, "wait"), (Reconciler, "step"), (Reconciler, "write_log")]
)
def test_an_error_of_the_supervisor_does_not_end_it(
    servers: Servers,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    where: tuple[type, str],
) -> None:
    heard = Heard()
    server = servers.start(on_event=heard, **SOON)
    original = getattr(*where)
    failures = [RuntimeError("for once")]

    def fail_once(*arguments: object) -> object:
        if failures:
            raise failures.pop()
        return original(*arguments)

    monkeypatch.setattr(*where, fail_once)
    kill(server)
    heard.wait_for(WorkerChanged, state=WorkerState.SERVING, count=2)
    assert caplog.text.count("internal error of the supervisor, which goes on") == 1
    assert "RuntimeError: for once" in caplog.text
