"""Heads of requests (RFC 9112 sections 3 and 5): from whole octets to what a server acts on."""

from __future__ import annotations

from dataclasses import dataclass

from .cache import Cache
from .errors import ProtocolError
from .fields import FieldBlock, read_fields, split_fields
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

    method: str
    target: bytes
    path: str
    raw_path: bytes
    query: bytes
    authority: bytes | None
    http_version: str
    items: tuple[tuple[bytes, bytes], ...]
    fields: FieldBlock
    keep_alive: bool
    expect_continue: bool

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
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
        request = Request()
        request.method = method.decode("ascii")
        request.target = target
        request.items = fields.items
        request.fields = fields
        request.raw_path, request.query, request.authority = split_target(request.method, target)
        request.path = decode_path(request.raw_path)
        if request.authority is not None:
            request.items = _replace_host(fields.items, request.authority)
        if minor != b"0":
            if not fields.host:
                _check_host_missing(request)
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
        return request


def first_line_error(data: bytes | bytearray, limits: Limits, pos: int = 0) -> ProtocolError:
    """Say what is wrong with a line, from ``pos`` on, that is there and matches no grammar."""
    if data.find(b"\r\n", pos) - pos > limits.limit_request_line:
        return ProtocolError("request line too long", 414)
    return ProtocolError("malformed request line")


def _check_host_missing(request: Request) -> None:
    """RFC 9112 section 3.2: Host is required, and empty only if the target has no authority."""
    if request.fields.host is None:
        raise ProtocolError("no Host field")
    if request.authority is None and request.raw_path != b"*":
        raise ProtocolError("empty Host field")


def _replace_host(
    items: tuple[tuple[bytes, bytes], ...], authority: bytes
) -> tuple[tuple[bytes, bytes], ...]:
    """RFC 9112 section 3.2.2: the authority of an absolute-form target stands over Host."""
    host = (b"host", authority)
    if any(name == b"host" for name, _ in items):  # of which there is one
        return tuple(host if field[0] == b"host" else field for field in items)
    return (host, *items)
