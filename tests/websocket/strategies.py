"""Generators of what a client sends: valid streams with what they mean, and damaged ones."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field

from hypothesis import strategies as st

from subinterp_asgi.websocket import Close, Event, Ping, Pong
from subinterp_asgi.websocket.deflate import TAIL

from .client import BINARY, CLOSE, CONTINUATION, PING, PONG, RSV1, TEXT, frame

cuts = st.lists(st.integers(0, 2000), max_size=12)
"""Where to cut a stream, for ``split()``."""

keys = st.binary(min_size=4, max_size=4)
texts = st.text(max_size=60) | st.text(st.characters(min_codepoint=0x80), max_size=40)
# Small ones, and some around the edges of the length forms and of the ways to unmask.
long_texts = st.builds(
    lambda char, count: char * count,
    st.sampled_from(["a", "é", "世", "😀"]),
    st.sampled_from([124, 125, 126, 127, 341, 342, 1023, 1024, 1025, 16500]),
)
messages = texts | long_texts | st.binary(max_size=200) | long_texts.map(str.encode)

control_events = st.one_of(
    st.builds(Ping, st.binary(max_size=125)), st.builds(Pong, st.binary(max_size=125))
)
closes = st.just(Close()) | st.builds(
    Close,
    st.sampled_from([1000, 1001, 1002, 1003, 1007, 1014, 3000, 4999]),
    st.text(max_size=30),
)


@dataclass
class Stream:
    """What a client sends, and the events it must come to."""

    sent: bytes = b""
    events: list[Event] = field(default_factory=list)


def control_frame(event: Event, key: bytes) -> bytes:
    match event:
        case Ping(payload=payload):
            return frame(PING, payload, key=key)
        case Pong(payload=payload):
            return frame(PONG, payload, key=key)
        case Close(code=1005):
            return frame(CLOSE, key=key)
        case Close(code=code, reason=reason):
            return frame(CLOSE, code.to_bytes(2) + reason.encode(), key=key)
    raise TypeError(event)


@st.composite
def streams(draw: st.DrawFn, *, compressed: bool = False, context_takeover: bool = True) -> Stream:
    """Messages in any fragments, control frames anywhere between them, perhaps a close frame."""
    stream = Stream()
    packer: zlib._Compress | None = None
    for message in draw(st.lists(messages, max_size=5)):
        payload = message.encode() if isinstance(message, str) else message
        reserved = 0
        if compressed and draw(st.booleans()):
            reserved = RSV1
            if packer is None or not context_takeover:
                packer = zlib.compressobj(draw(st.sampled_from([0, 1, 6, 9])), wbits=-15)
            payload = packer.compress(payload) + packer.flush(zlib.Z_SYNC_FLUSH)
            payload = payload.removesuffix(TAIL) or b"\0"
        edges = draw(st.lists(st.integers(0, len(payload)), max_size=4).map(sorted))
        parts = [payload[a:b] for a, b in zip([0, *edges], [*edges, len(payload)], strict=True)]
        for index, part in enumerate(parts):
            for event in draw(st.lists(control_events, max_size=1)):
                stream.sent += control_frame(event, draw(keys))
                stream.events.append(event)
            stream.sent += frame(
                CONTINUATION if index else TEXT if isinstance(message, str) else BINARY,
                part,
                fin=index == len(parts) - 1,
                reserved=0 if index else reserved,
                key=draw(keys),
            )
        stream.events.append(message)
    if draw(st.booleans()):
        close = draw(closes)
        stream.sent += control_frame(close, draw(keys))
        stream.events.append(close)
    return stream


@st.composite
def damaged(draw: st.DrawFn, *, compressed: bool = False) -> bytes:
    """A valid stream with octets changed, removed, repeated or put in."""
    sent = bytearray(draw(streams(compressed=compressed)).sent)
    for _ in range(draw(st.integers(1, 3))):
        # Most of the time near the beginning of something, where headers are.
        at = draw(st.integers(0, 40) | st.integers(0, len(sent)))
        match draw(st.integers(0, 3)):
            case 0 if at < len(sent):
                sent[at] ^= 1 << draw(st.integers(0, 7))
            case 1:
                del sent[at : at + draw(st.integers(1, 4))]
            case 2:
                sent[at:at] = draw(st.binary(min_size=1, max_size=4))
            case _:
                sent[at:at] = sent[at : at + draw(st.integers(1, 20))]
    return bytes(sent)


# Frames that are right and wrong in all their parts at once.
any_frames = st.lists(
    st.builds(
        frame,
        st.integers(0, 15),
        st.binary(max_size=130) | texts.map(str.encode),
        fin=st.booleans(),
        reserved=st.sampled_from([0, 0, 0, 0x10, 0x40, 0x70]),
        key=keys | keys | keys | st.none(),
        length_octets=st.sampled_from([None, None, 2, 8]),
    ),
    max_size=8,
).map(b"".join)
