"""How WebSockets end: by either side, in order and not, and what each is told of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from subinterp_asgi.errors import ASGIProtocolError, ClientDisconnected
from tests.support import wait_until
from tests.websocket.client import CLOSE, CONTINUATION, PING, TEXT, frame

from ..serving import Gate, Notes, serving
from ..wsclient import WSClient, accept, close_frame, disconnect, echo, read_all

# --- the client closes


@pytest.mark.parametrize(
    ("code", "reason"),
    [(1000, ""), (1001, "tab closed"), (3000, "r" * 123), (4999, "grüße 😀"), (1011, "x")],
)
def test_code_and_reason_of_the_client(code: int, reason: str) -> None:
    notes = Notes()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await accept(receive, send)
        notes(await receive())
        notes(await receive())

    with serving(app) as served, WSClient(served.address) as client:
        client.open()
        client.close_with(code, reason)
        assert notes.wait(2) == [disconnect(code, reason)] * 2
        assert served.records.messages == []


def test_close_without_a_code() -> None:
    notes = Notes()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await accept(receive, send)
        notes(await receive())

    with serving(app) as served, WSClient(served.address) as client:
        client.open()
        client.close_with()
        assert notes.wait() == [disconnect(1005)]


def test_the_connection_ends_without_waiting_for_the_application() -> None:
    gate = Gate()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await accept(receive, send)
        await gate.wait()

    with serving(app) as served, WSClient(served.address) as client:
        client.open()
        gate.wait_reached()
        client.close_with(1000)
        assert not served.idle
        gate.open()
        served.wait_until_idle()


def test_what_follows_a_close_frame_is_dropped() -> None:
    notes = Notes()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await accept(receive, send)
        notes(await read_all(receive))

    with serving(app) as served, WSClient(served.address) as client:
        client.open()
        after = (
            frame(TEXT, b"after") + frame(PING, b"after") + close_frame(4000) + b"\xff" * 300_000
        )
        client.send(frame(TEXT, b"before") + close_frame(1000) + after)
        assert client.read_close() == (1000, "")
        client.assert_closed()  # by no reset, although so much was not read
        assert notes.wait() == [["before", disconnect(1000)]]


# --- the client vanishes


@pytest.mark.parametrize("leave", [WSClient.reset, WSClient.close, WSClient.half_close])
@pytest.mark.parametrize("unfinished", [b"", frame(TEXT, b"half a message")[:-3]])
def test_vanished_client(leave: Any, unfinished: bytes) -> None:
    """1006, once it has read the messages that came before."""
    notes = Notes()
    gate = Gate()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await accept(receive, send)
        await gate.wait()
        notes(await read_all(receive))
        with pytest.raises(ClientDisconnected):
            await send({"type": "websocket.send", "text": "anybody?"})
        with pytest.raises(ClientDisconnected):
            await send({"type": "websocket.close"})
        notes("done")

    with serving(app) as served, WSClient(served.address) as client:
        client.open()
        client.send(frame(TEXT, b"one") + frame(TEXT, b"two") + frame(PING, b"ok") + unfinished)
        assert client.read_pong() == b"ok"
        gate.wait_reached()
        leave(client)
        served.wait_for_connections(0)
        gate.open()
        assert notes.wait(2) == [["one", "two", disconnect(1006)], "done"]
        assert served.records.messages == []


def test_application_that_only_sends_learns_of_it() -> None:
    notes = Notes()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await accept(receive, send)
        try:
            while True:
                await send({"type": "websocket.send", "bytes": b"x" * 10_000})
                await asyncio.sleep(0)
        except OSError as exc:
            notes(exc)
            raise

    with serving(app) as served:
        with WSClient(served.address) as client:
            client.open()
            client.read_binary()
        (error,) = notes.wait()
        assert isinstance(error, ClientDisconnected)
        served.wait_for_connections(0)
        wait_until(lambda: served.worker._server_state.counters.in_flight == 0)
        assert served.records.messages == []


def test_exception_after_the_end_is_not_reported() -> None:
    """As what it tried may have failed because of just that."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await accept(receive, send)
        await read_all(receive)
        raise RuntimeError("on purpose")

    with serving(app) as served, WSClient(served.address) as client:
        client.open()
        client.close_with(1000)
        served.wait_until_idle()
        assert served.records.messages == []


def test_disconnect_grace() -> None:
    notes = Notes()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await accept(receive, send)
        try:
            if scope["path"] == "/stay":
                await asyncio.sleep(3600)
            else:
                await read_all(receive)
                await asyncio.sleep(0)
        except asyncio.CancelledError:
            notes("cancelled")
            raise
        notes("ended by itself")

    with serving(app, timeout_disconnect_grace=0.05) as served:
        with WSClient(served.address) as client:
            client.open(target=b"/stay")
            client.close_with(1000)
            assert notes.wait() == ["cancelled"]
        with WSClient(served.address) as client:
            client.open()
            client.reset()
            assert notes.wait(2)[1] == "ended by itself"


def test_who_was_told_is_not_cancelled() -> None:
    """It ends by itself, when it has done what is to be done then."""
    notes = Notes()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await accept(receive, send)
        await read_all(receive)
        await asyncio.sleep(0.2)
        notes("ended by itself")

    with serving(app, timeout_disconnect_grace=0.05) as served, WSClient(served.address) as client:
        client.open()
        client.reset()
        assert notes.wait() == ["ended by itself"]


# --- the application closes


@pytest.mark.parametrize(
    ("message", "code", "reason"),
    [
        ({}, 1000, ""),
        ({"code": None, "reason": None}, 1000, ""),
        ({"code": 4001, "reason": "grüße"}, 4001, "grüße"),
        ({"code": 1005}, None, ""),
        ({"reason": "é" * 100}, 1000, "é" * 61),
    ],
)
def test_code_and_reason_of_the_application(
    message: dict[str, Any], code: int | None, reason: str
) -> None:
    notes = Notes()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await accept(receive, send)
        await send({"type": "websocket.close"} | message)
        with pytest.raises(ClientDisconnected):
            await send({"type": "websocket.send", "text": "more"})
        with pytest.raises(OSError, match="closed"):
            await send({"type": "websocket.close"})
        notes(await receive())
        notes(await receive())

    with serving(app) as served, WSClient(served.address) as client:
        client.open()
        client.expect_close(code, reason)
        told = 1005 if code is None else code, message.get("reason") or ""
        assert notes.wait(2) == [disconnect(*told)] * 2
        assert served.records.messages == []


@pytest.mark.parametrize(
    "message", [{"code": 1006}, {"code": 999}, {"code": 5000}, {"reason": "\ud800"}]
)
def test_a_close_that_cannot_be_sent(message: dict[str, Any]) -> None:
    """The application hears of it, and the WebSocket is still open."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await accept(receive, send)
        with pytest.raises(ASGIProtocolError):
            await send({"type": "websocket.close"} | message)
        await send({"type": "websocket.send", "text": "still here"})
        await send({"type": "websocket.close", "code": 4000})

    with serving(app) as served, WSClient(served.address) as client:
        client.open()
        assert client.read_text() == "still here"
        client.expect_close(4000)


def test_return_means_1000() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await accept(receive, send)
        await send({"type": "websocket.send", "text": "last"})

    with serving(app) as served, WSClient(served.address) as client:
        client.open()
        assert client.read_text() == "last"
        client.expect_close(1000, "")
        assert served.records.messages == []


class NotAnException(BaseException):
    pass


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("on purpose"),
        SystemExit(3),
        KeyError("type"),
        asyncio.CancelledError(),
        NotAnException(),
    ],
    ids=repr,
)
def test_exception_means_1011(error: BaseException) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await accept(receive, send)
        await receive()
        raise error

    with serving(app) as served, WSClient(served.address) as client:
        client.open()
        client.send_frame(TEXT, b"go")
        client.expect_close(1011, "")
        assert len(served.records.messages) == 1
        assert repr(error) in served.records.messages[0]


@pytest.mark.parametrize(
    "message",
    [
        {"type": "websocket.accept"},
        {"type": "websocket.http.response.start", "status": 200},
        {"type": "websocket.send"},
        {"type": "websocket.send", "text": None, "bytes": None},
        {"type": "websocket.send", "text": "a", "bytes": b"a"},
        {"type": "websocket.send", "text": b"a"},
        {"type": "websocket.send", "bytes": "a"},
        {"type": "websocket.send", "text": "\ud800"},
        {"type": "websocket.nonsense"},
    ],
)
def test_a_message_that_may_not_come(message: dict[str, Any]) -> None:
    """The application hears of it, and the WebSocket is still open."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await accept(receive, send)
        with pytest.raises(ASGIProtocolError):
            await send(message)
        await send({"type": "websocket.send", "text": "still here"})

    with serving(app) as served, WSClient(served.address) as client:
        client.open()
        assert client.read_text() == "still here"
        client.expect_close(1000)


def test_messages_that_cross_the_close_frame() -> None:
    """They are dropped, and the client's own close frame is found behind them."""
    notes = Notes()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await accept(receive, send)
        await send({"type": "websocket.close", "code": 4000, "reason": "enough"})
        notes(await receive())

    with serving(app) as served, WSClient(served.address) as client:
        client.open()
        assert client.read_close() == (4000, "enough")
        client.send(*[frame(TEXT, b"x" * 1000)] * 200, frame(PING, b"x"), close_frame(4000))
        client.assert_closed()
        assert notes.wait() == [disconnect(4000, "enough")]


@pytest.mark.parametrize(("target", "code"), [(b"/close", 4000), (b"/return", 1000)])
def test_close_while_reading_is_paused(target: bytes, code: int) -> None:
    """The queue is full; the client's close frame comes behind what the application won't read."""
    notes = Notes()
    gate = Gate()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await accept(receive, send)
        await gate.wait()
        if scope["path"] == "/close":
            await send({"type": "websocket.close", "code": 4000})
            notes(await receive())

    with serving(app, ws_max_queue=2) as served, WSClient(served.address) as client:
        client.open(target=target)
        client.send(*[frame(TEXT, b"x" * 50)] * 10)
        (connection,) = served.call(lambda: tuple(served.worker._connections))
        wait_until(lambda: served.call(lambda: connection._paused))
        gate.open()
        client.expect_close(code)
        served.wait_until_idle()
        assert target == b"/return" or notes.wait() == [disconnect(4000)]


def answers(client: WSClient) -> None:
    client.send(close_frame(1000, "see you"))


def crosses(client: WSClient) -> None:
    """It closed too, before it saw that the application had."""
    client.send(close_frame(4002, "mine"))


def breaks_the_protocol(client: WSClient) -> None:
    client.send(b"\xff" * 10)


def waits(client: WSClient) -> None:
    """It answers nothing."""


@pytest.mark.parametrize(
    "end", [answers, crosses, breaks_the_protocol, waits, WSClient.half_close, WSClient.reset]
)
def test_who_closed_is_told_its_own_code_and_reason(
    end: Callable[[WSClient], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the client says to it, if anything."""
    if end is waits:
        monkeypatch.setattr("subinterp_asgi.worker.asgi.websocket.CLOSE_TIMEOUT", 0.05)
    notes = Notes()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await accept(receive, send)
        await send({"type": "websocket.close", "code": 4001, "reason": "enough"})
        notes(await receive())

    options = {"timeout_keep_alive": 0.1, "ws_ping_interval": None}
    with serving(app, **options) as served, WSClient(served.address) as client:
        client.open()
        assert client.read_close() == (4001, "enough")
        end(client)
        assert notes.wait() == [disconnect(4001, "enough")]
        if end is not WSClient.reset:
            client.assert_closed()


# --- the protocol is broken


@pytest.mark.parametrize(
    ("octets", "code"),
    [
        (frame(TEXT, b"x", key=None), 1002),
        (frame(TEXT, b"x", reserved=0x40), 1002),
        (frame(3, b"x"), 1002),
        (frame(CONTINUATION, b"x"), 1002),
        (frame(PING, b"x", fin=False), 1002),
        (frame(CLOSE, b"\x03"), 1002),
        (frame(CLOSE, (1006).to_bytes(2)), 1002),
        (frame(CLOSE, (1000).to_bytes(2) + b"\xff"), 1007),
        (frame(TEXT, b"\xff"), 1007),
        (frame(TEXT, b"\xce\xba\xe1", fin=False) + frame(CONTINUATION, b"\xff", fin=False), 1007),
        (frame(TEXT, b"\xed\xa0\x80" + b"x" * 100)[:9], 1007),
    ],
)
def test_broken_protocol(octets: bytes, code: int) -> None:
    """Peer and application are told, and messages from before are delivered."""
    notes = Notes()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await accept(receive, send)
        found = await read_all(receive)
        assert found[-1].pop("reason")
        notes(found)
        with pytest.raises(ClientDisconnected):
            await send({"type": "websocket.send", "text": "x"})
        notes("done")

    with serving(app) as served, WSClient(served.address) as client:
        client.open()
        client.send(frame(TEXT, b"before") + octets)
        found, reason = client.read_close()
        assert found == code
        assert reason
        client.try_send(frame(TEXT, b"after"))
        client.assert_closed()
        last = {"type": "websocket.disconnect", "code": code}
        assert notes.wait(2) == [["before", last], "done"]
        assert served.records.messages == []


def test_a_broken_client_costs_only_itself() -> None:
    with serving(echo) as served, WSClient(served.address) as good:
        good.open()
        for _ in range(5):
            with WSClient(served.address) as bad:
                bad.open()
                bad.send(b"\xff" * 1000)
                bad.expect_close(1002)
            good.assert_echoes()
