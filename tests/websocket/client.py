"""The client's side for the tests around it: frames as clients send them, and a parser driven."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field

from subinterp_asgi.websocket import Event, MessageParser, ProtocolError
from subinterp_asgi.websocket.deflate import Inflater

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
FIN, RSV1, RSV2, RSV3 = 0x80, 0x40, 0x20, 0x10
KEY = b"\x37\xfa\x21\x3d"


def xor(data: bytes, key: bytes) -> bytes:
    """Mask, in the RFC's own words (section 5.3)."""
    return bytes(octet ^ key[index % 4] for index, octet in enumerate(data))


def long_xor(data: bytes, key: bytes) -> bytes:
    """The same for payloads for which those words take too long."""
    repeated = key * (len(data) // 4 + 1)
    return (int.from_bytes(data) ^ int.from_bytes(repeated[: len(data)])).to_bytes(len(data))


def frame(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    reserved: int = 0,
    key: bytes | None = KEY,
    length_octets: int | None = None,
) -> bytes:
    """A frame; ``key=None``: not masked; ``length_octets``: in the form of 2 or 8 octets anyway."""
    size = len(payload)
    if length_octets is None:
        length_octets = 0 if size < 126 else 2 if size < 65536 else 8
    mark = {0: size, 2: 126, 8: 127}[length_octets]
    header = bytes((FIN * fin | reserved | opcode, (0 if key is None else 0x80) | mark))
    header += size.to_bytes(length_octets) if length_octets else b""
    if key is None:
        return header + payload
    return header + key + (xor(payload, key) if size < 4096 else long_xor(payload, key))


def message(opcode: int, *parts: bytes, reserved: int = 0) -> bytes:
    """A message in fragments."""
    last = len(parts) - 1
    return b"".join(
        frame(
            CONTINUATION if index else opcode,
            part,
            fin=index == last,
            reserved=0 if index else reserved,
        )
        for index, part in enumerate(parts)
    )


@dataclass
class Outcome:
    """What a stream came to."""

    events: list[Event] = field(default_factory=list)
    error: ProtocolError | None = None
    taken: int = 0
    """Octets fed before the error was raised, or all."""

    @property
    def code(self) -> int | None:
        return None if self.error is None else self.error.code


def drive(parser: MessageParser, pieces: Iterable[bytes]) -> Outcome:
    """Feed piece after piece, and take the events as soon as they are there."""
    outcome = Outcome()
    try:
        for piece in pieces:
            parser.feed(piece)
            outcome.taken += len(piece)
            while (event := parser.next_event()) is not None:
                outcome.events.append(event)
    except ProtocolError as exc:
        outcome.error = exc
    return outcome


def parse(
    *pieces: bytes, max_size: int | None = 1 << 24, inflater: Inflater | None = None
) -> Outcome:
    """``drive()`` a new parser."""
    return drive(MessageParser(max_size=max_size, inflater=inflater), pieces)


def events(
    *pieces: bytes, max_size: int | None = 1 << 24, inflater: Inflater | None = None
) -> list[Event]:
    """Parse what must be accepted."""
    outcome = parse(*pieces, max_size=max_size, inflater=inflater)
    assert outcome.error is None, f"refused: {outcome.error}"
    return outcome.events


def split(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    """Cut a stream at some offsets."""
    edges = [0, *sorted({cut for cut in cuts if 0 < cut < len(data)}), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges)]


def octets(data: bytes) -> list[bytes]:
    """A stream one octet at a time."""
    return [data[i : i + 1] for i in range(len(data))]
