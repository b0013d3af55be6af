"""The opening handshake of a server (RFC 6455 section 4.2): requests checked, responses rendered.

Who the client is (``Origin``, cookies) and what subprotocol to speak is for the application.
"""

from __future__ import annotations

import re
from binascii import b2a_base64
from collections.abc import Iterable, Sequence

from ..errors import ASGIProtocolError
from ..http1.fields import split_list
from ..http1.grammar import TOKEN
from ..http1.response import DefaultFields
from ..http1.response_head import check_block, classify
from ..types import Field, Fields
from .errors import HandshakeError
from .extensions import DeflateAgreement, Extension, parse_extensions

try:
    # hashlib would load OpenSSL: 3 to 10 ms and 4 MB, where this takes 0.1 ms.
    from _sha1 import sha1  # type: ignore[import-not-found]
except ImportError:  # a build without it
    from hashlib import sha1

VERSION = b"13"
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # section 1.3

# Section 4.1: base64 of 16 octets.
_KEY = re.compile(rb"[A-Za-z0-9+/]{22}==")

# RFC 9110 sections 8.6 and 6.1: a 101 response has no content, nor fields that would frame it.
_OWN_FIELDS = frozenset((b"connection", b"upgrade", b"content-length", b"transfer-encoding"))
_OWN_PREFIX = b"sec-websocket-"
_READ_HERE = (
    b"connection upgrade sec-websocket-key sec-websocket-version "
    b"sec-websocket-protocol sec-websocket-extensions".split()
)


class Handshake:
    """A valid request to open a WebSocket, and how to agree to it.

    Attributes:
        subprotocols: The subprotocols that the client offers, its preferences first.
        extensions: The extensions that it offers; see ``negotiate_deflate()``.
    """

    __slots__ = ("extensions", "key", "subprotocols")

    def __init__(self, key: bytes, subprotocols: list[str], extensions: list[Extension]) -> None:
        self.key = key
        self.subprotocols = subprotocols
        self.extensions = extensions

    def response(
        self,
        *,
        subprotocol: str | None = None,
        headers: Iterable[Field] = (),
        deflate: DeflateAgreement | None = None,
        defaults: DefaultFields | None = None,
    ) -> bytes:
        """Render the 101 response (section 4.2.2), after which frames follow both ways.

        Args:
            subprotocol: The one to speak, of those that the client offers.

        Raises:
            ASGIProtocolError: The subprotocol was not offered; a field could not be sent as it is,
                or is the handshake's own. A subprotocol must be given as such, not as a field.
        """
        lines = [
            b"HTTP/1.1 101 Switching Protocols\r\n"
            b"Upgrade: websocket\r\n"
            b"Connection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: %b\r\n" % accept_value(self.key)
        ]
        if subprotocol is not None:
            if subprotocol not in self.subprotocols:
                raise ASGIProtocolError(
                    f"the client did not offer the subprotocol {subprotocol!r}, "
                    f"but {', '.join(self.subprotocols) or 'none'}"
                )
            lines.append(b"Sec-WebSocket-Protocol: %b\r\n" % subprotocol.encode("ascii"))
        if deflate is not None:
            lines.append(b"Sec-WebSocket-Extensions: %b\r\n" % deflate.response)
        names = _add_fields(lines, headers)
        if defaults is not None:
            lines.append(
                defaults.render_missing(has_date=b"date" in names, has_server=b"server" in names)
            )
        lines.append(b"\r\n")
        return b"".join(lines)


def read_handshake(method: str, http_version: str, headers: Sequence[Field]) -> Handshake:
    """Check a request to open a WebSocket (section 4.2.1).

    ``Host`` is for the HTTP parser to check.

    Arguments are those of an ``http1.Request``: the names of its fields are lower-cased.

    Raises:
        HandshakeError: The version of the protocol is not 13 (426), or anything else is not as it
            must be (400).
    """
    if method != "GET":
        raise HandshakeError("a WebSocket is opened with GET")
    if http_version != "1.1":
        raise HandshakeError("a WebSocket is opened with HTTP/1.1")
    lists: dict[bytes, list[bytes]] = {name: [] for name in _READ_HERE}
    for name, value in headers:
        if name in lists:
            lists[name].append(value)
        elif name == b"transfer-encoding" or (name == b"content-length" and value.strip(b"0")):
            # What follows would be content to an intermediary, and frames to the server.
            raise HandshakeError("a request to open a WebSocket has no content")
    options, upgrade, keys, versions, protocols, extensions = lists.values()
    if b"upgrade" not in split_list(b",".join(options)):
        raise HandshakeError("Connection does not name Upgrade")
    if b"websocket" not in split_list(b",".join(upgrade)):
        raise HandshakeError("Upgrade does not name websocket")
    if versions != [VERSION]:
        # Section 4.4; RFC 9110 section 15.5.22 wants the protocol to be named too.
        wanted: Fields = [
            (b"sec-websocket-version", VERSION),
            (b"upgrade", b"websocket"),
            (b"connection", b"upgrade"),
        ]
        raise HandshakeError("Sec-WebSocket-Version is not 13", 426, wanted)
    if len(keys) != 1 or _KEY.fullmatch(keys[0]) is None:
        raise HandshakeError("Sec-WebSocket-Key is not one key of 16 octets in base64")
    return Handshake(
        keys[0],
        _split_protocols(b",".join(protocols)),
        parse_extensions(b",".join(extensions)),
    )


def accept_value(key: bytes) -> bytes:
    """Compute the ``Sec-WebSocket-Accept`` that answers a key (section 4.2.2, item 5.4)."""
    return b2a_base64(sha1(key + _GUID, usedforsecurity=False).digest(), newline=False)


def _split_protocols(value: bytes) -> list[str]:
    """Split ``Sec-WebSocket-Protocol``: tokens, whose case matters (section 4.1, item 10)."""
    protocols = [item for part in value.split(b",") if (item := part.strip(b" \t"))]
    if not all(map(TOKEN.fullmatch, protocols)):
        raise HandshakeError("malformed Sec-WebSocket-Protocol")
    return [protocol.decode("ascii") for protocol in protocols]


def _add_fields(lines: list[bytes], headers: Iterable[Field]) -> set[bytes]:
    """Render the application's fields, and return their names."""
    names: set[bytes] = set()
    try:
        for name, value in headers:
            classify(name)
            lowered = name.lower()
            if lowered in _OWN_FIELDS or lowered.startswith(_OWN_PREFIX):
                raise ASGIProtocolError(
                    f"the header {name!r} of a handshake is the server's to set"
                )
            line = b"%b: %b\r\n" % (name, value)
            check_block(line, 1)
            names.add(lowered)
            lines.append(line)
    except (TypeError, ValueError, AttributeError):
        raise ASGIProtocolError(
            "response headers must be an iterable of (name, value) pairs of bytes"
        ) from None
    return names
