"""The extensions of ASGI's HTTP protocol that HTTP/1.1 allows, one function for each message.

They are advertised in each scope's ``extensions``, early hints only by option. Trailer fields are
accepted always and sent if the request had ``TE: trailers``; a client that did not ask for them
could drop them anyway.
"""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Awaitable, Callable

from ...errors import ASGIProtocolError, ClientDisconnected
from ...http1.heads import Request
from ...http1.response import ResponseWriter, render_early_hints
from ...types import TYPE_CHECKING, Message
from ..net.connection import Connection

if TYPE_CHECKING:
    from typing import Protocol

    class Exchange(Protocol):
        """What is acted on: a request that is being answered; see ``HTTPExchange``."""

        request: Request
        writer: ResponseWriter
        connection: Connection
        sending_file: bool

        def check_body_expected(self) -> None: ...
        def announce(self, *, final: bool) -> None: ...
        def end(self) -> None: ...
        def fail(self) -> None: ...
        @property
        def heedless(self) -> bool: ...
        def cancel(self) -> None: ...


logger = logging.getLogger("subinterp_asgi.error")

# (Opening a named pipe waits for its other end, unless it is told not to.)
_READ = os.O_RDONLY
for _flag in ("O_BINARY", "O_CLOEXEC", "O_NONBLOCK"):
    _READ |= getattr(os, _flag, 0)

ADVERTISED: dict[str, dict[str, object]] = {
    "http.response.trailers": {},
    "http.response.pathsend": {},
    "http.response.zerocopysend": {},
}
"""What each scope says, by the type of the message, which is taken only if it is said."""
EARLY_HINT = "http.response.early_hint"
"""Advertised by option, since proxies and clients that know no 103 take it for the response."""


async def send_early_hint(exchange: Exchange, message: Message) -> None:
    """``http.response.early_hint``: a 103 response, before the real one begins."""
    if exchange.writer.head_sent:
        raise ASGIProtocolError("'http.response.early_hint' was sent after the response had begun")
    hints = render_early_hints(message.get("links", ()))
    if exchange.request.http_version != "1.0":  # RFC 9110 section 15.2: never to an older client
        exchange.connection.write(hints)
        await exchange.connection.drained()


async def send_trailers(exchange: Exchange, message: Message) -> None:
    """``http.response.trailers``: fields after the body."""
    if exchange.sending_file or not exchange.writer.body_complete:
        raise ASGIProtocolError("'http.response.trailers' was sent before the body was complete")
    more = message.get("more_trailers", False)
    data = exchange.writer.send_trailers(message.get("headers", ()), more=more)
    if data:
        exchange.connection.write(data)
    if not more:
        exchange.end()


async def send_path(exchange: Exchange, message: Message) -> None:
    """``http.response.pathsend``: a file by its path, as the whole body."""
    path = message.get("path")
    if not isinstance(path, str) or not os.path.isabs(path):
        raise ASGIProtocolError(f"'http.response.pathsend' needs an absolute path, not {path!r}")
    exchange.check_body_expected()
    file = os.open(path, _READ)
    try:
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode):
            raise ASGIProtocolError(f"'http.response.pathsend' needs a regular file, not {path!r}")
        await _send_file(exchange, file, 0, status.st_size, more=False)
    finally:
        os.close(file)


async def send_zero_copy(exchange: Exchange, message: Message) -> None:
    """``http.response.zerocopysend``: a part of an open file, as a piece of the body."""
    try:
        file = message["file"].fileno()
    except (KeyError, AttributeError, OSError, ValueError):
        raise ASGIProtocolError("'http.response.zerocopysend' needs an open file") from None
    offset, count = message.get("offset"), message.get("count")
    if any(x is not None and (not isinstance(x, int) or x < 0) for x in (offset, count)):
        raise ASGIProtocolError("offset and count of 'http.response.zerocopysend' are sizes")
    start = os.lseek(file, 0, os.SEEK_CUR) if offset is None else offset
    if count is None:
        count = max(0, os.fstat(file).st_size - start)
    await _send_file(exchange, file, start, count, more=message.get("more_body", False))
    if offset is None:
        os.lseek(file, start + count, os.SEEK_SET)  # as if the file had been read


async def _send_file(exchange: Exchange, file: int, offset: int, count: int, *, more: bool) -> None:
    writer, connection = exchange.writer, exchange.connection
    exchange.check_body_expected()
    if not exchange.writer.head_sent:
        exchange.announce(final=not more)
    before, after = writer.frame(count, more=more)
    if before:
        connection.write(before)
    if not writer.bodiless:
        exchange.sending_file = True
        try:
            sent = await connection.send_file(file, offset, count)
            if sent < count:
                raise OSError(f"the file ended {count - sent} octets early")
        except BaseException as exc:
            # The length has been promised to the client, who must see that it is not kept, whatever
            # the application makes of this.
            if isinstance(exc, OSError) and not isinstance(exc, ClientDisconnected):
                logger.error("the response is broken off: %s", exc)
            exchange.fail()
            raise
        exchange.sending_file = False
        if after:
            connection.write(after)
    if writer.complete:
        exchange.end()


HANDLERS: dict[str, Callable[[Exchange, Message], Awaitable[None]]] = {
    EARLY_HINT: send_early_hint,
    "http.response.trailers": send_trailers,
    "http.response.pathsend": send_path,
    "http.response.zerocopysend": send_zero_copy,
}
