"""Cases for served WebSockets: frames mostly damaged, and what both sides make of them."""

from __future__ import annotations

import asyncio
import zlib
from random import Random
from typing import Any

from subinterp_asgi.websocket import Close, MessageParser
from subinterp_asgi.websocket.deflate import TAIL, Inflater
from subinterp_asgi.websocket.frames import parse_close
from subinterp_asgi.worker.asgi import websocket as served
from subinterp_asgi.worker.asgi.websocket import WebSocketSession
from subinterp_asgi.worker.net.connection import READ_SIZE
from tests.integration.wsclient import DEFLATE, handshake
from tests.websocket.client import BINARY, CLOSE, PONG, RSV1, TEXT, Outcome, drive

from . import serving
from .app import RECORDS, SOCKETS
from .serving import Arena, Finding
from .websocket import make_damaged, make_stream

MAX_SIZE = 5000
MAX_QUEUE = 4
BATCH = 120
"""Cases of which either all or none may meet with what the worker does of its own accord."""
FAITHFUL = ("/echo", "/slow", "/impatient")
"""Where all that comes is taken, to the end."""


class SocketArena(Arena):
    """A worker to which WebSockets are opened."""

    options = serving.OPTIONS | {
        "ws_max_size": MAX_SIZE,
        "ws_max_queue": MAX_QUEUE,
        "ws_ping_interval": 0.1,
        "ws_ping_timeout": 1.0,
    }

    async def __aenter__(self) -> SocketArena:
        served.CLOSE_TIMEOUT = 0.5
        await super().__aenter__()
        return self

    async def run_case(self, seed: int, number: int) -> None:
        """Open a WebSocket, send a stream, read what comes, and check it and the application."""
        random = Random(f"sockets {seed} {number}")
        path = random.choice(sorted(SOCKETS))
        compressed = random.random() < 0.5
        opening = handshake(
            DEFLATE if compressed else b"", target=f"{path}?{number}".encode("ascii")
        )
        damaged = random.random() < 0.05
        if damaged:
            opening = bytes(make_damaged(bytearray(opening), random))
        stream = make_stream(random, compressed)
        received = bytearray()
        self._rough = number // BATCH % 3 == 0
        try:
            async with asyncio.timeout(serving.CASE_TIME):
                ending = await self._converse(opening + stream, random, received)
        except TimeoutError:
            raise Finding("the server did not come to an end") from None
        if damaged or ending == "cut short":
            return
        parser = MessageParser(max_size=MAX_SIZE, inflater=Inflater() if compressed else None)
        outcome = drive(parser, [stream] if stream else [])
        sent = check_answer(bytes(received), compressed)
        messages = [event for event in outcome.events if isinstance(event, str | bytes)]
        if path == "/echo" and sent != messages[: len(sent)]:
            raise Finding("what came back is not what was sent")
        exact = ending == "half-close" and not self._rough
        if path in FAITHFUL:
            await self._check_record(str(number), outcome, messages, exact=exact)

    def _disturb(self, random: Random) -> None:
        if self._rough:
            super()._disturb(random)

    async def _check_record(
        self, key: str, outcome: Outcome, messages: list[Any], *, exact: bool
    ) -> None:
        """Compare what the application was told with what the codec alone makes of the stream."""
        while key not in RECORDS:
            if not self.worker._server_state.tasks:
                return  # its handshake was never read
            await asyncio.sleep(0.02)
        *contents, end = RECORDS.pop(key)
        if contents != messages[: len(contents)]:
            raise Finding("the application received what was not sent")
        if not exact:
            return
        if contents != messages:
            raise Finding(f"{len(messages) - len(contents)} messages were lost")
        last = outcome.events[-1] if outcome.events else None
        codes = {last.code if isinstance(last, Close) else outcome.code or 1006}
        if outcome.code in (1007, 1009):  # whichever shows first as it is inflated
            codes = {1007, 1009}
        if end["code"] not in codes:
            raise Finding(f"the application was told {end['code']}, not {codes}")

    def check_memory(self) -> None:
        """Check what WebSockets hold at this moment."""
        for connection in tuple(self.worker._connections):
            session: Any = getattr(connection, "session", None)
            if isinstance(session, WebSocketSession):
                parser = getattr(session, "_parser", None)
                kept = len(session._early) + (0 if parser is None else parser.buffered)
                if kept > 3 * READ_SIZE or len(session._queue) > MAX_QUEUE:
                    raise Finding(f"{kept} octets and {len(session._queue)} messages are kept")


def check_answer(data: bytes, compressed: bool) -> list[str | bytes]:
    """Check the answer to a handshake, as far as it came; return the messages behind it."""
    head, mark, rest = data.partition(b"\r\n\r\n")
    if not mark:
        return []
    if not head.startswith(b"HTTP/1.1 101 "):
        if head[9:12] not in (b"401", b"403", b"500", b"503"):
            raise Finding(f"unexpected answer: {head!r}")
        return []
    inflater = zlib.decompressobj(wbits=-15)
    found: list[str | bytes] = []
    while len(rest) >= 2:
        first, size, start = rest[0], rest[1], 2
        if size >= 126:
            start = 4 if size == 126 else 10
            size = int.from_bytes(rest[2:start])
        if len(rest) < start + size:
            break
        payload, rest = rest[start : start + size], rest[start + size :]
        opcode = first & 0x0F
        if not first & 0x80 or opcode not in (TEXT, BINARY, CLOSE, CLOSE + 1, PONG):
            raise Finding(f"a frame that begins with {first:#x}")
        if first & RSV1:
            if not compressed or opcode > BINARY:
                raise Finding("compressed, although that may not be")
            payload = inflater.decompress(payload + TAIL)
        if opcode == CLOSE:
            parse_close(payload)
            if rest:
                raise Finding("something follows a close frame")
        elif opcode in (TEXT, BINARY):
            found.append(payload.decode() if opcode == TEXT else payload)
    return found
