"""What close frames carry (RFC 6455 sections 5.5.1 and 7.4)."""

from __future__ import annotations

import pytest

from subinterp_asgi.errors import ASGIProtocolError
from subinterp_asgi.websocket import Close, Ping, Pong, ProtocolError
from subinterp_asgi.websocket.frames import parse_close, render_close, sendable

SENDABLE = [1000, 1001, 1002, 1003, *range(1007, 1015), 3000, 3999, 4000, 4999]
NOT_SENDABLE = [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535]


@pytest.mark.parametrize("code", SENDABLE)
def test_codes_that_may_be_sent(code: int) -> None:
    assert sendable(code)
    assert parse_close(code.to_bytes(2) + "grüße".encode()) == Close(code, "grüße")
    assert parse_close(render_close(code, "")) == Close(code)


@pytest.mark.parametrize("code", NOT_SENDABLE)
def test_codes_that_may_not(code: int) -> None:
    assert not sendable(code)
    with pytest.raises(ProtocolError) as caught:
        parse_close(code.to_bytes(2))
    assert caught.value.code == 1002
    if code != 1005:
        with pytest.raises(ASGIProtocolError, match=str(code)):
            render_close(code, "")


def test_a_close_frame_without_a_code() -> None:
    """Section 7.1.5."""
    assert parse_close(b"") == Close(1005, "")
    assert render_close(1005, "not sent either") == b""


def test_half_a_code() -> None:
    with pytest.raises(ProtocolError) as caught:
        parse_close(b"\x03")
    assert caught.value.code == 1002


@pytest.mark.parametrize("reason", [b"\xff", b"abc\xc3", b"\xed\xa0\x80", b"\xc0\xaf"])
def test_a_reason_that_is_not_utf8(reason: bytes) -> None:
    with pytest.raises(ProtocolError) as caught:
        parse_close((1000).to_bytes(2) + reason)
    assert caught.value.code == 1007


@pytest.mark.parametrize(
    ("reason", "sent"),
    [
        ("x" * 123, "x" * 123),
        ("x" * 124, "x" * 123),
        ("é" * 62, "é" * 61),
        ("x" + "é" * 61, "x" + "é" * 61),
        ("😀" * 31, "😀" * 30),
    ],
)
def test_long_reasons_are_cut_between_characters(reason: str, sent: str) -> None:
    payload = render_close(1000, reason)
    assert len(payload) <= 125
    assert parse_close(payload) == Close(1000, sent)


def test_a_reason_that_utf8_can_not_encode() -> None:
    with pytest.raises(ASGIProtocolError, match="surrogate"):
        render_close(1000, "\ud800")


def test_events_compare_and_show_what_they_are() -> None:
    assert Ping(b"a") == Ping(b"a")
    assert Ping(b"a") != Ping(b"b")
    assert Ping(b"a") != Pong(b"a")
    assert Close(1000) != Close(1000, "a")
    assert Close(1000) != 1000
    assert len({Ping(b"a"), Ping(b"a"), Pong(b"a"), Close(1000), Close(1000)}) == 3
    assert [repr(event) for event in (Ping(b"a"), Pong(), Close())] == [
        "Ping(b'a')",
        "Pong(b'')",
        "Close(1005, '')",
    ]
