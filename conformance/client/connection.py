"""A raw connection to the server under test: bytes out, strictly read responses in.

Every wait has a deadline and waits for something that happens; the only timed waits are
`quiet`, for cases in which the server must stay silent.
"""

import asyncio
import dataclasses
import socket
import struct
import time

from conformance.client.errors import Closed, Mismatch, NoAnswer, Skip, Truncated, Violation
from conformance.client.responses import (
    Fields,
    Framing,
    Response,
    framing_of,
    parse_chunk_line,
    parse_fields,
    parse_head,
)

MAX_HEAD = 256 * 1024


class Wire(asyncio.Protocol):
    """Collects what arrives, also what came just before a reset."""

    def __init__(self, tls: bool) -> None:
        self.buffer = bytearray()
        self.ended = False
        self.lost = False
        self.reset = False
        self.news = asyncio.Event()
        self.writable = asyncio.Event()
        self.writable.set()
        self._tls = tls

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        self.news.set()

    def eof_received(self) -> bool:
        self.ended = True
        self.news.set()
        return not self._tls

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended = self.lost = True
        self.reset = isinstance(exc, ConnectionError)
        self.news.set()
        self.writable.set()

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()


class Connection:
    """One connection; made by `Lab.connect`."""

    def __init__(self, transport: asyncio.Transport, wire: Wire, timeout: float) -> None:
        self._transport = transport
        self._wire = wire
        self.timeout = timeout
        self.half_closed = False
        self.interim: list[Response] = []

    # -- writing ---------------------------------------------------------------------

    async def send(self, data: bytes) -> None:
        """Write `data` and wait until the kernel took it; the server may refuse the rest."""
        if self._transport.is_closing():
            return
        self._transport.write(data)
        try:
            await asyncio.wait_for(self._wire.writable.wait(), self.timeout)
        except TimeoutError:
            raise NoAnswer("the server stopped reading") from None

    def half_close(self) -> None:
        """End the sending direction only."""
        if not self._transport.can_write_eof():
            raise Skip("half-close is not possible over TLS")
        if not self._transport.is_closing():
            self._transport.write_eof()
        self.half_closed = True

    def abort(self) -> None:
        """Reset the connection at once."""
        sock = self._transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()

    def pause_reading(self) -> None:
        """Stop taking bytes from the kernel, so that the server's writes fill up."""
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Take bytes again."""
        self._transport.resume_reading()

    @property
    def local(self) -> tuple[str, int]:
        """Our own address on this connection."""
        host, port = self._transport.get_extra_info("sockname")[:2]
        return host, port

    @property
    def unsent(self) -> int:
        """Bytes accepted by `send` that the kernel did not take yet."""
        return self._transport.get_write_buffer_size()

    # -- reading ---------------------------------------------------------------------

    async def _more(self, deadline: float) -> bool:
        """Wait for news; False when the connection has ended and will bring nothing more."""
        wire = self._wire
        if wire.ended:
            return False
        wire.news.clear()
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            raise NoAnswer(f"no answer within {self.timeout:g} s")
        try:
            await asyncio.wait_for(wire.news.wait(), remaining)
        except TimeoutError:
            raise NoAnswer(f"no answer within {self.timeout:g} s") from None
        return True

    async def _until(self, mark: bytes, deadline: float) -> bytes:
        """Take bytes up to and including `mark`, and return them without it."""
        buffer = self._wire.buffer
        start = 0
        while (at := buffer.find(mark, start)) < 0:
            start = max(0, len(buffer) - len(mark) + 1)
            if len(buffer) > MAX_HEAD:
                raise Violation(f"no {mark!r} in {MAX_HEAD} octets")
            if not await self._more(deadline):
                raise Truncated(f"connection ended after {bytes(buffer[:80])!r}")
        line = bytes(buffer[:at])
        del buffer[: at + len(mark)]
        return line

    async def _exactly(self, count: int, deadline: float) -> bytes:
        buffer = self._wire.buffer
        while len(buffer) < count:
            if not await self._more(deadline):
                part = bytes(buffer)
                raise Truncated(f"{count - len(part)} octets of content are missing", body=part)
        data = bytes(buffer[:count])
        del buffer[:count]
        return data

    async def _head(self, deadline: float) -> Response:
        while not self._wire.buffer:
            if not await self._more(deadline):
                raise Closed("reset without a reply" if self._wire.reset else "closed, no reply")
        if not b"HTTP/".startswith(bytes(self._wire.buffer[:5])):
            raise Violation(f"not a response: {bytes(self._wire.buffer[:60])!r}")
        head = parse_head(await self._until(b"\r\n\r\n", deadline))
        if head.status < 200 and (
            head.values("content-length") or head.values("transfer-encoding")
        ):
            raise Violation(f"an interim {head.status} with a field that announces content")
        return head

    async def next_head(self) -> Response:
        """Read one head, interim or final, and nothing of any content."""
        return await self._head(time.monotonic() + self.timeout)

    async def response(self, method: str = "GET", wait: float | None = None) -> Response:
        """Read one final response; interim ones before it are in its `interim`."""
        deadline = time.monotonic() + (self.timeout if wait is None else wait)
        while True:
            head = await self._head(deadline)
            if head.status >= 200 or head.status == 101:
                break
            self.interim.append(head)
        interim, self.interim = tuple(self.interim), []
        return dataclasses.replace(await self.content(head, method), interim=interim)

    async def content(self, head: Response, method: str = "GET") -> Response:
        """Read the content that belongs to `head`."""
        deadline = time.monotonic() + self.timeout
        framing, length = framing_of(head, method)
        body, trailers, chunks = b"", (), ()  # type: bytes, Fields, tuple[int, ...]
        try:
            if framing is Framing.LENGTH:
                body = await self._exactly(length, deadline)
            elif framing is Framing.CHUNKED:
                body, chunks, trailers = await self._chunks(deadline)
            elif framing is Framing.CLOSE:
                while await self._more(deadline):
                    pass
                body = bytes(self._wire.buffer)
                self._wire.buffer.clear()
                if self._wire.reset:
                    raise Truncated("reset inside close-delimited content", body=body)
        except Truncated as error:
            raise Truncated(str(error), head.status, error.body) from None
        return dataclasses.replace(
            head, framing=framing, body=body, trailers=trailers, chunks=chunks
        )

    async def _chunks(self, deadline: float) -> tuple[bytes, tuple[int, ...], Fields]:
        pieces: list[bytes] = []
        try:
            while size := parse_chunk_line(await self._until(b"\r\n", deadline)):
                pieces.append(await self._exactly(size, deadline))
                if await self._exactly(2, deadline) != b"\r\n":
                    raise Violation("chunk data is not followed by CRLF")
            lines = []
            while line := await self._until(b"\r\n", deadline):
                lines.append(line)
        except Truncated as error:
            whole = b"".join(pieces) + error.body
            raise Truncated("the chunked content does not end", body=whole) from None
        sizes = tuple(len(piece) for piece in pieces)
        return b"".join(pieces), sizes, parse_fields(lines)

    async def arrives(self, mark: bytes) -> None:
        """Wait until `mark` is among the received, not yet consumed octets."""
        deadline = time.monotonic() + self.timeout
        while mark not in self._wire.buffer:
            if not await self._more(deadline):
                raise Truncated(f"connection ended before {mark!r} came")

    async def ends(self, wait: float | None = None) -> None:
        """Wait until the server closes; anything it still sends is a mismatch."""
        deadline = time.monotonic() + (self.timeout if wait is None else wait)
        while not self._wire.buffer:
            try:
                if not await self._more(deadline):
                    return
            except NoAnswer:
                raise Mismatch("the connection was left open") from None
        raise Mismatch(f"surplus octets: {bytes(self._wire.buffer[:60])!r}")

    async def quiet(self, seconds: float) -> None:
        """Require that the server neither sends nor closes for a short while."""
        deadline = time.monotonic() + seconds
        try:
            while not self._wire.buffer:
                if not await self._more(deadline):
                    raise Closed("the server closed instead of waiting")
        except NoAnswer:
            return
        raise Mismatch(f"came too early: {bytes(self._wire.buffer[:60])!r}")

    async def is_reset_within(self, seconds: float) -> bool:
        """Wait for a reset of the connection; False if none comes in this time."""
        deadline = time.monotonic() + seconds
        while not self._wire.lost and (remaining := deadline - time.monotonic()) > 0:
            self._wire.news.clear()
            try:
                await asyncio.wait_for(self._wire.news.wait(), remaining)
            except TimeoutError:
                break
        return self._wire.reset

    @property
    def pending(self) -> bytes:
        """Received octets that no read consumed."""
        return bytes(self._wire.buffer)

    @property
    def ended(self) -> bool:
        """Whether the server's direction has ended."""
        return self._wire.ended

    def close(self) -> None:
        """Close from our side, without waiting."""
        self._transport.abort()
