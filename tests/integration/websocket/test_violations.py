"""Clients that break the protocol after messages that were in order, all in one write."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.websocket.client import BINARY, CLOSE, CONTINUATION, PING, RSV2, TEXT, frame

from ..serving import Gate, Notes, serving
from ..wsclient import WSClient

type App = Callable[[Any, Any, Any], Awaitable[None]]

VIOLATIONS = {
    "reserved-bit": (frame(TEXT, b"x", reserved=RSV2), 1002),
    "opcode": (frame(5, b"x"), 1002),
    "control-opcode": (frame(13), 1002),
    "stray-continuation": (frame(CONTINUATION, b"x", fin=False), 1002),
    "no-mask": (frame(TEXT, b"x", key=None), 1002),
    "not-utf-8": (frame(TEXT, b"\xff"), 1007),
    "close-code": (frame(CLOSE, (1005).to_bytes(2)), 1002),
}


def echo(notes: Notes) -> App:
    """An application that answers at once, and notes how it ended."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send(message | {"type": "websocket.send"})
        notes(message)

    return app


def assert_failed(client: WSClient, code: int) -> None:
    """Check for a close frame of that code, and for the end."""
    opcode, payload = client.read_frame()
    assert opcode == CLOSE
    assert int.from_bytes(payload[:2]) == code
    client.assert_closed()


@pytest.mark.parametrize("number", [1, 3, 100])  # 100: more than the queue takes
@pytest.mark.parametrize("name", VIOLATIONS)
def test_answers_to_what_came_before_leave_first(name: str, number: int) -> None:
    violation, code = VIOLATIONS[name]
    notes = Notes()
    with serving(echo(notes)) as served, WSClient(served.address) as client:
        client.open()
        texts = [b"%d" % index for index in range(number)]
        client.send(b"".join(frame(TEXT, text) for text in texts) + violation + frame(PING))
        assert [client.read_frame() for _ in texts] == [(TEXT, text) for text in texts]
        assert_failed(client, code)
        [end] = notes.wait()
        assert end["type"] == "websocket.disconnect"
        assert end["code"] == code


def test_messages_with_the_handshake() -> None:
    notes = Notes()
    violation, code = VIOLATIONS["opcode"]
    with serving(echo(notes)) as served, WSClient(served.address) as client:
        client.open(then=frame(BINARY, b"early") + violation)
        assert client.read_frame() == (BINARY, b"early")
        assert_failed(client, code)
        assert notes.wait()[0]["code"] == code


def test_no_application_holds_up_the_failure() -> None:
    gate, notes = Gate(), Notes()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        notes(await receive())
        await gate.wait()
        notes(await receive())

    violation, code = VIOLATIONS["opcode"]
    with serving(app) as served, WSClient(served.address) as client:
        client.open()
        client.send(frame(TEXT, b"one") + violation)
        assert_failed(client, code)
        gate.open()
        first, end = notes.wait(2)
        assert first["text"] == "one"
        assert end["code"] == code


@pytest.mark.parametrize(("code", "reason"), [(1000, ""), (4001, "enough")])
def test_application_that_closes_in_time(code: int, reason: str) -> None:
    """There is one close frame, and the client's is not waited for: it would not be understood."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await receive()
        await send({"type": "websocket.close", "code": code, "reason": reason})

    with serving(app) as served, WSClient(served.address) as client:
        client.open()
        client.send(frame(TEXT, b"one") + VIOLATIONS["opcode"][0])
        assert client.read_frame() == (CLOSE, code.to_bytes(2) + reason.encode())
        client.assert_closed()


def test_application_that_returns_in_time() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await receive()

    with serving(app) as served, WSClient(served.address) as client:
        client.open()
        client.send(frame(TEXT, b"one") + VIOLATIONS["opcode"][0])
        assert_failed(client, 1000)


def test_client_that_leaves_at_once() -> None:
    """Nothing is to be seen but that the connection ends: the server meets with no error."""
    with serving(echo(Notes())) as served:
        with WSClient(served.address) as client:
            client.open()
            client.send(frame(TEXT, b"one") + VIOLATIONS["opcode"][0])
            client.reset()
        served.wait_for_connections(0)
        served.wait_until_idle()
