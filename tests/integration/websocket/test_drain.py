"""The end of a worker, as open WebSockets meet with it."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from subinterp_asgi import Supervisor
from subinterp_asgi.errors import ClientDisconnected
from tests.support import nothing_left, wait_until
from tests.websocket.client import TEXT, frame

from ..serving import Gate, Notes, Served, access_log, serving
from ..wsclient import WSClient, accept, close_frame, disconnect, echo, handshake, read_all

APP = "tests.integration.apps.websocket:app"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Options, and constants, with which a worker waits for nobody long."""
    monkeypatch.setattr("subinterp_asgi.worker.worker._BREAK_OFF_TIME", 0.2)
    return {"timeout_graceful_shutdown": 0.05}


def wait_until_stopped(served: Served) -> None:
    wait_until(lambda: served.worker.state.value == "stopped", "the worker has stopped")


# --- drain


@pytest.mark.parametrize(("restarting", "code"), [(False, 1001), (True, 1012)])
def test_drain_closes(restarting: bool, code: int) -> None:
    notes = Notes()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await accept(receive, send)
        notes(await receive())

    with serving(app) as served:
        clients = [WSClient(served.address) for _ in range(3)]
        for client in clients:
            client.open()
        served.call(lambda: served.worker.drain(restarting=restarting))
        assert not served.idle
        for client in clients:
            client.expect_close(code)
            client.close()
        assert notes.wait(3) == [disconnect(code)] * 3
        served.wait_for_connections(0)
        assert served.idle
        assert served.records.messages == []


def test_drain_delivers_what_came_before() -> None:
    """And what comes after the close frame, the application need not see any more."""
    notes = Notes()
    gate = Gate()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await accept(receive, send)
        await gate.wait()
        with pytest.raises(ClientDisconnected):
            await send({"type": "websocket.send", "text": "too late"})
        notes(await read_all(receive))

    with serving(app) as served, WSClient(served.address) as client:
        client.open()
        client.send(frame(TEXT, b"one") + frame(TEXT, b"two"))
        gate.wait_reached()
        wait_until(lambda: served.call(lambda: _queued(served) == 2))
        served.call(served.worker.drain)
        assert client.read_close() == (1001, "")
        client.send(frame(TEXT, b"three") + close_frame(1001, "bye"))
        client.assert_closed()
        gate.open()
        assert notes.wait() == [["one", "two", disconnect(1001, "bye")]]


def _queued(served: Served) -> int:
    return sum(len(connection.session._queue) for connection in served.worker._connections)


def test_drain_with_a_full_queue() -> None:
    notes = Notes()
    gate = Gate()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await accept(receive, send)
        await gate.wait()
        notes(await read_all(receive))

    with serving(app, ws_max_queue=2) as served, WSClient(served.address) as client:
        client.open()
        client.send(frame(TEXT, b"x") * 100)
        gate.wait_reached()
        wait_until(lambda: served.call(lambda: _queued(served) == 2))
        served.call(served.worker.drain)
        client.expect_close(1001)
        gate.open()
        assert notes.wait() == [["x", "x", disconnect(1001)]]


def test_an_application_that_closes_while_the_worker_drains() -> None:
    """The peer has been told already."""
    notes = Notes()
    gate = Gate()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await accept(receive, send)
        await gate.wait()
        try:
            await send({"type": "websocket.close", "code": 4000})
        except ClientDisconnected:
            notes("told")

    with serving(app) as served, WSClient(served.address) as client:
        client.open()
        served.call(served.worker.drain)
        gate.open()
        assert notes.wait() == ["told"]
        client.expect_close(1001)


def test_one_that_has_just_been_opened_is_served_before_a_restart() -> None:
    with serving(echo) as served, WSClient(served.address) as client:
        client.open()
        served.call(lambda: served.worker.drain(restarting=True))
        client.assert_echoes()
        client.expect_close(1012)
        served.wait_until_idle()


@pytest.mark.parametrize(("restarting", "code"), [(False, 1001), (True, 1012)])
def test_handshake_in_flight_when_the_worker_drains(restarting: bool, code: int) -> None:
    gate = Gate()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await gate.wait()
        await echo(scope, receive, send)

    with serving(app) as served, WSClient(served.address) as client:
        client.send(handshake() + frame(TEXT, b"with it"))
        gate.wait_reached()
        served.call(lambda: served.worker.drain(restarting=restarting))
        gate.open()
        client.opened()
        assert client.read_text() == "with it"
        client.assert_echoes()
        client.expect_close(code)
        client.close()
        served.wait_until_idle()


def test_handshake_on_a_draining_worker() -> None:
    """One on a connection from before, and one that was on its way."""
    with serving(echo, timeout_linger=30.0) as served:
        known, new = WSClient(served.address), WSClient(served.address)
        with known, new:
            served.wait_for_connections(2)

            def drain_with_a_handshake_waiting() -> None:
                new.send(handshake())
                served.worker.drain()

            served.call(drain_with_a_handshake_waiting)
            known.send(handshake())
            for client in known, new:
                client.opened()
                client.assert_echoes()
            for client in known, new:
                client.expect_close(1001)
        served.wait_until_idle()


# --- shutdown


def test_shutdown_waits_for_applications() -> None:
    gate = Gate()
    notes = Notes()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await accept(receive, send)
        await read_all(receive)
        await gate.wait()  # takes leave of others, say
        notes("finished")

    with serving(app) as served, WSClient(served.address) as client:
        client.open()
        served.call(served.worker.shutdown)
        client.expect_close(1001)
        client.close()
        gate.wait_reached()
        served.wait_for_connections(0)
        assert served.worker.state.value == "draining"
        gate.open()
        wait_until_stopped(served)
        assert notes.wait() == ["finished"]
        assert served.records.messages == []


def test_shutdown_waits_for_the_clients_close_frame() -> None:
    notes = Notes()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await accept(receive, send)
        notes(await receive())

    with serving(app) as served, WSClient(served.address) as client:
        client.open()
        served.call(served.worker.shutdown)
        assert client.read_close() == (1001, "")
        assert served.worker.state.value == "draining"
        client.send_close(1001)
        client.assert_closed()
        wait_until_stopped(served)
        assert notes.wait() == [disconnect(1001)]


def test_applications_that_do_not_end_are_broken_off(impatient: dict[str, Any]) -> None:
    """First they are told, then cancelled."""
    notes = Notes()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await accept(receive, send)
        notes(await receive())
        try:
            await asyncio.sleep(3600)
        finally:
            notes("cancelled")

    with serving(app, **impatient) as served, WSClient(served.address) as client:
        client.open()
        served.call(served.worker.shutdown)
        assert client.read_close() == (1001, "")  # and never answers it
        assert notes.wait(2) == [disconnect(1001), "cancelled"]
        wait_until_stopped(served)


@pytest.mark.parametrize("restarting", [False, True])
def test_client_that_does_not_answer_is_broken_off(
    restarting: bool, impatient: dict[str, Any]
) -> None:
    """It has had its close frame."""
    notes = Notes()
    code = 1012 if restarting else 1001

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await accept(receive, send)
        notes(await receive())

    with serving(app, **impatient) as served, WSClient(served.address) as client:
        client.open()
        served.call(lambda: served.worker.drain(restarting=restarting))
        served.call(served.worker.shutdown)
        assert client.read_close() == (code, "")
        client.assert_closed()
        assert notes.wait() == [disconnect(code)]
        wait_until_stopped(served)


async def undecided(receive: Any, send: Any) -> None:
    pass


async def start_only(receive: Any, send: Any) -> None:
    await send({"type": "websocket.http.response.start", "status": 401})


@pytest.mark.parametrize("begin", [undecided, start_only])
def test_handshake_without_an_answer_is_broken_off(begin: Any, impatient: dict[str, Any]) -> None:
    notes = Notes()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await begin(receive, send)
        notes(await receive())

    with serving(app, **impatient) as served, WSClient(served.address) as client:
        client.send(handshake())
        wait_until(lambda: served.worker.requests)
        served.call(served.worker.shutdown)
        assert client.response().status == 503
        client.assert_closed()
        assert notes.wait()[0]["type"] == "websocket.disconnect"
        wait_until_stopped(served)


def test_denial_in_flight_is_broken_off(impatient: dict[str, Any]) -> None:
    gate = Gate()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await start_only(receive, send)
        await send({"type": "websocket.http.response.body", "body": b"begun", "more_body": True})
        await gate.wait()

    with (
        access_log() as lines,
        serving(app, access_log=True, **impatient) as served,
        WSClient(served.address) as client,
    ):
        client.send(handshake())
        gate.wait_reached()
        served.call(served.worker.shutdown)
        assert client.head().status == 401
        assert client.read_to_end() == b"5\r\nbegun\r\n"
        wait_until_stopped(served)
    assert lines == ['"GET / HTTP/1.1" 401 Unauthorized']


def test_forced_shutdown() -> None:
    """A second ``shutdown()`` waits for no grace."""
    notes = Notes()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await accept(receive, send)
        notes(await receive())

    with (
        serving(app, timeout_graceful_shutdown=3600.0) as served,
        WSClient(served.address) as client,
    ):
        client.open()
        served.call(served.worker.shutdown)
        assert client.read_close() == (1001, "")
        served.call(served.worker.shutdown)
        assert notes.wait() == [disconnect(1001)]
        client.assert_closed()
        wait_until_stopped(served)


# --- over interpreters


def test_supervisor_stops_with_open_websockets(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    journal.touch()
    options = {"workers": 2, "port": 0, "access_log": False}
    with nothing_left():
        supervisor = Supervisor(APP, **options)
        with supervisor:
            address = supervisor.addresses[0]
            clients: list[WSClient] = []

            def open_one() -> bool:
                client = WSClient(address)
                client.open(target=b"/?journal=" + str(journal).encode())
                client.assert_echoes()
                clients.append(client)
                return all(worker.requests for worker in supervisor.workers)

            wait_until(open_one, "each worker has a WebSocket")
            stopper = threading.Thread(target=supervisor.stop)
            stopper.start()
            for client in clients:
                client.expect_close(1001)
                client.close()
            stopper.join(20)
            assert not stopper.is_alive()
    assert journal.read_text() == "1001 \n" * len(clients)


def test_supervisor_stops_with_websockets_that_do_not_end() -> None:
    """Neither the application nor the client does what it should."""
    options = {"workers": 2, "port": 0, "access_log": False, "timeout_graceful_shutdown": 0.1}
    with nothing_left():
        with Supervisor(APP, **options) as supervisor:
            client = WSClient(supervisor.addresses[0])
            client.open(target=b"/stay")
            supervisor.stop()
        assert client.read_close() == (1001, "")
        client.wait_for_end()
        client.close()
