"""Octets that come one at a time: the same result, and work that grows no faster than they do.

Work is counted, not timed: octets that were searched or copied, by buffer methods and by patterns.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from subinterp_asgi.http1 import RequestParser, body, grammar, parser

from .messages import UNBOUNDED, drive, octets, parse_one

SIZE = 65536
HEAD = b"GET / HTTP/1.1\r\nHost: a\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"

STREAMS = {
    "one long field": HEAD + b"A: " + b"x" * SIZE + b"\r\n\r\n",
    "many short fields": HEAD + b"A: b\r\n" * (SIZE // 6) + b"\r\n",
    "a long request line": b"GET /" + b"x" * SIZE + b" HTTP/1.1\r\nHost: a\r\n\r\n",
    "a long method": b"G" * SIZE + b" / HTTP/1.1\r\nHost: a\r\n\r\n",
    "an empty line first": b"\r\n" + HEAD + b"A: " + b"x" * SIZE + b"\r\n\r\n",
    "spaces": HEAD + b"A:" + b" " * SIZE + b"\r\n\r\n",
    "many requests": (HEAD + b"\r\n") * (SIZE // len(HEAD)),
    "a body": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % SIZE + b"\n" * SIZE,
    "one chunk": CHUNKED + b"%x\r\n" % SIZE + b"\r" * SIZE + b"\r\n0\r\n\r\n",
    "small chunks": CHUNKED + b"1\r\na\r\n" * (SIZE // 6) + b"0\r\n\r\n",
    "long extensions": CHUNKED + (b"1;" + b"x" * 4000 + b"\r\na\r\n") * 16 + b"0\r\n\r\n",
    "a long trailer": CHUNKED + b"0\r\nA: " + b"x" * SIZE + b"\r\n\r\n",
    "many trailers": CHUNKED + b"0\r\n" + b"A: b\r\n" * (SIZE // 6) + b"\r\n",
}


class Work:
    """Octets that were looked at or copied."""

    def __init__(self) -> None:
        self.done = 0


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Iterator[Work]:
    """Count what the parser does with its buffer from now on."""
    work = Work()

    class CountingBuffer(bytearray):
        def __getitem__(self, key: Any) -> Any:
            found = super().__getitem__(key)
            work.done += 1 if isinstance(found, int) else len(found)
            return found

        def find(self, *args: Any) -> int:
            start = args[1] if len(args) > 1 else 0
            end = min(args[2] if len(args) > 2 else len(self), len(self))
            at = super().find(*args)
            work.done += max((end if at < 0 else at) - start, 0)
            return at

    class CountingPattern:
        def __init__(self, pattern: re.Pattern[bytes]) -> None:
            self._pattern = pattern

        def _count(self, name: str, data: bytes, *span: int) -> re.Match[bytes] | None:
            match: re.Match[bytes] | None = getattr(self._pattern, name)(data, *span)
            start = span[0] if span else 0
            # A failed match has looked at no more than all there is.
            end = match.end() if match else (span[1] if len(span) > 1 else len(data))
            work.done += max(end - start, 0)
            return match

        def search(self, *args: Any) -> re.Match[bytes] | None:
            return self._count("search", *args)

        def match(self, *args: Any) -> re.Match[bytes] | None:
            return self._count("match", *args)

        def fullmatch(self, *args: Any) -> re.Match[bytes] | None:
            return self._count("fullmatch", *args)

    monkeypatch.setattr(parser, "bytearray", CountingBuffer, raising=False)
    for module in (parser, body):
        for name, value in vars(module).items():
            if isinstance(value, re.Pattern):
                monkeypatch.setattr(module, name, CountingPattern(value))
    return work


@pytest.mark.parametrize("stream", STREAMS.values(), ids=STREAMS)
def test_work_is_linear(stream: bytes, work: Work) -> None:
    outcome = drive(RequestParser(UNBOUNDED), octets(stream))
    assert outcome.error is None
    assert outcome.messages[-1].complete
    # Quadratic work would be some ten thousand times the length.
    assert work.done < 16 * len(stream)


@pytest.mark.parametrize("stream", STREAMS.values(), ids=STREAMS)
def test_octet_by_octet_is_the_same_as_at_once(stream: bytes) -> None:
    at_once = drive(RequestParser(UNBOUNDED), [stream])
    by_octet = drive(RequestParser(UNBOUNDED), octets(stream))
    assert at_once.bodies == by_octet.bodies
    for one, other in zip(at_once.messages, by_octet.messages, strict=True):
        assert one.head.headers == other.head.headers
        assert one.head.target == other.head.target


def test_a_head_of_64_kib_within_the_default_limits() -> None:
    field = b"A: " + b"x" * 8000 + b"\r\n"
    head = HEAD + field * 8
    last = SIZE - len(head) - len(b"B: \r\n\r\n")
    head += b"B: " + b"y" * last + b"\r\n\r\n"
    assert len(head) == SIZE
    outcome = drive(RequestParser(), octets(head))
    assert outcome.error is None
    assert len(outcome.messages[0].head.headers) == 10


HOSTILE = {
    "REQUEST_LINE": [b"G" * SIZE, b"G " + b"/" * SIZE, b"G / HTTP/1." * (SIZE // 11)],
    "FIELD_BLOCK": [b"a:" * SIZE, b"a: b\r\n" * (SIZE // 6) + b"\0", b"a:" + b"\t " * SIZE],
    "FIELD_LINE": [b"a" * SIZE, b"a:" + b" " * SIZE, b"a:b\r\n" * SIZE],
    "CHUNK_EXT": [
        b";a" * SIZE,
        b" \t" * SIZE,
        b';a="' + b"\\" * SIZE,
        b";" + b" " * SIZE,
        b";a=b " * SIZE + b"!",
    ],
    "HOST": [b"a" * SIZE + b",", b"%41" * SIZE + b"%", b"[" + b":" * SIZE, b"[v1." + b":" * SIZE],
    "BARE_LF": [b"\r" * SIZE, b"\r\n" * SIZE],
    "BAD_ESCAPE": [b"%41" * SIZE, b"%" * SIZE],
    "OVERLONG_UTF8": [b"\xe0\xa0" * SIZE, b"\xf0\x90" * SIZE],
    "CONTENT_LENGTH": [b"1" * SIZE],
    "TOKEN": [b"a" * SIZE + b"("],
}


@pytest.mark.parametrize("name", HOSTILE)
def test_patterns_do_not_backtrack(name: str) -> None:
    """With a hundred times what fits a head: a pattern that retries would not end in a minute."""
    pattern: re.Pattern[bytes] = getattr(grammar, name)
    for text in HOSTILE[name]:
        pattern.fullmatch(text * 100)
        pattern.match(text * 100)


def test_every_pattern_is_tried() -> None:
    used = {
        name
        for module in (parser, body)
        for name, value in vars(module).items()
        if isinstance(value, re.Pattern)
    }
    assert used - HOSTILE.keys() == {"CHUNK_SIZE"}  # which is bounded


def test_many_small_feeds_do_not_keep_what_was_taken() -> None:
    parser_ = RequestParser()
    for _ in range(1000):
        parser_.feed(HEAD)
        assert parser_.next_request() is None
        parser_.feed(b"\r\n" + HEAD + b"\r\n")
        assert parser_.next_request() is not None
        assert parser_.next_request() is not None
        assert parser_.buffered == 0
    assert parse_one(HEAD + b"\r\n").complete
