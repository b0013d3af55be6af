"""Handshakes that the application does not agree to, or fails to answer."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from subinterp_asgi.errors import ASGIProtocolError, ClientDisconnected
from tests.support import wait_until
from tests.websocket.client import TEXT, frame

from ..serving import Gate, Notes, serving
from ..wsclient import WSClient, disconnect, handshake

START = {"type": "websocket.http.response.start", "status": 401}
BODY = {"type": "websocket.http.response.body"}


def test_close_means_403() -> None:
    notes = Notes()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert (await receive())["type"] == "websocket.connect"
        await send({"type": "websocket.close", "code": 4000, "reason": "not you"})
        notes(await receive())
        notes(await receive())
        with pytest.raises(ClientDisconnected):
            await send({"type": "websocket.accept"})
        notes("done")

    with serving(app) as served, WSClient(served.address) as client:
        client.send(handshake() + frame(TEXT, b"hopeful"))
        response = client.response()
        assert (response.status, response.reason) == (403, b"Forbidden")
        assert response.closes
        client.assert_closed()
        assert notes.wait(3) == [disconnect(1006), disconnect(1006), "done"]
        assert served.records.messages == []


def test_response_of_the_application() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        fields = [(b"www-authenticate", b"Bearer"), (b"content-length", b"5")]
        await send(START | {"headers": fields})
        await send(BODY | {"body": b"login"})

    with serving(app) as served, WSClient(served.address) as client:
        client.send(handshake())
        response = client.response()
        assert response.status == 401
        assert response.get(b"www-authenticate") == b"Bearer"
        assert response.get(b"upgrade") is None
        assert response.body == b"login"
        assert response.closes
        client.assert_closed()
        assert served.records.messages == []


def test_response_in_pieces() -> None:
    gate = Gate()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(START)
        await send(BODY | {"body": b"lo", "more_body": True})
        await gate.wait()
        await send(BODY | {"body": b"gin", "more_body": True})
        await send(BODY)

    with serving(app) as served, WSClient(served.address) as client:
        client.send(handshake())
        assert client.head().get(b"transfer-encoding") == b"chunked"
        assert client.read_exactly(7) == b"2\r\nlo\r\n"
        client.send_frame(TEXT, b"passed over")
        gate.open()
        assert client.read_exactly(13) == b"3\r\ngin\r\n0\r\n\r\n"
        client.assert_closed()


def test_large_response_waits_for_its_reader() -> None:
    notes = Notes()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(START | {"headers": [(b"content-length", b"20000000")]})
        for _ in range(200):
            await send(BODY | {"body": b"x" * 100_000, "more_body": True})
        notes("sent")
        await send(BODY)

    with serving(app) as served, WSClient(served.address, receive_buffer=4096) as client:
        client.send(handshake())
        assert client.head().status == 401
        served.call(lambda: None)
        assert len(notes) == 0
        assert len(client.read_exactly(20_000_000)) == 20_000_000
        notes.wait()
        client.assert_closed()


async def start_only(receive: Any, send: Any) -> None:
    await send(START)


async def begin(receive: Any, send: Any) -> None:
    await send(START)
    await send(BODY | {"body": b"begun", "more_body": True})


async def raise_in_it(receive: Any, send: Any) -> None:
    await begin(receive, send)
    raise RuntimeError("on purpose")


async def raise_before_it(receive: Any, send: Any) -> None:
    await start_only(receive, send)
    raise RuntimeError("on purpose")


async def accept_in_it(receive: Any, send: Any) -> None:
    await begin(receive, send)
    await send({"type": "websocket.accept"})


async def start_twice(receive: Any, send: Any) -> None:
    await start_only(receive, send)
    await send(START)


@pytest.mark.parametrize("answer", [begin, raise_in_it, accept_in_it])
def test_response_cut_short(answer: Any) -> None:
    """The client can tell: the last chunk is missing."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await answer(receive, send)

    with serving(app) as served, WSClient(served.address) as client:
        client.send(handshake())
        assert client.head().status == 401
        assert client.read_to_end() == b"5\r\nbegun\r\n"
        served.wait_until_idle()
        assert len(served.records.messages) == 1


@pytest.mark.parametrize("answer", [start_only, raise_before_it, start_twice])
def test_response_of_which_nothing_is_out(answer: Any) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await answer(receive, send)

    with serving(app) as served, WSClient(served.address) as client:
        client.send(handshake())
        assert client.response().status == 500
        client.assert_closed()
        assert len(served.records.messages) == 1


async def return_at_once(receive: Any, send: Any) -> None:
    pass


async def return_after_connect(receive: Any, send: Any) -> None:
    await receive()


async def raise_at_once(receive: Any, send: Any) -> None:
    raise RuntimeError("on purpose")


async def raise_later(receive: Any, send: Any) -> None:
    await receive()
    await asyncio.sleep(0)
    raise RuntimeError("on purpose")


async def exit_early(receive: Any, send: Any) -> None:
    raise SystemExit(3)


async def answer_as_http(receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200})


async def send_too_early(receive: Any, send: Any) -> None:
    await send({"type": "websocket.send", "text": "x"})


async def no_status(receive: Any, send: Any) -> None:
    await send({"type": "websocket.http.response.start"})


async def switch_by_itself(receive: Any, send: Any) -> None:
    await send({"type": "websocket.http.response.start", "status": 101})
    await send(BODY)


@pytest.mark.parametrize(
    "answer",
    [
        return_at_once,
        return_after_connect,
        raise_at_once,
        raise_later,
        exit_early,
        answer_as_http,
        send_too_early,
        no_status,
        switch_by_itself,
    ],
)
def test_no_answer_means_500(answer: Any) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await answer(receive, send)

    with serving(app) as served, WSClient(served.address) as client:
        client.send(handshake())
        response = client.response()
        assert response.status == 500
        assert b"purpose" not in response.body
        assert response.closes
        client.assert_closed()
        served.wait_until_idle()
        assert len(served.records.messages) == 1


def test_wrong_messages_are_refused_and_change_nothing() -> None:
    refused = Notes()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in (
            {"type": "websocket.send", "text": "x"},
            {"type": "websocket.http.response.body"},
            {"type": "websocket.http.response.start"},
            {"type": "websocket.http.response.start", "status": 200, "headers": [(b"a b", b"")]},
            {"type": "http.response.start", "status": 200},
            {"type": "nonsense"},
        ):
            try:
                await send(message)
            except ASGIProtocolError as exc:
                refused(exc)
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close"})

    with serving(app) as served, WSClient(served.address) as client:
        client.open()
        assert len(refused) == 6
        client.expect_close(1000)


def test_client_that_leaves_before_the_answer() -> None:
    gate = Gate()
    notes = Notes()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        notes(await receive())
        await gate.wait()
        notes(await receive())
        for message in ({"type": "websocket.accept"}, START, {"type": "websocket.close"}):
            with pytest.raises(OSError, match="closed"):
                await send(message)
        notes("done")

    with serving(app) as served:
        for leave in (WSClient.reset, WSClient.close, WSClient.half_close):
            notes, gate = Notes(), Gate()
            with WSClient(served.address) as client:
                client.send(handshake())
                gate.wait_reached()
                leave(client)
                if leave == WSClient.half_close:
                    client.assert_closed()
                served.wait_for_connections(0)
            gate.open()
            assert notes.wait(3) == [{"type": "websocket.connect"}, disconnect(1006), "done"]
        assert served.records.messages == []


def test_client_that_leaves_during_a_response() -> None:
    notes = Notes()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(START)
        try:
            while True:
                await send(BODY | {"body": b"x" * 100_000, "more_body": True})
        except OSError:
            notes(await receive())
            raise

    with serving(app) as served:
        with WSClient(served.address) as client:
            client.send(handshake())
            client.head()
        assert notes.wait() == [disconnect(1006)]
        wait_until(lambda: served.worker._server_state.counters.in_flight == 0)
        assert served.records.messages == []


def test_application_that_goes_on_after_its_answer() -> None:
    """Its work in the background keeps no client waiting."""
    gate = Gate()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send(START)
        await send(BODY)
        await gate.wait()

    with serving(app) as served, WSClient(served.address) as client:
        client.send(handshake())
        assert client.response().status == 401
        client.assert_closed()
        assert not served.idle
        gate.open()
        served.wait_until_idle()
