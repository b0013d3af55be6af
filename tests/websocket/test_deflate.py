"""permessage-deflate (RFC 7692 section 7.2), beside zlib."""

from __future__ import annotations

import random
import zlib

import pytest

from subinterp_asgi.websocket import DeflateOptions, MessageParser, ProtocolError, negotiate_deflate
from subinterp_asgi.websocket.deflate import TAIL, Deflater, Inflater
from subinterp_asgi.websocket.extensions import parse_extensions

from .client import BINARY, CONTINUATION, RSV1, TEXT, drive, events, frame, octets, parse

WORDS = b"the quick brown fox jumps over the lazy dog ".split(b" ")


def prose(size: int, seed: int = 1) -> bytes:
    """Something that compresses well, but not to nothing."""
    source = random.Random(seed)
    return b" ".join(source.choices(WORDS, k=size // 4 + 1))[:size]


def peer(bits: int = 15) -> zlib._Compress:
    """A client's compressor."""
    return zlib.compressobj(wbits=-bits)


def pack(data: bytes, stream: zlib._Compress | None = None) -> bytes:
    """Compress a message as section 7.2.1 has it."""
    stream = stream or peer()
    packed = stream.compress(data) + stream.flush(zlib.Z_SYNC_FLUSH)
    assert packed.endswith(TAIL)
    return packed[: -len(TAIL)]


def unpack(data: bytes, stream: zlib._Decompress | None = None) -> bytes:
    return (stream or zlib.decompressobj(-15)).decompress(data + TAIL)


# --- the RFC's examples (section 7.2.3)

HELLO = {
    "one block": bytes.fromhex("f248cdc9c90700"),
    "no compression": bytes.fromhex("000500faff48656c6c6f00"),
    "BFINAL": bytes.fromhex("f348cdc9c9070000"),
    "two blocks": bytes.fromhex("f2480500 00 00ff ffcac9c90700".replace(" ", "")),
}


@pytest.mark.parametrize("packed", HELLO.values(), ids=HELLO)
def test_the_rfcs_examples(packed: bytes) -> None:
    """Sections 7.2.3.1, 7.2.3.3, 7.2.3.4 and 7.2.3.5."""
    inflater = Inflater()
    assert inflater.inflate(packed, 5, final=True) == b"Hello"
    # And again, to see that the message has left the stream as it should.
    assert inflater.inflate(packed, 5, final=True) == b"Hello"
    by_octet = b"".join(inflater.inflate(octet, 5) for octet in octets(packed))
    assert by_octet + inflater.inflate(b"", 5, final=True) == b"Hello"


def test_the_rfcs_example_of_context_takeover() -> None:
    """Section 7.2.3.2: the second message refers to the first."""
    first, second = bytes.fromhex("f248cdc9c90700"), bytes.fromhex("f200110000")
    stream = frame(TEXT, first, reserved=RSV1) + frame(TEXT, second, reserved=RSV1)
    assert events(stream, inflater=Inflater()) == ["Hello", "Hello"]
    without = Inflater(context_takeover=False)
    outcome = parse(stream, inflater=without)
    assert outcome.events == ["Hello"]
    assert outcome.code == 1007


def test_the_rfcs_empty_message() -> None:
    """Section 7.2.3.6."""
    assert events(frame(TEXT, b"\0", reserved=RSV1), inflater=Inflater()) == [""]
    for context_takeover in (True, False):
        deflater = Deflater(context_takeover=context_takeover)
        assert [deflater.deflate(b"") for _ in range(3)] == [b"\0"] * 3
        inflater = Inflater()
        for data in (b"", b"a", b"", b"a"):
            packed = deflater.deflate(data)
            assert inflater.inflate(packed, 1, final=True) == data


# --- inflating


@pytest.mark.parametrize("size", [1, 100, 5000, 70000])
@pytest.mark.parametrize("fragments", [1, 2, 7])
def test_messages_in_fragments(size: int, fragments: int) -> None:
    stream = peer()
    sent, expected = b"", []
    for seed in range(3):
        data = prose(size, seed)
        packed = pack(data, stream)
        step = len(packed) // fragments + 1
        cut = [packed[at : at + step] for at in range(0, len(packed), step)]
        for index, part in enumerate(cut):
            sent += frame(
                CONTINUATION if index else BINARY,
                part,
                fin=index == len(cut) - 1,
                reserved=0 if index else RSV1,
            )
        expected.append(data)
    assert events(sent, inflater=Inflater()) == expected
    assert drive(MessageParser(inflater=Inflater()), octets(sent)).events == expected


def test_plain_messages_between_compressed_ones() -> None:
    """Section 6: each message is compressed or not; one that is not has no part in the context."""
    stream = peer()
    data = prose(1000)
    sent = (
        frame(BINARY, pack(data, stream), reserved=RSV1)
        + frame(BINARY, data[::-1])
        + frame(BINARY, pack(data, stream), reserved=RSV1)
        + frame(TEXT, b"plain")
    )
    assert events(sent, inflater=Inflater()) == [data, data[::-1], data, "plain"]


@pytest.mark.parametrize("bits", range(9, 16))
def test_windows(bits: int) -> None:
    """An inflater is given the window that was agreed upon."""
    stream = peer(bits)
    inflater = Inflater(window_bits=bits)
    for seed in range(4):
        data = prose(40000, seed)
        assert inflater.inflate(pack(data, stream), len(data), final=True) == data


def test_a_client_that_uses_more_than_the_window() -> None:
    noise = random.Random(1).randbytes(4096)
    stream = peer()
    sent = b"".join(frame(BINARY, pack(noise, stream), reserved=RSV1) for _ in range(2))
    assert events(sent, inflater=Inflater()) == [noise, noise]
    outcome = parse(sent, inflater=Inflater(window_bits=9))
    assert outcome.events == [noise]
    assert outcome.code == 1007


@pytest.mark.parametrize("garbage", [b"\xff", b"\x07", b"hello", b"\xf2\x48\xff\xff\xff"])
def test_what_is_not_deflated(garbage: bytes) -> None:
    assert parse(frame(TEXT, garbage * 10, reserved=RSV1), inflater=Inflater()).code == 1007


def test_text_is_checked_after_inflating() -> None:
    stream = peer()
    good, bad = pack("é".encode(), stream), pack(b"\xff", stream)
    outcome = parse(
        frame(TEXT, good, reserved=RSV1) + frame(TEXT, bad, reserved=RSV1), inflater=Inflater()
    )
    assert outcome.events == ["é"]
    assert outcome.code == 1007


def test_text_is_checked_while_inflating() -> None:
    """Before the frame is complete, as far as zlib gives away what it has."""
    packed = pack(b"a" * 1000 + b"\xff" + random.Random(1).randbytes(100000))
    sent = frame(TEXT, packed, reserved=RSV1)
    outcome = parse(*octets(sent), inflater=Inflater())
    assert outcome.code == 1007
    assert outcome.taken < len(sent) // 2


def test_blocks_with_bfinal_inside_a_message() -> None:
    def ended(data: bytes) -> bytes:
        stream = peer()
        return stream.compress(data) + stream.flush(zlib.Z_FINISH)

    parts = [prose(3000, seed) for seed in range(5)]
    packed = b"".join(map(ended, parts)) + b"\0"
    whole = b"".join(parts)
    sent = frame(BINARY, packed, reserved=RSV1)
    assert events(sent + sent, inflater=Inflater()) == [whole, whole]
    assert drive(MessageParser(inflater=Inflater()), octets(sent + sent)).events == [whole, whole]
    assert parse(sent, inflater=Inflater(), max_size=len(whole)).error is None
    assert parse(sent, inflater=Inflater(), max_size=len(whole) - 1).code == 1009
    # Then the stream goes on as one that was never ended.
    packed = ended(parts[0]) + pack(parts[1])
    sent = frame(BINARY, packed, reserved=RSV1)
    assert events(sent, inflater=Inflater()) == [parts[0] + parts[1]]


# --- deflating


@pytest.mark.parametrize("context_takeover", [True, False])
@pytest.mark.parametrize("bits", range(9, 16))
def test_zlib_reads_what_we_deflate(bits: int, context_takeover: bool) -> None:
    deflater = Deflater(window_bits=bits, context_takeover=context_takeover)
    stream = zlib.decompressobj(-bits)
    for seed, size in enumerate((0, 1, 100, 0, 40000, 65536, 3)):
        data = prose(size, seed)
        packed = deflater.deflate(data)
        assert not packed.endswith(TAIL)
        if context_takeover:
            assert unpack(packed, stream) == data
        else:
            assert unpack(packed, zlib.decompressobj(-bits)) == data


def test_context_takeover_uses_the_context() -> None:
    data = random.Random(1).randbytes(1000)
    deflater = Deflater()
    first, second = deflater.deflate(data), deflater.deflate(data)
    assert len(second) < len(first) / 4
    deflater = Deflater(context_takeover=False)
    assert deflater.deflate(data) == deflater.deflate(data) == first


def test_the_windows_limit_is_kept() -> None:
    """Nothing farther back than it is referred to, or a client's inflater would fail."""
    noise = random.Random(1).randbytes(500)
    for bits in range(9, 16):
        deflater = Deflater(window_bits=bits)
        stream = zlib.decompressobj(-bits)
        for _ in range(100):
            data = noise + random.Random(bits).randbytes(97)
            assert unpack(deflater.deflate(data), stream) == data


def test_agreements_make_what_they_say() -> None:
    offers = parse_extensions(
        b"permessage-deflate; server_no_context_takeover; server_max_window_bits=9; "
        b"client_no_context_takeover; client_max_window_bits=9"
    )
    agreement = negotiate_deflate(offers, DeflateOptions(threshold=7))
    assert agreement is not None
    deflater, inflater = agreement.deflater(), agreement.inflater()
    assert deflater is not None
    assert deflater.threshold == 7
    data = prose(3000)
    packed = deflater.deflate(data)
    assert packed == deflater.deflate(data)
    assert zlib.decompressobj(-9).decompress(packed + TAIL) == data
    stream = peer(9)
    assert inflater.inflate(pack(data, stream), 3000, final=True) == data
    with pytest.raises(ProtocolError):  # the window was not kept
        inflater.inflate(pack(data, stream), 3000, final=True)
