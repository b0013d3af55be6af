"""Building blocks of requests, as bytes.

The suite always names the same host.  Any origin server has to accept a valid Host
field; one that is configured with a list of hosts must be given `conformance.example`.
"""

from conformance.model import Answers, Check, Dropped, End, Outcome, Statuses

HOST = b"Host: conformance.example\r\n"
HELLO = b"hello"


def request(
    target: bytes = b"/",
    *fields: bytes,
    method: bytes = b"GET",
    version: bytes = b"HTTP/1.1",
    host: bytes = HOST,
    body: bytes = b"",
) -> bytes:
    """A request; each of `fields` is a field line without its CRLF."""
    lines = b"".join(line + b"\r\n" for line in fields)
    return method + b" " + target + b" " + version + b"\r\n" + host + lines + b"\r\n" + body


def post(body: bytes, *fields: bytes, target: bytes = b"/", version: bytes = b"HTTP/1.1") -> bytes:
    """A POST whose Content-Length is right."""
    length = b"Content-Length: %d" % len(body)
    return request(target, length, *fields, method=b"POST", version=version, body=body)


def chunked(coded: bytes, *fields: bytes, target: bytes = b"/") -> bytes:
    """A POST whose content is `coded`, already in chunks."""
    coding = b"Transfer-Encoding: chunked"
    return request(target, coding, *fields, method=b"POST", body=coded)


CANARY = request(b"/canary")
"""Follows a malformed message: a second response means that it was parsed as a request."""

OK: Statuses = frozenset(range(200, 300))
CLIENT_ERROR: Statuses = frozenset(range(400, 500))


def refused(*statuses: int, end: End = End.CLOSED) -> Answers:
    """One response with one of `statuses` (400 if none is given), and nothing after it."""
    return Answers((frozenset(statuses or (400,)),), end)


def too_large(*statuses: int) -> tuple[Outcome, ...]:
    """A limit was reached: one of `statuses`, or a reply lost because the rest was unread."""
    return (refused(*statuses), Dropped())


def served(*checks: Check, end: End = End.OPEN, count: int = 1) -> Answers:
    """`count` successful responses."""
    return Answers((OK,) * count, end, checks)
