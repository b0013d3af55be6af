"""Requests whose client is gone: what they may still do, for how long, and what they count for."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Any

import pytest

from subinterp_asgi.errors import ClientDisconnected
from tests.support import wait_until

from ..rawclient import RawClient, request
from ..serving import TIMEOUT, Gate, Notes, Served, respond, serving

GET = request(b"GET", b"/")
LEAVE: dict[str, Callable[[RawClient], None]] = {"close": RawClient.close, "reset": RawClient.reset}
leaving = pytest.mark.parametrize("leave", LEAVE.values(), ids=LEAVE)


async def send_start(send: Any, *headers: tuple[bytes, bytes]) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": list(headers)})


async def send_piece(send: Any, body: bytes = b"piece", more: bool = True) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": more})


# --- what is sent to nobody


@leaving
@pytest.mark.parametrize("begun", [True, False])
def test_what_comes_after_the_response_is_done(
    leave: Callable[[RawClient], None], begun: bool
) -> None:
    """And is not cancelled, however long it takes; what fails there is an error like others."""
    gates: list[Gate] = []
    notes = Notes()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        gate, later = gates
        if begun:
            await send_start(send)
            await send_piece(send)
        await gate.wait()
        if not begun:
            await send_start(send)
        await send_piece(send, more=False)
        await later.wait()
        notes("done")
        raise RuntimeError("after the response")

    with serving(app, timeout_disconnect_grace=600.0) as served:
        for n in range(1, 11):
            gates[:] = gate, later = Gate(), Gate()
            with served.connect() as client:
                client.send(GET)
                gate.wait_reached()
                leave(client)
                gate.open()
                later.wait_reached()
                wait_until(lambda: not served.worker._server_state.counters.in_flight)
                assert not served.call(lambda: list(served.worker._server_state.unattended))
                later.open()
                notes.wait(n)
        served.wait_until_idle()
    assert (
        served.records.messages
        == ["exception in the ASGI application: GET /: RuntimeError('after the response')"] * 10
    )


def test_who_sends_without_end_is_slowed_down_and_ended() -> None:
    """Whether cancelled at the end or not; meanwhile others are served."""
    notes = Notes()
    sent = 0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal sent
        if scope["path"] == "/other":
            await respond(send)
            return
        await send_start(send)
        while (await receive())["type"] != "http.disconnect":
            notes("begun")
        try:
            while True:
                await send_piece(send)
                sent += 1
        except ClientDisconnected:
            notes("ended")
            raise

    with serving(app, timeout_disconnect_grace=None) as served:
        with served.connect() as client:
            client.send(GET)
            notes.wait(1)
            client.reset()
        with served.connect() as client:
            while len(notes) < 2:
                assert client.get(b"/other").status == 200
        served.wait_until_idle()
        assert 64 < sent < 500
    assert served.records.messages == []


# --- how long it may go on


@leaving
@pytest.mark.parametrize("grace", [0.0, 0.05])
def test_who_was_told_is_not_cancelled(leave: Callable[[RawClient], None], grace: float) -> None:
    """It ends by itself; perhaps it has much to do, as Starlette's background tasks."""
    notes = Notes()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (await receive())["type"] != "http.disconnect":
            notes("waiting")
        await asyncio.sleep(0.2)
        notes("done")

    with serving(app, timeout_disconnect_grace=grace) as served, served.connect() as client:
        client.send(GET)
        notes.wait(1)
        leave(client)
        assert notes.wait(2)[1] == "done"
        served.wait_until_idle()


def test_a_write_that_fails_begins_the_grace() -> None:
    """Even while the application is called for the first time."""
    notes = Notes()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] != "/late":
            await respond(send)
            return
        time.sleep(0.05)
        try:
            await send_start(send)
            await send_piece(send)
            await asyncio.sleep(3600)
        finally:
            notes("ended")

    with serving(app, timeout_disconnect_grace=0.05) as served, served.connect() as client:
        client.send(request(b"GET", b"/late"))
        client.reset()
        assert notes.wait() == ["ended"]
        served.wait_until_idle()


@leaving
def test_absent_clients_count_until_their_requests_have_ended(
    leave: Callable[[RawClient], None],
) -> None:
    """Nobody passes the limit by sending and leaving, and nobody uses it up for ever."""
    gate, notes = Gate(), Notes()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/":
            notes("waiting")
            await gate.wait()
        await respond(send)

    with serving(app, limit_concurrency=3, timeout_disconnect_grace=1.0) as served:
        for n in range(1, 4):
            client = served.connect()
            client.send(GET)
            notes.wait(n)
            leave(client)
        with served.connect() as client:
            assert client.get(b"/other").status == 503
        deadline = time.monotonic() + TIMEOUT
        while True:
            with served.connect() as client:
                if client.get(b"/other").status == 200:
                    break
            assert time.monotonic() < deadline
        served.wait_until_idle()
    assert served.records.messages == []


# --- clients that have only closed their sending half


def half_close(client: RawClient, served: Served) -> None:
    client.half_close()
    (connection,) = served.call(lambda: list(served.worker._connections))
    wait_until(lambda: served.call(lambda: connection.at_eof))


def test_half_closed_client_is_waited_with() -> None:
    """It is found out, once, that somebody reads."""
    gate = Gate()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await gate.wait()
        await respond(send, b"answer")

    with serving(app, timeout_disconnect_grace=0.05) as served, served.connect() as client:
        client.send(GET)
        gate.wait_reached()
        half_close(client, served)
        assert client.head().status == 100
        time.sleep(0.2)
        gate.open()
        assert client.response().body == b"answer"


@pytest.mark.parametrize("pause", [0.01, 0.2])
def test_half_closed_client_gets_a_stream(pause: float) -> None:
    notes = Notes()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send_start(send)
        await send_piece(send)
        notes("begun")
        for _ in range(30 if pause < 0.1 else 3):
            await asyncio.sleep(pause)
            await send_piece(send, b"x" * 20)
        await asyncio.sleep(pause)
        await send_piece(send, b"", more=False)

    with serving(app, timeout_disconnect_grace=0.05) as served, served.connect() as client:
        client.send(GET)
        notes.wait()
        half_close(client, served)
        response = client.response()
        assert response.body == b"piece" + b"x" * 20 * (30 if pause < 0.1 else 3)


# --- while the worker ends


@leaving
@pytest.mark.parametrize("grace", [None, 600.0])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_drain_does_not_wait_for_a_stream_that_nobody_reads(
    leave: Callable[[RawClient], None], grace: float | None, when: str
) -> None:
    notes = Notes()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send_start(send)
        await send_piece(send)
        try:
            await asyncio.Event().wait()
        finally:
            notes("ended")

    with serving(app, timeout_disconnect_grace=grace, timeout_graceful_shutdown=600.0) as served:
        client = served.connect()
        client.send(GET)
        client.read_until(b"piece")
        (connection,) = served.call(lambda: list(served.worker._connections))
        if when == "before":
            leave(client)
            wait_until(lambda: connection.closed or connection.at_eof)
        served.call(served.worker.shutdown)
        if when == "after":
            leave(client)
        assert notes.wait() == ["ended"]


def test_a_drain_waits_for_what_comes_after_a_response() -> None:
    gate, notes = Gate(), Notes()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await respond(send)
        with contextlib.suppress(asyncio.CancelledError):
            await gate.wait()
            notes("done")

    with serving(app, timeout_disconnect_grace=0.0, timeout_graceful_shutdown=600.0) as served:
        with served.connect() as client:
            client.send(GET)
            gate.wait_reached()
            client.reset()
        served.wait_for_connections(0)
        served.call(served.worker.shutdown)
        assert not served.idle
        gate.open()
        assert notes.wait() == ["done"]
