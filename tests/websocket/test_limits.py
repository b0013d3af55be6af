"""What a client may cost: the size of messages, of what they inflate to, memory, and work."""

from __future__ import annotations

import random
import sys
import tracemalloc
import zlib
from collections.abc import Iterator
from typing import Any

import pytest

from subinterp_asgi.websocket import MessageParser, parser
from subinterp_asgi.websocket.deflate import TAIL, Inflater

from .client import (
    BINARY,
    CONTINUATION,
    PING,
    RSV1,
    TEXT,
    drive,
    frame,
    message,
    octets,
    parse,
)

MIB = 1 << 20


def deflated(data: bytes) -> bytes:
    stream = zlib.compressobj(9, wbits=-15)
    return (stream.compress(data) + stream.flush(zlib.Z_SYNC_FLUSH)).removesuffix(TAIL)


# --- max_size


@pytest.mark.parametrize("limit", [1, 10, 125, 126, 1000, 65535, 65536, 70000])
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_the_limit_is_the_largest_that_passes(limit: int, opcode: int) -> None:
    fits, too_big = b"x" * limit, b"x" * (limit + 1)
    for data, code in ((fits, None), (too_big, 1009)):
        half = limit // 2
        for sent in (
            frame(opcode, data),
            message(opcode, data[:half], data[half:]),
            message(opcode, b"", data, b""),
            frame(opcode, deflated(data), reserved=RSV1),
            message(opcode, *octets(deflated(data)), reserved=RSV1),
        ):
            assert parse(sent, max_size=limit, inflater=Inflater()).code == code


def test_no_octets_at_all() -> None:
    assert parse(frame(TEXT) + frame(BINARY), max_size=0).events == ["", b""]
    assert parse(frame(TEXT, b"a"), max_size=0).code == 1009


def test_no_bound() -> None:
    header = b"\x82\xff" + (sys.maxsize - 1).to_bytes(8) + bytes(4)
    outcome = parse(header + bytes(1000), max_size=None)
    assert outcome.error is None
    data = bytes(20 * MIB)
    assert parse(frame(BINARY, data), max_size=None).events == [data]
    packed = frame(BINARY, deflated(data), reserved=RSV1)
    assert parse(packed, max_size=None, inflater=Inflater()).events == [data]


def test_the_default_is_16_mib() -> None:
    limit = 16 * MIB
    for size, code in ((limit, None), (limit + 1, 1009)):
        outcome = drive(MessageParser(), [b"\x82\xff" + size.to_bytes(8) + bytes(4)])
        assert outcome.code == code


@pytest.mark.parametrize("size", [1001, 65535, 65536, 2**63 - 1])
def test_a_frame_is_refused_by_its_header(size: int) -> None:
    """Before its key, let alone its payload."""
    if size < 65536:
        header = b"\x82\xfe" + size.to_bytes(2)
    else:
        header = b"\x82\xff" + size.to_bytes(8)
    outcome = parse(*octets(header), max_size=1000)
    assert outcome.code == 1009
    assert outcome.taken == len(header)


def test_fragments_are_added_up() -> None:
    sent = frame(TEXT, b"x" * 600, fin=False) + frame(PING) + b"\x00\xfe\x01\x91"  # 401
    outcome = parse(*octets(sent), max_size=1000)
    assert outcome.code == 1009
    assert outcome.taken == len(sent)


def test_control_frames_do_not_count() -> None:
    sent = frame(TEXT, b"x", fin=False) + frame(PING, bytes(125)) + frame(CONTINUATION)
    assert parse(sent, max_size=1).error is None


def test_the_count_begins_anew_with_each_message() -> None:
    sent = (message(TEXT, b"x" * 50, b"x" * 50) + frame(TEXT, b"x" * 100)) * 3
    assert len(parse(sent, max_size=100).events) == 6
    packed = message(TEXT, deflated(b"x" * 100), b"", reserved=RSV1) * 3
    inflater = Inflater(context_takeover=False)
    assert len(parse(packed, max_size=100, inflater=inflater).events) == 3


def test_text_is_counted_in_octets() -> None:
    text = "é" * 50
    assert parse(frame(TEXT, text.encode()), max_size=100).events == [text]
    assert parse(frame(TEXT, text.encode()), max_size=99).code == 1009
    packed = frame(TEXT, deflated(text.encode()), reserved=RSV1)
    assert parse(packed, max_size=99, inflater=Inflater()).code == 1009


# --- bombs, and other ways to have much kept for little


@pytest.fixture
def peak() -> Iterator[Any]:
    """Return how many more octets were allocated, at most, than when it was called last."""
    tracemalloc.start()
    try:
        base = tracemalloc.get_traced_memory()[0]

        def measured() -> int:
            nonlocal base
            before = base
            base, most = tracemalloc.get_traced_memory()
            tracemalloc.reset_peak()
            return most - before

        yield measured
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("fragments", [1, 100])
def test_a_bomb_costs_no_more_than_the_limit(opcode: int, fragments: int, peak: Any) -> None:
    bomb = deflated(bytes(64 * MIB))
    step = len(bomb) // fragments + 1
    parts = [bomb[at : at + step] for at in range(0, len(bomb), step)]
    sent = message(opcode, *parts, reserved=RSV1)
    peak()
    outcome = parse(sent, max_size=MIB, inflater=Inflater())
    assert outcome.code == 1009
    # What was inflated, put together or decoded, and the parser itself.
    assert peak() < 3 * MIB + len(sent) + 200_000


def test_a_bomb_of_ended_streams_costs_no_more_than_the_limit(peak: Any) -> None:
    """Each block with BFINAL begins a new stream; nothing may be counted anew for it."""
    stream = zlib.compressobj(9, wbits=-15)
    part = stream.compress(bytes(256 * 1024)) + stream.flush(zlib.Z_FINISH)
    sent = frame(BINARY, part * 200 + b"\0", reserved=RSV1)
    peak()
    assert parse(sent, max_size=MIB, inflater=Inflater()).code == 1009
    assert peak() < 3 * MIB + len(sent) + 200_000


def test_ended_streams_of_nothing_are_not_quadratic() -> None:
    """Each leaves its rest over, which zlib copies: 64 KiB of them took a second that way."""
    copied = 0

    class Counting:
        def __init__(self, real: Any) -> None:
            self._real = real
            self._fed = 0

        @property
        def eof(self) -> bool:
            return self._real.eof

        @property
        def unused_data(self) -> bytes:
            return self._real.unused_data

        def decompress(self, data: bytes, limit: int) -> bytes:
            nonlocal copied
            plain = self._real.decompress(data, limit)
            copied += len(self._real.unused_data)
            return plain

    class CountingZlib:
        error = zlib.error

        @staticmethod
        def decompressobj(bits: int) -> Counting:
            return Counting(zlib.decompressobj(bits))

    from subinterp_asgi.websocket import deflate

    sent = b"\x03\x00" * 32768  # an empty block with BFINAL, again and again
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(deflate, "zlib", CountingZlib)
        assert Inflater().inflate(sent + b"\0", 10, final=True) == b""
    assert copied < 1024 * len(sent)  # and not half of its square


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("kind", ["octets of a frame", "fragments", "empty fragments", "pairs"])
def test_small_pieces_are_kept_together(opcode: int, kind: str, peak: Any) -> None:
    """A list of what came would hold fifty octets for each that was sent."""
    size = 40_000
    if kind == "octets of a frame":
        pieces = octets(frame(opcode, b"xy" * (size // 2), fin=False))
    elif kind == "fragments":
        part = frame(CONTINUATION, b"xy", fin=False)
        pieces = [frame(opcode, b"xy", fin=False)] + [part] * (size // 2)
    elif kind == "empty fragments":
        pieces = [frame(opcode, b"xy", fin=False)] + [frame(CONTINUATION, fin=False)] * size
    else:
        whole = frame(opcode, b"\xc3\xa9" * (size // 2), fin=False)
        pieces = [whole[at : at + 3] for at in range(0, len(whole), 3)]
    peak()
    a_parser = MessageParser()
    assert drive(a_parser, pieces).error is None
    assert a_parser.mid_message
    assert peak() < 5 * size + 100_000


def test_a_frame_that_is_announced_costs_nothing_yet(peak: Any) -> None:
    peak()
    a_parser = MessageParser(max_size=None)
    a_parser.feed(b"\x82\xff" + (1 << 40).to_bytes(8) + bytes(4) + b"x")
    assert a_parser.next_event() is None
    assert peak() < 100_000


def test_a_parser_that_has_ended_keeps_nothing(peak: Any) -> None:
    a_parser = MessageParser()
    drive(a_parser, [frame(BINARY, bytes(MIB), fin=False)])
    assert drive(a_parser, [frame(TEXT)]).code == 1002
    peak()
    assert peak() < 200_000


# --- work: counted, not timed

SIZE = 65536
STREAMS = {
    "one text": frame(TEXT, b"x" * SIZE),
    "one binary": frame(BINARY, bytes(SIZE)),
    "a text of long characters": frame(TEXT, "😀".encode() * (SIZE // 4)),
    "fragments of one octet": message(BINARY, *[b"x"] * (SIZE // 8)),
    "empty fragments": message(TEXT, *[b""] * (SIZE // 8)),
    "small messages": frame(TEXT, b"hello") * (SIZE // 16),
    "messages of 200 octets": frame(BINARY, b"x" * 200) * (SIZE // 200),
    "pings": frame(PING, b"x" * 125) * (SIZE // 128),
    "pings inside a message": frame(TEXT, fin=False) + frame(PING, b"x" * 100) * (SIZE // 100),
    "compressed": frame(BINARY, deflated(random.Random(1).randbytes(SIZE)), reserved=RSV1),
}


class Work:
    """Octets that were looked at or copied."""

    def __init__(self) -> None:
        self.done = 0


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Work:
    """Count what the parser does with what it keeps, from now on."""
    work = Work()

    class CountingBuffer(bytearray):
        def __getitem__(self, key: Any) -> Any:
            found = super().__getitem__(key)
            work.done += 1 if isinstance(found, int) else len(found)
            return found

        def __iadd__(self, other: Any) -> Any:
            work.done += len(other)
            return super().__iadd__(other)

        def __add__(self, other: Any) -> Any:
            work.done += len(self) + len(other)
            return CountingBuffer(super().__add__(other))

    real_unmask = parser.unmask
    real_decode = parser.utf_8_decode

    def unmask(data: Any, key: Any) -> Any:
        work.done += len(data)
        return real_unmask(data, key)

    def decode(data: Any, *args: Any) -> Any:
        work.done += len(data)
        return real_decode(data, *args)

    monkeypatch.setattr(parser, "bytearray", CountingBuffer, raising=False)
    monkeypatch.setattr(parser, "unmask", unmask)
    monkeypatch.setattr(parser, "utf_8_decode", decode)
    return work


def by(step: int, stream: bytes) -> list[bytes]:
    return [stream[at : at + step] for at in range(0, len(stream), step)]


@pytest.mark.parametrize("step", [1, 7, 4096], ids=lambda step: f"by {step}")
@pytest.mark.parametrize("stream", STREAMS.values(), ids=STREAMS)
def test_work_is_linear(stream: bytes, step: int, work: Work) -> None:
    outcome = drive(MessageParser(inflater=Inflater()), by(step, stream))
    assert outcome.error is None
    # Quadratic work would be some thousand times the length and more.
    assert work.done < 16 * len(stream)
    at_once = parse(stream, inflater=Inflater())
    assert outcome.events == at_once.events


def test_a_big_frame_is_handled_piece_by_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    """However it was fed: so that no step of the work falls out of the caches."""
    sizes = []
    real = parser.unmask

    def unmask(data: Any, key: Any) -> Any:
        sizes.append(len(data))
        return real(data, key)

    monkeypatch.setattr(parser, "unmask", unmask)
    data = random.Random(1).randbytes(300_000)
    assert parse(frame(BINARY, data)).events == [data]
    assert max(sizes) <= 65536


def test_events_taken_late_are_no_dearer(work: Work) -> None:
    """Everything fed in small pieces before the first event is asked for."""
    stream = STREAMS["small messages"] + STREAMS["messages of 200 octets"]
    a_parser = MessageParser()
    for piece in by(100, stream):
        a_parser.feed(piece)
    count = 0
    while a_parser.next_event() is not None:
        count += 1
    assert count == SIZE // 16 + SIZE // 200
    assert work.done < 16 * len(stream)


def test_one_event_taken_for_each_feed_is_no_dearer(work: Work) -> None:
    """A backlog that grows must not be copied with every feed."""
    stream = frame(BINARY, b"x" * 10)
    a_parser = MessageParser()
    for _ in range(3000):
        a_parser.feed(stream * 2)
        assert a_parser.next_event() == b"x" * 10
    assert a_parser.buffered == 3000 * len(stream)
    assert work.done < 16 * 6000 * len(stream)
