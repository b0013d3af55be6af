"""Building blocks of requests, as bytes.

The suite always names the same host.  Any origin server has to accept a valid Host
field; one that is configured with a list of hosts must be given `conformance.example`.
"""

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
