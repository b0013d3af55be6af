"""A parser for the frames that a client sends (RFC 6455 section 5): bytes in, messages out. No I/O.

What comes of a message is unmasked, inflated, and checked to be UTF-8 at once, so that a peer which
breaks a rule is told without the rest of a frame being waited for, and the work for an octet does
not depend on how many came with it.
"""

from __future__ import annotations

import sys
from codecs import utf_8_decode
from io import StringIO

from ..types import TYPE_CHECKING
from .errors import ProtocolError
from .frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    FIN,
    LENGTH_16,
    LENGTH_64,
    MASKED,
    MAX_CONTROL,
    PING,
    PONG,
    RESERVED_BITS,
    RSV1,
    TEXT,
    CloseCode,
    Event,
    Ping,
    Pong,
    parse_close,
)
from .masking import unmask

if TYPE_CHECKING:
    from .deflate import Inflater

DEFAULT_MAX_SIZE = 16 * 1024 * 1024

PIECE = 64 * 1024
"""Octets of a payload that are handled at once. What is bigger falls out of the caches, and out of
the sizes for which malloc() keeps memory."""

_NO_BOUND = sys.maxsize - 1
"""Octets that no bytes object can have; one more is the most that ``zlib`` takes as a bound."""

_WHOLE_BINARY = FIN | BINARY
_WHOLE = frozenset((FIN | TEXT, _WHOLE_BINARY))
_LENGTH = ~MASKED & 0xFF


class MessageParser:
    """Parses what one client sends.

    Args:
        max_size: Octets of a message, inflated, beyond which it is refused; ``None``: no bound.
        inflater: Decompresses messages, if that was agreed upon.

    Attributes:
        closed: Nothing more will come, as the peer's close frame was taken, or an error raised.
            Whatever is fed then is dropped (sections 5.5.1 and 7.1.7).
    """

    __slots__ = (
        "_binary",
        "_compressed",
        "_data",
        "_final",
        "_inflater",
        "_key",
        "_left",
        "_max_size",
        "_opcode",
        "_pos",
        "_short",
        "_size",
        "_tail",
        "_text",
        "closed",
    )

    def __init__(
        self, *, max_size: int | None = DEFAULT_MAX_SIZE, inflater: Inflater | None = None
    ) -> None:
        self._max_size = _NO_BOUND if max_size is None else max_size
        self._short = min(self._max_size, MAX_CONTROL)
        self._inflater = inflater
        self.closed = False
        # What was fed and not yet parsed is _data[_pos:]. It is the very object fed, unless that
        # had to be put after the beginning of a frame's header, or a control frame.
        self._data: bytes | bytearray = b""
        self._pos = 0
        # The data frame whose payload is being taken: the octets that are still to come, or -1 if
        # none is open; its key, rotated to suit the next octet; whether it is its message's last.
        self._left = -1
        self._key: bytes | bytearray = b""
        self._final = False
        # The message that has begun, if its opcode is not 0.
        self._opcode = CONTINUATION
        self._compressed = False
        self._size = 0
        self._binary = bytearray()
        self._text = StringIO()
        self._tail = b""  # octets of a character that is not complete

    @property
    def buffered(self) -> int:
        """Number of octets fed and not parsed yet."""
        return len(self._data) - self._pos

    @property
    def mid_message(self) -> bool:
        """Whether the stream would be cut short if it ended here."""
        return self._opcode != CONTINUATION or self._left >= 0 or self.buffered > 0

    def feed(self, data: bytes) -> None:
        """Take what came from the peer. Nothing is parsed before it is asked for."""
        if self.closed:
            return
        if self._pos == len(self._data):
            self._data = data
        elif isinstance(self._data, bytearray):
            del self._data[: self._pos]
            self._data += data
        else:
            self._data = bytearray(memoryview(self._data)[self._pos :])
            self._data += data
        self._pos = 0

    def next_event(self) -> Event | None:
        """Return the next message or control frame; ``None`` if more must be fed first.

        Raises:
            ProtocolError: The peer broke the protocol (1002), sent what is not UTF-8 or can't be
                inflated (1007), or a message that is too big (1009).
        """
        data = self._data
        pos = self._pos
        have = len(data) - pos
        if have >= 6 and self._opcode == CONTINUATION:
            # A short message in one frame, all of it there: most are, and this takes half the time
            # of the general way below.
            first = data[pos]
            size = data[pos + 1] - MASKED
            if first in _WHOLE and 0 <= size <= self._short and size + 6 <= have:
                start = pos + 6
                self._pos = end = start + size
                # As unmask() does it; 32 keys are enough for any of these lengths.
                key = (data[pos + 2 : start] * 32)[:size]
                payload = (int.from_bytes(data[start:end]) ^ int.from_bytes(key)).to_bytes(size)
                if first == _WHOLE_BINARY:
                    return payload
                try:
                    return payload.decode()
                except UnicodeDecodeError:
                    self._end()
                    raise _not_utf8() from None
        elif not have:
            return None
        try:
            return self._next_event()
        except ProtocolError:
            self._end()
            raise

    def _next_event(self) -> Event | None:
        while True:
            if self._left < 0:
                event = self._read_frame()
                if event is not None or self._left < 0:
                    return event
            if not self._read_payload():
                return None
            if self._final:
                return self._end_message()

    def _read_frame(self) -> Event | None:
        """Read a frame's header, and all of the frame if it is an event by itself and there.

        Otherwise the frame is left open (``_left``), or the header is incomplete. (It is long
        because each call costs as much as reading a header.)
        """
        data, pos = self._data, self._pos
        have = len(data) - pos
        if have < 2:
            return None
        first, second = data[pos], data[pos + 1]
        opcode = first & 0x0F
        length = second & _LENGTH
        self._check_header(first, second)
        start = pos + 2
        if length == LENGTH_16:
            start += 2
            if have < 4:
                return None
            length = int.from_bytes(data[pos + 2 : start])
        elif length == LENGTH_64:
            start += 8
            if have < 10:
                return None
            length = int.from_bytes(data[pos + 2 : start])
            if length >> 63:
                raise _broken("frame length with its highest bit set")
        compressed = self._compressed if opcode == CONTINUATION else bool(first & RSV1)
        if opcode < CLOSE and not compressed and length > self._max_size - self._size:
            raise ProtocolError(CloseCode.TOO_BIG, "message too big")
        start += 4
        if len(data) < start:
            return None
        key = data[start - 4 : start]
        end = start + length
        if end <= len(data):
            if opcode >= CLOSE:
                self._pos = end
                return self._control(opcode, bytes(unmask(data[start:end], key)))
            if opcode != CONTINUATION and first & FIN and length <= PIECE:
                self._pos = end
                payload = unmask(memoryview(data)[start:end], key)  # which copies it
                return self._whole_message(opcode, compressed, payload)
        elif opcode >= CLOSE:
            return None
        if opcode != CONTINUATION:
            self._opcode = opcode
            self._compressed = compressed
        self._final = bool(first & FIN)
        self._key = key
        self._left = length
        self._pos = start
        return None

    def _check_header(self, first: int, second: int) -> None:
        """Check what the first two octets of a frame say (section 5.2)."""
        opcode = first & 0x0F
        reserved = first & RESERVED_BITS
        if reserved and (
            # RFC 7692 section 6: the first reserved bit of a message's first frame.
            reserved != RSV1 or self._inflater is None or opcode not in (TEXT, BINARY)
        ):
            raise _broken("reserved bit set")
        if not second & MASKED:
            raise _broken("frame without a mask")  # section 5.1
        if opcode >= CLOSE:  # sections 5.4 and 5.5
            if opcode > PONG:
                raise _broken("unknown opcode")
            if not first & FIN:
                raise _broken("fragmented control frame")
            if second & _LENGTH > MAX_CONTROL:
                raise _broken("control frame too long")
        elif opcode == CONTINUATION:  # section 5.4
            if self._opcode == CONTINUATION:
                raise _broken("continuation of no message")
        elif opcode > BINARY:
            raise _broken("unknown opcode")
        elif self._opcode != CONTINUATION:
            raise _broken("message inside a message")

    def _control(self, opcode: int, payload: bytes) -> Event:
        if opcode == PING:
            return Ping(payload)
        if opcode == PONG:
            return Pong(payload)
        close = parse_close(payload)
        self._end()
        return close

    def _whole_message(
        self, opcode: int, compressed: bool, payload: bytes | bytearray
    ) -> str | bytes:
        """A message in one frame which is there in full, and of one piece's size at most."""
        if compressed:
            payload = self._inflate(payload, final=True)
        if opcode == BINARY:
            return bytes(payload)
        try:
            return payload.decode()
        except UnicodeDecodeError:
            raise _not_utf8() from None

    def _read_payload(self) -> bool:
        """Take what has come of the open frame; return whether that was the last of it."""
        while self._left:
            data, pos, key = self._data, self._pos, self._key
            end = min(pos + min(self._left, PIECE), len(data))
            taken = end - pos
            if not taken:
                return False
            piece = unmask(memoryview(data)[pos:end], key)
            self._pos = end
            self._left -= taken
            self._key = key[taken & 3 :] + key[: taken & 3]
            self._add(self._inflate(piece) if self._compressed else piece)
        self._left = -1
        return True

    def _add(self, piece: bytes | bytearray, *, final: bool = False) -> None:
        """Add to the message that has begun."""
        self._size += len(piece)
        if self._opcode == BINARY:
            self._binary += piece
            return
        if self._tail:
            piece = self._tail + piece
        try:
            text, decoded = utf_8_decode(piece, "strict", final)
        except UnicodeDecodeError:
            raise _not_utf8() from None
        self._tail = bytes(piece[decoded:])
        if self._tail >= b"\xed\xa0" and self._tail[0] == 0xED:
            # The beginning of a surrogate, which the decoder would not mind before its end.
            raise _not_utf8()
        self._text.write(text)

    def _end_message(self) -> str | bytes:
        self._add(self._inflate(b"", final=True) if self._compressed else b"", final=True)
        message: str | bytes
        if self._opcode == BINARY:
            message = bytes(self._binary)
            self._binary = bytearray()
        else:
            message = self._text.getvalue()
            self._text = StringIO()
        self._opcode = CONTINUATION
        self._size = 0
        return message

    def _inflate(self, data: bytes | bytearray, *, final: bool = False) -> bytes:
        assert self._inflater is not None  # or RSV1 would have been refused
        return self._inflater.inflate(data, self._max_size - self._size, final=final)

    def _end(self) -> None:
        """Take nothing more, and keep nothing."""
        self.closed = True
        self._data, self._pos = b"", 0
        self._left = -1
        self._opcode = CONTINUATION
        self._binary = bytearray()
        self._text = StringIO()
        self._inflater = None


def _broken(message: str) -> ProtocolError:
    return ProtocolError(CloseCode.PROTOCOL_ERROR, message)


def _not_utf8() -> ProtocolError:
    return ProtocolError(CloseCode.INVALID_DATA, "text message is not UTF-8")
