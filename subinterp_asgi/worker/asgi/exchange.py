"""One HTTP request and its response, as ASGI's scope, ``receive()`` and ``send()``."""

from __future__ import annotations

import asyncio
import logging
from time import perf_counter

from ...errors import ASGIProtocolError, ClientDisconnected
from ...http1.heads import Request
from ...http1.response import CONTINUE, ResponseWriter
from ...types import TYPE_CHECKING, Any, Message
from ..interpreter.marks import takes_interrupts
from ..net.connection import NEVER, Connection
from . import extensions
from .absence import Absence
from .scope import make_scope
from .state import NO_FAILURES, ServerState, was_cancelled

if TYPE_CHECKING:
    from typing import Protocol

    from .notes import Notes

    class Session(Protocol):
        """What an exchange calls; see ``HTTPSession``."""

        advancing: bool

        def read_body(self, exchange: HTTPExchange, /) -> tuple[bytes, bool] | None: ...
        def may_keep_alive(self, continue_due: bool, final: bool) -> bool: ...
        def exchange_ended(self, exchange: HTTPExchange, /) -> None: ...
        def exchange_failed(self, exchange: HTTPExchange, /, *, told: bool) -> int: ...


logger = logging.getLogger("subinterp_asgi.error")


APART_FROM = 32768
"""Octets of a piece of a body from which on it is not copied to put the head before it."""


class HTTPExchange:
    """A request being served.

    Attributes:
        continue_due: The client waits for ``100 Continue``, and has not been sent it.
        sending_file: A part of a file is on its way, which takes several turns of the loop.
    """

    __slots__ = (
        "_absence",
        "_body_delivered",
        "_disconnected",
        "_ended",
        "_gone",
        "_server_state",
        "_session",
        "_task",
        "_told",
        "_waiters",
        "client",
        "connection",
        "continue_due",
        "notes",
        "request",
        "sending_file",
        "started",
        "writer",
    )

    notes: Notes

    def __init__(
        self,
        session: Session,
        connection: Connection,
        server_state: ServerState,
        request: Request,
    ) -> None:
        self.request = request
        self.connection = connection
        self._session = session
        self._server_state = server_state
        self.writer = ResponseWriter(
            server_state.defaults,
            request.method == "HEAD",
            request.http_version == "1.0",
            request.keep_alive,
            request.fields.trailers_ok,
        )
        self.client = connection.client  # or whom trusted proxies name
        self._body_delivered = False
        self.continue_due = request.expect_continue
        self.sending_file = False
        self._disconnected = False  # receive() has nothing more to give
        self._absence: Absence | None = None  # the client is gone, or may be
        self._gone = False  # send() has nobody to send to
        self._told = False  # receive() has said so
        self._ended = False  # completed or failed; counted and logged
        self._waiters: list[asyncio.Future[None]] | None = None
        self._task: asyncio.Task[None] | None = None
        self.started = perf_counter() if server_state.timed else 0.0

    def run(self) -> None:
        """Call the application; it may be done when this returns."""
        self._server_state.request_started()
        self._task = self._server_state.run(self._call_app(), self.request.path)
        if not self._ended and self.writer.status and not self.writer.head_sent:
            self._server_state.loop.call_soon(self._send_head)

    @takes_interrupts
    async def _call_app(self) -> None:
        failed = True
        try:
            await self._server_state.app(self._scope(), self.receive, self.send)
            failed = not self.writer.complete
            if failed and not self._gone:
                logger.error(
                    "the ASGI application returned without %s a response",
                    "completing" if self.writer.status else "starting",
                )
        except ClientDisconnected:
            logger.debug("the application ended because the client had gone")
        except NO_FAILURES:
            raise
        except BaseException as exc:  # (a request must not be able to end the worker)
            if was_cancelled(exc):
                raise
            # (What comes after the response has nothing to do with the client.)
            answered = self.writer.complete and not self.sending_file
            self._server_state.log_failure(exc, self.request, gone=self._gone and not answered)
        finally:
            if failed:
                self.fail()
            if self._absence is not None:
                self._absence.forget()

    def _scope(self) -> dict[str, Any]:
        request = self.request
        scope = make_scope("http", request, self._server_state, self.connection)
        scope["method"] = request.method
        self.client = scope["client"]
        return scope

    # --- ASGI's receive

    async def receive(self) -> Message:
        """Return ``http.request`` messages, then ``http.disconnect``."""
        session = self._session
        while not (self._disconnected or self._ended):
            if not self._body_delivered:
                read = session.read_body(self)
                if read is None:
                    break
                piece, complete = read
                if piece or complete:
                    self.continue_due = False
                    self._body_delivered = complete
                    return {"type": "http.request", "body": piece, "more_body": not complete}
                if self.continue_due:
                    self.continue_due = False
                    self._send_continue()
                    continue
                self.connection.expect_within(self._server_state.config.timeout_body or NEVER)
            elif self.connection.at_eof:
                break
            waiter = self._server_state.loop.create_future()
            if self._waiters is None:
                self._waiters = []
            self._waiters.append(waiter)
            try:
                await waiter
            except asyncio.CancelledError:
                self._forget(waiter)
                raise
        # Who was told that nobody is there is held to it.
        self._gone = self._told = True
        return {"type": "http.disconnect"}

    def _send_continue(self) -> None:
        """Tell the client to go on (RFC 9110 section 10.1.1)."""
        if not self.writer.head_sent:
            try:
                self.connection.write(CONTINUE)
            except ClientDisconnected:
                self.disconnect()

    def wake(self) -> None:
        """Something that ``receive()`` may wait for has happened."""
        waiters, self._waiters = self._waiters, None
        for waiter in waiters or ():
            if not waiter.done():
                waiter.set_result(None)

    def _forget(self, waiter: asyncio.Future[None]) -> None:
        """A call of ``receive()`` was cancelled."""
        if self._waiters is not None and waiter in self._waiters:
            self._waiters.remove(waiter)
            if not self._waiters and not self._ended:
                self.connection.deadline = NEVER  # nobody waits for the body

    # --- clients that are gone

    def disconnect(self) -> None:
        """There is nobody to serve: tell the application, whatever it has read."""
        self._disconnected = True
        self.wake()

    def eof_received(self) -> None:
        """The client will send no more: tell the application, once it has read what came."""
        self.wake()
        self._absent().half_closed()

    def lost(self, status: int) -> None:
        """The session gave this exchange up: the client is gone, or was answered with a status.

        The request stays in flight until the application has ended it.
        """
        self._gone = True
        self.disconnect()
        if not self._ended:
            self._absent().lost(status)

    def _absent(self) -> Absence:
        if self._absence is None:
            self._absence = Absence(self, self._server_state)
        return self._absence

    @property
    def heedless(self) -> bool:
        """Whether it goes on, and has not been told that the client is gone."""
        return not (self._ended or self._told)

    def cancel(self) -> None:
        """End the application's call."""
        if self._task is not None:
            self._task.cancel("the client is gone")

    # --- ASGI's send

    async def send(self, message: Message) -> None:
        """Take ``http.response.start`` and ``http.response.body`` messages.

        In one piece, longer than others: each request comes here twice, and a call costs.

        ``ASGIProtocolError``: the message is not one that may come now, or is malformed;
        ``ClientDisconnected``: the client is gone, and has been for a while.
        """
        writer, connection = self.writer, self.connection
        kind = message["type"]
        if self._ended or self._gone:
            if not self._gone:
                raise ASGIProtocolError(f"{kind!r} was sent after the response was complete")
            if self.sending_file and self._ended:
                raise ClientDisconnected("the response was broken off")
            try:
                await self._absent().discard(message)
            except asyncio.CancelledError as exc:
                self._absent().cancellation = exc
                raise
            return
        try:
            if kind == "http.response.body":
                if not writer.status or self.sending_file or writer.body_complete:
                    self.check_body_expected()
                body = message.get("body", b"")
                if type(body) is not bytes:
                    body = _as_bytes(body)
                more = message.get("more_body", False)
                if not writer.head_sent:
                    self.announce(final=not more)
                if len(body) >= APART_FROM and not writer.bodiless:
                    before, after = writer.frame(len(body), more=more)
                    connection.write_apart((before, body, after))
                elif data := writer.send(body, more=more):
                    if more and self._session.advancing:
                        connection.cork()  # what is sent in one go leaves in one go
                    connection.write(data)
                if writer.complete:
                    self.end()
                else:
                    if self._absence is not None:
                        self._absence.sent = True
                    if connection.congested:
                        await connection.drained()
            elif kind == "http.response.start":
                if writer.status:
                    raise ASGIProtocolError("'http.response.start' was sent twice")
                try:
                    status = message["status"]
                except KeyError:
                    raise ASGIProtocolError("'http.response.start' has no status") from None
                trailers = message.get("trailers", False)
                writer.start(status, message.get("headers", ()), trailers=trailers)
                if self._task is not None:  # else run() looks after it
                    self._server_state.loop.call_soon(self._send_head)
            elif kind in self._server_state.extensions:
                await extensions.HANDLERS[kind](self, message)
            elif kind == extensions.EARLY_HINT:
                raise ASGIProtocolError(f"{kind!r} is not supported without the option early_hints")
            else:
                raise ASGIProtocolError(f"unexpected message {kind!r} for an HTTP response")
        except ClientDisconnected:
            await self._absent().discard(message)
        except asyncio.CancelledError as exc:
            if self._absence is not None:
                self._absence.cancellation = exc
            raise

    def _send_head(self) -> None:
        """The application sends no body for now: let the client have the head."""
        writer = self.writer
        if not (writer.head_sent or self._ended or self._gone):
            self.announce(final=False)
            try:
                self.connection.write(writer.send(b"", more=True))
            except ClientDisconnected:
                pass  # (this exchange was told)

    def check_body_expected(self) -> None:
        """Raise ``ASGIProtocolError`` unless a piece of the body may come now."""
        if not self.writer.status:
            raise ASGIProtocolError("the body of a response was sent before its start")
        if self.sending_file:
            raise ASGIProtocolError("a piece of the body was sent into the middle of a file")
        if self.writer.body_complete:
            raise ASGIProtocolError("a piece of the body was sent after the last one")

    def announce(self, *, final: bool) -> None:
        """Let the session decide on the connection before a head is rendered."""
        if not self._session.may_keep_alive(self.continue_due, final):
            self.writer.keep_alive = False

    # --- the end

    def end(self) -> None:
        """The response is complete: the connection is free for the next request."""
        if not self._ended:
            self._ended = True
            if self._absence is not None:
                self._absence.end()
            self._server_state.request_ended(self, self.writer.status)
            if self._waiters is not None:
                self.wake()
            self._session.exchange_ended(self)

    def fail(self) -> None:
        """The response will not be completed, or nobody is there to read it."""
        if not self._ended:
            told, self._gone = self._gone, True
            self._ended = True
            status = None
            if self._absence is not None:
                self._absence.end()
                status = self._absence.status
            if status is None:
                status = self._session.exchange_failed(self, told=told)
            self._server_state.request_ended(self, status)
            self.wake()


def _as_bytes(body: Any) -> bytes:
    if isinstance(body, bytes | bytearray | memoryview):
        return bytes(body)
    raise ASGIProtocolError(f"the body of a response must be bytes, not {type(body).__name__}")
