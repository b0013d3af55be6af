"""Frames from clients (RFC 6455 section 5), rule by rule."""

from __future__ import annotations

import pytest

from subinterp_asgi.websocket import Close, Event, MessageParser, Ping, Pong
from subinterp_asgi.websocket.deflate import Inflater

from .client import (
    BINARY,
    CLOSE,
    CONTINUATION,
    FIN,
    PING,
    PONG,
    RSV1,
    RSV2,
    RSV3,
    TEXT,
    drive,
    events,
    frame,
    message,
    octets,
    parse,
)

# --- messages


@pytest.mark.parametrize(
    "size", [0, 1, 2, 20, 124, 125, 126, 127, 1023, 1024, 65535, 65536, 200000]
)
def test_text_and_binary_of_every_length_form(size: int) -> None:
    """Section 5.2: 7, 16 and 64 bits of length."""
    payload = (b"0123456789abcdef" * (size // 16 + 1))[:size]
    stream = frame(TEXT, payload) + frame(BINARY, payload)
    text, binary = events(stream)
    assert (text, binary) == (payload.decode(), payload)
    assert (type(text), type(binary)) == (str, bytes)


@pytest.mark.parametrize("length_octets", [2, 8])
def test_lengths_in_more_octets_than_needed(length_octets: int) -> None:
    assert events(frame(TEXT, b"hello", length_octets=length_octets)) == ["hello"]


@pytest.mark.parametrize("key", [b"\0\0\0\0", b"\xff\xff\xff\xff", b"\1\2\3\4"])
@pytest.mark.parametrize("size", [5, 5000])
def test_keys(key: bytes, size: int) -> None:
    """Section 5.3: each frame has its own."""
    stream = frame(BINARY, b"x" * size, key=key) + frame(BINARY, b"y" * size, key=key[::-1])
    assert events(stream) == [b"x" * size, b"y" * size]


def test_the_rfcs_examples() -> None:
    """Section 5.7, the masked ones."""
    assert events(b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58") == ["Hello"]
    assert events(b"\x8a\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58") == [Pong(b"Hello")]


@pytest.mark.parametrize(
    "parts",
    [
        (b"Hel", b"lo"),
        (b"", b"Hello"),
        (b"Hello", b""),
        (b"", b"", b"Hello", b"", b""),
        (b"H", b"e", b"l", b"l", b"o"),
    ],
)
def test_fragments(parts: tuple[bytes, ...]) -> None:
    """Section 5.4."""
    assert events(message(TEXT, *parts)) == ["Hello"]
    assert events(message(BINARY, *parts)) == [b"Hello"]


def test_a_message_of_empty_fragments() -> None:
    assert events(message(TEXT, b"", b"")) == [""]
    assert events(message(BINARY, b"", b"", b"")) == [b""]


def test_characters_across_fragments() -> None:
    """Section 5.6: a fragment need not be UTF-8 by itself."""
    text = "aé世😀"
    assert events(message(TEXT, *octets(text.encode()))) == [text]


def test_line_ends_and_nul_are_left_alone() -> None:
    text = "\r\n\n\r\0\u2028\ufeff"
    encoded = text.encode()
    assert events(frame(TEXT, encoded)) == [text]
    assert events(message(TEXT, *octets(encoded))) == [text]


def test_messages_one_after_another() -> None:
    stream = frame(TEXT, b"a") + message(BINARY, b"b", b"c") + frame(TEXT, b"d" * 200)
    assert events(stream + frame(BINARY)) == ["a", b"bc", "d" * 200, b""]


# --- control frames


@pytest.mark.parametrize("payload", [b"", b"x", b"\0\xff" * 62, b"y" * 125])
def test_pings_and_pongs(payload: bytes) -> None:
    assert events(frame(PING, payload) + frame(PONG, payload)) == [Ping(payload), Pong(payload)]


def test_control_frames_between_fragments() -> None:
    """Section 5.4: they may be, and come first."""
    first, second, last = (
        frame(TEXT, b"one ", fin=False),
        frame(CONTINUATION, b"two ", fin=False),
        frame(CONTINUATION, b"three"),
    )
    stream = first + frame(PING, b"1") + second + frame(PONG, b"2") + frame(PING) + last
    assert events(stream) == [Ping(b"1"), Pong(b"2"), Ping(b""), "one two three"]


def test_a_control_frame_inside_a_character() -> None:
    stream = frame(TEXT, b"\xe4\xb8", fin=False) + frame(PING) + frame(CONTINUATION, b"\x96")
    assert events(stream) == [Ping(b""), "世"]


def test_close() -> None:
    assert events(frame(CLOSE)) == [Close(1005)]
    assert events(frame(CLOSE, b"\x03\xe8bye")) == [Close(1000, "bye")]


def test_close_between_fragments() -> None:
    assert events(frame(TEXT, b"a", fin=False) + frame(CLOSE)) == [Close(1005)]


def test_what_follows_a_close_frame_is_dropped() -> None:
    """Section 5.5.1."""
    parser = MessageParser()
    parser.feed(frame(TEXT, b"a") + frame(CLOSE) + b"\xff" * 1000)
    assert [parser.next_event() for _ in range(3)] == ["a", Close(1005), None]
    assert parser.closed
    parser.feed(frame(TEXT, b"b"))
    assert parser.next_event() is None
    assert parser.buffered == 0
    assert not parser.mid_message


# --- violations

UNCLOSED = frame(TEXT, b"a", fin=False)
VIOLATIONS: dict[str, tuple[bytes, int]] = {
    # section 5.1
    "text without a mask": (frame(TEXT, b"a", key=None), 1002),
    "empty text without a mask": (frame(TEXT, key=None) + bytes(9), 1002),
    "ping without a mask": (frame(PING, key=None), 1002),
    "close without a mask": (frame(CLOSE, key=None), 1002),
    # section 5.2
    "RSV1": (frame(TEXT, b"a", reserved=RSV1), 1002),
    "RSV2": (frame(TEXT, b"a", reserved=RSV2), 1002),
    "RSV3": (frame(BINARY, b"a", reserved=RSV3), 1002),
    "all reserved bits": (frame(BINARY, b"a", reserved=RSV1 | RSV2 | RSV3), 1002),
    "RSV2 in a ping": (frame(PING, reserved=RSV2), 1002),
    "RSV1 in a close frame": (frame(CLOSE, reserved=RSV1), 1002),
    "RSV3 in a continuation": (UNCLOSED + frame(CONTINUATION, reserved=RSV3), 1002),
    **{f"opcode {opcode}": (frame(opcode, b"a"), 1002) for opcode in (3, 4, 5, 6, 7)},
    **{f"opcode {opcode}": (frame(opcode), 1002) for opcode in (11, 12, 13, 14, 15)},
    "length of 64 bits": (b"\x82\xff\x80" + bytes(7), 1002),
    "length of all ones": (b"\x82\xff" + b"\xff" * 8, 1002),
    # section 5.4
    "continuation of nothing": (frame(CONTINUATION, b"a"), 1002),
    "open continuation of nothing": (frame(CONTINUATION, b"a", fin=False), 1002),
    "continuation after a whole message": (frame(TEXT, b"a") + frame(CONTINUATION, b"b"), 1002),
    "text inside a message": (UNCLOSED + frame(TEXT, b"b"), 1002),
    "binary inside a message": (UNCLOSED + frame(BINARY, b"b", fin=False), 1002),
    "continuation after the last": (message(TEXT, b"a", b"b") + frame(CONTINUATION), 1002),
    # section 5.5
    "fragmented ping": (frame(PING, fin=False), 1002),
    "fragmented close": (frame(CLOSE, fin=False), 1002),
    "ping of 126 octets": (frame(PING, bytes(126)), 1002),
    "pong with a long length": (frame(PONG, b"a", length_octets=2), 1002),
    "close with a longer length": (frame(CLOSE, b"\x03\xe8", length_octets=8), 1002),
    # section 5.5.1 and 7.4
    "close with one octet": (frame(CLOSE, b"\x03"), 1002),
    "close with code 1005": (frame(CLOSE, b"\x03\xed"), 1002),
    "close with code 0": (frame(CLOSE, b"\0\0"), 1002),
    "close with a reason that is not UTF-8": (frame(CLOSE, b"\x03\xe8\xff"), 1007),
    # section 8.1
    "text that is not UTF-8": (frame(TEXT, b"\xff"), 1007),
    "long text that is not UTF-8": (frame(TEXT, b"a" * 200 + b"\xff"), 1007),
    "very long text that is not UTF-8": (frame(TEXT, b"a" * 70000 + b"\xff"), 1007),
    "text that ends in a character": (frame(TEXT, b"\xe4\xb8"), 1007),
    "message that ends in a character": (message(TEXT, b"a\xe4", b"\xb8"), 1007),
    "fragment that is not UTF-8": (frame(TEXT, b"\xc0", fin=False), 1007),
    "surrogate": (frame(TEXT, b"\xed\xa0\x80"), 1007),
    "beyond Unicode": (frame(TEXT, b"\xf4\x90\x80\x80"), 1007),
}


@pytest.mark.parametrize(("stream", "code"), VIOLATIONS.values(), ids=VIOLATIONS)
def test_violations(stream: bytes, code: int) -> None:
    for pieces in ([stream], octets(stream)):
        outcome = parse(*pieces)
        assert outcome.code == code
    # All that was right before the violation was returned before it was raised.
    ok = [frame(TEXT, b"a" * 300), frame(PING, b"b")]
    outcome = parse(b"".join(ok) + stream)
    assert outcome.events[:2] == ["a" * 300, Ping(b"b")]
    assert outcome.code == code


@pytest.mark.parametrize(("stream", "code"), VIOLATIONS.values(), ids=VIOLATIONS)
def test_nothing_is_taken_after_a_violation(stream: bytes, code: int) -> None:
    """Section 7.1.7: not even a close frame."""
    parser = MessageParser()
    outcome = drive(parser, [stream + frame(CLOSE)])
    assert outcome.code == code
    assert not any(isinstance(event, Close) for event in outcome.events)
    assert parser.closed
    parser.feed(frame(TEXT, b"a"))
    assert parser.next_event() is None
    assert parser.buffered == 0


HEADERS_TO_REFUSE_AT_ONCE = {
    "no mask": b"\x81\x05",
    "reserved bit": b"\x91\x85",
    "opcode": b"\x83\xff",
    "continuation of nothing": b"\x80\xfe",
    "fragmented ping": b"\x09\x80",
    "long ping": b"\x89\xfe",
    "length": b"\x82\xff" + b"\x80" + bytes(7),
}


@pytest.mark.parametrize(
    "header", HEADERS_TO_REFUSE_AT_ONCE.values(), ids=HEADERS_TO_REFUSE_AT_ONCE
)
def test_headers_are_refused_before_the_rest_has_come(header: bytes) -> None:
    outcome = parse(*octets(header))
    assert outcome.code == 1002
    assert outcome.taken == len(header)


# --- UTF-8 inside what is not complete (section 8.1; Autobahn 6.4)

INVALID_FROM = {
    "a lone continuation octet": (b"abc", b"\x80"),
    "an octet that is never used": (b"abc", b"\xfe"),
    "overlong, two octets": (b"abc", b"\xc0"),
    "overlong, three octets": (b"abc\xe0", b"\x9f"),
    "overlong, four octets": (b"abc\xf0", b"\x8f"),
    "a surrogate": (b"abc\xed", b"\xa0"),
    "beyond U+10FFFF": (b"abc\xf4", b"\x90"),
    "a character cut off": (b"abc\xe4\xb8", b"a"),
    "after characters of all lengths": ("aé世😀".encode() + b"\xf0\x9f\x98", b"\xc0"),
}


@pytest.mark.parametrize(("before", "octet"), INVALID_FROM.values(), ids=INVALID_FROM)
@pytest.mark.parametrize("fragmented", [False, True], ids=["frame", "fragments"])
def test_text_fails_with_the_octet_that_makes_it_invalid(
    before: bytes, octet: bytes, fragmented: bool
) -> None:
    if fragmented:
        sent = message(TEXT, *octets(before), octet, b"")[: -len(frame(TEXT))]
    else:
        whole = frame(TEXT, before + octet + b"x" * 1000)
        sent = whole[:-1000]
    good = parse(sent[:-1])
    assert good.error is None
    for pieces in ([sent], octets(sent)):
        outcome = parse(*pieces)
        assert outcome.code == 1007
        assert outcome.taken == len(sent)


def test_the_utf8_decoder_is_as_strict_about_beginnings_as_about_wholes() -> None:
    """Every sequence of two octets: taken as a beginning exactly if some character begins so."""
    beginnings = {
        chr(code).encode()[:2] for code in [*range(0x80, 0xD800), *range(0xE000, 0x110000, 16)]
    }
    for first in range(0xC0, 0x100):
        for second in range(0x80, 0x100):
            sent = bytes((first, second))
            outcome = parse(frame(TEXT, sent, fin=False))
            assert (outcome.error is None) == (sent in beginnings), sent


# --- compression (RFC 7692 section 6); see also test_deflate.py


def test_rsv1_with_an_inflater() -> None:
    hello = b"\xf2\x48\xcd\xc9\xc9\x07\x00"  # RFC 7692 section 7.2.3.1
    assert events(frame(TEXT, hello, reserved=RSV1), inflater=Inflater()) == ["Hello"]
    assert events(frame(TEXT, b"Hello"), inflater=Inflater()) == ["Hello"]


@pytest.mark.parametrize(
    "stream",
    [
        frame(TEXT, b"\x00", reserved=RSV1 | RSV2),
        frame(PING, b"\x00", reserved=RSV1),
        frame(CLOSE, reserved=RSV1),
        frame(TEXT, b"\x00", fin=False, reserved=RSV1) + frame(CONTINUATION, reserved=RSV1),
        frame(TEXT, b"a", fin=False) + frame(CONTINUATION, reserved=RSV1),
    ],
    ids=["RSV2", "ping", "close", "compressed continuation", "plain continuation"],
)
def test_rsv1_where_it_does_not_belong(stream: bytes) -> None:
    assert parse(stream, inflater=Inflater()).code == 1002


# --- the interface


def test_nothing_yet() -> None:
    parser = MessageParser()
    assert parser.next_event() is None
    parser.feed(b"")
    assert parser.next_event() is None
    assert not parser.closed
    assert not parser.mid_message
    assert parser.buffered == 0


def test_mid_message() -> None:
    parser = MessageParser()
    stream = frame(TEXT, b"ab", fin=False) + frame(CONTINUATION, b"c")
    for octet in octets(stream[:-1]):
        parser.feed(octet)
        assert parser.next_event() is None
        assert parser.mid_message
    parser.feed(stream[-1:])
    assert parser.next_event() == "abc"
    assert not parser.mid_message


def test_feeding_before_all_events_were_taken() -> None:
    parser = MessageParser()
    stream = b"".join(frame(BINARY, b"%d" % number) for number in range(200))
    taken: list[Event] = []
    for at in range(0, len(stream), 50):
        parser.feed(stream[at : at + 50])
        event = parser.next_event()  # fewer than there are
        assert event is not None
        taken.append(event)
    assert parser.buffered > 0
    while (event := parser.next_event()) is not None:
        taken.append(event)
    assert taken == [b"%d" % number for number in range(200)]


def test_the_first_octet_decides_nothing() -> None:
    parser = MessageParser()
    parser.feed(bytes((FIN | TEXT,)))
    assert parser.next_event() is None
    assert parser.buffered == 1
