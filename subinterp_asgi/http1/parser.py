"""A parser for HTTP/1.1 requests (RFC 9112) that does no I/O: bytes in, requests and bodies out.

::

    parser = RequestParser()
    parser.feed(data)                       # whatever came from the socket, in any split
    request = parser.next_request()         # None: feed more
    while not parser.body_complete:
        piece = parser.read_body()          # b"": feed more
    request = parser.next_request()         # the next one on the same connection

It accepts what the grammar allows and nothing else: where recipients are free to be lenient, and
differ, requests are smuggled. After a ``ProtocolError`` the parser is dead, since where the next
message would begin is unknown.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from ..types import TYPE_CHECKING
from .body import ChunkedReader, LengthReader
from .errors import ProtocolError
from .fields import CHUNKED, FieldBlock, FieldCache
from .grammar import BARE_LF, REQUEST_LINE, TOKEN
from .target import decode_path, split_target

if TYPE_CHECKING:
    from .body import BodyReader


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds on what a client may send; each is the option of the same name of ``Config``."""

    limit_request_line: int = 8190
    limit_request_fields: int = 100
    limit_request_field_size: int = 8190
    limit_header_size: int = 65536
    limit_body_size: int | None = None

    def new_field_cache(self) -> FieldCache:
        """Make what parses fields within these bounds."""
        return FieldCache(self.limit_request_fields, self.limit_request_field_size)


class State(Enum):
    """Where in the stream of messages the parser is."""

    HEAD = "head"
    """Between messages, or inside a head."""
    BODY = "body"
    """A head was returned and its body is not complete."""
    DONE = "done"
    """The message is complete; ``next_request()`` begins the next."""
    FAILED = "failed"
    """A ``ProtocolError`` was raised."""


class Request:
    """The head of a request.

    Attributes:
        method: Case-sensitive method, as sent.
        target: The request target, as sent.
        path: Decoded path; see ``target.decode_path``.
        raw_path: Path as sent, without query.
        query: Query as sent, without its question mark.
        authority: Host of an absolute-form target, which stands over the Host field, or ``None``.
        http_version: ``"1.0"`` or ``"1.1"``, the version to answer with.
        headers: (lower-cased name, value) pairs in order. A fresh list, the caller's to keep. Its
            Host is that of an absolute-form target, if it was one.
        fields: What the fields say about message and connection.
        keep_alive: Whether the client lets the connection live on (RFC 9112 section 9.3).
        expect_continue: The client waits for ``100 Continue`` before it sends the body.
    """

    __slots__ = (
        "authority",
        "expect_continue",
        "fields",
        "headers",
        "http_version",
        "keep_alive",
        "method",
        "path",
        "query",
        "raw_path",
        "target",
    )

    method: str
    target: bytes
    path: str
    raw_path: bytes
    query: bytes
    authority: bytes | None
    http_version: str
    headers: list[tuple[bytes, bytes]]
    fields: FieldBlock
    keep_alive: bool
    expect_continue: bool


class RequestParser:
    """Parses the requests of one connection, one after the other.

    Args:
        limits: Bounds to enforce; the defaults are those of ``Config``.
        fields: Parses the fields, with the same bounds; it may be shared by many parsers.
    """

    __slots__ = (
        "_body",
        "_data",
        "_empty_line_seen",
        "_fields",
        "_first_line_seen",
        "_limits",
        "_pos",
        "_scanned",
        "state",
    )

    def __init__(self, limits: Limits | None = None, fields: FieldCache | None = None) -> None:
        self._limits = limits or Limits()
        self._fields = fields or self._limits.new_field_cache()
        # What was fed and not yet parsed is _data[_pos:]. It is the very object fed as long as
        # messages come whole, and becomes a bytearray once pieces have to be put together.
        self._data: bytes | bytearray = b""
        self._pos = 0
        # Of an incomplete head: how far it was searched for its end, and whether its first line
        # was looked at, so that bytes coming one at a time cost no more than all at once.
        self._scanned = 0
        self._first_line_seen = False
        self._empty_line_seen = False  # before the head that comes next
        self._body: BodyReader | None = None
        self.state = State.HEAD

    @property
    def buffered(self) -> int:
        """Number of octets fed that no message has taken yet."""
        return len(self._data) - self._pos

    @property
    def body_complete(self) -> bool:
        """Whether the last request's body has been read to its end."""
        return self._body is None

    @property
    def body_remaining(self) -> int | None:
        """Octets of body still to be read, or ``None`` where chunks leave it open."""
        return 0 if self._body is None else self._body.remaining

    @property
    def mid_message(self) -> bool:
        """Whether the stream would be cut short if it ended here (RFC 9112 section 8)."""
        return self.state is State.BODY or self.buffered > 0

    @property
    def head_refused(self) -> bool:
        """Whether the head that can't be parsed is one of a HEAD request: no answer has a body."""
        return self.state is not State.BODY and self._data.startswith(b"HEAD ", self._pos)

    def feed(self, data: bytes) -> None:
        """Take what came from the peer. Nothing is parsed before it is asked for."""
        if self._pos == len(self._data):
            self._data = data
            self._scanned = self._pos = 0
            return
        if isinstance(self._data, bytearray):
            del self._data[: self._pos]
        else:
            self._data = bytearray(memoryview(self._data)[self._pos :])
        self._scanned = max(self._scanned - self._pos, 0)
        self._pos = 0
        self._data += data

    def take_rest(self) -> bytes:
        """Hand over what was fed and not parsed, for a protocol that takes over the connection."""
        rest = bytes(self._data[self._pos :])
        self._data, self._pos = b"", 0
        return rest

    def next_request(self) -> Request | None:
        """Parse the next request head; ``None`` if more must be fed first.

        Raises:
            ProtocolError: The head is malformed or beyond a limit.
            RuntimeError: The last message's body was not read to its end, or the parser failed.
        """
        if self.state is State.BODY or self.state is State.FAILED:
            raise RuntimeError(f"no request can follow: the parser's state is {self.state.value}")
        try:
            request = self._parse_head()
        except ProtocolError:
            self.state = State.FAILED
            raise
        if request is None:
            self.state = State.HEAD
        elif self._body is None:
            self.state = State.DONE
        else:
            self.state = State.BODY
        return request

    def read_body(self) -> bytes:
        """Return what has come of the body, decoded; empty if there is none for now or at the end.

        Raises:
            ProtocolError: The chunked coding is malformed, or the body is beyond its limit (413).
        """
        body = self._body
        if body is None:
            return b""
        try:
            piece, self._pos = body.read(self._data, self._pos)
        except ProtocolError:
            self.state = State.FAILED
            raise
        if body.complete:
            self._body = None
            self.state = State.DONE
        return piece

    def _parse_head(self) -> Request | None:
        data, pos, limits = self._data, self._pos, self._limits
        if data.startswith(b"\r\n", pos) and not self._empty_line_seen:
            # RFC 9112 section 2.2: one empty line before a request is to be ignored.
            self._empty_line_seen = True
            pos = self._pos = pos + 2
        end = data.find(b"\r\n\r\n", max(pos, self._scanned - 3))
        if end < 0:
            self._check_incomplete(pos)
            return None
        line = REQUEST_LINE.match(data, pos)
        if line is None:
            raise self._first_line_error(pos)
        fields_at = line.end()
        if fields_at - pos - 2 > limits.limit_request_line:
            raise ProtocolError("request line too long", 414)
        if end + 4 - pos > limits.limit_header_size:
            raise ProtocolError("request head too large", 431)
        fields = self._fields.parse(bytes(data[fields_at : end + 2]))

        method, target, major, minor = line.groups()
        if major != b"1":
            raise ProtocolError("HTTP version not supported", 505)
        request = Request()
        request.method = method.decode("ascii")
        request.target = target
        request.headers = list(fields.items)
        request.fields = fields
        request.raw_path, request.query, request.authority = split_target(request.method, target)
        request.path = decode_path(request.raw_path)
        if request.authority is not None:
            _replace_host(request.headers, request.authority)
        if minor != b"0":
            if not fields.host:
                self._check_host_missing(request)
            request.http_version = "1.1"
            request.keep_alive = not fields.close
        else:
            if fields.has_transfer_encoding:
                # RFC 9112 section 6.1: such a message's framing is faulty.
                raise ProtocolError("Transfer-Encoding in an HTTP/1.0 request")
            request.http_version = "1.0"
            request.keep_alive = fields.keep_alive and not fields.close
        request.expect_continue = False
        if fields.expect and minor != b"0":
            # RFC 9110 section 10.1.1: an expectation in an HTTP/1.0 request is ignored.
            if any(expectation != b"100-continue" for expectation in fields.expect):
                raise ProtocolError("unknown expectation", 417)
            request.expect_continue = fields.length != 0
        self._body = self._open_body(fields.length) if fields.length else None
        self._pos = end + 4
        self._scanned = 0
        self._first_line_seen = self._empty_line_seen = False
        return request

    def _open_body(self, length: int) -> BodyReader:
        limits = self._limits
        if length == CHUNKED:
            return ChunkedReader(limits)
        if limits.limit_body_size is not None and length > limits.limit_body_size:
            raise ProtocolError("request body too large", 413)
        return LengthReader(length)

    @staticmethod
    def _check_host_missing(request: Request) -> None:
        """RFC 9112 section 3.2: Host is required, and empty only if the target has no authority."""
        if request.fields.host is None:
            raise ProtocolError("no Host field")
        if request.authority is None and request.raw_path != b"*":
            raise ProtocolError("empty Host field")

    def _check_incomplete(self, pos: int) -> None:
        """Refuse early what can't become a valid head; a client may never send the rest."""
        data, limits = self._data, self._limits
        if data[pos : pos + 2] in (b"", b"\r"):
            return
        if BARE_LF.search(data, max(pos, self._scanned)):
            raise ProtocolError("line feed without carriage return")
        if not self._first_line_seen:
            line_end = data.find(b"\r\n", max(pos, self._scanned - 1))
            line_length = (len(data) if line_end < 0 else line_end) - pos
            if line_length > limits.limit_request_line:
                raise ProtocolError("request line too long", 414)
            if line_end >= 0:
                if REQUEST_LINE.match(data, pos) is None:
                    raise self._first_line_error(pos)
                self._first_line_seen = True
            elif TOKEN.match(data, pos, pos + 1) is None:
                raise ProtocolError("not an HTTP request")
        if len(data) - pos > limits.limit_header_size:
            raise ProtocolError("request head too large", 431)
        self._scanned = len(data)

    def _first_line_error(self, pos: int) -> ProtocolError:
        end = self._data.find(b"\r\n", pos)
        if end - pos > self._limits.limit_request_line:
            return ProtocolError("request line too long", 414)
        return ProtocolError("malformed request line")


def _replace_host(items: list[tuple[bytes, bytes]], authority: bytes) -> None:
    """RFC 9112 section 3.2.2: the authority of an absolute-form target stands over Host."""
    for index, (name, _) in enumerate(items):
        if name == b"host":
            items[index] = (name, authority)
            return
    items.insert(0, (b"host", authority))
