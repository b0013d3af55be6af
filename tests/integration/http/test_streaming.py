"""Bodies that don't fit anywhere: backpressure both ways, and pieces that must not be held back."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from subinterp_asgi.worker.net.connection import HIGH_WATER, READ_SIZE, Connection
from tests.support import wait_until

from ..rawclient import RawClient, chunked, post, request
from ..serving import Gate, Notes, Served, read_body, respond, serving

MEGABYTE = 1 << 20


async def send_piece(send: Any, body: bytes, more: bool = True) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": more})


async def send_start(send: Any, *headers: tuple[bytes, bytes]) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": list(headers)})


def only_connection(served: Served) -> Connection:
    served.wait_for_connections(1)
    connection = served.call(lambda: next(iter(served.worker._connections)))
    assert isinstance(connection, Connection)
    return connection


def count_writes(connection: Connection) -> list[bytes]:
    """Keep what is given to the kernel from now on, call by call."""
    writes: list[bytes] = []
    send = connection._send

    def counting(data: bytes) -> int:
        writes.append(bytes(data))
        return send(data)

    connection._send = counting
    return writes


# --- towards the client


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_send_waits_for_a_client_that_does_not_read(version: bytes) -> None:
    total, piece = 64 * MEGABYTE, 65536
    sent = 0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal sent
        await send_start(send)
        while sent < total:
            await send_piece(send, b"x" * piece)
            sent += piece
        await send_piece(send, b"", more=False)

    with serving(app) as served, served.connect(receive_buffer=65536) as client:
        client.send(request(b"GET", b"/", version=version))
        connection = only_connection(served)
        wait_until(lambda: connection.congested)
        before = served.call(lambda: sent)
        assert before < total / 2
        # It is the await that waits: the loop is free, and nothing more is taken in.
        for _ in range(10):
            assert served.call(lambda: sent) == before
            assert served.call(lambda: connection._out_size) <= HIGH_WATER + 2 * piece
        response = client.response()
        assert len(response.body) == total


def test_a_client_that_reads_slowly_gets_all() -> None:
    body = bytes(range(256)) * 20_000

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send_start(send, (b"content-length", b"%d" % len(body)))
        for start in range(0, len(body), 100_000):
            await send_piece(send, body[start : start + 100_000])
        await send_piece(send, b"", more=False)

    with serving(app) as served, served.connect(receive_buffer=32768) as client:
        client.send(request(b"GET", b"/"))
        client.head()
        received = bytearray(client.buffer)
        client.buffer = b""
        while len(received) < len(body):
            received += client.sock.recv(4000)
        assert received == body
        client.get()


def test_a_client_that_does_not_read_holds_up_nobody() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/quick":
            await respond(send, b"quick")
            return
        await send_start(send)
        for _ in range(200):
            await send_piece(send, b"x" * MEGABYTE)

    with serving(app) as served, served.connect() as stalled, served.connect() as other:
        stalled.send(request(b"GET", b"/"))
        stalled.head()
        for _ in range(20):
            assert other.get(b"/quick").body == b"quick"


def test_large_body_in_one_piece() -> None:
    body = bytes(range(256)) * 80_000

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await respond(send, body)

    with serving(app) as served, served.connect() as client:
        assert client.get().body == body
        assert client.get().body == body


def test_each_piece_leaves_at_once() -> None:
    """An event stream: nothing waits for what comes next, nor for the end of a batch."""
    gates = [Gate() for _ in range(4)]

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send_start(send)
        await send_piece(send, b"")
        for number, gate in enumerate(gates):
            await gate.wait()
            await send_piece(send, b"event %d\n" % number)
        await send_piece(send, b"", more=False)

    with serving(app) as served, served.connect() as client:
        # A second request is waiting already, which must not hold back the answer to the first.
        client.send(request(b"GET", b"/"), request(b"GET", b"/"))
        assert client.head().status == 200
        for number, gate in enumerate(gates):
            gate.open()
            assert client.read_until(b"\r\n") == b"8\r\n"
            assert client.read_exactly(10) == b"event %d\n\r\n" % number
        assert client.read_exactly(5) == b"0\r\n\r\n"
        assert len(client.response().chunks) == 4


@pytest.mark.parametrize("waits_first", [True, False])
@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_a_head_does_not_wait_for_a_body(version: bytes, waits_first: bool) -> None:
    """Clients of a stream that is silent at first learn that it is there."""
    gate = Gate()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if waits_first:
            await asyncio.sleep(0)
        await send_start(send)
        await gate.wait()
        await send_piece(send, b"event")
        await send_piece(send, b"", more=False)

    with serving(app) as served, served.connect() as client:
        client.send(request(b"GET", b"/", version=version))
        head = client.head()
        assert head.status == 200
        assert head.closes == (version == b"1.0")
        assert (head.get(b"transfer-encoding") == b"chunked") == (version == b"1.1")
        gate.open()
        expected = b"event" if version == b"1.0" else b"5\r\nevent\r\n0\r\n\r\n"
        assert client.read_exactly(len(expected)) == expected
        if version == b"1.1":
            client.assert_open()


@pytest.mark.parametrize(
    ("method", "status", "headers", "framing"),
    [
        (b"GET", 200, [(b"content-length", b"5")], (b"5", None)),
        (b"HEAD", 200, [(b"content-length", b"5")], (b"5", None)),
        (b"HEAD", 200, [], (None, None)),
        (b"GET", 204, [], (None, None)),
        (b"GET", 304, [], (None, None)),
        (b"POST", 200, [], (None, b"chunked")),
    ],
)
def test_a_head_that_leaves_alone_is_framed_as_others(
    method: bytes, status: int, headers: list[Any], framing: tuple[Any, Any]
) -> None:
    gates: list[Gate] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        gate = gates[-1]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await gate.wait()
        await send_piece(send, b"event", more=False)

    with serving(app) as served, served.connect() as client:
        for _ in range(2):  # the connection is kept
            gates.append(Gate())
            client.send(post(b"/", b"x") if method == b"POST" else request(method, b"/"))
            head = client.head()
            assert (head.get(b"content-length"), head.get(b"transfer-encoding")) == framing
            assert not head.closes
            gates[-1].open()
            if framing == (None, b"chunked"):
                assert client.read_exactly(15) == b"5\r\nevent\r\n0\r\n\r\n"
            elif method == b"GET" and status == 200:
                assert client.read_exactly(5) == b"event"


def test_start_alone_sends_nothing() -> None:
    """It may still turn out that the length is known, or that the application fails."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send_start(send)
        raise RuntimeError("changed its mind")

    with serving(app) as served, served.connect() as client:
        assert client.get().status == 500


def test_a_small_response_is_one_write() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/later":
            await asyncio.sleep(0)
        await respond(send, b"hello")

    with serving(app) as served, served.connect() as client:
        client.get()
        connection = only_connection(served)
        writes = served.call(lambda: count_writes(connection))
        client.get()
        client.get(b"/later")
        assert [write.count(b"hello") for write in writes] == [1, 1]
        assert all(write.startswith(b"HTTP/1.1 200") for write in writes)


def test_responses_to_pipelined_requests_leave_together() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await respond(send, b"hello")

    with serving(app) as served, served.connect() as client:
        client.get()
        connection = only_connection(served)
        writes = served.call(lambda: count_writes(connection))
        client.send(request(b"GET", b"/") * 10)
        for _ in range(10):
            assert client.response().body == b"hello"
        assert len(writes) < 10


def test_pipelined_responses_are_no_more_held_back_than_single_ones() -> None:
    """What is collected is bounded, and leaves before anybody waits."""
    gate = Gate()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/wait":
            await gate.wait()
        await respond(send, b"x" * 50_000)

    with serving(app) as served, served.connect() as client:
        client.send(request(b"GET", b"/") * 5 + request(b"GET", b"/wait"))
        for _ in range(5):
            assert len(client.response().body) == 50_000
        gate.open()
        assert len(client.response().body) == 50_000


# --- from the client


def fill(client: RawClient, data: bytes) -> threading.Thread:
    """Send in the background what may not fit."""
    thread = threading.Thread(target=client.try_send, args=(data,), daemon=True)
    thread.start()
    return thread


@pytest.mark.parametrize("coded", [True, False])
def test_reading_pauses_while_the_application_does_not_receive(coded: bool) -> None:
    gate = Gate()
    size = 64 * MEGABYTE

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await gate.wait()
        await respond(send, b"%d" % len(await read_body(receive)))

    with serving(app) as served, served.connect() as client:
        if coded:
            client.send(request(b"POST", b"/", b"Transfer-Encoding: chunked"))
            sender = fill(client, chunked(*[b"x" * 65536] * (size // 65536)))
        else:
            client.send(request(b"POST", b"/", b"Content-Length: %d" % size))
            sender = fill(client, b"x" * size)
        gate.wait_reached()
        connection = only_connection(served)
        wait_until(lambda: connection._paused)
        parser = served.call(lambda: connection.session._parser)  # type: ignore[attr-defined]
        for _ in range(10):
            assert served.call(lambda: parser.buffered) < HIGH_WATER + READ_SIZE
        assert sender.is_alive()
        gate.open()
        assert client.response().body == b"%d" % size
        sender.join()
        client.get(b"/")


def test_pieces_are_no_larger_than_what_is_read_ahead() -> None:
    sizes = Notes()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while True:
            message = await receive()
            sizes(len(message["body"]))
            if not message["more_body"]:
                break
        await respond(send)

    with serving(app) as served, served.connect() as client:
        client.send(post(b"/", b"x" * MEGABYTE))
        client.response()
    assert max(sizes.wait()) < HIGH_WATER + READ_SIZE
    assert sum(sizes.wait()) == MEGABYTE


@pytest.mark.parametrize("pending", ["waiting", "streaming"])
def test_requests_behind_a_slow_one_are_not_hoarded(pending: str) -> None:
    """Pipelined requests fill the kernel's buffers, not ours."""
    gate = Gate()
    served_requests = 0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal served_requests
        served_requests += 1
        if scope["path"] == "/slow":
            await send_start(send)
            if pending == "streaming":
                await send_piece(send, b"begun")
            await gate.wait()
            await send_piece(send, b"end", more=False)
            return
        await respond(send, b"x")

    one = request(b"GET", b"/")
    count = 8 * MEGABYTE // len(one)
    with serving(app) as served, served.connect() as client:
        client.send(request(b"GET", b"/slow"))
        sender = fill(client, one * count)
        connection = only_connection(served)
        wait_until(lambda: connection._paused)
        parser = served.call(lambda: connection.session._parser)  # type: ignore[attr-defined]
        assert served.call(lambda: parser.buffered) < HIGH_WATER + READ_SIZE
        gate.open()
        client.response()
        for _ in range(1000):
            assert client.response().body == b"x"
        assert served_requests > 1000
        client.reset()
        sender.join()


def test_a_flood_of_requests_is_not_hoarded() -> None:
    """Though each is served at once: a batch at a time, others in between."""
    most = 0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal most
        most = max(most, receive.__self__._session._parser.buffered)
        await respond(send, b"x")

    one = request(b"GET", b"/")
    count = MEGABYTE // len(one)
    with serving(app) as served, served.connect() as client, served.connect() as other:
        sender = fill(client, one * count)
        for _ in range(20):
            assert other.get().body == b"x"
        for _ in range(count):
            assert client.response().body == b"x"
        sender.join()
    assert most < HIGH_WATER + READ_SIZE


# --- both at once


def test_request_and_response_stream_at_the_same_time() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send_start(send)
        more = True
        while more:
            message = await receive()
            more = message["more_body"]
            if message["body"]:
                await send_piece(send, message["body"].upper())
        await send_piece(send, b"", more=False)

    with serving(app) as served, served.connect() as client:
        client.send(request(b"POST", b"/", b"Transfer-Encoding: chunked"))
        for word in (b"one", b"two", b"three"):
            client.send(chunked(word, last=False))
            if word == b"one":
                assert client.head().status == 200
            assert client.read_until(b"\r\n") == b"%x\r\n" % len(word)
            assert client.read_exactly(len(word) + 2) == word.upper() + b"\r\n"
        client.send(b"0\r\n\r\n")
        assert client.read_until(b"0\r\n\r\n") == b"0\r\n\r\n"
        client.send(post(b"/", b"next"))
        assert client.response().body == b"NEXT"


def test_echo_of_more_than_fits_with_a_client_that_sends_first() -> None:
    """Backpressure reaches the client, and nothing is lost or stuck once it reads."""
    size = 32 * MEGABYTE

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send_start(send)
        more = True
        while more:
            message = await receive()
            more = message["more_body"]
            await send_piece(send, message["body"], more=more)

    with serving(app) as served, served.connect() as client:
        client.send(request(b"POST", b"/", b"Content-Length: %d" % size))
        sender = fill(client, b"x" * size)
        connection = only_connection(served)
        wait_until(lambda: connection.congested and connection._paused)
        assert sender.is_alive()
        assert len(client.response().body) == size
        sender.join()


# --- few system calls, few copies


def test_pieces_that_are_sent_without_waiting_leave_together() -> None:
    waited = Gate()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/first":
            await respond(send, b"first")
            return
        await send_start(send)
        for number in range(100):
            await send_piece(send, b"%02d" % number * 50)
        await waited.wait()  # what was sent must not wait for this
        await send_piece(send, b"after")
        await send({"type": "http.response.body", "body": b"last"})

    with serving(app) as served, served.connect() as client:
        assert client.get(b"/first").body == b"first"
        writes = count_writes(only_connection(served))
        client.send(request(b"GET", b"/"))
        client.read_until(b"99" * 50)
        waited.wait_reached()
        assert len(writes) == 1
        waited.open()
        client.read_until(b"0\r\n\r\n")
        assert len(writes) == 3


@pytest.mark.parametrize("size", [32767, 32768, 3 * MEGABYTE])
@pytest.mark.parametrize("framing", ["length", "chunked", "head"])
def test_big_pieces_are_sent_whole(size: int, framing: str) -> None:
    body = bytes(range(256)) * (size // 256) + b"x" * (size % 256)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        lengths = [(b"content-length", b"%d" % (2 * size))] if framing == "length" else []
        await send_start(send, *lengths)
        await send_piece(send, body)
        await send({"type": "http.response.body", "body": body})

    method = b"HEAD" if framing == "head" else b"GET"
    with serving(app) as served, served.connect() as client:
        for _ in range(2):
            client.send(request(method, b"/"))
            assert client.response(method).body == (b"" if framing == "head" else body * 2)
