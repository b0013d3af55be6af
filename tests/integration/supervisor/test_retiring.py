"""What becomes of old workers: what they tell their clients, finish, and break off in the end."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

import pytest

from subinterp_asgi.supervisor import preflight
from subinterp_asgi.supervisor.events import WorkerChanged
from subinterp_asgi.supervisor.states import WorkerState
from tests.support import wait_until

from ..rawclient import RawClient, request
from ..serving import Gate, respond, serving
from ..supervising import (
    Background,
    Heard,
    Servers,
    all_names,
    both,
    generations,
    in_flight,
    status_of,
    who,
)
from ..wsclient import WSClient

# --- connections that are kept alive


def test_an_idle_connection_may_send_one_more_request(servers: Servers) -> None:
    """And learns from the answer that it is the last one."""
    server = servers.start(timeout_linger=30.0)
    with RawClient(server.addresses[0]) as client:
        assert not client.get(b"/").closes
        stopping = Background(server.stop)
        wait_until(lambda: WorkerState.DRAINING in {worker.state for worker in server.workers})
        assert client.get(b"/who").closes
        client.assert_closed()
        assert stopping.outcome() is None


@both
@pytest.mark.parametrize("said", [False, True])
def test_an_idle_connection_goes_to_a_successor(
    servers: Servers, isolation: str, said: bool
) -> None:
    """Its next request may be on its way: closing in its face would lose that."""
    server = servers.start(isolation=isolation, workers=2, timeout_linger=0.0)
    clients = [WSClient(server.addresses[0]) for _ in range(6)]
    wait_until(lambda: server.stats().connections == 6)
    for client in clients if said else ():
        client.get(b"/who")
    assert server.reload() == 2
    new = all_names(server, 2)
    for client in clients[:-1]:
        with client:
            response = client.get(b"/who")
            assert response.body.decode() in new
            assert not response.closes
    with clients[-1] as client:
        client.open()
        client.assert_echoes()
    server.stop()
    stats = server.stats()
    assert stats.accepted == stats.requests - 6 * said  # each was counted once


def test_there_may_be_no_successor(servers: Servers) -> None:
    server = servers.start(timeout_linger=30.0)
    with RawClient(server.addresses[0]) as client:
        wait_until(lambda: server.stats().connections == 1)
        stopping = Background(server.stop)
        wait_until(lambda: server.workers[0].state is WorkerState.DRAINING)
        assert client.get(b"/").closes
        stopping.outcome()


def test_after_a_response_that_was_begun_before_the_drain_one_more_is_given() -> None:
    """Its head could not announce a close, so that the client can't know."""
    gate = Gate()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/":
            await respond(send, b"last", headers=[(b"content-length", b"4")])
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"some", "more_body": True})
        await gate.wait()
        await send({"type": "http.response.body", "body": b"thing"})

    with serving(app, timeout_linger=30.0) as served, served.connect() as client:
        client.send(request(b"GET", b"/begun"))
        head = client.head()
        gate.wait_reached()
        served.call(served.worker.drain)
        gate.open()
        client.read_until(b"0\r\n\r\n")
        assert not head.closes
        response = client.get(b"/")
        assert response.closes
        assert response.body == b"last"
        client.assert_closed()


def test_but_not_for_ever() -> None:
    gate = Gate()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await gate.wait()
        await send({"type": "http.response.body", "body": b"thing"})

    with serving(app, timeout_linger=0.05) as served, served.connect() as client:
        client.send(request(b"GET", b"/begun"))
        gate.wait_reached()
        served.call(served.worker.drain)
        gate.open()
        client.response()
        client.assert_closed()
        served.wait_until_idle()


# --- requests in flight


def test_the_old_ones_finish_what_they_have(servers: Servers, tmp_path: Path) -> None:
    heard = Heard()
    server = servers.start(workers=2, on_event=heard)
    path = tmp_path / "file"
    pending = in_flight(server, path)
    reloading = Background(server.reload)
    heard.wait_for(WorkerChanged, generation=1, state=WorkerState.DRAINING, count=2)
    heard.wait_for(WorkerChanged, generation=1, state=WorkerState.STOPPED)  # the other one
    assert reloading.running
    assert {who(server) for _ in range(4)} <= all_names(server, 2)
    path.touch()
    assert status_of(pending) == 200
    assert reloading.outcome() == 2
    assert generations(server) == [2, 2]


@both
def test_a_response_without_end_is_broken_off_in_the_end(
    servers: Servers, isolation: str, tmp_path: Path
) -> None:
    """The application hears of it first, and is cancelled if it does not mind."""
    heard = Heard()
    server = servers.start(isolation=isolation, timeout_graceful_shutdown=0.3, on_event=heard)
    path = tmp_path / "notes"
    with RawClient(server.addresses[0]) as client:
        client.send(request(b"GET", b"/endless" + bytes(path)))
        client.head()
        reloading = Background(server.reload)
        client.wait_for_end()
        assert reloading.outcome() == 2
    assert path.read_text().split() == ["http.disconnect", "cancelled"]
    draining, stopped = (
        heard.wait_for(WorkerChanged, generation=1, state=state)[0].at
        for state in (WorkerState.DRAINING, WorkerState.STOPPED)
    )
    assert stopped - draining >= 0.3
    assert who(server)


def test_a_stop_breaks_off_what_a_reload_waits_for(servers: Servers, tmp_path: Path) -> None:
    server = servers.start(timeout_graceful_shutdown=60)
    path = tmp_path / "notes"
    with RawClient(server.addresses[0]) as client:
        client.send(request(b"GET", b"/endless" + bytes(path)))
        client.head()
        reloading = Background(server.reload)
        wait_until(lambda: server.generation == 2)
        server.stop(0)
        assert reloading.outcome() == 2
    assert path.read_text().split() == ["http.disconnect", "cancelled"]


# --- WebSockets


@both
def test_websockets_are_told_why(servers: Servers, isolation: str) -> None:
    """After a reload they may come back at once (1012), after a stop they need not (1001)."""
    server = servers.start(isolation=isolation)
    with WSClient(server.addresses[0]) as client:
        client.open()
        reloading = Background(server.reload)
        client.expect_close(1012)
        assert reloading.outcome() == 2
    with WSClient(server.addresses[0]) as client:
        client.open()
        stopping = Background(server.stop)
        client.expect_close(1001)
        assert stopping.outcome() is None
    assert server.stats().websockets == 0
    assert server.stats().responses[1] == 2


# --- memory


def test_what_reloads_cost_is_said_once_on_3_13(
    servers: Servers, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(preflight, "_warned_of_memory", False)
    threads = servers.start()
    threads.reload()
    assert "memory" not in caplog.text  # there are no interpreters to close
    caplog.clear()
    for _ in range(2):
        server = servers.start(isolation="interpreter")
        server.reload()
        server.reload()
    told = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    if sys.version_info >= (3, 14):
        assert told == []
    else:
        assert len(told) == 1
        assert "3.13 does not give back the memory of an interpreter" in told[0]
        assert "MB" in told[0]
