"""The supervisor's own door: who answers on ``metrics_bind`` when no worker does."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest

from subinterp_asgi import Supervisor
from subinterp_asgi.supervisor.events import WorkerDied
from subinterp_asgi.supervisor.states import WorkerState
from tests.control.test_prometheus import parse
from tests.support import get, wait_until

from ..rawclient import RawClient, Response, post, request
from ..supervising import Background, Heard, Servers, both, connect, freeze_all

BESIDE: dict[str, Any] = {"metrics_bind": "127.0.0.1:0", "health_path": "/health"}


def door(server: Supervisor) -> RawClient:
    host, port = server._listeners[1].addresses[0]
    assert port is not None
    return RawClient((host, port))


def ask(server: Supervisor, data: bytes | None = None, method: bytes = b"GET") -> Response:
    """Ask on a new connection, by default for health."""
    with door(server) as client:
        client.send(data or request(method, b"/health"))
        response = client.response(method)
        if response.status == 503:
            assert response.closes
            assert client.read_to_end() == b""
        return response


@both
def test_a_probe_hears_503_while_all_workers_are_blocked(
    servers: Servers, isolation: str, tmp_path: Path
) -> None:
    server = servers.start(isolation=isolation, workers=2, **BESIDE)
    get(server.url)
    assert ask(server).status == 200
    path = tmp_path / "file"
    frozen = freeze_all(server, path, 2)
    for _ in range(2):
        response = ask(server)
        assert response.status == 503
        assert response.body.startswith(b"No worker answers: 2 held up, for ")
        assert response.get(b"cache-control") == b"no-store"
    # The figures are those that the workers have counted until then.
    response = ask(server, request(b"GET", b"/metrics"))
    assert response.status == 200
    assert response.get(b"content-type") == b"text/plain; version=0.0.4; charset=utf-8"
    samples = parse(response.body)
    assert samples["requests_total", ()] >= 3
    assert samples["workers", ()] == 2
    path.touch()
    wait_until(lambda: ask(server).status == 200, "a worker to answer again")
    for client in frozen:
        assert client.response().status == 200
        client.close()


def test_one_worker_that_comes_round_is_enough(servers: Servers, tmp_path: Path) -> None:
    server = servers.start(workers=2, **BESIDE)
    path = tmp_path / "file"
    with connect(server) as client:
        client.send(request(b"GET", b"/freeze" + bytes(path)))
        wait_until(Path(f"{path}.begun").exists)
        for _ in range(3):
            assert ask(server).status == 200
        path.touch()
        client.response()


def test_what_is_asked_otherwise(servers: Servers, tmp_path: Path) -> None:
    server = servers.start(**BESIDE)
    path = tmp_path / "file"
    (frozen,) = freeze_all(server, path, 1)
    questions = [
        (request(b"HEAD", b"/health"), 503),
        (b"GET /health HTTP/1.0\r\n\r\n", 503),
        (b"OPTIONS /health HTTP/1.0\r\n\r\n", 503),
        (request(b"OPTIONS", b"/metrics"), 200),
        (post(b"/health", b"data"), 405),
        (post(b"/metrics", b"x" * 50_000), 405),
        (request(b"HEAD", b"/metrics"), 200),
        (request(b"GET", b"/"), 404),
        (b"GET /health HTTP/1.1\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00", 400),
        (b"GET /" + b"a" * 10_000, 414),
    ]
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(door(server)) for _ in questions]
        for client, (data, _) in zip(clients, questions, strict=True):
            client.send(data)
        for client, (data, status) in zip(clients, questions, strict=True):
            response = client.response(b"HEAD" if data.startswith(b"HEAD") else b"GET")
            assert (response.status, response.closes) == (status, True), data
            allowed = b"GET, HEAD, OPTIONS" if status == 405 or b"OPTIONS" in data else None
            assert response.get(b"allow") == allowed
            assert client.read_to_end() == b""
    path.touch()
    frozen.response()
    frozen.close()


def test_when_there_is_no_worker(servers: Servers) -> None:
    heard = Heard()
    server = servers.start(restart_delay=30.0, on_event=heard, **BESIDE)
    with connect(server) as client:
        client.get(b"/die")
    heard.wait_for(WorkerDied)
    assert ask(server).body == b"No worker answers: none is running\n"


def test_while_the_first_worker_starts(servers: Servers, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    server = servers.make(state={"gate": str(gate)}, **BESIDE)
    starting = Background(server.start)
    wait_until(Path(f"{gate}.reached").exists)
    assert ask(server).body == b"No worker answers: 1 starting\n"
    gate.touch()
    assert starting.outcome() is None
    assert ask(server).status == 200


def test_slow_and_endless_clients_are_in_nobodys_way(servers: Servers, tmp_path: Path) -> None:
    """Also not when the supervisor is stopped, which leaves nothing of them."""
    server = servers.start(**BESIDE)
    path = tmp_path / "file"
    (frozen,) = freeze_all(server, path, 1)
    with contextlib.ExitStack() as stack:
        slow = [stack.enter_context(door(server)) for _ in range(40)]
        for client in slow:
            client.send(b"GET /hea")
        endless = stack.enter_context(door(server))
        endless.send(post(b"/health", b""))
        with contextlib.suppress(ConnectionError):  # it is cut off
            for _ in range(100_000):
                endless.send(b"x" * 10_000)
            pytest.fail("all of it was read")
        assert ask(server).status == 503
        slow[0].wait_for_end()  # the oldest made room
        assert server._admin is not None
        assert 0 < len(server._admin._clients) <= 32
        path.touch()
        frozen.response()
        frozen.close()
        server.stop()
        assert server._admin._clients == {}


@both
def test_reloads_leave_it_as_it_is(servers: Servers, isolation: str, tmp_path: Path) -> None:
    server = servers.start(isolation=isolation, **BESIDE)
    for number in range(2):
        server.reload()
        path = tmp_path / f"file{number}"
        (frozen,) = freeze_all(server, path, 1)
        assert ask(server).status == 503
        path.touch()
        wait_until(lambda: ask(server).status == 200)
        frozen.close()


def test_a_unix_socket(servers: Servers, tmp_path: Path) -> None:
    where = tmp_path / "door"
    server = servers.start(metrics_bind=f"unix:{where}", health_path="/health")
    path = tmp_path / "file"
    (frozen,) = freeze_all(server, path, 1)
    with RawClient(str(where)) as client:
        assert client.get(b"/health").status == 503
    path.touch()
    frozen.close()


def test_who_reads_nothing_is_given_up(servers: Servers, tmp_path: Path) -> None:
    server = servers.start(**BESIDE)
    path = tmp_path / "file"
    (frozen,) = freeze_all(server, path, 1)
    admin = server._admin
    assert admin is not None
    admin._reason = lambda: b"x" * 50_000_000  # type: ignore[method-assign]
    with door(server) as client, door(server) as other:
        client.send(request(b"GET", b"/health"))
        other.send(request(b"GET", b"/missing"))
        assert other.response().status == 404
        wait_until(lambda: len(admin._clients) >= 1)
        wait_until(lambda: not admin._clients, "its time to be over")
        client.sock.settimeout(20)
        with contextlib.suppress(ConnectionError):
            assert len(client.read_to_end()) < 50_000_000
    path.touch()
    frozen.close()
    assert [info.state for info in server.workers] == [WorkerState.SERVING]
