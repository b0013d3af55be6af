"""A strict reader of what a server has sent, to tell well-formed responses from others."""

from __future__ import annotations

import re
from collections.abc import Iterator

STATUS_LINE = re.compile(rb"HTTP/1\.1 ([1-9][0-9]{2}) [\t\x20-\x7e\x80-\xff]*\r\n")
FIELD = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+): ([\t\x20-\x7e\x80-\xff]*)\r\n")
CHUNK = re.compile(rb"([0-9a-f]{1,8})\r\n")


class Malformed(AssertionError):
    """This is no response."""


def check_responses(data: bytes, methods: Iterator[str]) -> int:
    """Read responses up to the end, where the last may be cut off; return how many were whole.

    Args:
        data: What the server has sent.
        methods: The methods of the requests, in order; ``""`` for what was no request.
    """
    at = whole = 0
    method: str | None = None
    while at < len(data):
        head_end = data.find(b"\r\n\r\n", at)
        if head_end < 0:
            return whole
        match = STATUS_LINE.match(data, at)
        if match is None:
            raise Malformed(f"not a status line: {data[at : at + 100]!r}")
        status = int(match[1])
        at, fields = _read_fields(data, match.end(), head_end + 2)
        at += 2
        if status < 200:
            if status != 100 or fields:
                raise Malformed(f"unexpected interim response {status}")
            continue
        method = next(methods, "")
        length, coding = fields.get(b"content-length"), fields.get(b"transfer-encoding")
        if length is not None and coding is not None:
            raise Malformed("both framings")
        if method == "HEAD" or status in (204, 304):
            pass
        elif coding is not None:
            end = _read_chunks(data, at)
            if end is None:
                return whole
            at = end
        elif length is not None:
            at += int(length)
            if at > len(data):
                return whole
        else:
            if b"close" not in fields.get(b"connection", b""):
                raise Malformed("a body of no known length, and no close")
            at = len(data)
        whole += 1
        if b"close" in fields.get(b"connection", b"") and at != len(data):
            raise Malformed(f"octets after the last response: {data[at : at + 100]!r}")
    return whole


def _read_fields(data: bytes, at: int, end: int) -> tuple[int, dict[bytes, bytes]]:
    fields: dict[bytes, bytes] = {}
    while at < end:
        match = FIELD.match(data, at)
        if match is None:
            raise Malformed(f"not a field: {data[at : at + 100]!r}")
        name = match[1].lower()
        if name in fields:
            raise Malformed(f"repeated field {name!r}")
        fields[name] = match[2]
        at = match.end()
    return at, fields


def _read_chunks(data: bytes, at: int) -> int | None:
    while True:
        match = CHUNK.match(data, at)
        if match is None:
            if b"\r\n" in data[at : at + 12]:
                raise Malformed(f"not a chunk: {data[at : at + 100]!r}")
            return None
        size = int(match[1], 16)
        at = match.end() + size
        if at + 2 > len(data):
            return None
        if data[at : at + 2] != b"\r\n":
            raise Malformed("a chunk that does not end with its size")
        at += 2
        if size == 0:
            return at
