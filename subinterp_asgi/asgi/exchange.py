"""One HTTP request and its response, as ASGI's scope, ``receive()`` and ``send()``."""

from __future__ import annotations

import asyncio
import logging
from time import perf_counter

from ..errors import ASGIProtocolError, ClientDisconnected
from ..http1.response import ResponseWriter
from ..types import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

    from ..connection import Connection
    from ..http1.parser import Request
    from ..service import Service
    from ..types import Message
    from .http import HTTPSession

logger = logging.getLogger("subinterp_asgi.error")

SPEC_VERSION = "2.4"


class HTTPExchange:
    """A request being served.

    Attributes:
        request: The request.
        writer: The response.
        continue_due: The client waits for ``100 Continue``, and has not been sent it.
    """

    __slots__ = (
        "_body_delivered",
        "_connection",
        "_disconnected",
        "_ended",
        "_gone",
        "_service",
        "_session",
        "_started",
        "_waiters",
        "continue_due",
        "request",
        "writer",
    )

    def __init__(
        self, session: HTTPSession, connection: Connection, service: Service, request: Request
    ) -> None:
        self.request = request
        self._session = session
        self._connection = connection
        self._service = service
        self.writer = ResponseWriter(
            service.defaults,
            head_request=request.method == "HEAD",
            http10=request.http_version == "1.0",
            keep_alive=request.keep_alive,
        )
        self._body_delivered = False
        self.continue_due = request.expect_continue
        self._disconnected = False  # receive() has nothing more to give
        self._gone = False  # send() has nobody to send to
        self._ended = False  # completed, failed or lost; counted and logged
        self._waiters: list[asyncio.Future[None]] | None = None
        self._started = perf_counter() if service.access_log is not None else 0.0

    def run(self) -> None:
        """Call the application; it may be done when this returns."""
        self._service.request_started()
        self._service.run(self._call_app())

    async def _call_app(self) -> None:
        try:
            await self._service.app(self._scope(), self.receive, self.send)
        except ClientDisconnected:
            logger.debug("the application ended because the client had gone")
            self._fail()
        except Exception:
            if self._disconnected:
                logger.debug("exception after the client had gone", exc_info=True)
            else:
                logger.exception("exception in the ASGI application")
            self._fail()
        except BaseException:  # cancelled, or the worker is being taken down
            self._fail()
            raise
        else:
            if not self.writer.complete and not self._disconnected:
                logger.error(
                    "the ASGI application returned without %s a response",
                    "completing" if self.writer.status else "starting",
                )
                self._fail()

    def _scope(self) -> dict[str, Any]:
        request, service, connection = self.request, self._service, self._connection
        path, raw_path = request.path, request.raw_path
        if service.root_path:
            path = service.root_path + path
            raw_path = service.root_path_bytes + raw_path
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": SPEC_VERSION},
            "http_version": request.http_version,
            "server": connection.server,
            "client": connection.client,
            "scheme": service.scheme,
            "method": request.method,
            "root_path": service.root_path,
            "path": path,
            "raw_path": raw_path,
            "query_string": request.query,
            "headers": request.headers,
            "state": service.state.copy(),
            "extensions": {},
        }

    # --- ASGI's receive

    async def receive(self) -> Message:
        """Return ``http.request`` messages, then ``http.disconnect``."""
        session = self._session
        while not (self._disconnected or self.writer.complete):
            if not self._body_delivered:
                piece = session.read_body(self)
                if piece is None:
                    break
                complete = session.body_complete
                if piece or complete:
                    self.continue_due = False
                    self._body_delivered = complete
                    return {"type": "http.request", "body": piece, "more_body": not complete}
                if self.continue_due:
                    self.continue_due = False
                    session.send_continue()
                    continue
                session.body_awaited()
            waiter = self._service.loop.create_future()
            if self._waiters is None:
                self._waiters = []
            self._waiters.append(waiter)
            await waiter
        # Who was told that nobody is there is held to it.
        self._gone = True
        return {"type": "http.disconnect"}

    def wake(self) -> None:
        """Something that ``receive()`` may wait for has happened."""
        waiters, self._waiters = self._waiters, None
        for waiter in waiters or ():
            if not waiter.done():
                waiter.set_result(None)

    def disconnect(self) -> None:
        """The client will send no more, or is gone: tell a waiting application."""
        self._disconnected = True
        self.wake()

    # --- ASGI's send

    async def send(self, message: Message) -> None:
        """Take ``http.response.start`` and ``http.response.body`` messages.

        Raises:
            ASGIProtocolError: The message is not one that may come now, or is malformed.
            ClientDisconnected: The client is gone.
        """
        writer, connection = self.writer, self._connection
        kind = message["type"]
        if writer.complete:
            raise ASGIProtocolError(f"{kind!r} was sent after the response had been completed")
        if kind == "http.response.body":
            if not writer.status:
                raise ASGIProtocolError("'http.response.body' was sent before a start")
            if self._gone:
                raise ClientDisconnected("the client is gone")
            body = message.get("body", b"")
            if not isinstance(body, bytes):
                body = _as_bytes(body)
            more = message.get("more_body", False)
            if not writer.head_sent:
                self._session.decide_keep_alive(self, final=not more)
            data = writer.send(body, more=more)
            if data:
                connection.write(data)
            if not more:
                self._end()
            elif connection.congested:
                await connection.drained()
        elif kind == "http.response.start":
            if writer.status:
                raise ASGIProtocolError("'http.response.start' was sent twice")
            if self._gone:
                raise ClientDisconnected("the client is gone")
            try:
                status = message["status"]
            except KeyError:
                raise ASGIProtocolError("'http.response.start' has no status") from None
            writer.start(status, message.get("headers", ()))
        else:
            raise ASGIProtocolError(f"unexpected message {kind!r} for an HTTP response")

    # --- the end

    def _end(self) -> None:
        """The response is complete: the connection is free for the next request."""
        if not self._ended:
            self._ended = True
            self._log(self.writer.status)
            self._service.request_ended()
            self.wake()
            self._session.exchange_ended(self)

    def _fail(self) -> None:
        """The application will not complete the response."""
        if not self._ended:
            self._ended = self._gone = True
            self._log(self._session.exchange_failed(self))
            self._service.request_ended()

    def lost(self, status: int) -> None:
        """The session gave this exchange up: the client is gone, or was answered with a status."""
        self._gone = True
        if not self._ended:
            self._ended = True
            self._log(status)
            self._service.request_ended()
        self.disconnect()

    def _log(self, status: int) -> None:
        if self._service.access_log is not None:
            request = self.request
            self._service.access_log(
                self._connection.client,
                request.method,
                request.target.decode("ascii"),
                request.http_version,
                status,
                perf_counter() - self._started,
            )


def _as_bytes(body: object) -> bytes:
    if isinstance(body, bytearray | memoryview):
        return bytes(body)
    raise ASGIProtocolError(f"the body of a response must be bytes, not {type(body).__name__}")
