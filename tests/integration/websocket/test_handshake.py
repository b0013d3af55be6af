"""The opening handshake as applications see it, and what is no opening handshake."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.support import wait_until
from tests.websocket.client import BINARY, CLOSE, PING, TEXT, frame

from ..pki import Pki, TLSClient
from ..rawclient import request
from ..serving import Gate, Notes, access_log, respond, serving
from ..wsclient import (
    DEFLATE,
    WSClient,
    accept,
    close_frame,
    content,
    disconnect,
    echo,
    handshake,
    read_all,
)


class TLSWSClient(WSClient, TLSClient):
    pass


async def both(scope: Any, receive: Any, send: Any) -> None:
    """WebSockets are echoed; requests are told that they are requests."""
    if scope["type"] == "http":
        await respond(send, b"http")
    else:
        await echo(scope, receive, send)


# --- the scope


def test_scope() -> None:
    notes = Notes()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        notes(scope)
        await accept(receive, send)

    with (
        serving(app, root_path="/mounted", proxy_headers=False) as served,
        WSClient(served.address) as client,
    ):
        lines = (b"Host: test", b"X-Case: A", b"X-Case: b", b"Sec-WebSocket-Protocol: one, two")
        client.open(*lines, b"Sec-WebSocket-Protocol: Three", target=b"/gr%C3%BCezi?q=%41")
        (scope,) = notes.wait()
        peer = client.sock.getsockname()
    headers = scope.pop("headers")
    assert (b"x-case", b"A") in headers
    assert (b"x-case", b"b") in headers
    assert (b"upgrade", b"websocket") in headers
    assert (b"sec-websocket-version", b"13") in headers
    assert (b"sec-websocket-protocol", b"Three") in headers
    assert scope == {
        "type": "websocket",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "scheme": "ws",
        "server": served.address,
        "client": peer,
        "root_path": "/mounted",
        "path": "/mounted/grüezi",
        "raw_path": b"/mounted/gr%C3%BCezi",
        "query_string": b"q=%41",
        "subprotocols": ["one", "two", "Three"],
        "state": {},
        "extensions": {"websocket.http.response": {}},
    }


def test_scope_behind_a_trusted_proxy() -> None:
    notes = Notes()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        notes((scope["scheme"], scope["client"]))
        await accept(receive, send)

    with serving(app) as served:
        for scheme in (b"https", b"wss", b"http"):
            with WSClient(served.address) as client:
                client.open(b"X-Forwarded-Proto: " + scheme, b"X-Forwarded-For: 203.0.113.7")
        assert notes.wait(3) == [
            ("wss", ("203.0.113.7", 0)),
            ("wss", ("203.0.113.7", 0)),
            ("ws", ("203.0.113.7", 0)),
        ]


def test_scope_belongs_to_the_connection() -> None:
    """What an application changes in it, the next one does not see."""
    notes = Notes()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await receive()
            scope["state"]["given"] = "by lifespan"
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        notes((dict(scope["state"]), dict(scope["extensions"]), list(scope["subprotocols"])))
        scope["state"]["mine"] = 1
        scope["extensions"]["mine"] = {}
        scope["subprotocols"].append("mine")
        await accept(receive, send)

    with serving(app, lifespan="on") as served:
        for _ in range(2):
            with WSClient(served.address) as client:
                client.open()
        first, second = notes.wait(2)
    assert first == ({"given": "by lifespan"}, {"websocket.http.response": {}}, [])
    assert second == first


# --- agreeing


def test_subprotocol_and_headers() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await accept(
            receive,
            send,
            subprotocol="two",
            headers=[(b"X-Session", b"42"), (b"set-cookie", b"a=1"), (b"set-cookie", b"b=2")],
        )

    with serving(app) as served, WSClient(served.address) as client:
        response = client.open(b"Sec-WebSocket-Protocol: one, two")
        assert response.get(b"sec-websocket-protocol") == b"two"
        assert response.get(b"x-session") == b"42"
        assert response.all(b"set-cookie") == [b"a=1", b"b=2"]
        assert response.get(b"date") is not None
        assert response.get(b"server") is not None


def test_nothing_is_agreed_upon_that_was_not_asked_for() -> None:
    with serving(echo, server_header=False, date_header=False) as served:
        with WSClient(served.address) as client:
            response = client.open(b"Sec-WebSocket-Protocol: one")
            names = {name.lower() for name, _ in response.fields}
            assert names == {b"upgrade", b"connection", b"sec-websocket-accept"}
        with WSClient(served.address) as client:
            client.open(DEFLATE)
            assert client.inflater is not None
            client.assert_echoes("x" * 500)
    with serving(echo, ws_per_message_deflate=False) as served, WSClient(served.address) as client:
        assert client.open(DEFLATE).get(b"sec-websocket-extensions") is None


@pytest.mark.parametrize(
    "options",
    [
        {"subprotocol": "three"},
        {"subprotocol": "ONE"},
        {"headers": [(b"x", b"a\r\nb: c")]},
        {"headers": [(b"x y", b"a")]},
        {"headers": [(b"Sec-WebSocket-Protocol", b"one")]},
        {"headers": [("x", "a")]},
    ],
)
def test_an_acceptance_that_cannot_be_sent(options: dict[str, Any]) -> None:
    """The application hears of it at once, and the handshake is still open."""
    notes = Notes()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            await accept(receive, send, **options)
        except RuntimeError as exc:
            notes(exc)
            await send({"type": "websocket.accept", "subprotocol": "one"})

    with serving(app) as served, WSClient(served.address) as client:
        response = client.open(b"Sec-WebSocket-Protocol: one")
        assert response.get(b"sec-websocket-protocol") == b"one"
        assert len(notes) == 1


def test_the_application_takes_its_time() -> None:
    """Nothing of the keep-alive or the header timeout applies once the handshake is read."""
    gate = Gate()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await gate.wait()
        await echo(scope, receive, send)

    timeouts = {"timeout_header": 0.05, "timeout_keep_alive": 0.05, "timeout_body": 0.05}
    with serving(app, **timeouts) as served, WSClient(served.address) as client:
        client.send(handshake())
        gate.wait_reached()
        loops = Notes()
        served.call(lambda: served.loop.call_later(0.3, loops, "a while later"))
        loops.wait()
        gate.open()
        client.opened()
        served.call(lambda: served.loop.call_later(0.3, loops, "and again"))
        loops.wait(2)
        client.assert_echoes()


def test_accept_without_receive() -> None:
    """``websocket.connect`` need not be taken first."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        assert await receive() == {"type": "websocket.connect"}
        await send({"type": "websocket.send", "text": content(await receive())})

    with serving(app) as served, WSClient(served.address) as client:
        client.open()
        client.assert_echoes()
        client.expect_close(1000)


def test_over_tls(tmp_path: Path) -> None:
    pki = Pki(tmp_path)
    notes = Notes()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        notes((scope["scheme"], sorted(scope["extensions"])))
        await echo(scope, receive, send)
        notes("ended")

    with serving(app, ssl_certfile=pki.server) as served:
        with TLSWSClient(served.address, pki.client()) as client:
            client.open(then=frame(TEXT, b"at once"))
            assert client.read_text() == "at once"
            large = bytes(range(256)) * 8192
            client.send_frame(BINARY, large)
            assert client.read_binary() == large
            client.close_with(1000, "bye")
            assert notes.wait(2) == [("wss", ["tls", "websocket.http.response"]), "ended"]
        with TLSWSClient(served.address, pki.client()) as client:
            client.open()
            served.call(served.worker.drain)
            client.expect_close(1001)


# --- what comes around a handshake


@pytest.mark.parametrize("split", [False, True])
def test_frames_before_the_answer(split: bool) -> None:
    """A client may not do so, yet nothing of it is lost."""
    gate = Gate()
    notes = Notes()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await gate.wait()
        await accept(receive, send)
        notes(await read_all(receive))

    early = [frame(TEXT, b"one"), frame(BINARY, b"two" * 1000), frame(PING, b"p")]
    with serving(app) as served, WSClient(served.address) as client:
        client.send(handshake() + (b"" if split else b"".join(early)))
        gate.wait_reached()
        if split:
            for piece in early:
                client.send(piece[:1], piece[1:])
        gate.open()
        client.opened()
        assert client.read_pong() == b"p"
        client.close_with(1000)
        assert notes.wait() == [["one", b"two" * 1000, disconnect(1000)]]


def test_a_client_that_floods_before_the_answer() -> None:
    """What it sends stays in the kernel's buffers, and comes when it may."""
    gate = Gate()
    notes = Notes()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await gate.wait()
        await accept(receive, send)
        notes(await read_all(receive))

    flood = b"".join(frame(BINARY, bytes((number,)) * 50_000) for number in range(200))
    with serving(app) as served, WSClient(served.address) as client:
        client.send(handshake())
        gate.wait_reached()
        sending = threading.Thread(target=client.send, args=(flood + close_frame(1000),))
        sending.start()
        (connection,) = served.call(lambda: tuple(served.worker._connections))
        wait_until(lambda: served.call(lambda: connection._paused))
        assert served.call(lambda: len(connection.session._early)) <= 2 * 65536
        assert sending.is_alive()
        gate.open()
        client.opened()
        client.read_close()
        sending.join()
        (contents,) = notes.wait()
    assert contents == [*(bytes((number,)) * 50_000 for number in range(200)), disconnect(1000)]


def test_a_request_behind_the_handshake_is_data() -> None:
    """Never a request: behind a proxy it may be of somebody else's making."""
    notes = Notes()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        notes(scope["type"])
        await accept(receive, send)
        notes(await receive())

    with serving(app) as served, WSClient(served.address) as client:
        client.open(then=request(b"GET", b"/smuggled"))
        client.expect_close(1002)  # a G is no octet that a frame begins with
        assert [note for note in notes.wait(2) if isinstance(note, str)] == ["websocket"]
        assert notes.wait(2)[1]["code"] == 1002
        assert served.worker.requests == 1


def test_requests_before_the_handshake() -> None:
    with serving(both) as served, WSClient(served.address) as client:
        client.send(request(b"GET", b"/") * 2 + handshake() + frame(TEXT, b"hello"))
        assert client.response().body == b"http"
        assert client.response().body == b"http"
        client.opened()
        assert client.read_text() == "hello"
        assert served.worker.requests == 3


def test_the_end_was_seen_before_the_handshake() -> None:
    """A pipelining client half-closes while its first request is still in flight."""
    gate = Gate()
    notes = Notes()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await gate.wait()
            await respond(send, b"http")
            return
        assert await receive() == {"type": "websocket.connect"}
        notes(await receive())

    with serving(app, ws_ping_interval=None) as served, WSClient(served.address) as client:
        client.send(request(b"GET", b"/") + handshake())
        gate.wait_reached()
        client.half_close()
        (connection,) = served.call(lambda: tuple(served.worker._connections))
        wait_until(lambda: served.call(lambda: connection.at_eof))
        gate.open()
        assert client.response().body == b"http"
        client.assert_closed()
        served.wait_for_connections(0)
    assert notes.wait() == [disconnect(1006)]


# --- the access log


def test_access_log() -> None:
    gate = Gate()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        match scope["path"]:
            case "/open":
                await echo(scope, receive, send)
            case "/deny":
                await send({"type": "websocket.close"})
            case "/other":
                await send({"type": "websocket.http.response.start", "status": 401})
                await send({"type": "websocket.http.response.body"})
            case "/raise":
                raise RuntimeError("on purpose")
            case "/wait":
                await gate.wait()

    expected = []
    with access_log() as lines, serving(app, access_log=True) as served:
        for path, status in ("/open", 101), ("/deny", 403), ("/other", 401), ("/raise", 500):
            with WSClient(served.address) as client:
                client.send(handshake(target=path.encode() + b"?a=b"))
                assert client.head().status == status
            phrase = {101: "Switching Protocols", 403: "Forbidden", 401: "Unauthorized"}
            expected.append(
                f'"GET {path}?a=b HTTP/1.1" {status} {phrase.get(status, "Internal Server Error")}'
            )
            wait_until(lambda: len(lines) == len(expected), str(lines))
        with WSClient(served.address) as client:
            client.send(handshake(target=b"/wait"))
            gate.wait_reached()
            client.reset()
            wait_until(lambda: len(lines) == len(expected) + 1, str(lines))
            gate.open()
        served.wait_until_idle()
    assert lines == [*expected, '"GET /wait HTTP/1.1" 499 -']


def test_close_frame_with_the_handshake() -> None:
    """All of a conversation in one segment."""
    notes = Notes()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await accept(receive, send)
        notes(await read_all(receive))

    with serving(app) as served, WSClient(served.address) as client:
        client.open(then=frame(TEXT, b"hello") + close_frame(3000, "in a hurry"))
        opcode, payload = client.read_frame()
        assert (opcode, payload[:2]) == (CLOSE, (3000).to_bytes(2))
        client.assert_closed()
        assert notes.wait() == [["hello", disconnect(3000, "in a hurry")]]


def test_grace_begins_although_the_application_has_just_been_called() -> None:
    """The end comes with the handshake, while the application still runs for the first time."""
    notes = Notes()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await accept(receive, send)
        try:
            await asyncio.sleep(3600)
        finally:
            notes("cancelled")

    with serving(app, timeout_disconnect_grace=0.05) as served, WSClient(served.address) as client:
        client.open(then=close_frame(1000))
        assert notes.wait() == ["cancelled"]
