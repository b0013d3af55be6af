"""Cases for whole connections: a worker on a loop, and clients of every kind."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import tempfile
from pathlib import Path
from random import Random
from typing import Any

from subinterp_asgi import Config, Worker
from subinterp_asgi.errors import ASGIProtocolError
from subinterp_asgi.http1 import RequestParser
from subinterp_asgi.worker.net.connection import HIGH_WATER, READ_SIZE
from tests.http1.messages import drive

from .app import Refusal, app
from .corpus import cut, make_stream
from .responses import check_responses

CASE_TIME = 20.0
"""Seconds after which a case hangs; the server's own timeouts are far below."""
OPTIONS: dict[str, Any] = {
    "access_log": False,
    "lifespan": "off",
    "timeout_header": 0.3,
    "timeout_body": 0.3,
    "timeout_keep_alive": 0.3,
    "timeout_write": 0.3,
    "timeout_graceful_shutdown": 1.0,
}
# What a client does when it has sent all.
ENDINGS = ("read", "read", "read", "half-close", "half-close", "close", "stall")


class Finding(AssertionError):
    """Something is wrong that no exception told."""


class Arena:
    """A worker and what it must not do."""

    options = OPTIONS

    def __init__(self) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="fuzz-")
        self._path = str(Path(self._directory.name) / "socket")
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._sock.bind(self._path)
        self._sock.listen(128)
        self.worker = Worker(app, Config(**self.options), self._sock)
        self._serving: asyncio.Task[None] | None = None
        self._problems: list[str] = []
        self._watch = _Watch(self._problems)

    async def __aenter__(self) -> Arena:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: self._problems.append(repr(context)))
        logging.getLogger("subinterp_asgi").addHandler(self._watch)
        logging.getLogger("subinterp_asgi").propagate = False
        self._serving = asyncio.create_task(self.worker.serve())
        await asyncio.sleep(0.05)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        assert self._serving is not None
        self.worker.shutdown()
        await self._serving
        self._sock.close()
        self._directory.cleanup()
        logging.getLogger("subinterp_asgi").removeHandler(self._watch)
        logging.getLogger("subinterp_asgi").propagate = True

    async def run_case(self, seed: int, number: int) -> None:
        """Send a stream, read what comes, and check it."""
        random = Random(f"serving {seed} {number}")
        stream = make_stream(random)
        received = bytearray()
        try:
            async with asyncio.timeout(CASE_TIME):
                ending = await self._converse(stream, random, received)
        except TimeoutError:
            raise Finding("the server did not come to an end") from None
        outcome = drive(RequestParser(), [stream] if stream else [])
        methods = [message.head.method for message in outcome.messages]
        if _refused_head(outcome, stream):
            methods.append("HEAD")
        whole = check_responses(bytes(received), iter(methods))
        if whole > len(outcome.messages) + 1:
            raise Finding(f"{whole} responses to {len(outcome.messages)} requests ({ending})")

    async def _converse(self, stream: bytes, random: Random, received: bytearray) -> str:
        """Send a stream and read what comes; return how it ended, or that it was cut short."""
        loop = asyncio.get_running_loop()
        client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        client.setblocking(False)
        ending = said = random.choice(ENDINGS)
        try:
            await loop.sock_connect(client, self._path)
            reading = None
            if ending != "stall":
                reading = asyncio.create_task(_read_all(client, received))
            try:
                async with asyncio.timeout(3.0):  # a stalled server is one that we don't read from
                    for piece in cut(stream, random):
                        await loop.sock_sendall(client, piece)
                        if random.random() < 0.2:
                            await asyncio.sleep(0)
            except TimeoutError:
                said = "cut short"
            except OSError:
                pass
            if random.random() < 0.05:
                self._disturb(random)
            if ending == "half-close":
                with contextlib.suppress(OSError):
                    client.shutdown(socket.SHUT_WR)
            elif ending == "close":
                if reading is not None:
                    reading.cancel()
                    await asyncio.wait([reading])
                return said
            elif ending == "stall":
                await asyncio.sleep(random.random())
            if reading is not None:
                # The server ends every connection in the end, unless its application waits for us.
                patience = 1.0 if b"/wait" in stream else None
                await asyncio.wait([reading], timeout=patience)
                reading.cancel()
                await asyncio.wait([reading])
        finally:
            client.close()
        return said

    def _disturb(self, random: Random) -> None:
        """What the worker may do to a connection at any time."""
        connections = tuple(self.worker._connections)
        if connections:
            connection = random.choice(connections)
            random.choice((connection.drain, connection.break_off, connection.abort))()

    async def settle(self) -> None:
        """Wait until all cases are over and check that nothing is left of them."""
        try:
            async with asyncio.timeout(CASE_TIME):
                while self.worker.active_connections or self.worker._server_state.tasks:  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
        except TimeoutError:
            left = self.worker.active_connections, self.worker._server_state.tasks
            raise Finding(f"left behind: {left}") from None
        if self.worker._server_state.counters.in_flight:
            raise Finding(
                f"{self.worker._server_state.counters.in_flight} requests are counted as in flight"
            )
        if self._problems:
            raise Finding("; ".join(self._problems))

    def check_memory(self) -> None:
        """Check what connections hold at this moment."""
        for connection in tuple(self.worker._connections):
            session: Any = getattr(connection, "session", None)
            if session is not None and session._parser.buffered > HIGH_WATER + READ_SIZE:
                raise Finding(f"{session._parser.buffered} octets are kept of a request")


def _refused_head(outcome: Any, stream: bytes) -> bool:
    """Whether what was refused is a HEAD request, whose answer has no body."""
    if outcome.error is None or any(not message.complete for message in outcome.messages):
        return False
    parser = RequestParser()
    drive(parser, [stream])
    return parser.head_refused


async def _read_all(client: socket.socket, received: bytearray) -> None:
    loop = asyncio.get_running_loop()
    with contextlib.suppress(OSError):
        while data := await loop.sock_recv(client, 65536):
            received += data


class _Watch(logging.Handler):
    """Notes what only a defect of the package logs."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__(logging.ERROR)
        self._problems = problems

    def emit(self, record: logging.LogRecord) -> None:
        exception = record.exc_info[1] if record.exc_info else None
        expected = exception is None or isinstance(exception, Refusal | ASGIProtocolError)
        if "internal error" in record.getMessage() or not expected:
            self._problems.append(f"{record.getMessage()}: {exception!r}")
