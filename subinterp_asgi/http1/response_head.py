"""How a response begins: the status and the fields that an application gives, checked, as bytes."""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus

from ..errors import ASGIProtocolError
from ..types import Field
from .cache import Cache
from .fields import split_list
from .grammar import FIELD_NAME, TOKEN

ANY_LENGTH = -1
"""The ``length`` of a response without Content-Length."""

STATUS_LINES: dict[int, bytes] = {
    status.value: b"HTTP/1.1 %d %s\r\n" % (status, status.phrase.encode("ascii"))
    for status in HTTPStatus
    if status >= 200
}

# What a field that an application sends means to the writer.
_PLAIN, _CONTENT_LENGTH, _TRANSFER_ENCODING, _CONNECTION, _DATE, _SERVER = range(6)
_SPECIAL = {
    b"content-length": _CONTENT_LENGTH,
    b"transfer-encoding": _TRANSFER_ENCODING,
    b"connection": _CONNECTION,
    b"keep-alive": _TRANSFER_ENCODING,
    b"date": _DATE,
    b"server": _SERVER,
}


class ResponseStart:
    """Status line and fields. It may be shared by all responses that begin alike: don't change it.

    Attributes:
        block: The status line and the field lines that are sent as they are.
        length: Content-Length, or ``ANY_LENGTH``.
        connection: The options of ``Connection``, lower-cased; not in the block.
        has_date, has_server: There is such a field in the block.
        plain: There is none of these three.
    """

    __slots__ = ("block", "connection", "has_date", "has_server", "length", "plain")

    def __init__(self, status: int, fields: Iterable[Field]) -> None:
        status_line = STATUS_LINES.get(status)
        if status_line is None:
            status_line = _unusual_status_line(status)
        self.length = ANY_LENGTH
        self.connection: list[bytes] = []
        self.has_date = self.has_server = False
        parts = [status_line]
        count = 1
        try:
            for name, value in fields:
                kind = classify(name)
                if kind is not _PLAIN and self._take_special(kind, value, status):
                    continue
                parts += (name, b": ", value, b"\r\n")
                count += 1
            self.block = b"".join(parts)
        except (TypeError, ValueError, AttributeError):
            raise ASGIProtocolError(
                "response headers must be an iterable of (name, value) pairs of bytes"
            ) from None
        check_block(self.block, count)
        self.plain = not (self.connection or self.has_date or self.has_server)

    def _take_special(self, kind: int, value: bytes, status: int) -> bool:
        """Note a field that the writer acts on; ``True`` if it must not be sent as it is."""
        if kind == _CONTENT_LENGTH:
            if not value.isdigit():
                raise ASGIProtocolError(f"invalid Content-Length in the response: {value!r}")
            if self.length not in (ANY_LENGTH, int(value)):
                raise ASGIProtocolError("the response has two values of Content-Length")
            repeated = self.length != ANY_LENGTH
            self.length = int(value)
            # RFC 9110 section 8.6: never with 204; 205 has no content (section 15.3.6).
            return repeated or status in (204, 205)
        if kind == _CONNECTION:
            options = split_list(value)
            if not all(map(TOKEN.fullmatch, options)):
                raise ASGIProtocolError(f"invalid Connection in the response: {value!r}")
            self.connection += options
            return True
        if kind == _DATE:
            self.has_date = True
        elif kind == _SERVER:
            self.has_server = True
        # Framing and persistence are the server's (RFC 9110 section 7.6.1): the application's
        # Transfer-Encoding and Keep-Alive are dropped.
        return kind == _TRANSFER_ENCODING


# Those that applications have sent twice of late; most begin all responses of a kind alike.
# To find one saves a tenth of the time of a small request. Bounded in number and in size.
_MAX_STARTS = 512
_MAX_BLOCK = 512
_starts = Cache(_MAX_STARTS)


def read_start(status: int, fields: Iterable[Field]) -> ResponseStart:
    """Check and render the beginning of a response; errors as ``ResponseWriter.start()``."""
    try:
        fields = tuple(fields)  # it may be an iterator, which gives them once
        key = status, fields
        start: ResponseStart | None = _starts.get(key)
    except TypeError:  # there are lists instead of tuples, or it is not iterable at all
        return ResponseStart(status, fields)
    if start is None:
        start = ResponseStart(status, fields)
        if len(start.block) <= _MAX_BLOCK and _starts.seen_before(key):
            _starts.remember(key, start, 1)
    return start


def check_block(block: bytes, lines: int) -> None:
    """Check that rendered lines are as many as were meant: nothing in them has CR, LF or NUL."""
    if block.count(b"\n") != lines or block.count(b"\r") != lines or b"\0" in block:
        raise ASGIProtocolError("a response header value contains CR, LF or NUL")


# Names that applications have sent, each checked once. Bounded, since an application may make
# names up from data; beyond the bound they are checked every time.
_kinds: dict[bytes, int] = dict(_SPECIAL)
_MAX_KINDS = 1024


def classify(name: bytes) -> int:
    """Check that the name of a field is a token, and tell what it means to the writer."""
    kind = _kinds.get(name)
    if kind is None:
        if FIELD_NAME.fullmatch(name) is None:
            raise ASGIProtocolError(f"invalid response header name: {name!r}")
        kind = _SPECIAL.get(bytes(name).lower(), _PLAIN)
        if len(_kinds) < _MAX_KINDS:
            _kinds[bytes(name)] = kind
    return kind


def _unusual_status_line(status: object) -> bytes:
    if not isinstance(status, int) or not 200 <= status <= 999:
        raise ASGIProtocolError(f"not a final status code: {status!r}")
    return b"HTTP/1.1 %d \r\n" % status
