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

from enum import Enum

from .body import BodyReader, ChunkedReader, LengthReader
from .errors import ProtocolError
from .fields import CHUNKED
from .grammar import BARE_LF, REQUEST_LINE, TOKEN
from .heads import HeadParser, Limits, Request, first_line_error

__all__ = ["Limits", "Request", "RequestParser", "State"]


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


class RequestParser:
    """Parses the requests of one connection, one after the other.

    Args:
        limits: Bounds to enforce; the defaults are those of ``Config``.
        heads: Parses the heads, with bounds of its own, which then count; it may be shared by many
            parsers.
    """

    __slots__ = (
        "_body",
        "_data",
        "_empty_line_seen",
        "_first_line_seen",
        "_heads",
        "_limits",
        "_pos",
        "_scanned",
        "state",
    )

    def __init__(self, limits: Limits | None = None, heads: HeadParser | None = None) -> None:
        self._heads = heads or HeadParser(limits)
        self._limits = self._heads.limits
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
        return self._body is not None or len(self._data) > self._pos

    @property
    def head_refused(self) -> bool:
        """Whether what can't be parsed is the head of a HEAD request, whose answer has no body."""
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
        data, pos = self._data, self._pos
        if data.startswith(b"\r\n", pos) and not self._empty_line_seen:
            # RFC 9112 section 2.2: one empty line before a request is to be ignored.
            self._empty_line_seen = True
            pos = self._pos = pos + 2
        end = data.find(b"\r\n\r\n", max(pos, self._scanned - 3)) + 4
        if end < 4:
            self._check_incomplete(pos)
            return None
        # (Nothing is copied if that is all there is.)
        request = self._heads.parse(bytes(data[pos:end]))
        length = request.fields.length
        self._body = self._open_body(length) if length else None
        self._pos = end
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
                    raise first_line_error(data, limits, pos)
                self._first_line_seen = True
            elif TOKEN.match(data, pos, pos + 1) is None:
                raise ProtocolError("not an HTTP request")
        if len(data) - pos > limits.limit_header_size:
            raise ProtocolError("request head too large", 431)
        self._scanned = len(data)
