"""Clients that leave: what the application is told, what becomes of what it sends, what is left."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from subinterp_asgi.errors import ClientDisconnected
from tests.support import wait_until

from ..rawclient import RawClient, post, request
from ..serving import Gate, Notes, read_body, respond, serving

LEAVE: dict[str, Callable[[RawClient], None]] = {"close": RawClient.close, "reset": RawClient.reset}
leaving = pytest.mark.parametrize("leave", LEAVE.values(), ids=LEAVE)


async def send_start(send: Any, body: bytes = b"begun") -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body, "more_body": True})


# --- a waiting application is told


@leaving
@pytest.mark.parametrize("begun", [True, False])
@pytest.mark.parametrize("method", [b"GET", b"POST"])
def test_waiting_receive_is_told(
    leave: Callable[[RawClient], None], begun: bool, method: bytes
) -> None:
    """As soon as the client is gone, whether or not anything is sent to it; nothing is left."""
    notes = Notes()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await read_body(receive)
        if begun:
            await send_start(send)
        notes("waiting")
        notes((await receive())["type"])

    with serving(app) as served, served.connect() as client:
        client.send(post(b"/", b"x") if method == b"POST" else request(method, b"/"))
        notes.wait(1)
        leave(client)
        assert notes.wait(2)[1] == "http.disconnect"
        served.wait_for_connections(0)
        assert served.idle
    assert served.records.messages == []


@leaving
def test_send_does_nothing_after_that(leave: Callable[[RawClient], None]) -> None:
    """ASGI HTTP specification before 2.4, and uvicorn."""
    notes = Notes()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        notes("waiting")
        notes((await receive())["type"])
        for message in (
            {"type": "http.response.start", "status": 200, "headers": []},
            {"type": "http.response.body", "body": b"x"},
        ):
            await send(message)
            notes("sent")
        notes((await receive())["type"])

    with serving(app) as served, served.connect() as client:
        client.send(request(b"GET", b"/"))
        notes.wait(1)
        leave(client)
        assert notes.wait(5)[1:] == ["http.disconnect", "sent", "sent", "http.disconnect"]
        served.wait_for_connections(0)
    assert served.records.messages == []


def test_all_waiting_calls_are_told() -> None:
    notes = Notes()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        calls = [asyncio.ensure_future(receive()) for _ in range(3)]
        await asyncio.sleep(0)
        notes("waiting")
        notes([(await call)["type"] for call in calls])

    with serving(app) as served, served.connect() as client:
        client.send(request(b"GET", b"/"))
        notes.wait(1)
        client.close()
        assert notes.wait(2)[1] == ["http.disconnect"] * 3


def test_send_notices_by_itself() -> None:
    """An application that never asks learns it from what it sends."""
    notes = Notes()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send_start(send)
        try:
            while True:
                await send({"type": "http.response.body", "body": b"x" * 1000, "more_body": True})
                await asyncio.sleep(0)
        except OSError as exc:
            notes(type(exc))
            raise

    with serving(app) as served, served.connect() as client:
        client.send(request(b"GET", b"/"))
        client.head()
        client.close()
        assert notes.wait() == [ClientDisconnected]
        served.wait_for_connections(0)
    assert served.records.messages == []


def test_send_that_waits_for_room_is_woken() -> None:
    notes = Notes()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send_start(send)
        notes("sending")
        try:
            while True:
                await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})
        except ClientDisconnected:
            notes("woken")

    with serving(app) as served, served.connect() as client:
        client.send(request(b"GET", b"/"))
        notes.wait(1)
        connection = served.call(lambda: next(iter(served.worker._connections)))
        wait_until(lambda: connection.congested)
        client.reset()
        assert notes.wait(2)[1] == "woken"
        served.wait_for_connections(0)


@leaving
def test_exception_after_the_client_left_is_no_error(leave: Callable[[RawClient], None]) -> None:
    notes = Notes()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        notes("waiting")
        await receive()
        notes("told")
        raise RuntimeError("cut off")

    with serving(app) as served, served.connect() as client:
        client.send(request(b"GET", b"/"))
        notes.wait(1)
        leave(client)
        notes.wait(2)
        served.wait_for_connections(0)
    assert served.records.messages == []


@pytest.mark.parametrize("grace", [0.0, 0.05])
def test_task_is_cancelled_by_option(grace: float) -> None:
    """timeout_disconnect_grace"""
    notes = Notes()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        notes("sleeping")
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            notes("cancelled")
            raise

    with serving(app, timeout_disconnect_grace=grace) as served, served.connect() as client:
        client.send(request(b"GET", b"/"))
        notes.wait(1)
        client.close()
        assert notes.wait(2)[1] == "cancelled"
        served.wait_for_connections(0)
        served.wait_until_idle()


def test_task_is_not_cancelled_without_the_option() -> None:
    gate, notes = Gate(), Notes()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await gate.wait()
        notes("went on")

    with (
        serving(app, timeout_disconnect_grace=None) as served,
        served.connect() as client,
    ):
        client.send(request(b"GET", b"/"))
        gate.wait_reached()
        client.reset()
        served.wait_for_connections(0)
        assert not served.idle
        gate.open()
        assert notes.wait() == ["went on"]
        served.wait_until_idle()


def test_task_that_ends_within_its_grace_is_not_cancelled() -> None:
    notes = Notes()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        notes("waiting")
        await receive()
        notes("told")

    with serving(app, timeout_disconnect_grace=3600.0) as served, served.connect() as client:
        client.send(request(b"GET", b"/"))
        notes.wait(1)
        client.close()
        notes.wait(2)
        served.wait_until_idle()


@leaving
@pytest.mark.parametrize("sent", ["", "GET", "head", "body", "piece"])
def test_clients_that_leave_at_any_point(leave: Callable[[RawClient], None], sent: str) -> None:
    notes = Notes()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        notes("called")
        try:
            await read_body(receive)
            await respond(send)
        except EOFError:
            notes("disconnected")

    head = request(b"POST", b"/", b"Content-Length: 10")
    data = {"": b"", "GET": b"GET", "head": head, "body": head + b"x" * 10, "piece": head + b"x"}
    with serving(app) as served:
        for _ in range(5):
            with served.connect() as client:
                served.wait_for_connections(1)
                client.send(data[sent])
                leave(client)
            served.wait_for_connections(0)
        served.wait_until_idle()
    assert served.records.messages == []


# --- bookkeeping


def test_cancelled_receives_do_not_pile_up() -> None:
    """Frameworks ask for a disconnect by cancelling receive() at once, perhaps for each piece."""
    notes = Notes()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        for _ in range(1000):
            call = asyncio.ensure_future(receive())
            await asyncio.sleep(0)
            call.cancel()
            await asyncio.wait([call])
        notes(len(receive.__self__._waiters or ()))
        await respond(send)

    with serving(app) as served, served.connect() as client:
        assert client.get().status == 200
    assert notes.wait() == [0]


def test_receive_after_the_response() -> None:
    """There is nothing more to receive; the next request on the connection is another's."""
    notes = Notes()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await respond(send)
        notes((await receive())["type"])

    with serving(app) as served, served.connect() as client:
        client.send(post(b"/", b"unread") + request(b"GET", b"/"))
        assert client.response().status == 200
        assert client.response().status == 200
        assert notes.wait(2) == ["http.disconnect"] * 2


def test_receive_waiting_while_the_response_ends() -> None:
    notes = Notes()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        call = asyncio.ensure_future(receive())
        await asyncio.sleep(0)
        await respond(send)
        notes((await call)["type"])

    with serving(app) as served, served.connect() as client:
        assert client.get().status == 200
        assert client.get().status == 200
        assert notes.wait(2) == ["http.disconnect"] * 2


def test_receive_waiting_while_the_application_fails() -> None:
    """A task that it left behind must not wait for ever, nor read what is another request's."""
    notes = Notes()
    calls = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        calls.append(asyncio.ensure_future(receive()))
        calls[0].add_done_callback(lambda call: notes(call.result()["type"]))
        await asyncio.sleep(0)
        raise RuntimeError("failed")

    with serving(app) as served, served.connect() as client:
        assert client.get().status == 500
        assert notes.wait() == ["http.disconnect"]
