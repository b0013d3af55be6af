"""Field lines: what is split, what is refused, and what fields say about connection and body."""

from __future__ import annotations

import pytest

from subinterp_asgi.http1 import ProtocolError
from subinterp_asgi.http1.fields import FieldBlock, read_fields, split_fields, split_list

from .messages import parse, refuse


def split(block: bytes) -> list[tuple[bytes, bytes]]:
    return split_fields(block, 100, 8190)


def read(*items: tuple[bytes, bytes]) -> FieldBlock:
    return read_fields(list(items))


@pytest.mark.parametrize(
    ("line", "item"),
    [
        (b"A: 1", (b"a", b"1")),
        (b"A:1", (b"a", b"1")),
        (b"A:", (b"a", b"")),
        (b"A: \t ", (b"a", b"")),
        (b"A: \t1 2\t3 \t", (b"a", b"1 2\t3")),
        (b"A:  : ", (b"a", b":")),
        (b"A: b: c", (b"a", b"b: c")),
        (b"A: \x80\xff", (b"a", b"\x80\xff")),
        (b"A: \xa0x\x85", (b"a", b"\xa0x\x85")),
        (b"X-A_b.1: ,", (b"x-a_b.1", b",")),
        (b"!#$%&'*+-.^_`|~09azAZ: 1", (b"!#$%&'*+-.^_`|~09azaz", b"1")),
    ],
    ids=repr,
)
def test_field_line(line: bytes, item: tuple[bytes, bytes]) -> None:
    """RFC 9110 section 5.5: SP and HTAB around a value are not part of it; other octets are."""
    assert split(line + b"\r\n") == [item]


def test_order_and_repeats_are_kept() -> None:
    block = b"B: 1\r\nA: 2\r\nb: 3\r\nA: 2\r\n"
    assert split(block) == [(b"b", b"1"), (b"a", b"2"), (b"b", b"3"), (b"a", b"2")]


def test_no_fields() -> None:
    assert split(b"") == []


BAD_LINES = {
    "RFC 9112 5.1 space before the colon": b"A : 1",
    "RFC 9112 5.1 tab before the colon": b"A\t: 1",
    "RFC 9112 5.1 space in a name": b"A b: 1",
    "RFC 9112 5.2 folded line": b"A: 1\r\n b",
    "RFC 9112 5.2 line folded by a tab": b"A: 1\r\n\tb",
    "RFC 9112 5.2 line folded to nothing": b"A: 1\r\n ",
    "RFC 9112 2.2 first line begins with a space": b" A: 1",
    "RFC 9110 5.1 empty name": b": 1",
    "RFC 9110 5.1 nothing but a colon": b":",
    "RFC 9112 5 no colon": b"A",
    "RFC 9110 5.6.2 name with a bracket": b"A(b): 1",
    "RFC 9110 5.6.2 name with a slash": b"A/b: 1",
    "RFC 9110 5.6.2 name with a quote": b'"A": 1',
    "RFC 9110 5.6.2 name with NUL": b"A\0: 1",
    "RFC 9110 5.6.2 name with obs-text": b"\xc3\xa9: 1",
    "RFC 9110 5.6.2 name with DEL": b"A\x7f: 1",
    "RFC 9110 5.5 NUL in a value": b"A: 1\0",
    "RFC 9110 5.5 bare CR in a value": b"A: 1\r2",
    "RFC 9110 5.5 bare CR at the end of a value": b"A: 1\r",
    "RFC 9110 5.5 CR before the value": b"A:\r1",
    "RFC 9110 5.5 bare LF in a value": b"A: 1\n2",
    "RFC 9112 2.2 bare LF as the end of a line": b"A: 1\nB: 2",
    "RFC 9110 5.5 control character in a value": b"A: \x01",
    "RFC 9110 5.5 vertical tab in a value": b"A: \x0b1",
    "RFC 9110 5.5 form feed in a value": b"A: 1\x0c",
    "RFC 9110 5.5 escape in a value": b"A: \x1b[31m",
    "RFC 9110 5.5 DEL in a value": b"A: \x7f",
}


@pytest.mark.parametrize("line", BAD_LINES.values(), ids=BAD_LINES)
@pytest.mark.parametrize("place", ["first", "middle", "last"])
def test_malformed_field_line(line: bytes, place: str) -> None:
    before = b"" if place == "first" else b"Host: a\r\n"
    after = b"" if place == "last" else b"Host: a\r\nX: y\r\n"
    head = b"GET / HTTP/1.1\r\n" + before + line + b"\r\n" + after + b"\r\n"
    assert refuse(head).status == 400


def test_the_message_says_what_is_wrong() -> None:
    """For the log: the client is told the status only."""
    for block, words in {
        b"A : 1\r\n": "space before the colon",
        b"A: 1\r\n b\r\n": "folded",
        b"A\r\n": "without a colon",
        b"A: \0\r\n": "invalid character",
    }.items():
        with pytest.raises(ProtocolError, match=words):
            split(block)


@pytest.mark.parametrize(
    ("value", "items"),
    [
        (b"", []),
        (b",, ,\t,", []),
        (b"a", [b"a"]),
        (b"A,b ,\tC", [b"a", b"b", b"c"]),
        (b"a b", [b"a b"]),
    ],
)
def test_split_list(value: bytes, items: list[bytes]) -> None:
    """RFC 9110 section 5.6.1.2."""
    assert split_list(value) == items


@pytest.mark.parametrize(
    ("connection", "upgrade", "protocols"),
    [
        ([b"Upgrade"], [b"websocket"], (b"websocket",)),
        ([b"keep-alive, UPGRADE"], [b"WebSocket"], (b"websocket",)),
        ([b"keep-alive", b"upgrade"], [b"h2c, websocket", b"x/1"], (b"h2c", b"websocket", b"x/1")),
        ([], [b"websocket"], ()),
        ([b"keep-alive"], [b"websocket"], ()),
        ([b"xupgrade"], [b"websocket"], ()),
        ([b"upgrade"], [], ()),
    ],
)
def test_upgrade(
    connection: list[bytes], upgrade: list[bytes], protocols: tuple[bytes, ...]
) -> None:
    """RFC 9110 section 7.8: ignored unless Connection names it."""
    block = read(*((b"connection", v) for v in connection), *((b"upgrade", v) for v in upgrade))
    assert block.upgrade == protocols


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ([b"trailers"], True),
        ([b"gzip, Trailers"], True),
        ([b"gzip", b"trailers"], True),
        ([b"trailers", b"gzip"], True),
        ([b"gzip;q=0.5"], False),
        ([], False),
    ],
)
def test_te(values: list[bytes], wanted: bool) -> None:
    """RFC 9110 section 10.1.4."""
    assert read(*((b"te", value) for value in values)).trailers_ok is wanted


def test_fields_that_look_like_framing_are_not() -> None:
    """Names are compared as a whole, and no other spelling counts."""
    outcome = parse(
        b"GET / HTTP/1.1\r\nHost: a\r\nContent_Length: 5\r\nX-Content-Length: 5\r\n"
        b"Transfer_Encoding: chunked\r\nContent-Lengths: 5\r\n\r\n"
    )
    assert outcome.error is None
    assert outcome.messages[0].complete
