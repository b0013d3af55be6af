"""Limits of heads and bodies: the last value that passes, the first that does not, how early."""

from __future__ import annotations

import pytest

from subinterp_asgi.http1 import Limits, RequestParser
from subinterp_asgi.http1.body import MAX_CHUNK_EXTENSIONS, MAX_CHUNK_LINE

from .messages import drive, octets, parse, parse_one, refuse

LINE = b"GET /%s HTTP/1.1"
START = b"GET / HTTP/1.1\r\nHost: a\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


def line_of(length: int) -> bytes:
    """A request line of so many octets, its CRLF not counted."""
    return LINE % (b"x" * (length - len(LINE) + 2))


# --- the request line: 414


def test_request_line_limit() -> None:
    limits = Limits(limit_request_line=100)
    parse_one(line_of(100) + b"\r\nHost: a\r\n\r\n", limits)
    assert refuse(line_of(101) + b"\r\nHost: a\r\n\r\n", limits=limits).status == 414


def test_default_request_line_limit_is_what_the_rfc_recommends() -> None:
    """RFC 9112 section 3: at least 8000 octets."""
    parse_one(line_of(8000) + b"\r\nHost: a\r\n\r\n")


@pytest.mark.parametrize(
    "data",
    [
        line_of(101)[:101],  # not yet complete, and too long whatever follows
        b"G" * 101,
        b"GET /" + b"x" * 96,
        line_of(101) + b"\r",
        line_of(101) + b"\r\n",
    ],
)
def test_long_request_line_is_refused_early(data: bytes) -> None:
    limits = Limits(limit_request_line=99)
    assert refuse(data, limits=limits).status == 414
    assert refuse(*octets(data), limits=limits).status == 414


def test_no_more_than_the_limit_is_waited_for() -> None:
    parser = RequestParser(Limits(limit_request_line=100))
    outcome = drive(parser, [b"GET /" + b"x" * 95])
    assert outcome.error is None
    assert drive(parser, [b"x"]).status == 414


def test_empty_line_does_not_count() -> None:
    limits = Limits(limit_request_line=100, limit_header_size=100 + 2 + 11)
    parse_one(b"\r\n" + line_of(100) + b"\r\nHost: a\r\n\r\n", limits)


# --- fields: 431


def test_number_of_fields() -> None:
    """RFC 6585 section 5."""
    limits = Limits(limit_request_fields=5)
    parse_one(START + b"A: b\r\n" * 4 + b"\r\n", limits)
    assert refuse(START + b"A: b\r\n" * 5 + b"\r\n", limits=limits).status == 431


def test_size_of_a_field() -> None:
    limits = Limits(limit_request_field_size=50)
    parse_one(START + b"A: " + b"x" * 47 + b"\r\n\r\n", limits)
    for line in (b"A: " + b"x" * 48, b"A:" + b" " * 49, b"x" * 50 + b":"):
        assert refuse(START + line + b"\r\n\r\n", limits=limits).status == 431


def test_many_short_fields_are_no_long_one() -> None:
    parse_one(START + b"A: b\r\n" * 40 + b"\r\n", Limits(limit_request_field_size=50))


def head_of(size: int) -> bytes:
    rest = size - len(START) - 2
    return START + b"A: " + b"x" * (rest - 5) + b"\r\n\r\n"


def test_size_of_the_head() -> None:
    limits = Limits(limit_header_size=1000)
    parse_one(head_of(1000), limits)
    assert refuse(head_of(1001), limits=limits).status == 431
    assert refuse(*octets(head_of(1001)), limits=limits).status == 431


def test_large_head_is_refused_early() -> None:
    limits = Limits(limit_header_size=1000)
    parser = RequestParser(limits)
    assert drive(parser, [head_of(2000)[:1000]]).error is None
    assert drive(parser, [b"x"]).status == 431


def test_the_body_does_not_count() -> None:
    limits = Limits(limit_header_size=100)
    head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5000\r\n\r\n"
    assert parse_one(head + b"x" * 5000, limits).body == b"x" * 5000


def test_earlier_messages_do_not_count() -> None:
    limits = Limits(limit_header_size=60, limit_request_line=20)
    outcome = parse((START + b"\r\n") * 10 + START, limits=limits)
    assert outcome.error is None
    assert len(outcome.messages) == 10


# --- bodies: 413


@pytest.mark.parametrize("limit", [0, 1, 5])
def test_announced_body_beyond_the_limit(limit: int) -> None:
    """RFC 9110 section 15.5.14; nothing of the body need have come."""
    limits = Limits(limit_body_size=limit)
    head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"
    assert parse_one(head % limit + b"x" * limit, limits).body == b"x" * limit
    assert refuse(head % (limit + 1), limits=limits).status == 413


def test_chunked_body_beyond_the_limit() -> None:
    limits = Limits(limit_body_size=5)
    assert parse_one(CHUNKED + b"2\r\nab\r\n3\r\ncde\r\n0\r\n\r\n", limits).body == b"abcde"
    # It is enough that the chunk is announced; none of its octets reaches the application.
    outcome = parse(CHUNKED + b"2\r\nab\r\n", b"4\r\ncde", limits=limits)
    assert outcome.status == 413
    assert outcome.bodies == [b"ab"]
    assert refuse(CHUNKED + b"ffffffffffffffff\r\n", limits=limits).status == 413


# --- what chunks cost beyond their data


def test_chunk_line_limit() -> None:
    extension = b";" + b"x" * (MAX_CHUNK_LINE - 2)
    parse_one(CHUNKED + b"1" + extension + b"\r\na\r\n0\r\n\r\n")
    assert refuse(CHUNKED + b"1x" + extension + b"\r\na").status == 400
    assert refuse(*octets(CHUNKED + b"1" + extension + b"xx")).status == 400


def test_all_extensions_of_a_body_are_limited() -> None:
    """RFC 9112 section 7.1.1: a server ought to limit their total length."""
    extension = b";" + b"x" * 1023
    fits = MAX_CHUNK_EXTENSIONS // len(extension)
    chunk = b"1" + extension + b"\r\na\r\n"
    assert len(parse_one(CHUNKED + chunk * fits + b"0\r\n\r\n").body) == fits
    assert refuse(CHUNKED + chunk * (fits + 1)).status == 400


def test_trailer_limits() -> None:
    limits = Limits(limit_request_fields=5, limit_request_field_size=50, limit_header_size=200)
    start = CHUNKED + b"0\r\n"
    parse_one(start + b"A: b\r\n" * 5 + b"\r\n", limits)
    for trailers in (
        b"A: b\r\n" * 6 + b"\r\n",
        b"A: " + b"x" * 48 + b"\r\n\r\n",
        (b"A: " + b"x" * 45 + b"\r\n") * 5 + b"\r\n",
    ):
        assert refuse(start + trailers, limits=limits).status == 431
    assert refuse(*octets(start + b"A: " + b"x" * 300), limits=limits).status == 431


# --- what never becomes a request


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\n",
        b"GET / HTTP/1.1\r\nHost: a\n",
        b"\n",
        b"\r\n\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS
        b"SSH-2.0-OpenSSH_9.9\r\n",
        b"PRI * HTTP/2.0\r\n\r\n",
        b"\0",
        b"\rGET",
        b"\x05\x01\x00",  # SOCKS
        b"\xff",
        b" ",
        b"EHLO a.example\r\n",
        b"<?xml version='1.0'?>",
        b"{}",
    ],
    ids=repr,
)
def test_garbage_is_refused_as_soon_as_it_shows(garbage: bytes) -> None:
    """Such a client waits for an answer to what it sent; it would never send the empty line."""
    assert refuse(garbage).status in (400, 505)
    assert refuse(*octets(garbage)).status in (400, 505)
