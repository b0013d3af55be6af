"""A WebSocket client as thin as ``rawclient``, and pieces of the applications that it talks to.

What it reads it checks: frames of a server are whole messages, not masked, in the shortest form.
"""

from __future__ import annotations

import base64
import hashlib
import zlib
from collections.abc import Callable, Coroutine
from typing import Any, Self

from tests.websocket.client import BINARY, CLOSE, PING, PONG, RSV1, TEXT, frame

from .rawclient import RawClient, Response, request

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
DEFLATE = b"Sec-WebSocket-Extensions: permessage-deflate"


def handshake(
    *lines: bytes,
    target: bytes = b"/",
    method: bytes = b"GET",
    http_version: bytes = b"1.1",
    version: bytes = b"13",
    key: bytes = KEY,
) -> bytes:
    """The request that opens a WebSocket; what is empty is left out."""
    return request(
        method,
        target,
        b"Upgrade: websocket",
        b"Connection: Upgrade",
        b"Sec-WebSocket-Version: " + version if version else b"",
        b"Sec-WebSocket-Key: " + key if key else b"",
        *lines,
        version=http_version,
    )


class WSClient(RawClient):
    """A connection on which a WebSocket is opened."""

    inflater: Any = None

    def open(self, *lines: bytes, target: bytes = b"/", then: bytes = b"") -> Response:
        """Send a handshake, and octets with it, and check that it is agreed to."""
        self.send(handshake(*lines, target=target) + then)
        return self.opened()

    def opened(self) -> Response:
        """Read the answer to a handshake and check that it agrees."""
        response = self.head()
        assert response.status == 101, self.read_to_end()
        assert response.get(b"upgrade") == b"websocket"
        assert response.get(b"connection") == b"Upgrade"
        digest = hashlib.sha1(KEY + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
        assert response.get(b"sec-websocket-accept") == base64.b64encode(digest)
        assert response.get(b"content-length") is None
        assert response.get(b"transfer-encoding") is None
        if b"permessage-deflate" in (response.get(b"sec-websocket-extensions") or b""):
            self.inflater = zlib.decompressobj(wbits=-15)
        return response

    # --- out

    def send_frame(self, opcode: int, payload: bytes = b"") -> None:
        """Send a whole frame."""
        self.send(frame(opcode, payload))

    def send_close(self, code: int | None = None, reason: str = "") -> None:
        """Send a close frame."""
        self.send(close_frame(code, reason))

    # --- in

    def read_frame(self) -> tuple[int, bytes]:
        """Read a frame; return its opcode and its payload, inflated if it is compressed."""
        first, second = self.read_exactly(2)
        assert first & 0x80, "a fragment"
        assert not second & 0x80, "a mask"
        opcode, size = first & 0x0F, second
        if second == 126:
            size = int.from_bytes(self.read_exactly(2))
            assert size >= 126
        elif second == 127:
            size = int.from_bytes(self.read_exactly(8))
            assert size >= 1 << 16
        payload = self.read_exactly(size)
        if first & 0x70:
            assert first & 0x70 == RSV1, "a reserved bit"
            assert self.inflater is not None, "compressed, although that was not agreed upon"
            assert opcode in (TEXT, BINARY)
            payload = self.inflater.decompress(payload + b"\0\0\xff\xff")
        return opcode, payload

    def read_text(self) -> str:
        """Read a text message."""
        opcode, payload = self.read_frame()
        assert opcode == TEXT, (opcode, payload)
        return payload.decode()

    def read_binary(self) -> bytes:
        """Read a binary message."""
        opcode, payload = self.read_frame()
        assert opcode == BINARY, (opcode, payload)
        return payload

    def read_pong(self) -> bytes:
        """Read a pong."""
        opcode, payload = self.read_frame()
        assert opcode == PONG, (opcode, payload)
        return payload

    def read_ping(self) -> bytes:
        """Read a ping."""
        opcode, payload = self.read_frame()
        assert opcode == PING, (opcode, payload)
        return payload

    def read_close(self) -> tuple[int | None, str]:
        """Read a close frame; return its code and reason."""
        opcode, payload = self.read_frame()
        assert opcode == CLOSE, (opcode, payload)
        assert len(payload) != 1
        return int.from_bytes(payload[:2]) if payload else None, payload[2:].decode()

    def expect_close(self, code: int | None, reason: str | None = None) -> None:
        """Read the server's close frame, answer it, and read the connection's end."""
        found, why = self.read_close()
        assert found == code, (found, why)
        if reason is not None:
            assert why == reason
        self.try_send(close_frame(code))
        self.assert_closed()

    def close_with(self, code: int | None = None, reason: str = "") -> None:
        """Close as the protocol wants it, and check that the server does its part."""
        self.send_close(code, reason)
        assert self.read_close()[0] == code
        self.assert_closed()

    def assert_echoes(self, text: str = "still there?") -> None:
        """Check that the application behind still answers."""
        self.send_frame(TEXT, text.encode())
        assert self.read_text() == text

    def __enter__(self) -> Self:
        return self


def close_frame(code: int | None = None, reason: str = "") -> bytes:
    """A close frame as clients send it."""
    return frame(CLOSE, b"" if code is None else code.to_bytes(2) + reason.encode())


# --- the application's side

type Receive = Callable[[], Coroutine[Any, Any, Any]]
type Send = Callable[[Any], Coroutine[Any, Any, None]]


async def accept(receive: Receive, send: Send, **options: Any) -> None:
    """Agree to the handshake."""
    message = await receive()
    assert message == {"type": "websocket.connect"}
    await send({"type": "websocket.accept", **options})


async def echo(scope: Any, receive: Receive, send: Send) -> None:
    """Send back what comes, until the end."""
    await accept(receive, send)
    while (message := await receive())["type"] == "websocket.receive":
        await send(message | {"type": "websocket.send"})


async def read_all(receive: Receive) -> list[Any]:
    """The contents of all messages that come, and the one that ends them."""
    found = []
    while (message := await receive())["type"] == "websocket.receive":
        found.append(content(message))
    return [*found, message]


def content(message: Any) -> str | bytes:
    """What a message holds; exactly one of both."""
    assert message["type"] == "websocket.receive", message
    (kind,) = message.keys() - {"type"}
    value = message[kind]
    assert type(value) is {"text": str, "bytes": bytes}[kind]
    return value


def disconnect(code: int, reason: str = "") -> dict[str, Any]:
    """The message that tells an application of the end."""
    return {"type": "websocket.disconnect", "code": code, "reason": reason}
