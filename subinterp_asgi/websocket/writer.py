"""Messages and control frames as octets (RFC 6455 section 5), not masked: as servers send them."""

from __future__ import annotations

from ..errors import ASGIProtocolError, StateError
from ..types import TYPE_CHECKING
from .frames import (
    BINARY,
    CLOSE,
    FIN,
    LENGTH_16,
    LENGTH_64,
    MAX_CONTROL,
    PING,
    PONG,
    RSV1,
    TEXT,
    CloseCode,
    render_close,
)

if TYPE_CHECKING:
    from .deflate import Deflater

APART_FROM = 256 * 1024
"""Octets of payload from which on the header is returned apart. Below, copying the payload to put
the header before it costs less than one more call of ``send()`` does: 1 µs against 4 at 64 KiB."""

_TEXT = [bytes((FIN | TEXT, size)) for size in range(LENGTH_16)]
_BINARY = [bytes((FIN | BINARY, size)) for size in range(LENGTH_16)]


class MessageWriter:
    """Writes what one side of a connection sends, compressed if that was agreed upon.

    Attributes:
        close_sent: A close frame was rendered; nothing may follow it (section 5.5.1).
    """

    __slots__ = ("_deflater", "close_sent")

    def __init__(self, deflater: Deflater | None = None) -> None:
        self._deflater = deflater
        self.close_sent = False

    def message(self, data: str | bytes) -> tuple[bytes, ...]:
        """Render a text or binary message as one frame, in one piece, or in two if it is big.

        Raises:
            ASGIProtocolError: The text has a lone surrogate, which UTF-8 can't encode.
            StateError: A close frame was sent.
        """
        if self.close_sent:
            raise StateError("nothing can be sent after a close frame")
        if isinstance(data, str):
            try:
                payload = data.encode()
            except UnicodeEncodeError:
                raise ASGIProtocolError("a text message has a lone surrogate") from None
            first, short = FIN | TEXT, _TEXT
        else:
            payload = data
            first, short = FIN | BINARY, _BINARY
        size = len(payload)
        deflater = self._deflater
        if deflater is not None and size >= deflater.threshold:
            payload = deflater.deflate(payload)
            size = len(payload)
            first |= RSV1
        elif size < LENGTH_16:
            return (short[size] + payload,)
        header = _header(first, size)
        return (header, payload) if size >= APART_FROM else (header + payload,)

    def ping(self, payload: bytes = b"") -> bytes:
        """Render a ping (section 5.5.2) of up to 125 octets."""
        return self._control(PING, payload)

    def pong(self, payload: bytes = b"") -> bytes:
        """Render a pong (section 5.5.3): with a ping's payload, to answer it."""
        return self._control(PONG, payload)

    def close(self, code: int = CloseCode.NORMAL, reason: str = "") -> bytes:
        """Render a close frame (section 5.5.1), unless one was sent: then there is nothing to send.

        Args:
            code: A code that may be sent, or 1005 for a frame without one.
            reason: Cut to 123 octets.

        Raises:
            ASGIProtocolError: The code may not be sent, or the reason has a lone surrogate.
        """
        if self.close_sent:
            return b""
        frame = self._control(CLOSE, render_close(code, reason))
        self.close_sent = True
        return frame

    def _control(self, opcode: int, payload: bytes) -> bytes:
        if self.close_sent:
            raise StateError("nothing can be sent after a close frame")
        if len(payload) > MAX_CONTROL:
            raise ValueError(f"a control frame carries {MAX_CONTROL} octets, not {len(payload)}")
        return bytes((FIN | opcode, len(payload))) + payload


def _header(first: int, size: int) -> bytes:
    if size < LENGTH_16:
        return bytes((first, size))
    if size < 1 << 16:
        return bytes((first, LENGTH_16)) + size.to_bytes(2)
    return bytes((first, LENGTH_64)) + size.to_bytes(8)
