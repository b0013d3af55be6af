"""Header field blocks: split, checked, and read for what they say about the message.

A ``FieldBlock`` is what the parser and the server need to know of a request's fields: the list that
the application gets, how the body is framed (RFC 9112 section 6), whether the connection lives on
(section 9.3) and the few fields that the server itself acts on.
"""

from __future__ import annotations

from ..types import Fields
from .errors import ProtocolError
from .grammar import CONTENT_LENGTH, FIELD_BLOCK, FIELD_LINE, TOKEN
from .target import check_host

CHUNKED = -1
"""The ``length`` of a body in chunks."""


class FieldBlock:
    """The fields of one message head, parsed.

    Attributes:
        items: (lower-cased name, value) pairs in order; repeats are kept.
        forwarded: There are fields of the kind that proxies add, whether or not to be believed.
        length: Octets of the body; 0 without one; ``CHUNKED``.
        close: ``Connection`` has the token ``close``.
        keep_alive: ``Connection`` has the token ``keep-alive``.
        upgrade: The protocols of ``Upgrade``, lower-cased, if ``Connection`` names that field too.
        expect: The expectations of ``Expect``, lower-cased.
        host: Value of ``Host``, or ``None`` if there is no such field.
        trailers_ok: ``TE`` has the token ``trailers``.
    """

    __slots__ = (
        "close",
        "expect",
        "forwarded",
        "host",
        "items",
        "keep_alive",
        "length",
        "trailers_ok",
        "upgrade",
    )

    def __init__(self, items: Fields) -> None:
        self.items = tuple(items)
        self.forwarded = False
        self.length = 0
        self.close = False
        self.keep_alive = False
        self.upgrade: tuple[bytes, ...] = ()
        self.expect: tuple[bytes, ...] = ()
        self.host: bytes | None = None
        self.trailers_ok = False


def split_fields(block: bytes, limit_fields: int, limit_field_size: int) -> Fields:
    """Split field lines, each ended by CRLF, into (lower-cased name, value) pairs.

    ``ProtocolError``: a line breaks the grammar (400), is too long or one too many (431).
    """
    if FIELD_BLOCK.fullmatch(block) is None:
        raise ProtocolError(_what_is_wrong(block))
    items = [(name.lower(), value.strip(b" \t")) for name, value in FIELD_LINE.findall(block)]
    if len(items) > limit_fields:
        raise ProtocolError("too many header fields", 431)
    if len(block) > limit_field_size and max(map(len, block.split(b"\r\n"))) > limit_field_size:
        raise ProtocolError("header field too long", 431)
    return items


def read_fields(items: Fields) -> FieldBlock:
    """Read the fields that decide about framing and connection.

    (One loop over all fields, and so one long function: it is on the path of each new head.)

    ``ProtocolError``: they contradict themselves or each other (400), or name a transfer coding
    that is not implemented (501).
    """
    block = FieldBlock(items)
    length: int | None = None
    codings: list[bytes] = []
    upgrade: tuple[bytes, ...] = ()
    connection: list[bytes] = []
    for name, value in items:
        if name not in _READ_HERE:
            continue
        if name == b"host":
            if block.host is not None:
                raise ProtocolError("more than one Host field")
            check_host(value)
            block.host = value
        elif name == b"connection":
            connection += split_list(value)
        elif name == b"content-length":
            if length is not None:
                raise ProtocolError("more than one Content-Length field")
            if CONTENT_LENGTH.fullmatch(value) is None:
                raise ProtocolError("invalid Content-Length")
            length = int(value)
        elif name == b"transfer-encoding":
            codings += split_list(value)
            block.length = CHUNKED
        elif name == b"expect":
            block.expect += tuple(split_list(value))
        elif name == b"upgrade":
            upgrade += tuple(split_list(value))
        elif name == b"te":
            block.trailers_ok = block.trailers_ok or b"trailers" in split_list(value)
        else:
            block.forwarded = True
    if connection:
        block.close = b"close" in connection
        block.keep_alive = b"keep-alive" in connection
        if b"upgrade" in connection:  # RFC 9110 section 7.8
            block.upgrade = upgrade
    if block.length == CHUNKED:
        if length is not None:
            raise ProtocolError("both Content-Length and Transfer-Encoding")
        _check_codings(codings)
    elif length is not None:
        block.length = length
    return block


_READ_HERE = frozenset(
    b"host connection content-length transfer-encoding expect upgrade te "
    b"forwarded x-forwarded-for x-forwarded-proto x-forwarded-host x-forwarded-port".split()
)


def split_list(value: bytes) -> list[bytes]:
    """Split a list at its commas (RFC 9110 section 5.6.1), lower-cased, without empty elements."""
    return [item for part in value.lower().split(b",") if (item := part.strip(b" \t"))]


def _check_codings(codings: list[bytes]) -> None:
    """RFC 9112 sections 6.1 and 7: only chunked is known; it must be last and applied once."""
    if codings == [b"chunked"]:
        return
    malformed = not codings or not all(map(TOKEN.fullmatch, codings))
    if malformed or b"chunked" in codings[:-1]:
        # Where chunked is not last the length of a body can't be known (section 6.3).
        raise ProtocolError("invalid Transfer-Encoding")
    raise ProtocolError("unsupported Transfer-Encoding", 501)


def _what_is_wrong(block: bytes) -> str:
    """Say what the first line at fault did wrong; for the log, off the fast path."""
    for line in block.split(b"\r\n"):
        if line and FIELD_LINE.fullmatch(line + b"\r\n") is None:
            if line[:1] in b" \t":
                return "folded header field"
            name, colon, _ = line.partition(b":")
            if not colon:
                return "header field without a colon"
            if name != name.rstrip(b" \t"):
                return "space before the colon of a header field"
            return "invalid character in a header field"
    return "invalid header fields"
