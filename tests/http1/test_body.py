"""Bodies: by length and in chunks, in any pieces, and what chunked coding refuses.

Sections are those of RFC 9112.
"""

from __future__ import annotations

import pytest

from subinterp_asgi.http1 import RequestParser

from .messages import octets, parse, parse_one, refuse, split

HEAD = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
SIZED = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"

# --- by length


@pytest.mark.parametrize("body", [b"a", b"\r\n\r\n", b"0\r\n\r\n", bytes(range(256)) * 300])
def test_body_by_length(body: bytes) -> None:
    message = parse_one(SIZED % len(body) + body)
    assert message.body == body


def test_body_by_length_in_pieces() -> None:
    parser = RequestParser()
    parser.feed(SIZED % 6)
    assert parser.next_request() is not None
    assert parser.read_body() == b""
    for piece in (b"ab", b"c"):
        parser.feed(piece)
        assert parser.read_body() == piece
        assert parser.read_body() == b""
        assert not parser.body_complete
    parser.feed(b"defGET")
    assert parser.read_body() == b"def"
    assert parser.body_complete
    assert parser.buffered == 3


# --- chunked


@pytest.mark.parametrize(
    ("coded", "body"),
    [
        (b"0\r\n\r\n", b""),
        (b"000\r\n\r\n", b""),
        (b"1\r\na\r\n0\r\n\r\n", b"a"),
        (b"A\r\n0123456789\r\n0\r\n\r\n", b"0123456789"),
        (b"a\r\n0123456789\r\n0\r\n\r\n", b"0123456789"),
        (b"0000000000000003\r\nabc\r\n0\r\n\r\n", b"abc"),
        (b"2\r\n\r\n\r\n0\r\n\r\n", b"\r\n"),
        (b"5\r\n0\r\n\r\n\r\n0\r\n\r\n", b"0\r\n\r\n"),
        (b"1\r\na\r\n2\r\nbc\r\n3\r\ndef\r\n0\r\n\r\n", b"abcdef"),
        # section 7.1.1, extensions
        (b"1;a\r\nx\r\n0\r\n\r\n", b"x"),
        (b"1;a=b\r\nx\r\n0;c\r\n\r\n", b"x"),
        (b'1;a="b;c\\"d\xff\t"\r\nx\r\n0\r\n\r\n', b"x"),
        (b"1;a=b;c;d=e\r\nx\r\n0\r\n\r\n", b"x"),
        (b"1 \t; a \t=\t b\r\nx\r\n0\r\n\r\n", b"x"),
        (b'1;a=""\r\nx\r\n0\r\n\r\n', b"x"),
        # section 7.1.2, trailers
        (b"0\r\nA: b\r\n\r\n", b""),
        (b"1\r\nx\r\n0\r\nA: b\r\nC:\r\n\r\n", b"x"),
    ],
    ids=repr,
)
def test_chunked(coded: bytes, body: bytes) -> None:
    following = b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n"
    stream = HEAD + coded + following
    for pieces in ([stream], octets(stream), *(split(stream, [cut]) for cut in range(len(stream)))):
        outcome = parse(*pieces)
        assert outcome.error is None
        assert outcome.bodies == [body, b""]
        assert outcome.messages[1].head.target == b"/next"


@pytest.mark.parametrize("field", [b"Content-Length: 5", b"Host: b", b"Transfer-Encoding: x"])
def test_trailers_are_dropped(field: bytes) -> None:
    """RFC 9110 section 6.5.1: they must not be merged into the header section."""
    message = parse_one(HEAD + b"1\r\nx\r\n0\r\nX-Sum: 1\r\n" + field + b"\r\n\r\n")
    assert message.head.headers == [(b"host", b"a"), (b"transfer-encoding", b"chunked")]
    assert message.body == b"x"


MALFORMED = {
    "7.1 no size": b"\r\nabc",
    "7.1 size is no number": b"x\r\n",
    "7.1 size with a prefix": b"0x1\r\na\r\n0\r\n\r\n",
    "7.1 size with a sign": b"+1\r\na\r\n0\r\n\r\n",
    "7.1 negative size": b"-1\r\na\r\n0\r\n\r\n",
    "7.1 size with an underscore": b"1_0\r\n",
    "7.1 size with a point": b"1.0\r\na",
    "7.1 space before the size": b" 1\r\na\r\n0\r\n\r\n",
    "7.1 space after the size": b"1 \r\na\r\n0\r\n\r\n",
    "7.1 tab after the size": b"1\t\r\na\r\n0\r\n\r\n",
    "7.1 size of 17 digits": b"00000000000000001\r\na\r\n0\r\n\r\n",
    "7.1 size beyond 64 bits": b"1" + b"0" * 16 + b"\r\n",
    "7.1 other digits": b"\xd9\xa1\r\na\r\n0\r\n\r\n",
    "7.1 bare LF after the size": b"1\na\r\n0\r\n\r\n",
    "7.1 bare CR after the size": b"1\ra\r\n0\r\n\r\n",
    "7.1 chunk longer than its size": b"1\r\nab\r\n0\r\n\r\n",
    "7.1 chunk shorter than its size": b"3\r\na\r\n0\r\n\r\n1\r\nx\r\n",
    "7.1 no CRLF after the data": b"1\r\na0\r\n\r\n",
    "7.1 bare LF after the data": b"1\r\na\n0\r\n\r\n",
    "7.1 bare CR after the data": b"1\r\na\r0\r\n\r\n",
    "7.1 CR CR LF after the data": b"1\r\na\r\r\n0\r\n\r\n",
    "7.1 bare LF after the last chunk": b"0\n\r\n",
    "7.1 bare LF at the end": b"0\r\n\n",
    "7.1.1 extension without a name": b"1;\r\na\r\n0\r\n\r\n",
    "7.1.1 extension of only a value": b"1;=b\r\na\r\n0\r\n\r\n",
    "7.1.1 extension with an empty value": b"1;a=\r\na\r\n0\r\n\r\n",
    "7.1.1 extension without a semicolon": b"1 a\r\na\r\n0\r\n\r\n",
    "7.1.1 comma for a semicolon": b"1,a\r\na\r\n0\r\n\r\n",
    "7.1.1 open quote": b'1;a="b\r\na\r\n0\r\n\r\n',
    "7.1.1 words after a quoted value": b'1;a="b"c\r\na\r\n0\r\n\r\n',
    "7.1.1 control character": b"1;a=\x01\r\na\r\n0\r\n\r\n",
    "7.1.1 control character in quotes": b'1;a="\x01"\r\na\r\n0\r\n\r\n',
    "7.1.1 bare CR in an extension": b"1;a\rb\r\na\r\n0\r\n\r\n",
    "7.1.1 bare LF in an extension": b"1;a\nb\r\na\r\n0\r\n\r\n",
    "7.1.1 NUL in an extension": b"1;\0\r\na\r\n0\r\n\r\n",
    "7.1.2 trailer with a space before the colon": b"0\r\nA : b\r\n\r\n",
    "7.1.2 trailer without a colon": b"0\r\nGET / HTTP/1.1\r\n\r\n",
    "7.1.2 folded trailer": b"0\r\nA: b\r\n c\r\n\r\n",
    "7.1.2 trailer with an empty name": b"0\r\n: b\r\n\r\n",
    "7.1.2 trailer with NUL": b"0\r\nA: \0\r\n\r\n",
    "7.1.2 trailer with a bare LF": b"0\r\nA: b\nC: d\r\n\r\n",
    "7.1.2 trailer with a bare CR": b"0\r\nA: b\rC: d\r\n\r\n",
}


@pytest.mark.parametrize("coded", MALFORMED.values(), ids=MALFORMED)
def test_malformed_chunks(coded: bytes) -> None:
    stream = HEAD + coded
    assert refuse(stream).status == 400
    assert refuse(*octets(stream)).status == 400


def test_a_mark_cut_between_its_octets() -> None:
    parser = RequestParser()
    parser.feed(HEAD + b"1\r\na\r")
    parser.next_request()
    assert parser.read_body() == b"a"
    assert parser.read_body() == b""
    parser.feed(b"\n0\r")
    assert parser.read_body() == b""
    parser.feed(b"\n\r")
    assert parser.read_body() == b""
    assert not parser.body_complete
    parser.feed(b"\n")
    assert parser.read_body() == b""
    assert parser.body_complete


def test_data_is_handed_over_before_its_chunk_is_complete() -> None:
    """A chunk may be of any size; it is not held back, let alone gathered."""
    parser = RequestParser()
    parser.feed(HEAD + b"ffffffff\r\nabc")
    parser.next_request()
    assert parser.read_body() == b"abc"
    parser.feed(b"def")
    assert parser.read_body() == b"def"
    assert parser.buffered == 0
