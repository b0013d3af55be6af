"""The end of a worker: what is in flight is finished, what is idle is closed, what won't is cut."""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import Any, cast

import pytest

from subinterp_asgi import Config, Supervisor, Worker
from subinterp_asgi.worker.asgi.http import HTTPSession
from subinterp_asgi.worker.net.connection import Connection
from tests.support import wait_until

from ..rawclient import RawClient, post, request
from ..serving import QUIET, Gate, Notes, Served, read_body, respond, serving


async def hello(scope: Any, receive: Any, send: Any) -> None:
    await respond(send, b"hello")


def wait_until_stopped(served: Served) -> None:
    wait_until(lambda: served.worker.state.value == "stopped", "the worker has stopped")


# --- drain


def test_drain_finishes_what_is_in_flight() -> None:
    gate = Gate()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await gate.wait()
        await respond(send, b"finished")

    with serving(app) as served, served.connect() as client:
        client.send(request(b"GET", b"/"))
        gate.wait_reached()
        served.call(served.worker.drain)
        assert not served.idle
        gate.open()
        response = client.response()
        assert response.body == b"finished"
        assert response.closes
        client.assert_closed()
        client.close()
        served.wait_for_connections(0)
        assert served.idle


def test_drain_finishes_streams() -> None:
    """Their head is out already and says nothing of a close."""
    gate = Gate()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        await gate.wait()
        await send({"type": "http.response.body", "body": b"b"})

    with serving(app) as served, served.connect() as client:
        client.send(request(b"GET", b"/"))
        gate.wait_reached()
        served.call(served.worker.drain)
        gate.open()
        assert client.response().body == b"ab"
        client.assert_closed()


def test_drain_closes_idle_connections() -> None:
    with serving(hello) as served, served.connect() as fresh, served.connect() as used:
        used.get()
        served.wait_for_connections(2)
        served.call(served.worker.drain)
        fresh.assert_closed()
        used.assert_closed()
        served.wait_for_connections(0)
        served.wait_until_idle()


def test_drain_closes_connections_that_become_idle_late() -> None:
    """Their last response was complete, yet not read, when the worker began to drain."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await respond(send, b"x" * 20_000_000)

    options = {"timeout_linger": 0.0, "timeout_write": 0.4, "timeout_keep_alive": 3600.0}
    with serving(app, **options) as served, served.connect() as client:
        client.send(request(b"GET", b"/"))
        wait_until(lambda: not served.idle)
        served.call(served.worker.drain)
        served.call(lambda: None)
        assert len(client.response().body) == 20_000_000
        client.assert_closed()


def test_drain_serves_what_has_connected_and_what_is_on_its_way() -> None:
    """A request that was sent before the drain is not lost, even if it has not been read."""
    with serving(hello) as served, served.connect() as known:
        known.get()

        def drain_with_requests_waiting() -> list[RawClient]:
            known.send(request(b"GET", b"/"))
            new = served.connect()
            new.send(request(b"GET", b"/"))
            served.worker.drain()
            return [known, new]

        clients = served.call(drain_with_requests_waiting)
        for client in clients:
            response = client.response()
            assert response.body == b"hello"
            assert response.closes
            client.assert_closed()
            client.close()


def test_drain_accepts_no_more() -> None:
    with serving(hello) as served:
        served.call(served.worker.drain)
        client = served.connect()  # the kernel's queue takes it, for whoever listens next
        with client:
            client.send(request(b"GET", b"/"))
            assert served.call(lambda: served.worker.active_connections) == 0


def test_drain_lets_a_half_received_head_finish() -> None:
    with serving(hello) as served, served.connect() as client:
        client.send(b"GET / HT")
        wait_until(lambda: not served.idle)
        served.call(served.worker.drain)
        assert not served.idle
        client.send(b"TP/1.1\r\nHost: a\r\n\r\n")
        response = client.response()
        assert response.body == b"hello"
        assert response.closes
        client.assert_closed()


def test_drain_lets_an_upload_finish() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await respond(send, await read_body(receive))

    with serving(app) as served, served.connect() as client:
        client.send(post(b"/", b"abcdef")[:-3])
        wait_until(lambda: not served.idle)
        served.call(served.worker.drain)
        client.send(b"def")
        response = client.response()
        assert response.body == b"abcdef"
        assert response.closes


def test_pipelined_requests_when_drained() -> None:
    """The one in flight is the last; the client sees the close and may repeat the others."""
    gate = Gate()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await gate.wait()
        await respond(send, b"one")

    with serving(app) as served, served.connect() as client:
        client.send(request(b"GET", b"/") * 3)
        gate.wait_reached()
        served.call(served.worker.drain)
        gate.open()
        assert client.response().closes
        client.assert_closed()


def test_drain_twice() -> None:
    with serving(hello) as served, served.connect() as client:
        client.get()
        served.call(served.worker.drain)
        served.call(served.worker.drain)
        client.assert_closed()


# --- what the worker tells of itself


def test_is_idle_and_active_connections() -> None:
    gate = Gate()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/wait":
            await gate.wait()
        await respond(send)

    with serving(app) as served:
        assert (served.idle, served.connections) == (True, 0)
        with served.connect() as client:
            served.wait_for_connections(1)
            assert served.idle
            client.get()
            assert served.idle
            assert served.worker.requests == 1
            client.send(request(b"GET", b"/wait"))
            gate.wait_reached()
            assert not served.idle
            assert served.worker.requests == 2
            gate.open()
            client.response()
            served.wait_until_idle()
            client.send(b"GET")
            wait_until(lambda: not served.idle, "a head half received")
            client.send(request(b"GET", b"/")[3:])
            client.response()
            served.wait_until_idle()
            client.send(post(b"/", b"abc")[:-1])
            client.response()
            assert not served.idle  # the rest of the body is still to be dropped
            client.send(b"c")
            served.wait_until_idle()
        served.wait_for_connections(0)
        assert served.worker.requests == 4


def test_unread_response_is_not_idle() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await respond(send, b"x" * 20_000_000)

    with serving(app) as served, served.connect() as client:
        client.send(request(b"GET", b"/"))
        wait_until(lambda: not served.idle)
        client.response()
        served.wait_until_idle()


# --- shutdown


def test_shutdown_waits_for_what_is_in_flight() -> None:
    gate = Gate()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await gate.wait()
        await respond(send, b"finished")

    with serving(app) as served, served.connect() as client:
        client.send(request(b"GET", b"/"))
        gate.wait_reached()
        served.call(served.worker.shutdown)
        wait_until(lambda: served.worker.state.value == "draining")
        gate.open()
        assert client.response().body == b"finished"
        wait_until_stopped(served)
        client.assert_closed()


@pytest.mark.parametrize("when", ["in flight", "at once", "later"])
def test_shutdown_does_not_wait_for_clients_to_close(
    when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their answer is out; how long they keep their end open is not the worker's business."""
    monkeypatch.setattr("subinterp_asgi.worker.net.connection.LINGER_TIME", 3600.0)
    monkeypatch.setattr("subinterp_asgi.worker.net.connection.LINGER_SILENCE", 3600.0)
    gate = Gate()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/in-flight":
            await gate.wait()
        elif scope["path"] == "/later":
            await asyncio.sleep(0)
        await respond(send, b"finished")

    with serving(app, timeout_linger=3600.0) as served, served.connect() as client:
        client.get()
        if when == "in flight":
            client.send(request(b"GET", b"/in-flight"))
            gate.wait_reached()
        served.call(served.worker.shutdown)
        wait_until(lambda: served.worker.state.value == "draining")
        if when == "in flight":
            gate.open()
        else:
            client.send(request(b"GET", b"/later" if when == "later" else b"/"))
        assert client.response().body == b"finished"
        wait_until_stopped(served)


def test_a_request_that_came_while_the_draining_worker_was_held_up_is_served() -> None:
    gate = Gate()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] != "/begun":
            await respond(send, b"in time")
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"begun", "more_body": True})
        await gate.wait()
        await send({"type": "http.response.body"})

    with serving(app, timeout_linger=3600.0) as served, served.connect() as client:
        client.send(request(b"GET", b"/begun"))
        gate.wait_reached()
        (connection,) = served.call(lambda: list(served.worker._connections))
        session = cast(HTTPSession, cast(Connection, connection).session)
        served.call(served.worker.shutdown)
        gate.open()
        assert client.response().body == b"begun"
        wait_until(lambda: session._lingering)

        def hold_up() -> None:
            client.send(request(b"GET", b"/"))
            session._cease_to_linger()

        served.call(hold_up)
        assert client.response().body == b"in time"
        wait_until_stopped(served)


def test_shutdown_waits_for_background_work() -> None:
    gate, notes = Gate(), Notes()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await respond(send)
        await gate.wait()
        notes("done")

    with serving(app) as served, served.connect() as client:
        client.get()
        gate.wait_reached()
        served.call(served.worker.shutdown)
        client.assert_closed()
        assert len(notes) == 0
        gate.open()
        wait_until_stopped(served)
        assert notes.wait() == ["done"]


async def stubborn(scope: Any, receive: Any, send: Any) -> None:
    await asyncio.sleep(3600)


def test_requests_have_a_bounded_time_to_end() -> None:
    """They are told, then cancelled; the client gets an answer."""
    with (
        serving(stubborn, timeout_graceful_shutdown=0.05) as served,
        served.connect() as client,
    ):
        client.send(request(b"GET", b"/"))
        wait_until(lambda: not served.idle)
        served.call(served.worker.shutdown)
        response = client.response()
        assert response.status in (500, 503)
        wait_until_stopped(served)
    assert any("broken off" in text for text in served.records.messages)


def test_second_shutdown_forces() -> None:
    with serving(stubborn, timeout_graceful_shutdown=3600.0) as served, served.connect() as client:
        client.send(request(b"GET", b"/"))
        wait_until(lambda: not served.idle)
        served.call(served.worker.shutdown)
        wait_until(lambda: served.worker.state.value == "draining")
        served.call(served.worker.shutdown)
        wait_until_stopped(served)
        client.wait_for_end()


def test_requests_are_told_before_they_are_cancelled() -> None:
    notes = Notes()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        notes("waiting")
        try:
            notes((await receive())["type"])
        except asyncio.CancelledError:
            notes("cancelled")
            raise

    with serving(app, timeout_graceful_shutdown=0.05) as served, served.connect() as client:
        client.send(request(b"GET", b"/"))
        notes.wait(1)
        served.call(served.worker.shutdown)
        assert notes.wait(2) == ["waiting", "http.disconnect"]
        assert client.response().status == 503
        client.assert_closed()
        wait_until_stopped(served)


def test_client_that_does_not_read_does_not_stop_the_shutdown() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await respond(send, b"x" * 50_000_000)

    with serving(app, timeout_graceful_shutdown=0.05) as served, served.connect() as client:
        client.send(request(b"GET", b"/"))
        wait_until(lambda: not served.idle)
        served.call(served.worker.shutdown)
        wait_until_stopped(served)


def test_connections_after_the_end_of_the_worker() -> None:
    with serving(hello) as served:
        served.call(served.worker.shutdown)
        wait_until_stopped(served)
        assert served.worker.is_idle()
        assert served.worker.active_connections == 0


def test_a_worker_serves_alone_on_any_loop() -> None:
    """In a coroutine of the caller's, beside its own."""

    async def main() -> bytes:
        with socket.create_server(("127.0.0.1", 0)) as sock:
            worker = Worker(hello, Config(**QUIET), sock)
            serving = asyncio.create_task(worker.serve())
            reader, writer = await asyncio.open_connection(*sock.getsockname())
            writer.write(request(b"GET", b"/", b"Connection: close"))
            data = await reader.read()
            writer.close()
            worker.shutdown()
            await serving
        return data

    assert asyncio.run(main()).endswith(b"hello")


# --- the same from subinterpreters


def test_supervisor_stop_finishes_what_is_in_flight() -> None:
    options = {"workers": 2, "port": 0, "access_log": False}
    supervisor = Supervisor("tests.integration.apps.http:app", **options)
    with supervisor:
        host, port = supervisor.addresses[0]
        assert port is not None
        idle = RawClient((host, port))
        idle.get()
        busy = RawClient((host, port))
        busy.send(post(b"/echo", b"abcdef")[:-3])
        wait_until(lambda: sum(worker.requests for worker in supervisor.workers) == 2)
        stopper = threading.Thread(target=supervisor.stop)
        stopper.start()
        idle.assert_closed()
        busy.send(b"def")
        response = busy.response()
        assert response.body == b"abcdef"
        assert response.closes
        busy.assert_closed()
        idle.close()
        busy.close()
        stopper.join(20)
        assert not stopper.is_alive()
