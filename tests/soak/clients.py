"""Clients of all kinds, which note down every connection and every request and what became of it.

They behave as clients should: a connection is used again only if the last response allows it and
the server has not closed it meanwhile. Nothing is sent twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic_ns

from tests.integration.rawclient import request
from tests.integration.wsclient import close_frame, handshake
from tests.websocket.client import CLOSE, TEXT, frame

TIMEOUT = 30.0
"""Seconds that any step may take; longer than a frozen worker stays frozen."""


@dataclass
class Link:
    """A connection.

    Attributes:
        port: Its port at the client's side, by which the server's side can be found; 0 if it is
            of a Unix socket.
        attempts: The requests that were sent on it.
        workers: Who had answered them, as the responses say.
        dropped: When the server closed it although nothing had said so, or ``None``.
    """

    port: int
    attempts: list[Attempt] = field(default_factory=list)
    workers: set[str] = field(default_factory=set)
    dropped: int | None = None


@dataclass
class Attempt:
    """A request: when it was begun and ended (``time.monotonic_ns()``), and how.

    Attributes:
        status: That of the response, once that is complete.
        error: What went wrong instead.
        late: It ended because the server is going away, and says so.
    """

    number: int
    kind: str
    link: Link
    begun: int
    ended: int = 0
    status: int | None = None
    error: str | None = None
    late: bool = False


class Broken(Exception):
    """The connection ended where it should not."""


class Records:
    """What all clients have seen."""

    def __init__(self) -> None:
        self.links: list[Link] = []
        self.attempts: list[Attempt] = []
        self.refused: list[str] = []
        self._numbers = itertools.count(1)

    def begin(self, kind: str, link: Link) -> Attempt:
        attempt = Attempt(next(self._numbers), kind, link, monotonic_ns())
        link.attempts.append(attempt)
        self.attempts.append(attempt)
        return attempt

    def settle(self, link: Link) -> None:
        """Take note that a connection's last request is over, or that there could be none."""


class Connection:
    """A connection, and the parsing of what comes."""

    def __init__(
        self, records: Records, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ):
        self._records = records
        self.reader = reader
        self.writer = writer
        name = writer.get_extra_info("sockname")
        self.link = Link(name[1] if isinstance(name, tuple) else 0)
        self.usable = True
        records.links.append(self.link)

    @classmethod
    async def open(cls, records: Records, address: tuple[str, int] | str) -> Connection:
        """Connect to a host and port, or to a path."""
        if isinstance(address, str):
            return cls(records, *await asyncio.open_unix_connection(address))
        return cls(records, *await asyncio.open_connection(*address))

    async def close(self) -> None:
        self.usable = False
        self.writer.close()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()

    async def exchange(
        self, kind: str, argument: object = "-", body: bytes | None = None, *, last: bool = False
    ) -> Attempt:
        """Send a request and read its response."""
        if self.reader.at_eof() or self.reader.exception():
            self.link.dropped = monotonic_ns()
            await self.close()
            self._records.settle(self.link)
            raise Broken
        attempt = self._records.begin(kind, self.link)
        try:
            async with asyncio.timeout(TIMEOUT):
                await self._send(attempt, argument, body, last=last)
                status, answer = await self._response()
            check(kind, status, answer, argument, body)
        except (OSError, asyncio.IncompleteReadError, AssertionError) as exc:
            attempt.error = f"{type(exc).__name__}: {exc}"
            await self.close()
            raise Broken from None
        else:
            attempt.status = status
        finally:
            attempt.ended = monotonic_ns()
            self._records.settle(self.link)
        if last or not self.usable:
            await self.close()
        return attempt

    async def _send(
        self, attempt: Attempt, argument: object, body: bytes | None, *, last: bool
    ) -> None:
        target = f"/{attempt.kind}/{attempt.number}/{argument}".encode()
        lines = [b"Connection: close"] if last else []
        if body is None:
            self.writer.write(request(b"GET", target, *lines))
            await self.writer.drain()
            return
        self.writer.write(request(b"POST", target, b"Content-Length: %d" % len(body), *lines))
        step = len(body) // 4 + 1
        for start in range(0, len(body), step):
            self.writer.write(body[start : start + step])
            await self.writer.drain()
            await asyncio.sleep(random.uniform(0, 0.02))

    async def head(self) -> tuple[int, dict[bytes, bytes]]:
        head = await self.reader.readuntil(b"\r\n\r\n")
        status_line, *lines = head[:-4].split(b"\r\n")
        fields = {
            name.lower(): value for name, _, value in (line.partition(b": ") for line in lines)
        }
        if b"x-worker" in fields:
            self.link.workers.add(fields[b"x-worker"].decode())
        return int(status_line.split(b" ")[1]), fields

    async def _response(self) -> tuple[int, bytes]:
        status, fields = await self.head()
        if b"close" in fields.get(b"connection", b""):
            self.usable = False
        if b"content-length" in fields:
            return status, await self.reader.readexactly(int(fields[b"content-length"]))
        assert fields.get(b"transfer-encoding") == b"chunked", fields
        body = b""
        while size := int(await self.reader.readuntil(b"\r\n"), 16):
            body += await self.reader.readexactly(size)
            await self.reader.readexactly(2)
        await self.reader.readexactly(2)
        return status, body


def check(kind: str, status: int, answer: bytes, argument: object, body: bytes | None) -> None:
    """Check that an answer is the right one."""
    if status != 200:
        return  # somebody will ask why
    if kind == "hello":
        assert answer == f"hello {argument}".encode()
    elif kind == "upload":
        assert body is not None
        assert answer == hashlib.sha256(body).hexdigest().encode()
    elif kind == "stream":
        pieces = (b"%4d" % piece * 250 for piece in range(int(str(argument))))
        assert answer == b"".join(pieces) + b"end"


class Load:
    """Runs clients until it is told to stop.

    Args:
        records: Where they note things down.
        address: The server's.
        rng: Source of all choices.
    """

    def __init__(self, records: Records, address: tuple[str, int], rng: random.Random) -> None:
        self.records = records
        self._address = address
        self._rng = rng
        self._ending = False
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        kinds: list[tuple[int, Callable[[random.Random], object]]] = [
            (4, self._keep_alive),
            (2, self._upload),
            (3, self._slow),
            (2, self._stream),
            (2, self._fresh),
            (2, self._websocket),
        ]
        for count, kind in kinds:
            for _ in range(count):
                rng = random.Random(self._rng.random())
                self._tasks.append(asyncio.create_task(self._repeat(kind, rng)))

    async def stop(self) -> None:
        """Have all end what they have begun."""
        self._ending = True
        await asyncio.gather(*self._tasks)

    async def once(self, kind: str, argument: object = "-") -> None:
        """Send a single request on a connection of its own."""
        with contextlib.suppress(Broken):
            connection = await self._open()
            await connection.exchange(kind, argument, last=True)

    async def _repeat(self, kind: Callable, rng: random.Random) -> None:  # type: ignore[type-arg]
        while not self._ending:
            with contextlib.suppress(Broken):
                await kind(rng)

    async def _open(self) -> Connection:
        try:
            return await Connection.open(self.records, self._address)
        except OSError as exc:
            self.records.refused.append(f"{monotonic_ns()} {exc}")
            await asyncio.sleep(0.1)
            raise Broken from None

    async def _several(self, rng: random.Random, pause: float, *arguments: object) -> None:
        """Send requests on one connection for as long as that lasts, or for a while."""
        connection = await self._open()
        for _ in range(rng.randint(1, 40)):
            if self._ending or not connection.usable:
                break
            kind, make = arguments
            assert callable(make)
            argument, body = make()
            await connection.exchange(str(kind), argument, body)
            await asyncio.sleep(rng.uniform(0, pause))
        if connection.usable:
            await connection.close()

    async def _keep_alive(self, rng: random.Random) -> None:
        await self._several(rng, 0.02, "hello", lambda: (rng.randint(0, 999), None))

    async def _upload(self, rng: random.Random) -> None:
        await self._several(
            rng, 0.05, "upload", lambda: ("-", rng.randbytes(rng.randint(1, 200_000)))
        )

    async def _slow(self, rng: random.Random) -> None:
        await self._several(rng, 0.05, "slow", lambda: (round(rng.uniform(0.05, 0.6), 3), None))

    async def _stream(self, rng: random.Random) -> None:
        await self._several(rng, 0.05, "stream", lambda: (rng.randint(1, 40), None))

    async def _fresh(self, rng: random.Random) -> None:
        connection = await self._open()
        await connection.exchange("hello", "fresh", last=True)
        await asyncio.sleep(rng.uniform(0, 0.02))

    async def _websocket(self, rng: random.Random) -> None:
        connection = await self._open()
        attempt = self.records.begin("echo", connection.link)
        try:
            async with asyncio.timeout(TIMEOUT):
                connection.writer.write(handshake(target=f"/echo/{attempt.number}/-".encode()))
                attempt.status, _ = await connection.head()
                if attempt.status == 101:
                    await self._echo(connection, attempt, rng)
        except (OSError, asyncio.IncompleteReadError, AssertionError) as exc:
            attempt.error = f"{type(exc).__name__}: {exc}"
        finally:
            attempt.ended = monotonic_ns()
            await connection.close()
            self.records.settle(connection.link)

    async def _echo(self, connection: Connection, attempt: Attempt, rng: random.Random) -> None:
        for number in range(rng.randint(1, 30)):
            text = f"{attempt.number} {number} {'x' * rng.randint(0, 2000)}".encode()
            connection.writer.write(frame(TEXT, text))
            opcode, payload = await read_frame(connection.reader)
            if opcode == CLOSE and payload[:2] == (1012).to_bytes(2):
                attempt.late = True
                connection.writer.write(close_frame(1012))
                return
            assert (opcode, payload) == (TEXT, text), (opcode, payload[:40])
            await asyncio.sleep(rng.uniform(0, 0.05))
            if self._ending:
                break
        connection.writer.write(close_frame(1000))
        opcode, payload = await read_frame(connection.reader)
        assert opcode == CLOSE, (opcode, payload[:40])


async def read_frame(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Read a frame of the server's, which is a whole message and short."""
    first, size = await reader.readexactly(2)
    if size == 126:
        size = int.from_bytes(await reader.readexactly(2))
    return first & 0x0F, await reader.readexactly(size)
