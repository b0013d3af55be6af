"""Messages as they come and go: kinds, fragments, compression, sizes, and ``receive()`` itself."""

from __future__ import annotations

import asyncio
import itertools
import zlib
from random import Random
from typing import Any

import pytest

from tests.websocket.client import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    RSV1,
    TEXT,
    frame,
    message,
    octets,
)

from ..serving import Gate, Notes, serving
from ..wsclient import (
    DEFLATE,
    WSClient,
    accept,
    close_frame,
    content,
    disconnect,
    echo,
    read_all,
)


def packed(*payloads: bytes) -> list[bytes]:
    """Payloads as a client compresses them, with what was before in view."""
    packer = zlib.compressobj(wbits=-15)
    return [
        (packer.compress(payload) + packer.flush(zlib.Z_SYNC_FLUSH)).removesuffix(b"\0\0\xff\xff")
        for payload in payloads
    ]


SIZES = [0, 1, 125, 126, 65535, 65536, 300_000, 3_000_000]


@pytest.mark.parametrize("lines", [(), (DEFLATE,)], ids=["plain", "compressed"])
def test_texts_and_binaries_of_all_sizes(lines: tuple[bytes, ...]) -> None:
    random = Random(6455)
    with serving(echo) as served, WSClient(served.address) as client:
        client.open(*lines)
        for size in SIZES:
            data = random.randbytes(size)
            client.send_frame(BINARY, data)
            assert client.read_binary() == data
            text = ("grüße, 世界 😀 " * size)[:size]
            client.send_frame(TEXT, text.encode())
            assert client.read_text() == text
        client.close_with(1000)


def test_fragments_with_control_frames_between() -> None:
    text = "grüße, 世界 😀"
    pieces = octets(text.encode())
    stream = frame(TEXT, pieces[0], fin=False)
    for piece in pieces[1:]:
        stream += frame(PING, piece) + frame(CONTINUATION, piece, fin=False) + frame(PONG, b"x")
    stream += frame(CONTINUATION)
    with serving(echo) as served, WSClient(served.address) as client:
        client.open()
        for split in ([stream], octets(stream)):
            client.send(*split)
            for piece in pieces[1:]:
                assert client.read_pong() == piece
            assert client.read_text() == text
        client.close_with(1000)


def test_compressed_messages() -> None:
    """With a window that spans messages, both ways, in fragments too."""
    contents = [b"hello " * 100, b"hello " * 100, b"", b"a" * 100_000]
    stream = b""
    for index, payload in enumerate(packed(*contents)):
        cut = len(payload) // 2
        parts = [payload[:cut], payload[cut:]] if index % 2 else [payload]
        stream += message(BINARY, *parts, reserved=RSV1)
    with serving(echo) as served, WSClient(served.address) as client:
        client.open(DEFLATE)
        client.send(stream)
        for expected in contents:
            assert client.read_binary() == expected
        client.send_frame(TEXT, b"not compressed")
        assert client.read_text() == "not compressed"
        client.close_with(1000)


# --- too much


@pytest.mark.parametrize(
    "stream",
    [
        frame(BINARY, b"x" * 1001),
        frame(TEXT, b"x" * 100_000)[:14],  # refused for its header
        message(TEXT, b"x" * 600, b"x" * 401),
        message(BINARY, *[b"x" * 100] * 11),
    ],
    ids=["one frame", "header only", "two fragments", "many fragments"],
)
def test_message_beyond_ws_max_size(stream: bytes) -> None:
    notes = Notes()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await accept(receive, send)
        notes(await read_all(receive))

    with serving(app, ws_max_size=1000) as served, WSClient(served.address) as client:
        client.open()
        client.send(frame(BINARY, b"x" * 1000), message(TEXT, b"x" * 200, b"x" * 300), stream)
        client.expect_close(1009)
        (found,) = notes.wait()
        assert [len(item) for item in found[:2]] == [1000, 500]
        assert found[2]["code"] == 1009
        assert len(found) == 3


@pytest.mark.parametrize("fragments", [1, 50])
def test_compressed_bomb(fragments: int) -> None:
    """It is refused while it is inflated, at the limit and not after."""
    (payload,) = packed(bytes(50_000_000))
    assert len(payload) < 60_000
    size = -(-len(payload) // fragments)
    parts = [payload[start : start + size] for start in range(0, len(payload), size)]
    notes = Notes()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await accept(receive, send)
        notes(await receive())

    with serving(app, ws_max_size=100_000) as served, WSClient(served.address) as client:
        client.open(DEFLATE)
        client.send(message(BINARY, *parts, reserved=RSV1))
        client.expect_close(1009)
        assert notes.wait()[0]["code"] == 1009


def test_no_bound_on_messages() -> None:
    with serving(echo, ws_max_size=None) as served, WSClient(served.address) as client:
        client.open()
        data = bytes(20_000_000)
        client.send_frame(BINARY, data)
        assert client.read_binary() == data


# --- sending


def test_what_can_be_sent() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await accept(receive, send)
        buffer = bytearray(b"buffer")
        for data in (b"octets", buffer, memoryview(b"a view")[2:]):
            await send({"type": "websocket.send", "bytes": data})
        buffer[:] = b"change"  # what was sent is not affected
        await send({"type": "websocket.send", "text": "text", "bytes": None})
        await send({"type": "websocket.send", "text": None, "bytes": b""})
        await send({"type": "websocket.send", "text": ""})

    with serving(app) as served, WSClient(served.address) as client:
        client.open()
        assert [client.read_binary() for _ in range(3)] == [b"octets", b"buffer", b"view"]
        assert client.read_text() == "text"
        assert client.read_binary() == b""
        assert client.read_text() == ""
        client.expect_close(1000)


def test_several_tasks_send() -> None:
    """Messages never mix, whoever waits for the reader."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await accept(receive, send)

        async def send_many(number: int) -> None:
            for size in (10, 300_000, 200, 70_000):
                await send({"type": "websocket.send", "bytes": bytes((number,)) * size})

        async with asyncio.TaskGroup() as group:
            for number in range(8):
                group.create_task(send_many(number))

    with serving(app) as served, WSClient(served.address, receive_buffer=4096) as client:
        client.open()
        found: dict[int, list[int]] = {}
        for _ in range(32):
            data = client.read_binary()
            assert data == data[:1] * len(data)
            found.setdefault(data[0], []).append(len(data))
        assert found == {number: [10, 300_000, 200, 70_000] for number in range(8)}
        client.expect_close(1000)


def test_answers_to_messages_that_came_together() -> None:
    """In order, pongs and messages each, whatever is collected to be sent at once."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await accept(receive, send)
        while (found := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": found["text"] * 2000})

    texts = [f"{number:04}" for number in range(300)]
    with serving(app) as served, WSClient(served.address) as client:
        client.open()
        client.send(b"".join(frame(TEXT, text.encode()) for text in texts) + close_frame(1000))
        # The answer to the close frame may come before that to messages, after which is none.
        answers = []
        while (found := client.read_frame())[0] == TEXT:
            answers.append(found[1].decode())
        assert found[0] == CLOSE
        assert answers == [text * 2000 for text in texts[: len(answers)]]
        client.assert_closed()


# --- receive


def test_receive_cancelled_again_and_again() -> None:
    """Timeouts lose no message and leave nothing behind."""
    notes = Notes()
    gate = Gate()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await accept(receive, send)
        for _ in range(500):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(receive(), 0.0001)
        session = receive.__self__
        notes(session._waiters)
        await gate.wait()
        found: list[Any] = []
        attempts = itertools.count()
        while len(found) < 200:
            call = asyncio.ensure_future(receive())
            for _ in range(next(attempts) % 3):
                await asyncio.sleep(0)
            call.cancel()
            try:
                found.append(content(await call))
            except asyncio.CancelledError:
                await asyncio.sleep(0.0001)
        notes(found)

    with serving(app) as served, WSClient(served.address) as client:
        client.open()
        assert not notes.wait()[0]
        gate.open()
        for number in range(200):
            client.send_frame(TEXT, str(number).encode())
        assert notes.wait(2)[1] == [str(number) for number in range(200)]
        client.expect_close(1000)


def test_concurrent_receives() -> None:
    """Each message goes to one of them, and the end to all."""
    notes = Notes()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await accept(receive, send)
        notes(await asyncio.gather(*(read_all(receive) for _ in range(3))))

    with serving(app) as served, WSClient(served.address) as client:
        client.open()
        texts = [str(number) for number in range(100)]
        client.send(b"".join(frame(TEXT, text.encode()) for text in texts[:50]))
        for text in texts[50:]:
            client.send_frame(TEXT, text.encode())
        client.close_with(1000)
        (found,) = notes.wait()
        assert [ends.pop() for ends in found] == [disconnect(1000)] * 3
        assert sorted(itertools.chain(*found), key=int) == texts


def test_concurrent_receives_with_a_short_queue() -> None:
    notes = Notes()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await accept(receive, send)
        notes(await asyncio.gather(*(read_all(receive) for _ in range(3))))

    with serving(app, ws_max_queue=1) as served, WSClient(served.address) as client:
        client.open()
        texts = [str(number) for number in range(100)]
        client.send(b"".join(frame(TEXT, text.encode()) for text in texts) + close_frame(1000))
        client.read_close()
        (found,) = notes.wait()
        assert [ends.pop() for ends in found] == [disconnect(1000)] * 3
        assert sorted(itertools.chain(*found), key=int) == texts


def test_disconnect_messages_are_the_applications_to_change() -> None:
    notes = Notes()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await accept(receive, send)
        (await receive()).clear()
        notes(await receive())

    with serving(app) as served, WSClient(served.address) as client:
        client.open()
        client.close_with(4000, "x")
        assert notes.wait() == [disconnect(4000, "x")]
