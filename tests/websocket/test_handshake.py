"""The opening handshake (RFC 6455 section 4.2)."""

from __future__ import annotations

import base64
import hashlib

import pytest

from subinterp_asgi.errors import ASGIProtocolError
from subinterp_asgi.http1 import DefaultFields, RequestParser
from subinterp_asgi.websocket import Handshake, HandshakeError, negotiate_deflate, read_handshake
from subinterp_asgi.websocket.handshake import accept_value

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="  # section 1.3
FIELDS = {
    b"host": b"server.example.com",
    b"upgrade": b"websocket",
    b"connection": b"Upgrade",
    b"sec-websocket-key": KEY,
    b"sec-websocket-version": b"13",
}


def read(
    *more: tuple[bytes, bytes],
    without: bytes = b"",
    method: str = "GET",
    version: str = "1.1",
    **replaced: bytes,
) -> Handshake:
    """Read a request whose fields are the usual ones, but for these."""
    fields = {name: value for name, value in FIELDS.items() if name != without}
    fields |= {name.replace("_", "-").encode(): value for name, value in replaced.items()}
    return read_handshake(method, version, [*fields.items(), *more])


def fields_of(response: bytes) -> list[tuple[bytes, bytes]]:
    """The fields of a rendered response, which must be well-formed."""
    head, end, rest = response.partition(b"\r\n\r\n")
    assert end
    assert not rest
    status, *lines = head.split(b"\r\n")
    assert status == b"HTTP/1.1 101 Switching Protocols"
    return [(name.lower(), value) for name, _, value in (line.partition(b": ") for line in lines)]


# --- requests


def test_the_usual_request() -> None:
    handshake = read()
    assert handshake.key == KEY
    assert handshake.subprotocols == []
    assert handshake.extensions == []


@pytest.mark.parametrize(
    ("connection", "upgrade"),
    [
        (b"Upgrade", b"websocket"),
        (b"upgrade", b"WebSocket"),
        (b"UPGRADE", b"WEBSOCKET"),
        (b"keep-alive, Upgrade", b"websocket"),
        (b"keep-alive ,\tUpgrade,", b"h2c, websocket"),
    ],
)
def test_tokens_in_any_case_and_in_lists(connection: bytes, upgrade: bytes) -> None:
    """Section 4.2.1, items 3 and 4."""
    assert read(connection=connection, upgrade=upgrade).key == KEY


def test_tokens_in_fields_of_their_own() -> None:
    handshake = read(
        (b"connection", b"Upgrade"),
        (b"upgrade", b"websocket"),
        connection=b"keep-alive",
        upgrade=b"h2c",
    )
    assert handshake.key == KEY


@pytest.mark.parametrize(
    "key",
    [base64.b64encode(bytes(range(start, start + 16))) for start in (0, 100, 200, 240)]
    + [b"AQIDBAUGBwgJCgsMDQ4PEC==", b"++//++//++//++//++//+w=="],
)
def test_keys_of_16_octets(key: bytes) -> None:
    """Item 5. It need not be decoded, so that surplus bits are nobody's business."""
    assert read(sec_websocket_key=key).key == key


@pytest.mark.parametrize(
    "key",
    [
        b"",
        b"x",
        KEY[:-1],
        KEY + b"=",
        KEY[:-2],
        b"dGhlIHNhbXBsZSBub25jZQ-=",
        b"dGhlIHNhbXBsZSBub25j-_==",
        b" " + KEY,
        KEY + b", " + KEY,
        base64.b64encode(bytes(15)),
        base64.b64encode(bytes(17)),
        base64.b64encode(bytes(18)),
        KEY + b"\n",
    ],
)
def test_keys_of_anything_else(key: bytes) -> None:
    with pytest.raises(HandshakeError, match="Sec-WebSocket-Key") as caught:
        read(sec_websocket_key=key)
    assert caught.value.status == 400
    assert caught.value.headers == []


@pytest.mark.parametrize("version", [b"", b"8", b"12", b"14", b"013", b"13.0", b"13, 8", b"x"])
def test_other_versions(version: bytes) -> None:
    """Section 4.4; RFC 9110 section 15.5.22 has 426 name the protocol."""
    with pytest.raises(HandshakeError) as caught:
        read(sec_websocket_version=version)
    assert caught.value.status == 426
    assert dict(caught.value.headers) == {
        b"sec-websocket-version": b"13",
        b"upgrade": b"websocket",
        b"connection": b"upgrade",
    }


def test_no_version_and_two() -> None:
    for fault in ({"without": b"sec-websocket-version"}, {}):
        more = () if fault else ((b"sec-websocket-version", b"13"),)
        with pytest.raises(HandshakeError) as caught:
            read(*more, **fault)  # type: ignore[arg-type]
        assert caught.value.status == 426


@pytest.mark.parametrize("name", [b"upgrade", b"connection", b"sec-websocket-key"])
def test_what_must_be_there(name: bytes) -> None:
    with pytest.raises(HandshakeError) as caught:
        read(without=name)
    assert caught.value.status == 400


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        ({"method": "POST"}, "GET"),
        ({"method": "get"}, "GET"),
        ({"method": "CONNECT"}, "GET"),
        ({"version": "1.0"}, "HTTP/1.1"),
        ({"version": "2"}, "HTTP/1.1"),
        ({"connection": b"close"}, "Connection"),
        ({"connection": b"upgrades"}, "Connection"),
        ({"upgrade": b"websockets"}, "Upgrade"),
        ({"upgrade": b"websocket/13"}, "Upgrade"),
        ({"content_length": b"1"}, "content"),
        ({"transfer_encoding": b"chunked"}, "content"),
        ({"sec_websocket_protocol": b"a b"}, "Protocol"),
        ({"sec_websocket_protocol": b"a, b/c"}, "Protocol"),
        ({"sec_websocket_protocol": b'"a"'}, "Protocol"),
        ({"sec_websocket_protocol": b"\xe9"}, "Protocol"),
        ({"sec_websocket_extensions": b"a b"}, "Extensions"),
    ],
    ids=str,
)
def test_what_must_not_be(fault: dict[str, str | bytes], text: str) -> None:
    with pytest.raises(HandshakeError, match=text) as caught:
        read(**fault)  # type: ignore[arg-type]
    assert caught.value.status == 400


def test_two_keys() -> None:
    with pytest.raises(HandshakeError, match="Key"):
        read((b"sec-websocket-key", KEY))


def test_a_body_of_no_octets() -> None:
    assert read(content_length=b"0").key == KEY


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([b"chat"], ["chat"]),
        ([b"chat, superchat"], ["chat", "superchat"]),
        ([b"Chat,chat"], ["Chat", "chat"]),
        ([b"a", b"b , c"], ["a", "b", "c"]),
        ([b", a,, b ,"], ["a", "b"]),
        ([b"v10.stomp,graphql-transport-ws"], ["v10.stomp", "graphql-transport-ws"]),
        ([b""], []),
    ],
)
def test_subprotocols(values: list[bytes], expected: list[str]) -> None:
    handshake = read(*((b"sec-websocket-protocol", value) for value in values))
    assert handshake.subprotocols == expected


def test_extensions_in_fields_of_their_own() -> None:
    """Section 9.1: as if they were one list."""
    handshake = read(
        (b"sec-websocket-extensions", b"a; b=1"), (b"sec-websocket-extensions", b"c, d")
    )
    assert handshake.extensions == [(b"a", [(b"b", b"1")]), (b"c", []), (b"d", [])]


def test_with_the_http_parser() -> None:
    """What the request parser makes of a request is what this takes; the rest is frames."""
    parser = RequestParser()
    lines = [b"GET /chat HTTP/1.1", *(b"%b: %b" % item for item in FIELDS.items())]
    parser.feed(b"\r\n".join(lines) + b"\r\n\r\n" + b"\x81\x80\0\0\0\0")
    request = parser.next_request()
    assert request is not None
    assert b"websocket" in request.fields.upgrade
    handshake = read_handshake(request.method, request.http_version, request.headers)
    assert handshake.key == KEY
    assert parser.take_rest() == b"\x81\x80\0\0\0\0"


# --- responses


def test_the_rfcs_accept_value() -> None:
    """Section 1.3."""
    assert accept_value(KEY) == b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


def test_accept_values() -> None:
    for start in range(0, 240, 16):
        key = base64.b64encode(bytes(range(start, start + 16)))
        digest = hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
        assert accept_value(key) == base64.b64encode(digest)


def test_the_plain_response() -> None:
    """Section 4.2.2, item 5."""
    assert read().response() == (
        b"HTTP/1.1 101 Switching Protocols\r\n"
        b"Upgrade: websocket\r\n"
        b"Connection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
        b"\r\n"
    )


def test_the_full_response() -> None:
    handshake = read(
        sec_websocket_protocol=b"chat, superchat",
        sec_websocket_extensions=b"permessage-deflate; client_max_window_bits",
    )
    response = handshake.response(
        subprotocol="superchat",
        headers=[(b"Set-Cookie", b"a=b"), (b"set-cookie", b"c=d"), (b"x-empty", b"")],
        deflate=negotiate_deflate(handshake.extensions),
        defaults=DefaultFields(date=False),
    )
    assert fields_of(response) == [
        (b"upgrade", b"websocket"),
        (b"connection", b"Upgrade"),
        (b"sec-websocket-accept", b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
        (b"sec-websocket-protocol", b"superchat"),
        (b"sec-websocket-extensions", b"permessage-deflate; client_max_window_bits=12"),
        (b"set-cookie", b"a=b"),
        (b"set-cookie", b"c=d"),
        (b"x-empty", b""),
        (b"server", b"subinterp-asgi"),
    ]


def test_the_applications_date_and_server_replace_the_servers() -> None:
    response = read().response(
        headers=[(b"Date", b"today"), (b"SERVER", b"mine")], defaults=DefaultFields()
    )
    fields = fields_of(response)
    assert [value for name, value in fields if name == b"date"] == [b"today"]
    assert [value for name, value in fields if name == b"server"] == [b"mine"]


@pytest.mark.parametrize("subprotocol", ["Chat", "other", "", "chat, superchat", "a\r\nb: c"])
def test_a_subprotocol_that_was_not_offered(subprotocol: str) -> None:
    """Section 4.2.2, item 5.5: the client would fail the connection."""
    with pytest.raises(ASGIProtocolError, match="subprotocol"):
        read(sec_websocket_protocol=b"chat, superchat").response(subprotocol=subprotocol)


@pytest.mark.parametrize(
    "name",
    [
        b"Upgrade",
        b"connection",
        b"Sec-WebSocket-Accept",
        b"sec-websocket-protocol",
        b"sec-websocket-extensions",
        b"sec-websocket-version",
        b"sec-websocket-anything",
        b"content-length",
        b"Transfer-Encoding",
    ],
)
def test_fields_that_are_the_handshakes_own(name: bytes) -> None:
    with pytest.raises(ASGIProtocolError, match=name.decode()):
        read(sec_websocket_protocol=b"chat").response(headers=[(name, b"chat")])


@pytest.mark.parametrize(
    "header",
    [
        (b"a", b"b\r\nc: d"),
        (b"a", b"b\nc"),
        (b"a", b"b\rc"),
        (b"a", b"b\0c"),
        (b"a b", b"c"),
        (b"a:", b"c"),
        (b"", b"c"),
        (b"a\r\n", b"c"),
        (b":status", b"200"),
        (b"\xe9", b"c"),
        ("a", b"c"),
        (b"a", "c"),
        (b"a", None),
        (b"a",),
        b"a",
        None,
    ],
    ids=repr,
)
def test_fields_that_can_not_be_sent(header: object) -> None:
    with pytest.raises(ASGIProtocolError):
        read().response(headers=[header])  # type: ignore[list-item]
