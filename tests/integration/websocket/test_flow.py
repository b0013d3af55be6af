"""Who is too fast or too slow: bounded queues both ways, pings, and turns for everybody."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import threading
import tracemalloc
from typing import Any

import pytest

from subinterp_asgi.errors import ClientDisconnected
from subinterp_asgi.worker.asgi.websocket import WebSocketSession
from tests.support import wait_until
from tests.websocket.client import BINARY, PING, PONG, TEXT, frame

from ..rawclient import TIMEOUT
from ..serving import Gate, Notes, Served, serving
from ..wsclient import WSClient, accept, close_frame, content, disconnect, echo, read_all


def in_thread(function: Any, *args: Any) -> threading.Thread:
    thread = threading.Thread(target=function, args=args, name="test-client", daemon=True)
    thread.start()
    return thread


def only_connection(served: Served) -> Any:
    (connection,) = served.call(lambda: tuple(served.worker._connections))
    return connection


def narrow(connection: Any) -> None:
    """Let the kernel keep little of what the client does not read."""
    connection._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)


def rounds(served: Served, seconds: float) -> None:
    """Let the server have some time."""
    over = Notes()
    served.call(lambda: served.loop.call_later(seconds, over, "over"))
    over.wait()


# --- messages that the application does not take


@pytest.mark.parametrize(
    ("options", "payload", "number", "most"),
    [
        ({"ws_max_queue": 4}, b"x" * 10_000, 2000, 4),
        ({"ws_max_queue": 4}, b"", 20_000, 4),
        ({"ws_max_queue": 1}, b"x", 20_000, 1),
        ({"ws_max_queue": 10_000, "ws_max_size": 100_000}, b"x" * 100_000, 200, 2),
        ({"ws_max_queue": 10_000}, b"x", 60_000, 10_000),
    ],
    ids=["large", "empty", "queue of one", "by size", "long queue"],
)
def test_full_queue_pauses_reading(
    options: dict[str, Any], payload: bytes, number: int, most: int
) -> None:
    """The client has to wait, and then all comes, in order."""
    notes = Notes()
    gate = Gate()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await accept(receive, send)
        await gate.wait()
        notes(content(await receive()))
        count = 0
        while (found := await receive())["type"] == "websocket.receive":
            assert content(found) == payload
            count += 1
        notes((count, found))

    flood = frame(TEXT, b"first") + frame(BINARY, payload) * number + close_frame(4000)
    with serving(app, **options) as served, WSClient(served.address) as client:
        client.open()
        gate.wait_reached()
        sending = in_thread(client.send, flood)
        connection = only_connection(served)
        session = served.call(lambda: connection.session)
        wait_until(lambda: served.call(lambda: session._blocked), "reading is paused")
        rounds(served, 0.05)
        assert served.call(lambda: connection._paused)
        assert served.call(lambda: len(session._queue)) == most
        assert session._parser.buffered <= 2 * 65536
        if len(flood) > 10_000_000:
            assert sending.is_alive()
        gate.open()
        assert notes.wait(2) == ["first", (number, disconnect(4000))]
        sending.join()
        assert client.read_close()[0] == 4000
        client.assert_closed()


def test_order_is_kept_while_reading_stops_and_goes() -> None:
    notes = Notes()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await accept(receive, send)
        found = []
        while (message := await receive())["type"] == "websocket.receive":
            found.append(content(message))
            if len(found) % 100 == 0:
                await asyncio.sleep(0.001)
        notes(found)

    texts = [str(number) + "x" * (number % 300) for number in range(5000)]
    with serving(app, ws_max_queue=7) as served, WSClient(served.address) as client:
        client.open()
        client.send(b"".join(frame(TEXT, text.encode()) for text in texts) + close_frame(1000))
        client.read_close()
        assert notes.wait() == [texts]


def test_pings_behind_a_full_queue() -> None:
    """They wait with the messages, and their pongs come once it moves on."""
    gate = Gate()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await accept(receive, send)
        await gate.wait()
        await read_all(receive)

    with serving(app, ws_max_queue=2) as served, WSClient(served.address) as client:
        client.open()
        client.send(frame(TEXT, b"x") * 20 + frame(PING, b"p"))
        connection = only_connection(served)
        wait_until(lambda: served.call(lambda: connection._paused))
        gate.open()
        assert client.read_pong() == b"p"
        client.close_with(1000)


# --- what the client does not read


def test_send_waits_for_the_client() -> None:
    sent = Notes()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await accept(receive, send)
        for number in range(400):
            await send({"type": "websocket.send", "bytes": bytes((number % 256,)) * 50_000})
            sent(number)

    with serving(app) as served, WSClient(served.address, receive_buffer=4096) as client:
        client.open()
        connection = only_connection(served)
        wait_until(lambda: served.call(lambda: connection.congested))
        rounds(served, 0.05)
        assert served.call(lambda: connection._out_size) < 3 * 65536
        assert len(sent) < 399
        for number in range(400):
            assert client.read_binary() == bytes((number % 256,)) * 50_000
        client.expect_close(1000)


def test_client_that_never_reads() -> None:
    """It is cut off after ``timeout_write``, and whoever waits to send is told."""
    notes = Notes()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await accept(receive, send)
        try:
            while True:
                await send({"type": "websocket.send", "bytes": bytes(100_000)})
        except ClientDisconnected as exc:
            notes(exc)
            notes(await receive())

    with (
        serving(app, timeout_write=0.2) as served,
        WSClient(served.address, receive_buffer=4096) as client,
    ):
        client.open()
        assert notes.wait(2)[1] == disconnect(1006)
        served.wait_for_connections(0)


def test_ping_flood_by_a_client_that_does_not_read() -> None:
    """What is kept for it is bounded, and it gets its last pong."""
    burst = b"".join(frame(PING, b"%0100d" % number) for number in range(5000))
    last = frame(PING, b"the last one")

    with serving(echo) as served, WSClient(served.address, receive_buffer=4096) as client:
        client.open()
        connection = only_connection(served)
        client.assert_echoes()
        served.call(lambda: narrow(connection))

        def flood() -> None:
            for _ in range(10):
                client.send(burst)
            client.send(last)

        tracemalloc.start()
        try:
            before = served.call(tracemalloc.get_traced_memory)[0]
            in_thread(flood).join(60)
            wait_until(lambda: served.call(lambda: connection.session._pong) == b"the last one")
            gc.collect()
            after = served.call(tracemalloc.get_traced_memory)[0]
        finally:
            tracemalloc.stop()
        assert after - before < 4_000_000
        pong = b""
        while pong != b"the last one":
            pong = client.read_pong()
        client.assert_echoes()
        client.close_with(1000)


def test_pongs_come_in_the_order_of_pings() -> None:
    """A ping that comes when there is room again must not overtake one that had to wait for it."""
    received: list[bytes] = []

    with serving(echo) as served, WSClient(served.address, receive_buffer=4096) as client:
        client.open()
        connection = only_connection(served)
        served.call(lambda: narrow(connection))
        sending = in_thread(client.send, frame(PING, bytes(120)) * 3000 + frame(PING, b"A"))
        wait_until(lambda: served.call(lambda: connection.session._pong) == b"A")
        sending.join()

        def make_room_and_send_another() -> None:
            """The loop is busy with this, so that it finds both when it looks again."""
            client.sock.settimeout(0.2)
            with contextlib.suppress(TimeoutError):
                while True:
                    received.append(client.sock.recv(1 << 20))
            client.send(frame(PING, b"B"))

        served.call(make_room_and_send_another)
        client.sock.settimeout(TIMEOUT)
        client.buffer = b"".join(received)
        while client.read_pong() != b"B":
            pass
        client.close_with(1000)  # with no pong before the end


def test_worker_ends_with_a_pong_that_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("subinterp_asgi.worker.worker._BREAK_OFF_TIME", 0.05)
    with (
        serving(echo, timeout_graceful_shutdown=0.05) as served,
        WSClient(served.address, receive_buffer=4096) as client,
    ):
        client.open()
        connection = only_connection(served)
        served.call(lambda: narrow(connection))
        sending = in_thread(client.try_send, frame(PING, bytes(120)) * 3000)
        wait_until(lambda: served.call(lambda: connection.session._pong_task is not None))
        served.call(served.worker.shutdown)
        wait_until(lambda: served.worker.state.value == "stopped")
        client.reset()
        sending.join()


# --- the server's own pings


def test_pongs_keep_a_connection_alive() -> None:
    options = {"ws_ping_interval": 0.05, "ws_ping_timeout": 0.3}
    with serving(echo, **options) as served, WSClient(served.address) as client:
        client.open()
        for _ in range(12):  # more than interval and timeout together
            client.send_frame(PONG, client.read_ping())
        client.assert_echoes()
        client.close_with(1000)


def test_other_frames_keep_a_connection_alive_too() -> None:
    options = {"ws_ping_interval": 0.05, "ws_ping_timeout": 0.3}
    with serving(echo, **options) as served, WSClient(served.address) as client:
        client.open()
        for _ in range(12):
            client.read_ping()
            client.send_frame(TEXT, b"x")
            assert client.read_text() == "x"
        client.close_with(1000)


def test_silent_client() -> None:
    notes = Notes()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await accept(receive, send)
        notes(await receive())

    options = {"ws_ping_interval": 0.05, "ws_ping_timeout": 0.1}
    with serving(app, **options) as served, WSClient(served.address) as client:
        client.open()
        client.read_ping()
        client.expect_close(1011, "keepalive ping timeout")
        (found,) = notes.wait()
        assert found["code"] == 1006


@pytest.mark.parametrize("timeout", [None, 0])
def test_pings_without_a_timeout(timeout: float | None) -> None:
    options = {"ws_ping_interval": 0.05, "ws_ping_timeout": timeout}
    with serving(echo, **options) as served, WSClient(served.address) as client:
        client.open()
        for _ in range(5):
            client.read_ping()
        client.send_frame(TEXT, b"still there?")
        while (found := client.read_frame()) == (PING, b""):
            pass
        assert found == (TEXT, b"still there?")


@pytest.mark.parametrize("interval", [None, 0])
def test_no_pings(interval: float | None) -> None:
    options = {"ws_ping_interval": interval, "ws_ping_timeout": 0.05}
    with serving(echo, **options) as served, WSClient(served.address) as client:
        client.open()
        rounds(served, 0.3)
        client.assert_echoes()  # with no ping before it


def test_no_ping_timeout_while_reading_is_paused() -> None:
    """The pong would wait behind messages that the application does not take."""
    gate = Gate()
    notes = Notes()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await accept(receive, send)
        await gate.wait()
        notes(await read_all(receive))

    options = {"ws_ping_interval": 0.05, "ws_ping_timeout": 0.05, "ws_max_queue": 2}
    with serving(app, **options) as served, WSClient(served.address) as client:
        client.open()
        client.send(frame(TEXT, b"x") * 10)
        gate.wait_reached()
        rounds(served, 0.5)
        gate.open()
        client.send_close(1000)
        frames = [client.read_frame()]
        while frames[-1][0] == PING:
            frames.append(client.read_frame())
        assert frames[-1][1] == (1000).to_bytes(2)
        assert notes.wait() == [["x"] * 10 + [disconnect(1000)]]


def test_ping_that_was_out_when_the_queue_became_full() -> None:
    """Its pong waits behind the messages too, and nobody may hold that against the client."""
    gate = Gate()
    notes = Notes()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await accept(receive, send)
        await gate.wait()
        notes(await read_all(receive))

    def run_out_of_time() -> None:
        session = connection.session
        session._probing = True  # as if the ping had been sent before the last of these came
        session.timed_out()

    with serving(app, ws_max_queue=2) as served, WSClient(served.address) as client:
        client.open()
        client.send(frame(TEXT, b"x") * 10)
        gate.wait_reached()
        connection = only_connection(served)
        wait_until(lambda: served.call(lambda: connection._paused))
        served.call(run_out_of_time)
        gate.open()
        client.close_with(1000)
        assert notes.wait() == [["x"] * 10 + [disconnect(1000)]]


# --- turns


def test_many_frames_in_one_write_do_not_starve_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Others have their turn before the last of 10,000 pings is answered."""
    answered = Notes()
    when = Notes()
    answer_ping = WebSocketSession._answer_ping

    def count(session: WebSocketSession, payload: bytes) -> None:
        answered(payload)
        answer_ping(session, payload)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await accept(receive, send)
        if scope["path"] == "/other":
            await receive()
            when(len(answered))
        await read_all(receive)

    monkeypatch.setattr(WebSocketSession, "_answer_ping", count)
    with (
        serving(app) as served,
        WSClient(served.address) as busy,
        WSClient(served.address) as other,
    ):
        busy.open()
        other.open(target=b"/other")

        def send_both() -> None:
            """The loop is busy with this, so that it finds both when it looks again."""
            busy.send(frame(PING) * 10_000)
            other.send(frame(TEXT, b"me too"))

        served.call(send_both)
        assert when.wait()[0] < 10_000
        for _ in range(10_000):
            assert busy.read_pong() == b""
