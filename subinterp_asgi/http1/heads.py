"""Heads of requests (RFC 9112 sections 3 and 5): from whole octets to what a server acts on."""

from __future__ import annotations

from dataclasses import dataclass, fields

from ..types import Field, Fields
from .cache import Cache
from .errors import ProtocolError
from .fields import CHUNKED, FieldBlock, read_fields, split_fields
from .grammar import REQUEST_LINE
from .target import decode_path, split_target


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds on what a client may send; each is the option of the same name of ``Config``."""

    limit_request_line: int = 8190
    limit_request_fields: int = 100
    limit_request_field_size: int = 8190
    limit_header_size: int = 65536
    limit_body_size: int | None = None

    @classmethod
    def of(cls, options: object) -> Limits:
        """Those of a ``Config``."""
        return cls(**{limit.name: getattr(options, limit.name) for limit in fields(cls)})


class Request:
    """The head of a request. It may be shared by all requests that have the same: don't change it.

    Attributes:
        method: Case-sensitive method, as sent.
        target: The request target, as sent.
        path: Decoded path; see ``target.decode_path``.
        raw_path: Path as sent, without query.
        query: Query as sent, without its question mark.
        authority: Host of an absolute-form target, which stands over the Host field, or ``None``.
        http_version: ``"1.0"`` or ``"1.1"``, the version to answer with.
        items: (lower-cased name, value) pairs in order. Its Host is that of an absolute-form
            target, if it was one.
        fields: What the fields say about message and connection.
        keep_alive: Whether the client lets the connection live on (RFC 9112 section 9.3).
        expect_continue: The client waits for ``100 Continue`` before it sends the body.
    """

    __slots__ = (
        "authority",
        "expect_continue",
        "fields",
        "http_version",
        "items",
        "keep_alive",
        "method",
        "path",
        "query",
        "raw_path",
        "target",
    )

    def __init__(self, method: bytes, target: bytes, minor: bytes, fields: FieldBlock) -> None:
        """Read the parts of a request line, of which ``minor`` is of the version, and the fields.

        ``ProtocolError``: they don't go together.
        """
        self.method = method.decode("ascii")
        self.target = target
        self.fields = fields
        self.items = fields.items
        self.raw_path, self.query, self.authority = split_target(self.method, target)
        self.path = decode_path(self.raw_path)
        if self.authority is not None:
            self.items = _replace_host(fields.items, self.authority)
        self.expect_continue = False
        if minor != b"0":
            if not fields.host:
                self._check_host_missing()
            self.http_version = "1.1"
            self.keep_alive = not fields.close
            # RFC 9110 section 10.1.1: an expectation in an HTTP/1.0 request is ignored.
            if fields.expect:
                if any(expectation != b"100-continue" for expectation in fields.expect):
                    raise ProtocolError("unknown expectation", 417)
                self.expect_continue = fields.length != 0
        else:
            if fields.length == CHUNKED:
                # RFC 9112 section 6.1: such a message's framing is faulty.
                raise ProtocolError("Transfer-Encoding in an HTTP/1.0 request")
            self.http_version = "1.0"
            self.keep_alive = fields.keep_alive and not fields.close

    def _check_host_missing(self) -> None:
        """RFC 9112 section 3.2: Host is required, and empty only if the target has no authority."""
        if self.fields.host is None:
            raise ProtocolError("no Host field")
        if self.authority is None and self.raw_path != b"*":
            raise ProtocolError("empty Host field")

    @property
    def headers(self) -> Fields:
        """``items`` as a fresh list, the caller's to keep."""
        return list(self.items)


class HeadParser:
    """Parses heads, and remembers the last ones by their octets; for any number of connections.

    Clients repeat themselves: to find a head parsed saves a tenth of the time of a small request,
    and so does a block of fields, where only the first line is another. Heads are remembered that
    have come twice, since to keep what never comes again costs more than a tenth. What is shared
    can't be changed, and it is bounded in octets, since clients choose it.

    ``limits`` are the bounds to enforce; the defaults are those of ``Config``.
    """

    __slots__ = ("_blocks", "_heads", "limits")

    MAX_HEAD = MAX_BLOCK = 2048
    MAX_SIZE = 262144

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self._blocks = Cache(self.MAX_SIZE)
        self._heads = Cache(self.MAX_SIZE)

    def parse(self, head: bytes) -> Request:
        """Parse a head, from its first octet to the empty line at its end.

        ``ProtocolError``: it is malformed or beyond a limit.
        """
        request: Request | None = self._heads.get(head)
        if request is None:
            request = self._parse(head)
            if len(head) <= self.MAX_HEAD and self._heads.seen_before(head):
                self._heads.remember(head, request, len(head))
        return request

    def _parse(self, head: bytes) -> Request:
        limits = self.limits
        line = REQUEST_LINE.match(head)
        if line is None:
            raise first_line_error(head, limits)
        fields_at = line.end()
        if fields_at - 2 > limits.limit_request_line:
            raise ProtocolError("request line too long", 414)
        if len(head) > limits.limit_header_size:
            raise ProtocolError("request head too large", 431)
        block = head[fields_at:-2]
        fields: FieldBlock | None = self._blocks.get(block)
        if fields is None:
            limit_field_size = limits.limit_request_field_size
            fields = read_fields(split_fields(block, limits.limit_request_fields, limit_field_size))
            if len(block) <= self.MAX_BLOCK:
                self._blocks.remember(block, fields, len(block))

        method, target, major, minor = line.groups()
        if major != b"1":
            raise ProtocolError("HTTP version not supported", 505)
        return Request(method, target, minor, fields)


def first_line_error(data: bytes | bytearray, limits: Limits, pos: int = 0) -> ProtocolError:
    """Say what is wrong with a line, from ``pos`` on, that is there and matches no grammar."""
    if data.find(b"\r\n", pos) - pos > limits.limit_request_line:
        return ProtocolError("request line too long", 414)
    return ProtocolError("malformed request line")


def _replace_host(items: tuple[Field, ...], authority: bytes) -> tuple[Field, ...]:
    """RFC 9112 section 3.2.2: the authority of an absolute-form target stands over Host."""
    host = (b"host", authority)
    if any(name == b"host" for name, _ in items):  # of which there is one
        return tuple(host if field[0] == b"host" else field for field in items)
    return (host, *items)
