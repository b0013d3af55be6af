"""Clients that close their sending half: they still read, and may have sent less than a request."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support import wait_until

from ..rawclient import chunked, post, request
from ..serving import Gate, Notes, read_body, respond, serving


async def send_start(send: Any, body: bytes = b"begun") -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body, "more_body": True})


# --- half-closed clients still read


def test_half_closed_client_is_answered() -> None:
    gate = Gate()
    notes = Notes()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await gate.wait()
        notes(await receive())
        await respond(send, b"still here")

    with serving(app) as served, served.connect() as client:
        client.send(request(b"GET", b"/"))
        client.half_close()
        gate.wait_reached()
        wait_until(lambda: served.call(lambda: connection_of(served).at_eof))
        gate.open()
        response = client.response()
        assert response.body == b"still here"
        assert response.closes
        client.assert_closed()
    assert notes.wait() == [{"type": "http.request", "body": b"", "more_body": False}]


def connection_of(served: Any) -> Any:
    (connection,) = served.worker._connections
    return connection


@pytest.mark.parametrize("coded", [True, False])
def test_body_that_had_come_whole_is_delivered_after_the_end(coded: bool) -> None:
    """The application may come to read it only after the client has closed its half."""
    gate = Gate()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await gate.wait()
        await respond(send, await read_body(receive))

    with serving(app) as served, served.connect() as client:
        if coded:
            client.send(request(b"POST", b"/", b"Transfer-Encoding: chunked"))
            client.send(chunked(b"ab", b"c"))
        else:
            client.send(post(b"/", b"abc"))
        client.half_close()
        gate.wait_reached()
        wait_until(lambda: served.call(lambda: connection_of(served).at_eof))
        gate.open()
        assert client.response().body == b"abc"
        client.assert_closed()


def test_large_body_that_had_been_sent_whole_is_delivered_after_the_end() -> None:
    """More than is read ahead: the end is behind octets that are still in the kernel."""
    gate = Gate()
    body = b"x" * 200_000

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await gate.wait()
        await respond(send, await read_body(receive))

    with serving(app) as served, served.connect() as client:
        client.send(post(b"/", body))
        client.half_close()
        gate.open()
        assert client.response().body == body
        client.assert_closed()


def test_who_waits_for_a_disconnect_hears_of_a_half_closed_client() -> None:
    """It can't be told from one that is gone; what was sent before still arrives."""
    notes = Notes()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        notes((await receive())["type"])
        await send_start(send, b"before")
        notes((await receive())["type"])

    with serving(app) as served, served.connect() as client:
        client.send(request(b"GET", b"/"))
        client.half_close()
        assert notes.wait(2) == ["http.request", "http.disconnect"]
        client.head()
        assert b"before" in client.read_until(b"before")
        client.wait_for_end()
        served.wait_for_connections(0)


# --- requests that are cut short


@pytest.mark.parametrize("begun", [True, False])
@pytest.mark.parametrize("coded", [True, False])
def test_body_cut_short(begun: bool, coded: bool) -> None:
    """RFC 9112 section 8: the application must not take it for the whole."""
    notes = Notes()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if begun:
            await send_start(send)
        while True:
            message = await receive()
            notes((message["type"], message.get("body")))
            if message["type"] == "http.disconnect":
                return

    framing = b"Transfer-Encoding: chunked" if coded else b"Content-Length: 10"
    with serving(app) as served, served.connect() as client:
        client.send(request(b"POST", b"/", framing))
        client.send(chunked(b"abc", last=False) if coded else b"abc")
        notes.wait(1)
        client.half_close()
        assert notes.wait(2) == [("http.request", b"abc"), ("http.disconnect", None)]
        if begun:
            assert client.head().status == 200
            client.wait_for_end()
        else:
            assert client.response().status == 400
            client.assert_closed()
        served.wait_for_connections(0)
        served.wait_until_idle()
    assert served.records.messages == []


def test_body_cut_short_before_the_application_reads() -> None:
    gate, notes = Gate(), Notes()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await gate.wait()
        notes(await receive())
        notes((await receive())["type"])
        await respond(send)
        notes("unheard")

    with serving(app) as served, served.connect() as client:
        client.send(post(b"/", b"abcdef")[:-3])
        client.half_close()
        gate.wait_reached()
        wait_until(lambda: served.call(lambda: connection_of(served).at_eof))
        gate.open()
        assert client.response().status == 400
        client.assert_closed()
        piece, end, sent = notes.wait(3)
        assert piece == {"type": "http.request", "body": b"abc", "more_body": True}
        assert (end, sent) == ("http.disconnect", "unheard")


def test_body_cut_short_that_nobody_reads() -> None:
    """The answer came first: it is the only one."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await respond(send, b"early")

    with serving(app) as served, served.connect() as client:
        client.send(post(b"/", b"abcdef")[:-3])
        assert client.response().body == b"early"
        client.half_close()
        client.assert_closed()
        served.wait_for_connections(0)


def test_body_cut_short_and_answered_without_reading() -> None:
    gate = Gate()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await gate.wait()
        await respond(send, b"unread")

    with serving(app) as served, served.connect() as client:
        client.send(post(b"/", b"abcdef")[:-3])
        client.half_close()
        gate.wait_reached()
        wait_until(lambda: served.call(lambda: connection_of(served).at_eof))
        gate.open()
        assert client.response().body == b"unread"
        client.assert_closed()


@pytest.mark.parametrize("data", [b"G", b"GET / HTTP/1.1\r\n", request(b"GET", b"/")[:-1]])
def test_head_cut_short(data: bytes) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("not a request")

    with serving(app) as served, served.connect() as client:
        client.send(data)
        client.half_close()
        assert client.response().status == 400
        client.assert_closed()
        served.wait_for_connections(0)


@pytest.mark.parametrize(
    "before", [b"", b"\r\n", request(b"GET", b"/"), post(b"/", b"x") + b"\r\n"]
)
def test_end_between_requests(before: bytes) -> None:
    """Nothing is cut short, hence nothing is answered; an empty line is no request."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await read_body(receive)
        await respond(send)

    with serving(app) as served, served.connect() as client:
        client.send(before)
        if len(before) > 2:
            client.response()
        client.half_close()
        client.assert_closed()
        served.wait_for_connections(0)
