"""What a case may use: connections to the target, and reports that the probe app sends back.

Some observations are made when no response can carry them any more: the peer is gone, or
the response is complete.  The app then connects back to the client's address, on a port
that the request named, and hands over one line.  That finds the right client however
many workers or processes the server has.
"""

import asyncio
import contextlib
import itertools
import secrets
import socket
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from conformance import codec
from conformance.client.connection import Connection, Wire
from conformance.client.errors import Mismatch
from conformance.client.messages import request
from conformance.client.responses import Response


@dataclass(frozen=True, slots=True)
class Target:
    """Where the server listens."""

    host: str
    port: int
    tls: ssl.SSLContext | None = None

    @classmethod
    def from_url(cls, url: str, cafile: str | None = None) -> "Target":
        """Read `http://host:port` or `https://host:port`; raise ValueError otherwise."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"not an http or https URL: {url}")
        context = None
        if parts.scheme == "https":
            context = ssl.create_default_context(cafile=cafile)
            context.check_hostname = cafile is not None
            if cafile is None:
                context.verify_mode = ssl.CERT_NONE
            context.set_alpn_protocols(["http/1.1"])
        return cls(parts.hostname, parts.port or (443 if context else 80), context)


class Reports:
    """A listener for the probe app's one-line reports, sorted by token."""

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._waiting: dict[str, asyncio.Future[Any]] = {}
        self._server: asyncio.Server | None = None
        self.port = 0

    async def open(self, target: Target) -> None:
        """Listen on the address from which the target is reached."""
        family = socket.AF_INET6 if ":" in target.host else socket.AF_INET
        any_address = "::" if family == socket.AF_INET6 else "0.0.0.0"
        local = "127.0.0.1" if target.host in ("127.0.0.1", "localhost") else any_address
        self._server = await asyncio.start_server(self._take, local, 0, family=family)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.close()

    def expect(self) -> str:
        """Return a new token; its report is fetched with `get`."""
        token = secrets.token_hex(8)
        self._waiting[token] = asyncio.get_running_loop().create_future()
        return token

    async def get(self, token: str) -> Any:
        """Wait for the report that carries `token`."""
        try:
            return await asyncio.wait_for(self._waiting[token], self._timeout)
        except TimeoutError:
            raise Mismatch("the app never came to its end (no report)") from None
        finally:
            del self._waiting[token]

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(OSError, ValueError):
            token, payload = codec.loads(await reader.read(-1))
            future = self._waiting.get(token)
            if future is not None and not future.done():
                future.set_result(payload)


class Lab:
    """Everything that one run's cases share; it holds no state of any single case."""

    def __init__(self, target: Target, timeout: float) -> None:
        self.target = target
        self.timeout = timeout
        self.reports = Reports(timeout)
        self._numbers = itertools.count(1)

    def number(self) -> int:
        """A number that no other call in this run got."""
        return next(self._numbers)

    @contextlib.asynccontextmanager
    async def connect(self, receive_buffer: int | None = None) -> AsyncIterator[Connection]:
        """Open a connection; `receive_buffer` keeps the kernel from hiding a slow reader."""
        target = self.target
        loop = asyncio.get_running_loop()
        sock = await self._dial(receive_buffer)
        transport, protocol = await asyncio.wait_for(
            loop.create_connection(
                lambda: Wire(target.tls is not None),
                sock=sock,
                ssl=target.tls,
                server_hostname=target.host if target.tls else None,
            ),
            self.timeout,
        )
        connection = Connection(transport, protocol, self.timeout)
        try:
            yield connection
        finally:
            connection.close()

    async def _dial(self, receive_buffer: int | None) -> socket.socket:
        loop = asyncio.get_running_loop()
        infos = await loop.getaddrinfo(self.target.host, self.target.port, type=socket.SOCK_STREAM)
        family, kind, protocol, _, address = infos[0]
        sock = socket.socket(family, kind, protocol)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if receive_buffer is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            await asyncio.wait_for(loop.sock_connect(sock, address), self.timeout)
        except BaseException:
            sock.close()
            raise
        return sock

    async def fetch(self, data: bytes, method: str = "GET") -> Response:
        """Send one request on a connection of its own and return its final response."""
        async with self.connect() as connection:
            await connection.send(data)
            return await connection.response(method)

    async def describe(self, data: bytes | None = None) -> dict[str, Any]:
        """Send a request to the echo application and return what it saw."""
        response = await self.fetch(request(b"/describe") if data is None else data)
        return described(response)


def described(response: Response) -> dict[str, Any]:
    """Decode the echo application's answer; anything else in its place is a mismatch."""
    if response.status != 200:
        raise Mismatch(f"status {response.status} instead of the application's 200")
    try:
        seen = codec.loads(response.body)
    except ValueError:
        raise Mismatch(f"not the probe application's answer: {response.body[:60]!r}") from None
    if not isinstance(seen, dict):
        raise Mismatch(f"not the probe application's answer: {response.body[:60]!r}")
    return seen
