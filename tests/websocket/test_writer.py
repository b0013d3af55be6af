"""Frames to clients (RFC 6455 section 5)."""

from __future__ import annotations

import zlib

import pytest

from subinterp_asgi.errors import ASGIProtocolError, StateError
from subinterp_asgi.websocket import MessageWriter
from subinterp_asgi.websocket.deflate import TAIL, Deflater
from subinterp_asgi.websocket.writer import APART_FROM

from .client import BINARY, CLOSE, PING, PONG, RSV1, TEXT, frame

SIZES = [0, 1, 20, 125, 126, 127, 1000, 65535, 65536, 100000]


@pytest.mark.parametrize("size", SIZES)
def test_messages_of_every_length_form(size: int) -> None:
    """Sections 5.1 and 5.2: not masked, with the shortest length."""
    writer = MessageWriter()
    payload = bytes(range(97, 123)) * (size // 26 + 1)
    payload = payload[:size]
    assert b"".join(writer.message(payload)) == frame(BINARY, payload, key=None)
    assert b"".join(writer.message(payload.decode())) == frame(TEXT, payload, key=None)


def test_the_rfcs_examples() -> None:
    """Section 5.7, those that are not masked."""
    writer = MessageWriter()
    assert writer.message("Hello") == (b"\x81\x05Hello",)
    assert writer.ping(b"Hello") == b"\x89\x05Hello"
    assert writer.message(bytes(256)) == (b"\x82\x7e\x01\x00" + bytes(256),)
    assert writer.message(bytes(65536)) == (b"\x82\x7f\0\0\0\0\0\1\0\0" + bytes(65536),)


def test_text_is_counted_in_octets() -> None:
    text = "é" * 63
    assert b"".join(MessageWriter().message(text)) == frame(TEXT, text.encode(), key=None)


def test_a_big_payload_is_not_copied() -> None:
    payload = bytes(APART_FROM)
    header, same = MessageWriter().message(payload)
    assert same is payload
    assert header + same == frame(BINARY, payload, key=None)


def test_text_with_a_lone_surrogate() -> None:
    """Section 8.1."""
    writer = MessageWriter()
    with pytest.raises(ASGIProtocolError, match="surrogate"):
        writer.message("a\udc80")
    assert writer.message("a") == (b"\x81\x01a",)


def test_control_frames() -> None:
    writer = MessageWriter()
    assert writer.ping() == frame(PING, key=None)
    assert writer.pong() == frame(PONG, key=None)
    assert writer.pong(b"x" * 125) == frame(PONG, b"x" * 125, key=None)
    assert writer.close(1000, "bye") == frame(CLOSE, b"\x03\xe8bye", key=None)


@pytest.mark.parametrize("kind", ["ping", "pong"])
def test_control_frames_that_are_too_long(kind: str) -> None:
    """Section 5.5."""
    with pytest.raises(ValueError, match="125"):
        getattr(MessageWriter(), kind)(bytes(126))


def test_the_default_close_frame() -> None:
    assert MessageWriter().close() == frame(CLOSE, b"\x03\xe8", key=None)


def test_a_close_frame_without_a_code() -> None:
    assert MessageWriter().close(1005) == frame(CLOSE, key=None)


def test_a_long_reason_is_cut() -> None:
    sent = MessageWriter().close(1000, "é" * 100)
    assert sent == frame(CLOSE, b"\x03\xe8" + "é".encode() * 61, key=None)


def test_nothing_follows_a_close_frame() -> None:
    """Section 5.5.1."""
    writer = MessageWriter()
    assert not writer.close_sent
    writer.close()
    assert writer.close_sent
    assert writer.close(1001, "again") == b""
    for send in (
        lambda: writer.message("a"),
        lambda: writer.message(b"a"),
        writer.ping,
        writer.pong,
    ):
        with pytest.raises(StateError, match="close"):
            send()


def test_a_close_frame_that_was_refused_was_not_sent() -> None:
    writer = MessageWriter()
    with pytest.raises(ASGIProtocolError):
        writer.close(1006)
    assert not writer.close_sent
    assert writer.close(4000) == frame(CLOSE, b"\x0f\xa0", key=None)


# --- compression


@pytest.mark.parametrize("size", [64, 125, 200, 5000, 300000])
def test_compressed_messages(size: int) -> None:
    """RFC 7692 section 7.2.1."""
    writer = MessageWriter(Deflater(threshold=64))
    stream = zlib.decompressobj(-15)
    text = ("words, words, and more words " * (size // 29 + 1))[:size]
    for data, opcode in ((text, TEXT), (text.encode(), BINARY)):
        sent = b"".join(writer.message(data))
        assert sent[0] == 0x80 | RSV1 | opcode
        payload = sent[{126: 4, 127: 10}.get(sent[1], 2) :]
        assert sent == frame(opcode, payload, reserved=RSV1, key=None)
        assert stream.decompress(payload + TAIL) == text.encode()


def test_messages_below_the_threshold_are_not_compressed() -> None:
    writer = MessageWriter(Deflater(threshold=64))
    assert writer.message("a" * 63) == (frame(TEXT, b"a" * 63, key=None),)
    (sent,) = writer.message("a" * 64)
    assert sent[0] & RSV1
    assert len(sent) < 64


def test_control_frames_are_never_compressed() -> None:
    """RFC 7692 section 6.1."""
    writer = MessageWriter(Deflater())
    payload = b"a" * 125
    assert writer.ping(payload) == frame(PING, payload, key=None)
    assert writer.close(1000, "a" * 100) == frame(CLOSE, b"\x03\xe8" + b"a" * 100, key=None)


def test_a_big_compressed_payload_is_in_one_piece_if_it_became_small() -> None:
    writer = MessageWriter(Deflater())
    assert len(writer.message(bytes(APART_FROM))) == 1
