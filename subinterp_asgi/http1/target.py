"""Request targets (RFC 9112 section 3.2): the four forms, taken apart into what ASGI wants."""

from __future__ import annotations

import re
import socket

from .errors import ProtocolError
from .grammar import BAD_ESCAPE, ESCAPE, HOST, OVERLONG_UTF8

_MAX_PORT = 65535


def split_target(method: str, target: bytes) -> tuple[bytes, bytes, bytes | None]:
    """Split a request target into (raw path, query, authority).

    Query is without its question mark; authority is ``None`` unless the target is in absolute form,
    where it replaces the Host field (RFC 9112 section 3.2.2). ``ProtocolError``: the form does not
    exist or does not go with the method.
    """
    authority: bytes | None = None
    if target[0] != 0x2F:  # "/": origin-form, nearly always
        if method == "CONNECT":
            # authority-form asks for a tunnel, which an origin server does not offer.
            raise ProtocolError("CONNECT is not supported", 501)
        if target == b"*":
            if method != "OPTIONS":
                raise ProtocolError("asterisk-form is for OPTIONS only")
            return b"*", b"", None
        authority, target = _split_absolute(target)
    elif method == "CONNECT":
        raise ProtocolError("CONNECT takes a host and a port")
    raw_path, _, query = target.partition(b"?")
    if method == "OPTIONS" and not raw_path and not query:
        raw_path = b"*"  # RFC 9110 section 7.1: an empty path with OPTIONS means the server
    return raw_path or b"/", query, authority


def _split_absolute(target: bytes) -> tuple[bytes, bytes]:
    scheme, separator, rest = target.partition(b"://")
    if not separator or scheme.lower() not in (b"http", b"https"):
        raise ProtocolError("the request target is not a path")
    authority = rest.partition(b"/")[0].partition(b"?")[0]
    if not authority:
        raise ProtocolError("the request target has no host")
    check_host(authority)
    return authority, rest[len(authority) :]


def decode_path(raw_path: bytes) -> str:
    """Decode a raw path as ASGI's ``path``: percent-escapes undone, UTF-8 decoded.

    Octets that are not UTF-8 become U+FFFD; ``raw_path`` still has them. ``ProtocolError``: a
    percent sign is not followed by two hex digits, or the octets are an overlong encoding, whose
    only use is to get a character past a filter.
    """
    if b"%" not in raw_path:
        return raw_path.decode("ascii")
    if BAD_ESCAPE.search(raw_path):
        raise ProtocolError("invalid percent-escape in the request target")
    octets = ESCAPE.sub(_unescape, raw_path)
    try:
        return octets.decode("utf-8")
    except UnicodeDecodeError:
        if OVERLONG_UTF8.search(octets):
            raise ProtocolError("overlong UTF-8 in the request target") from None
        return octets.decode("utf-8", "replace")


def _unescape(match: re.Match[bytes]) -> bytes:
    # Not urllib.parse, which would cost each interpreter half a megabyte for this line.
    return bytes.fromhex(match[1].decode("ascii"))


def check_host(value: bytes) -> None:
    """Check the value of a Host field or an authority: one host, perhaps a port, nothing else.

    ``ProtocolError``: it is a list, has user information or a path, or a port that can't be.
    """
    match = HOST.fullmatch(value)
    if match is None:
        raise ProtocolError("invalid Host")
    if value[0:1] == b"[" and value[1:2] not in b"vV":
        address = value[1 : value.index(b"]")].decode("ascii")
        try:
            socket.inet_pton(socket.AF_INET6, address)
        except OSError:
            raise ProtocolError("invalid IPv6 address in Host") from None
    port = match[1]
    if port and (len(port) > 5 or int(port) > _MAX_PORT):
        raise ProtocolError("invalid port in Host")
    if match.start(1) == 1:  # ":80", a port and no host
        raise ProtocolError("invalid Host")
