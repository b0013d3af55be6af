"""Frames (RFC 6455 section 5): their numbers, and what control frames carry."""

from __future__ import annotations

from ..errors import ASGIProtocolError
from .errors import ProtocolError

# Section 5.2, the first octet: FIN, three reserved bits, opcode.
FIN = 0x80
RSV1 = 0x40
RESERVED_BITS = 0x70
CONTINUATION, TEXT, BINARY = 0x0, 0x1, 0x2
CLOSE, PING, PONG = 0x8, 0x9, 0xA

# The second octet: MASK and length, or one of two marks for a length that follows in 2 or 8 octets.
MASKED = 0x80
LENGTH_16, LENGTH_64 = 126, 127
MAX_CONTROL = 125
"""Octets of a control frame's payload (section 5.5)."""


class CloseCode:
    """Close codes by name (section 7.4.1 and its IANA registry)."""

    NORMAL = 1000
    GOING_AWAY = 1001
    PROTOCOL_ERROR = 1002
    UNSUPPORTED_DATA = 1003
    NO_STATUS = 1005
    """Stands for a close frame without a code; never sent."""
    ABNORMAL = 1006
    """Stands for a connection that was lost without a close frame; never sent."""
    INVALID_DATA = 1007
    POLICY_VIOLATION = 1008
    TOO_BIG = 1009
    INTERNAL_ERROR = 1011
    SERVICE_RESTART = 1012
    TRY_AGAIN_LATER = 1013


def sendable(code: int) -> bool:
    """Whether a code may stand in a close frame (section 7.4).

    1004 is reserved, 1005, 1006 and 1015 describe connections without such a frame, the rest up to
    2999 is the protocol's own and not defined, and nothing is defined from 5000 on.
    """
    return 3000 <= code <= 4999 or 1000 <= code <= 1003 or 1007 <= code <= 1014


class _Control:
    """What a control frame carries, in slots. Equal if class and all of that are."""

    __slots__: tuple[str, ...] = ()

    def _key(self) -> tuple[object, ...]:
        return type(self), *(getattr(self, name) for name in self.__slots__)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self._key()[1:]))})"

    def __eq__(self, other: object) -> bool:
        return self._key() == other._key() if isinstance(other, _Control) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._key())


class Ping(_Control):
    """A ping came, and is to be answered with a pong of the same payload (section 5.5.2)."""

    __slots__ = ("payload",)

    def __init__(self, payload: bytes = b"") -> None:
        self.payload = payload


class Pong(_Control):
    """A pong came, asked for or not (section 5.5.3)."""

    __slots__ = ("payload",)

    def __init__(self, payload: bytes = b"") -> None:
        self.payload = payload


class Close(_Control):
    """The peer's close frame came (section 5.5.1); nothing follows.

    Attributes:
        code: Its code; 1005 if it had none.
        reason: Its reason, perhaps empty.
    """

    __slots__ = ("code", "reason")

    def __init__(self, code: int = CloseCode.NO_STATUS, reason: str = "") -> None:
        self.code = code
        self.reason = reason


type Event = str | bytes | Ping | Pong | Close
"""What a parser yields: text and binary messages as themselves, control frames as objects."""


def parse_close(payload: bytes) -> Close:
    """Read the payload of a close frame.

    ``ProtocolError``: the code is cut off or may not be sent (1002), or the reason is not UTF-8
    (1007).
    """
    if not payload:
        return Close()
    code = int.from_bytes(payload[:2])  # of half a code, a number that no code has
    if not sendable(code):
        raise ProtocolError(CloseCode.PROTOCOL_ERROR, "invalid close code")
    try:
        return Close(code, payload[2:].decode())
    except UnicodeDecodeError:
        raise ProtocolError(CloseCode.INVALID_DATA, "close reason is not UTF-8") from None


def render_close(code: int, reason: str) -> bytes:
    """Make the payload of a close frame.

    A reason that does not fit is cut after the last character that does, since ASGI does not bound
    it. The code 1005 makes an empty payload.

    ``ASGIProtocolError``: the code may not be sent, or the reason has a lone surrogate.
    """
    if code == CloseCode.NO_STATUS:
        return b""
    if not sendable(code):
        raise ASGIProtocolError(f"a close frame can't have the code {code!r}")
    try:
        text = reason.encode()
    except UnicodeEncodeError:
        raise ASGIProtocolError("the close reason has a lone surrogate") from None
    if len(text) > MAX_CONTROL - 2:
        text = text[: MAX_CONTROL - 2].decode(errors="ignore").encode()
    return code.to_bytes(2) + text
