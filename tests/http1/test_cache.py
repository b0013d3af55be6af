"""Heads and field blocks that are remembered: bounded, and nobody ever sees what is another's."""

from __future__ import annotations

import pytest

from subinterp_asgi.http1 import Limits, ProtocolError, RequestParser
from subinterp_asgi.http1.heads import HeadParser

HEAD = b"GET / HTTP/1.1\r\nHost: x\r\nCookie: a=b\r\n\r\n"


def test_each_request_has_a_list_of_its_own() -> None:
    heads = HeadParser()
    one, other = RequestParser(heads=heads), RequestParser(heads=heads)
    one.feed(HEAD)
    other.feed(HEAD.replace(b"GET", b"PUT"))
    first, second = one.next_request(), other.next_request()
    assert first is not None
    assert second is not None
    assert first.fields is second.fields  # found again
    first.headers.append((b"x-added", b"by a middleware"))
    first.headers[0] = (b"host", b"changed")
    assert second.headers == [(b"host", b"x"), (b"cookie", b"a=b")]
    one.feed(HEAD)
    third = one.next_request()
    one.feed(HEAD)
    assert one.next_request() is third  # which had been the second time
    assert third.headers == second.headers


def test_an_absolute_target_changes_one_request_only() -> None:
    parser = RequestParser()
    parser.feed(HEAD.replace(b" / ", b" http://other/ ") + HEAD)
    first, second = parser.next_request(), parser.next_request()
    assert first is not None
    assert second is not None
    assert first.headers[0] == (b"host", b"other")
    assert second.headers[0] == (b"host", b"x")


def head_of(block: bytes) -> bytes:
    return b"GET / HTTP/1.1\r\n" + block + b"\r\n"


def test_size_is_bounded() -> None:
    heads = HeadParser()
    blocks = heads._blocks
    for number in range(2000):
        heads.parse(head_of(b"host: x\r\nx-number: %d\r\nx-pad: %s\r\n" % (number, b"p" * 500)))
        assert blocks.size == sum(map(len, blocks)) <= heads.MAX_SIZE
    assert blocks


def test_large_blocks_are_not_kept() -> None:
    heads = HeadParser()
    heads.parse(head_of(b"host: x\r\nx-pad: %s\r\n" % (b"p" * heads.MAX_BLOCK)))
    assert not heads._blocks


def test_errors_are_not_kept() -> None:
    heads = HeadParser()
    for _ in range(2):
        with pytest.raises(ProtocolError):
            heads.parse(head_of(b"host: x\r\nhost: x\r\n"))
    assert not heads._blocks


def test_heads_are_bounded() -> None:
    heads = HeadParser()
    for number in range(4000):
        heads.parse(b"GET /%d HTTP/1.1\r\nHost: x\r\nx-pad: %s\r\n\r\n" % (number // 2, b"p" * 500))
        assert len(heads._heads._seen) <= heads._heads.MAX_SEEN
        assert heads._heads.size == sum(map(len, heads._heads)) <= heads.MAX_SIZE
    assert heads._heads
    for _ in range(2):
        heads.parse(b"GET / HTTP/1.1\r\nHost: x\r\nx-pad: %s\r\n\r\n" % (b"p" * heads.MAX_HEAD))
    assert max(map(len, heads._heads)) <= heads.MAX_HEAD


def test_heads_that_are_wrong_are_wrong_again() -> None:
    heads = HeadParser(Limits(limit_request_line=20))
    for _ in range(2):
        for head in (
            b"GET / HTTP/1.1\r\n\r\n",
            b"GET /%s HTTP/1.1\r\nHost: x\r\n\r\n" % (b"p" * 9),
        ):
            with pytest.raises(ProtocolError):
                heads.parse(head)
    assert not heads._heads


def test_bodies_are_each_request_s_own() -> None:
    """What is remembered is the head only."""
    parser = RequestParser(Limits(limit_body_size=9))
    head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n"
    parser.feed(head + b"abc" + head + b"def")
    for body in (b"abc", b"def"):
        assert parser.next_request() is not None
        assert not parser.body_complete
        assert parser.read_body() == body
        assert parser.body_complete
