"""A strict reader of HTTP/1.1 responses: grammar only, no sockets.

It accepts what RFC 9112 lets a server *generate*, not what it asks clients to tolerate,
so that a sloppy response fails the case that provoked it.
"""

import enum
import re
from dataclasses import dataclass, field

from conformance.client.errors import Violation

Fields = tuple[tuple[bytes, bytes], ...]

_STATUS_LINE = re.compile(rb"(HTTP/1\.[01]) ([1-5][0-9]{2}) ([\t \x21-\x7e\x80-\xff]*)")
_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VALUE = re.compile(rb"[\t \x21-\x7e\x80-\xff]*")
_DIGITS = re.compile(rb"[0-9]{1,18}")
_CHUNK_LINE = re.compile(
    rb"([0-9A-Fa-f]{1,15})"
    rb"(?:[ \t]*;[ \t]*[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
    rb'(?:[ \t]*=[ \t]*(?:[!#$%&\'*+\-.^_`|~0-9A-Za-z]+|"[^"\\\r\n]*"))?)*'
)


class Framing(enum.Enum):
    """How the end of a response's content is found."""

    NONE = "no content"
    LENGTH = "content-length"
    CHUNKED = "chunked"
    CLOSE = "close"


@dataclass(frozen=True, slots=True)
class Response:
    """One response, final or interim, as it came over the wire."""

    version: bytes
    status: int
    reason: bytes
    fields: Fields
    framing: Framing = Framing.NONE
    body: bytes = b""
    trailers: Fields = ()
    chunks: tuple[int, ...] = ()
    interim: tuple["Response", ...] = field(default=())

    def values(self, name: str) -> list[bytes]:
        """All values of the field lines called `name` (lower-case), in order."""
        wanted = name.encode()
        return [value for key, value in self.fields if key == wanted]

    def members(self, name: str) -> list[bytes]:
        """The comma-separated members of a list field, lower-cased, empty ones dropped."""
        joined = b",".join(self.values(name))
        return [part.strip(b" \t").lower() for part in joined.split(b",") if part.strip(b" \t")]

    @property
    def says_close(self) -> bool:
        """Whether the server announced that the connection ends after this response."""
        return self.framing is Framing.CLOSE or b"close" in self.members("connection")


def parse_head(block: bytes) -> Response:
    """Parse a head without its final empty line; raise Violation if it is not well formed."""
    lines = block.split(b"\r\n")
    match = _STATUS_LINE.fullmatch(lines[0])
    if match is None:
        raise Violation(f"not a status line: {lines[0][:80]!r}")
    version, status, reason = match.groups()
    return Response(version, int(status), reason, parse_fields(lines[1:]))


def parse_fields(lines: list[bytes]) -> Fields:
    """Parse field lines of a head or trailer section; names come back lower-cased."""
    fields = []
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or _TOKEN.fullmatch(name) is None:
            raise Violation(f"not a field line: {line[:80]!r}")
        value = value.strip(b" \t")
        if _VALUE.fullmatch(value) is None:
            raise Violation(f"forbidden octet in the value of {name!r}: {value[:80]!r}")
        fields.append((name.lower(), value))
    return tuple(fields)


def framing_of(head: Response, method: str) -> tuple[Framing, int]:
    """Return how the content of a response to `method` is delimited, and its length if known."""
    lengths = head.values("content-length")
    codings = head.values("transfer-encoding")
    if lengths and codings:
        raise Violation("both Content-Length and Transfer-Encoding in one response")
    if len(lengths) > 1 or (lengths and _DIGITS.fullmatch(lengths[0]) is None):
        raise Violation(f"bad Content-Length: {lengths!r}")
    if codings and (len(codings) > 1 or codings[0].lower() != b"chunked"):
        raise Violation(f"bad Transfer-Encoding: {codings!r}")
    if method == "HEAD" or head.status in (204, 304) or head.status < 200:
        return Framing.NONE, 0
    if codings:
        return Framing.CHUNKED, 0
    if lengths:
        return Framing.LENGTH, int(lengths[0])
    return Framing.CLOSE, 0


def parse_chunk_line(line: bytes) -> int:
    """Return the size that a chunk's first line (without CRLF) announces."""
    match = _CHUNK_LINE.fullmatch(line)
    if match is None:
        raise Violation(f"bad chunk line: {line[:80]!r}")
    return int(match[1], 16)
