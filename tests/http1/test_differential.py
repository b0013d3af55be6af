"""The parser beside h11's, on valid and on damaged streams.

Where the two differ, ours must be right by the RFC: each kind of difference is listed here with the
section that decides it, what in the stream it comes from, and a stream that shows it. A difference
that is not listed fails.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import Enum

import h11
import pytest
from hypothesis import HealthCheck, given, settings

from subinterp_asgi.http1 import ProtocolError, RequestParser

from . import strategies as gen

OPEN, CLOSED, REFUSED = "waits for more", "closes", "refuses"


@dataclass
class Seen:
    """What a parser made of a stream."""

    messages: list[tuple[object, ...]] = field(default_factory=list)
    verdict: str = OPEN
    reason: str = ""


class Side(Enum):
    """Whose reason explains a difference."""

    OURS = "we refuse what h11 does not"
    THEIRS = "h11 refuses what we do not"


@dataclass
class Difference:
    """A kind of difference that is known, and right."""

    section: str
    why: str
    side: Side
    reason: str
    """Pattern of the refusing side's message."""
    evidence: bytes
    """Pattern of what must be in the stream."""
    example: bytes

    def explains(self, side: Side, reason: str, stream: bytes) -> bool:
        return (
            side is self.side
            and re.search(self.reason, reason) is not None
            and re.search(self.evidence, stream, re.IGNORECASE | re.DOTALL) is not None
        )


def get(*lines: bytes, target: bytes = b"/", method: bytes = b"GET") -> bytes:
    return b"%s %s HTTP/1.1\r\n%s\r\n" % (
        method,
        target,
        b"".join(line + b"\r\n" for line in lines or (b"Host: a",)),
    )


CHUNKED = get(b"Host: a", b"Transfer-Encoding: chunked", method=b"POST")
END = b"0\r\n\r\n"
FIELD = rb"\r\n[!-9;-~]+:"  # the beginning of a field line

WE_REFUSE = [
    # section, why, our message, what is in the stream, example
    (
        "RFC 9112 2.2",
        "a bare LF is no line end here (MAY); intermediaries differ on it",
        "line feed without|malformed request line|header field|invalid chunk",
        rb"(?<!\r)\n",
        b"GET / HTTP/1.1\nHost: a\n\n",
    ),
    (
        "RFC 9112 3.2",
        "a target has no fragment",
        "malformed request line",
        rb"\S+ [^ \r\n]*#[^ \r\n]* HTTP/",
        get(target=b"/a#b"),
    ),
    (
        "RFC 9110 15.6.6",
        "a major version that is not implemented",
        "version not supported",
        rb" HTTP/[02-9]\.\d",
        b"GET / HTTP/2.0\r\nHost: a\r\n\r\n",
    ),
    (
        "RFC 9112 3.2.3",
        "CONNECT asks for a tunnel, and for authority-form",
        "CONNECT",
        rb"CONNECT \S+ HTTP/",
        get(method=b"CONNECT", target=b"a:80"),
    ),
    (
        "RFC 9112 3.2.4",
        "asterisk-form is for OPTIONS",
        "asterisk-form",
        rb" \* HTTP/",
        get(target=b"*"),
    ),
    (
        "RFC 9112 3.2",
        "a target in none of the four forms",
        "target is not a path|target has no host",
        rb" (?![/*])\S+ HTTP/",
        get(target=b"a:80"),
    ),
    (
        "RFC 9112 3.2",
        "an invalid Host (or authority, in the target)",
        "invalid Host|invalid port in Host|invalid IPv6|empty Host",
        rb"\r\nhost:|://",
        get(b"Host: a, b"),
    ),
    (
        "RFC 9110 2.5",
        "a higher minor version is treated as 1.1, which needs a Host",
        "no Host field",
        rb" HTTP/1\.[2-9]",
        b"GET / HTTP/1.2\r\n\r\n",
    ),
    (
        "RFC 9112 6.3",
        "repeated lengths may be refused even if they are equal",
        "more than one Content-Length|invalid Content-Length",
        rb"content-length:.*(content-length:|,)",
        get(b"Host: a", b"Content-Length: 0", b"Content-Length: 0"),
    ),
    (
        "RFC 9110 8.6",
        "a length that no body can have",
        "invalid Content-Length",
        rb"content-length:\s*\d{20}",
        get(b"Host: a", b"Content-Length: " + b"0" * 20),
    ),
    (
        "RFC 9112 6.1",
        "both framings: ought to be handled as an error",
        "both Content-Length and Transfer-Encoding",
        rb"content-length:.*transfer-encoding:|transfer-encoding:.*content-length:",
        get(b"Host: a", b"Transfer-Encoding: chunked", b"Content-Length: 5") + END,
    ),
    (
        "RFC 9112 6.1",
        "transfer coding in HTTP/1.0: treat as faulty",
        "Transfer-Encoding in an HTTP/1.0",
        rb" HTTP/1\.0.*transfer-encoding:",
        b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n" + END,
    ),
    (
        "RFC 9110 10.1.1",
        "an expectation that can't be met: 417",
        "unknown expectation",
        rb"expect:",
        get(b"Host: a", b"Expect: x"),
    ),
    (
        "RFC 9112 5.2",
        "folding: MUST reject (or unfold)",
        "folded header field|malformed request line",
        rb"\r\n[ \t]",
        get(b"Host: a", b"A: b", b" c"),
    ),
    (
        "RFC 9110 5.5",
        "control characters in a value are invalid",
        "invalid character in a header field",
        rb"[\x01-\x08\x0b\x0c\x0e-\x1f\x7f]",
        get(b"Host: a", b"A: \x01"),
    ),
    (
        "RFC 3986 2.1",
        "an escape is a percent sign and two hex digits",
        "invalid percent-escape",
        rb"%(?![0-9a-f]{2})",
        get(target=b"/%zz"),
    ),
    (
        "RFC 3629 3",
        "overlong UTF-8",
        "overlong UTF-8",
        rb"%(c0|c1|e0|f0)",
        get(target=b"/%c0%af"),
    ),
    (
        "RFC 9112 7.1",
        "after the size there is nothing but extensions, and it has 16 digits at most",
        "invalid chunk (size|extension)",
        rb"\r\n[0-9a-f]+[ \t]+\r\n|\r\n[0-9a-f]{17}",
        CHUNKED + b"1 \r\na\r\n" + END,
    ),
    (
        "RFC 9112 7.1.1",
        "extensions have a grammar",
        "invalid chunk extension",
        rb"\r\n[0-9a-f]+;",
        CHUNKED + b"1;=\r\na\r\n" + END,
    ),
]

THEY_REFUSE = [
    (
        "RFC 9112 2.2",
        "an empty line before a request: SHOULD be ignored",
        "no request line received|illegal request line$",
        rb"\r",
        b"\r\n" + get(),
    ),
    (
        "RFC 9110 5.6.1.2",
        "empty list elements are ignored",
        "Transfer-Encoding",
        rb"transfer-encoding:",
        get(b"Host: a", b"Transfer-Encoding: chunked,") + END,
    ),
    (
        "RFC 9112 7.1.1",
        "blanks before a semicolon (BWS) must be parsed",
        "illegal chunk header",
        rb"\r\n[0-9a-f]+[ \t]+;",
        CHUNKED + b"1 ;a\r\nx\r\n" + END,
    ),
]

KNOWN = [
    Difference(section, why, side, reason, evidence, example)
    for side, table in ((Side.OURS, WE_REFUSE), (Side.THEIRS, THEY_REFUSE))
    for section, why, reason, evidence, example in table
]


def ours(stream: bytes) -> Seen:
    seen = Seen()
    parser = RequestParser()
    parser.feed(stream)
    try:
        while (request := parser.next_request()) is not None:
            body = b""
            while not parser.body_complete:
                piece = parser.read_body()
                body += piece
                if not piece and not parser.body_complete:
                    return seen
            seen.messages.append(
                (
                    request.method.encode(),
                    request.target,
                    _comparable(request.headers, request.target),
                    body,
                )
            )
            if not request.keep_alive:
                seen.verdict = CLOSED
                break
    except ProtocolError as exc:
        seen.verdict, seen.reason = REFUSED, str(exc)
    return seen


def theirs(stream: bytes) -> Seen:
    seen = Seen()
    connection = _h11_server(stream)
    request = None
    body = bytearray()
    try:
        while True:
            event = connection.next_event()
            if event is h11.NEED_DATA:
                return seen
            if isinstance(event, h11.Request):
                request, body = event, bytearray()
            elif isinstance(event, h11.Data):
                body += event.data
            else:
                assert isinstance(event, h11.EndOfMessage), event
                assert request is not None
                fields = _comparable(list(request.headers), request.target)
                seen.messages.append((request.method, request.target, fields, bytes(body)))
                if request.method == b"CONNECT":
                    seen.verdict = CLOSED
                    return seen
                connection.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
                connection.send(h11.EndOfMessage())
                if connection.our_state is h11.DONE:
                    connection.start_next_cycle()
                elif _http10_keep_alive(request):
                    rest, _ = connection.trailing_data
                    connection = _h11_server(rest)
                else:
                    seen.verdict = CLOSED
                    return seen
    except h11.RemoteProtocolError as exc:
        seen.verdict, seen.reason = REFUSED, str(exc)
    return seen


def _h11_server(data: bytes) -> h11.Connection:
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    if data:  # no octets would tell it that the client has closed
        connection.receive_data(data)
    return connection


def _http10_keep_alive(request: h11.Request) -> bool:
    """RFC 9112 section 9.3: such a connection may persist; h11 always closes it."""
    options = b",".join(value.lower() for name, value in request.headers if name == b"connection")
    tokens = {token.strip() for token in options.split(b",")}
    return request.http_version == b"1.0" and b"keep-alive" in tokens and b"close" not in tokens


def _comparable(items: list[tuple[bytes, bytes]], target: bytes) -> list[tuple[bytes, bytes]]:
    """Fields without what is known to be told otherwise."""
    absolute = target[:1] not in (b"/", b"*")  # then Host is what the target says (section 3.2.2)
    return [
        (name, value.lower() if name == b"transfer-encoding" else value)
        for name, value in items
        if not (absolute and name == b"host")
    ]


def find_difference(stream: bytes) -> tuple[Side, str] | None:
    """Compare the two; return whose refusal is to be explained, or ``None`` if they agree.

    A difference in what was parsed, rather than in what was refused, fails at once.
    """
    mine, other = ours(stream), theirs(stream)
    common = min(len(mine.messages), len(other.messages))
    assert mine.messages[:common] == other.messages[:common], stream
    if CLOSED in (mine.verdict, other.verdict) and len(mine.messages) == len(other.messages):
        assert mine.verdict == other.verdict, (stream, mine, other)
        return None
    if mine.verdict == REFUSED and len(mine.messages) == common:
        if other.verdict == REFUSED and len(other.messages) == common:
            return None
        if len(other.messages) == common:
            # We refuse early. Would h11, if the head came to an end?
            completed = theirs(stream + b"\r\n\r\n")
            if completed.verdict == REFUSED and len(completed.messages) == common:
                return None
        return Side.OURS, mine.reason
    if other.verdict == REFUSED and len(other.messages) == common:
        return Side.THEIRS, other.reason
    assert len(mine.messages) == len(other.messages), (stream, mine, other)
    return None


def check(stream: bytes) -> None:
    found = find_difference(stream)
    if found is not None and not any(known.explains(*found, stream) for known in KNOWN):
        raise AssertionError(f"{found[0].value}: {found[1]!r} in {stream!r}")


@pytest.mark.parametrize("known", KNOWN, ids=[f"{known.section}: {known.why}" for known in KNOWN])
def test_known_difference(known: Difference) -> None:
    """Each is there, and is what it is said to be."""
    found = find_difference(known.example)
    assert found is not None, "there is no such difference any more"
    assert known.explains(*found, known.example), found


thorough = settings(
    max_examples=100,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)


@pytest.mark.once
@thorough
@given(gen.streams())
def test_valid_requests(requests: list[gen.Generated]) -> None:
    stream = b"".join(request.raw for request in requests)
    found = find_difference(stream)
    if found is not None:
        side, reason = found
        # The only thing in valid requests that one of the two does not know.
        assert side is Side.THEIRS, (reason, stream)
        assert "illegal chunk header" in reason, (reason, stream)


@pytest.mark.once
@thorough
@given(gen.damaged())
def test_damaged_requests(stream: bytes) -> None:
    check(stream)
