"""Cases for the WebSocket codec: ``python -m tests.fuzz.websocket [--seconds N] [--seed S] ...``.

Streams of frames, mostly damaged, plain and compressed, parsed at once and in pieces; and opening
handshakes. What is looked for is what the fuzzing of HTTP looks for.
"""

from __future__ import annotations

import argparse
import faulthandler
import gc
import os
import sys
import time
import traceback
import tracemalloc
import zlib
from random import Random

from subinterp_asgi.websocket import (
    HandshakeError,
    MessageParser,
    negotiate_deflate,
    read_handshake,
)
from subinterp_asgi.websocket.deflate import TAIL, Inflater
from tests.websocket.client import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    RSV1,
    TEXT,
    Outcome,
    drive,
    frame,
)

from .corpus import cut

WATCHDOG = 60.0
"""Seconds after which a batch that is still running is taken for an endless loop."""
GROWTH = 16 * 1024 * 1024
"""Octets by which the memory in use may grow after the first batches."""
CODES = {None, 1002, 1007, 1009}
HEADER_AND_CONTROL = 14 + 125
"""Octets that have to be kept until they are complete."""

TEXTS = ["", "a", "hello", "grüße, 世界 😀" * 3, "x" * 126, "é" * 600, "\0\r\n", "words " * 400]
FIELDS = [
    (b"upgrade", b"websocket"),
    (b"connection", b"keep-alive, Upgrade"),
    (b"sec-websocket-version", b"13"),
    (b"sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZQ=="),
    (b"sec-websocket-protocol", b"chat, superchat"),
    (
        b"sec-websocket-extensions",
        b"permessage-deflate; server_max_window_bits=10; client_max_window_bits, "
        b'x-other; a="b"; c, permessage-deflate',
    ),
]


def run_case(seed: int, number: int) -> None:
    """Parse a stream at once and in pieces, or a handshake.

    Raises:
        Exception: Something is wrong.
    """
    random = Random(f"websocket {seed} {number}")
    if random.random() < 0.1:
        _open(random)
        return
    compressed = random.random() < 0.5
    stream = make_stream(random, compressed)
    max_size = random.choice((0, 10, 200, 5000, 1 << 24, None))
    pieces = cut(stream, random)
    at_once = _parse([stream], compressed, max_size)
    in_pieces = _parse(pieces, compressed, max_size)
    codes = {at_once.code, in_pieces.code}
    assert codes <= CODES, codes
    if at_once.code != in_pieces.code:
        # What is neither UTF-8 nor small enough is refused for what shows first as it is inflated.
        assert compressed, f"{at_once.error!r}, {in_pieces.error!r}"
        assert codes == {1007, 1009}, f"{at_once.error!r}, {in_pieces.error!r}"
    assert at_once.events == in_pieces.events, "the result depends on the cuts"
    if max_size is not None:
        for event in at_once.events:
            size = (
                len(event.encode() if isinstance(event, str) else event)
                if (isinstance(event, str | bytes))
                else 0
            )
            assert size <= max_size, f"a message of {size} octets"


def _parse(pieces: list[bytes], compressed: bool, max_size: int | None) -> Outcome:
    parser = MessageParser(max_size=max_size, inflater=Inflater() if compressed else None)
    outcome = drive(parser, pieces)
    assert parser.buffered <= HEADER_AND_CONTROL, f"{parser.buffered} octets were kept"
    if outcome.error is not None:
        assert parser.closed
        assert parser.buffered == 0
    return outcome


def _open(random: Random) -> None:
    fields = [(name, bytes(make_damaged(bytearray(value), random))) for name, value in FIELDS]
    random.shuffle(fields)
    try:
        handshake = read_handshake("GET", "1.1", fields)
    except HandshakeError:
        return
    subprotocol = random.choice([None, *handshake.subprotocols])
    response = handshake.response(
        subprotocol=subprotocol, deflate=negotiate_deflate(handshake.extensions)
    )
    lines = response.split(b"\r\n")
    assert lines[-2:] == [b"", b""], response
    assert all(line.isascii() and b": " in line for line in lines[1:-2]), response


def make_stream(random: Random, compressed: bool) -> bytes:
    data = bytearray()
    packer = zlib.compressobj(wbits=-15)
    for _ in range(random.choice((1, 1, 2, 3, 8, 30))):
        text = random.choice(TEXTS)
        payload = text.encode()
        reserved = 0
        if compressed and random.random() < 0.7:
            reserved = RSV1
            payload = packer.compress(payload) + packer.flush(
                random.choice((zlib.Z_SYNC_FLUSH,) * 8 + (zlib.Z_FULL_FLUSH, zlib.Z_FINISH))
            )
            if not payload.endswith(TAIL):  # finished, or nothing to flush
                packer = zlib.compressobj(wbits=-15)
                payload += b"\0" + TAIL
            payload = payload.removesuffix(TAIL)
        _add_message(data, random, random.choice((TEXT, BINARY)), payload, reserved)
    if random.random() < 0.3:
        data += frame(CLOSE, random.choice((b"", b"\x03\xe8bye", b"\x0f\xa0", b"\x03\xed")))
    if random.random() < 0.02:
        data = bytearray(random.randbytes(random.randrange(2000)))
    for _ in range(random.choice((0, 0, 1, 1, 2, 4, 10))):
        make_damaged(data, random)
    return bytes(data[:30_000])


def _add_message(
    data: bytearray, random: Random, opcode: int, payload: bytes, reserved: int
) -> None:
    parts = cut(payload, random)[:200] if random.random() < 0.4 else [payload]
    for index, part in enumerate(parts):
        if random.random() < 0.1:
            data += frame(random.choice((PING, PONG)), random.randbytes(random.randrange(126)))
        data += frame(
            CONTINUATION if index else opcode,
            part,
            fin=index == len(parts) - 1,
            reserved=0 if index else reserved,
            key=random.randbytes(4),
            length_octets=random.choice((None,) * 9 + (8,)),
        )


def make_damaged(data: bytearray, random: Random) -> bytearray:
    if random.random() < 0.3:
        return data
    at = random.randrange(len(data) + 1)
    if random.random() < 0.5:
        at = min(at, random.randrange(20))  # where a header is
    size = random.choice((1, 1, 1, 2, 4, 16, 200))
    match random.randrange(6):
        case 0:
            data[at : at + 1] = bytes((random.randrange(256),))
        case 1:
            if at < len(data):
                data[at] ^= 1 << random.randrange(8)
        case 2:
            del data[at : at + size]
        case 3:
            data[at:at] = frame(random.randrange(16), random.randbytes(size))
        case 4:
            data[at:at] = data[at : at + size]
        case _:
            data[at:at] = random.choice((b"\xff", b"\x80", b",", b";", b" ", b"=", b'"', b"\0"))
    return data


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.websocket", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0, help="how long (default: 600)")
    parser.add_argument("--seed", type=int, default=None, help="default: another one each time")
    parser.add_argument("--case", type=int, default=None, help="run only this case of the seed")
    options = parser.parse_args()
    seed = int.from_bytes(os.urandom(4)) if options.seed is None else options.seed
    print(f"seed {seed}", flush=True)
    number = options.case or 0
    end = time.monotonic() + options.seconds
    baseline = 0
    tracemalloc.start()
    try:
        while time.monotonic() < end:
            faulthandler.dump_traceback_later(WATCHDOG, exit=True)
            for _ in range(1 if options.case is not None else 200):
                run_case(seed, number)
                number += 1
            if options.case is not None:
                break
            gc.collect()
            now, _ = tracemalloc.get_traced_memory()
            baseline = baseline or now
            assert now <= baseline + GROWTH, f"memory has grown from {baseline} to {now} octets"
    except Exception:
        traceback.print_exc()
        print(f"found by: --seed {seed} --case {number}")
        return 1
    finally:
        faulthandler.cancel_dump_traceback_later()
        tracemalloc.stop()
    print(f"nothing found up to case {number} of the WebSocket codec")
    return 0


if __name__ == "__main__":
    sys.exit(main())
