"""A WebSocket being served: the frames of a connection, as ASGI's scope, receive and send.

It takes a connection over from the HTTP session that read the handshake. What a client sends before
the handshake is complete is the WebSocket's already, and is never parsed as HTTP.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from enum import Enum
from time import perf_counter

from ...errors import ASGIProtocolError, ClientDisconnected
from ...http1.heads import Request
from ...http1.response import ResponseWriter, simple_response
from ...types import TYPE_CHECKING, Message
from ...websocket.errors import ProtocolError
from ...websocket.extensions import negotiate_deflate
from ...websocket.frames import Close, CloseCode, Ping
from ...websocket.handshake import Handshake
from ...websocket.parser import MessageParser
from ...websocket.writer import MessageWriter
from ..interpreter.marks import takes_interrupts
from ..net.connection import HIGH_WATER, NEVER, Connection
from .scope import make_scope
from .state import CLIENT_CLOSED_REQUEST, NO_FAILURES, ServerState, was_cancelled

if TYPE_CHECKING:
    from .notes import Notes

logger = logging.getLogger("subinterp_asgi.error")

EVENTS_PER_WAKEUP = 1024
"""Frames handled before other connections get their turn; a client may send 10,000 in one go."""
OPEN_TIME = 1.0
"""Seconds for which one is open at least, however soon its worker drains: its client has been told
that it is served, and its first message is to be answered."""
CLOSE_TIMEOUT = 10.0
"""Seconds to wait for the peer's close frame once ours is out."""


class _State(Enum):
    CONNECTING = "connecting"
    """The application has not answered the handshake."""
    DENYING = "denying"
    """It answers with an HTTP response."""
    OPEN = "open"
    CLOSING = "closing"
    """Our close frame is out, and the peer's is waited for."""
    CLOSED = "closed"


class WebSocketSession:
    """Serves one WebSocket; ``rest`` is what came after the handshake's request."""

    __slots__ = (
        "_accepted",
        "_blocked",
        "_closed_with",
        "_denial",
        "_disconnect",
        "_early",
        "_grace",
        "_handshake",
        "_max_queue",
        "_parser",
        "_pong",
        "_pong_task",
        "_probing",
        "_queue",
        "_queued",
        "_scheduled",
        "_server_state",
        "_size_limit",
        "_state",
        "_task",
        "_waiters",
        "_writer",
        "client",
        "connection",
        "notes",
        "request",
        "started",
    )

    notes: Notes

    idle = False  # it ends with a close frame, not in between
    movable = False

    def __init__(
        self,
        connection: Connection,
        server_state: ServerState,
        request: Request,
        handshake: Handshake,
        rest: bytes,
    ) -> None:
        self.connection = connection
        self._server_state = server_state
        self.request = request
        self._handshake = handshake
        self.client = connection.client  # or whom trusted proxies name
        self._state = _State.CONNECTING
        self._early = rest  # what came before the handshake was complete
        self._parser: MessageParser
        self._writer: MessageWriter
        self._denial: ResponseWriter
        # What receive() is to return, in order, and then for ever.
        self._queue: deque[Message] = deque(({"type": "websocket.connect"},))
        self._disconnect: Message | None = None
        self._closed_with: tuple[int, str] | None = None  # code and reason of the application
        self._queued = 0  # octets (or characters) put into the queue since it was empty
        self._blocked = False  # it is full, and reading is paused
        self._max_queue = server_state.config.ws_max_queue
        self._size_limit = max(server_state.config.ws_max_size or 0, HIGH_WATER)
        self._waiters: list[asyncio.Future[None]] | None = None
        self._task: asyncio.Task[None] | None = None
        self._grace: asyncio.TimerHandle | None = None
        self._scheduled = False  # parsing goes on when others had their turn
        self._probing = False  # a ping of ours is out, and nothing has come since
        self._pong: bytes | None = None  # to be sent once there is room
        self._pong_task: asyncio.Task[None] | None = None
        self._accepted = False
        self.started = perf_counter()

    def run(self) -> None:
        """Call the application."""
        self.connection.deadline = NEVER
        self.connection.resume_reading()
        self._server_state.request_started()
        self._task = self._server_state.run(self._call_app(), self.request.path)
        if self._disconnect is not None:
            self._begin_grace()  # the end came with the handshake

    @takes_interrupts
    async def _call_app(self) -> None:
        failed = True
        try:
            scope = make_scope("websocket", self.request, self._server_state, self.connection)
            scope["subprotocols"] = self._handshake.subprotocols
            self.client = scope["client"]
            await self._server_state.app(scope, self.receive, self.send)
            failed = False
        except ClientDisconnected:
            logger.debug("the application ended because the client had gone")
        except NO_FAILURES:
            raise
        except BaseException as exc:  # (one client must not be able to end the worker)
            if was_cancelled(exc):
                raise
            self._server_state.log_failure(exc, self.request, gone=self._disconnect is not None)
        finally:
            self._app_ended(failed=failed)

    # --- called by the connection

    def data_received(self, data: bytes) -> None:
        if self._probing:
            self._probing = False
            self._await_silence()
        if self._state in (_State.OPEN, _State.CLOSING):
            self._parser.feed(data)
            if not (self._scheduled or self._blocked):
                self._advance()
        elif self._state is _State.CONNECTING:
            self._early += data
            if len(self._early) >= HIGH_WATER:
                self.connection.pause_reading()

    def eof_received(self) -> None:
        # A half-closed WebSocket can't be ended as the protocol wants it.
        self.connection_lost()
        self.connection.close()

    def connection_lost(self) -> None:
        if self._state is _State.CONNECTING:
            self._log(CLIENT_CLOSED_REQUEST)
        elif self._state is _State.DENYING:
            self._log(self._denial.status)
        self._state = _State.CLOSED
        if self._accepted:
            self._accepted = False
            self._server_state.counters.websockets -= 1
        self._disconnected(CloseCode.ABNORMAL)

    def timed_out(self) -> None:
        config, connection = self._server_state.config, self.connection
        if self._state is not _State.OPEN:
            connection.close()  # the peer does not answer our close frame
        elif self._blocked:
            self._probing = False
            self._await_silence()  # a pong would not be seen
        elif self._probing:
            self._fail(CloseCode.INTERNAL_ERROR, "keepalive ping timeout", CloseCode.ABNORMAL)
        else:
            self._write(self._writer.ping())
            if config.ws_ping_timeout:
                self._probing = True
                connection.expect_within(config.ws_ping_timeout)
            else:
                self._await_silence()

    def drain(self) -> None:
        if self._server_state.going_away == CloseCode.SERVICE_RESTART:
            self._leave()
        elif self._state is _State.OPEN:
            self._close(self._server_state.going_away)

    def _leave(self) -> None:
        """Close it once it was open for a while."""
        if self._state is _State.OPEN:
            left = self.started + OPEN_TIME - perf_counter()
            if left > 0:
                self._server_state.loop.call_later(left, self._leave)
            else:
                self._close(self._server_state.going_away)

    def break_off(self) -> None:
        state = self._state
        if state is _State.CONNECTING or (state is _State.DENYING and not self._denial.head_sent):
            self._answer(503)
        else:
            if state is _State.OPEN:
                self._close(self._server_state.going_away)
            elif state is _State.DENYING:
                self._log(self._denial.status)
            self.connection.close(linger=True)
        self._state = _State.CLOSED
        self._disconnected(self._server_state.going_away)

    # --- frames that come

    def _advance(self) -> None:
        """Handle what has come, as far as the application keeps up with it."""
        connection, parser, queue = self.connection, self._parser, self._queue
        if not queue:
            self._queued = 0
        broken: tuple[int, str] | None = None
        try:
            for _ in range(EVENTS_PER_WAKEUP):
                event = parser.next_event()
                if event is None:
                    connection.resume_reading()
                    break
                if type(event) is str:
                    message: Message = {"type": "websocket.receive", "text": event}
                elif type(event) is bytes:
                    message = {"type": "websocket.receive", "bytes": event}
                else:
                    self._take_control(event)
                    if self._state is _State.CLOSED:
                        return
                    continue
                if self._state is not _State.OPEN:
                    continue  # what crossed our close frame on the way
                queue.append(message)
                self._queued += len(event)
                if len(queue) >= self._max_queue or self._queued >= self._size_limit:
                    self._blocked = True
                    connection.pause_reading()
                    break
            else:
                connection.pause_reading()
                self._advance_later()
        except ProtocolError as exc:
            if not queue or self._state is not _State.OPEN:
                self._fail(exc.code, str(exc), exc.code)
                return
            broken = exc.code, str(exc)
        if queue:
            if len(queue) > 1:
                # Answers to messages that came together leave together. The application is woken
                # before the loop comes to this.
                connection.cork()
                self._wake()
                connection.call_soon(connection.uncork)
            else:
                self._wake()
        if broken is not None:
            # What came before was in order: an application that answers at once still can.
            code, reason = broken
            connection.call_soon(lambda: self._fail_now(code, reason))

    def _fail_now(self, code: int, reason: str) -> None:
        if self._state is not _State.CLOSED:
            self._fail(code, reason, code)

    def _advance_later(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self.connection.call_soon(self._advance_now)

    def _advance_now(self) -> None:
        self._scheduled = False
        if self._state in (_State.OPEN, _State.CLOSING):
            self._advance()

    def _take_control(self, event: object) -> None:
        if isinstance(event, Ping):
            if self._state is _State.OPEN:
                self._answer_ping(event.payload)
        elif isinstance(event, Close):
            if self._state is _State.OPEN:
                self._write(self._writer.close(event.code))
            self._state = _State.CLOSED
            self._disconnected(event.code, event.reason)
            self.connection.close(linger=True)

    def _answer_ping(self, payload: bytes) -> None:
        if self._pong_task is None and not self.connection.congested:
            self._write(self._writer.pong(payload))
            return
        # The peer does not read. It need be answered the last ping only (RFC 6455 section 5.5.3).
        self._pong = payload
        if self._pong_task is None:
            self._pong_task = self._server_state.loop.create_task(self._answer_last_ping())

    async def _answer_last_ping(self) -> None:
        try:
            await self.connection.drained()
        except ClientDisconnected:
            return
        finally:
            self._pong_task = None
        if self._state is _State.OPEN and self._pong is not None:
            self._write(self._writer.pong(self._pong))

    def _await_silence(self) -> None:
        """Send a ping in a while."""
        if self._state is _State.OPEN:
            self.connection.expect_within(self._server_state.config.ws_ping_interval or NEVER)

    # --- ASGI's receive

    async def receive(self) -> Message:
        """Return ``websocket.connect``, messages, then ``websocket.disconnect`` for ever."""
        while True:
            if self._queue:
                return self._queue.popleft()
            if self._blocked:
                self._blocked = False
                self._advance_now()
                continue
            if self._disconnect is not None:
                if self._grace is not None:
                    self._grace.cancel()  # who was told ends by itself
                return dict(self._disconnect)
            waiter = self._server_state.loop.create_future()
            if self._waiters is None:
                self._waiters = []
            self._waiters.append(waiter)
            try:
                await waiter
            except asyncio.CancelledError:
                waiters: list[asyncio.Future[None]] | None = self._waiters
                if waiters is not None and waiter in waiters:
                    waiters.remove(waiter)
                raise

    def _wake(self) -> None:
        """Something that ``receive()`` waits for has happened."""
        waiters, self._waiters = self._waiters, None
        for waiter in waiters or ():
            if not waiter.done():
                waiter.set_result(None)

    def _disconnected(self, code: int, reason: str = "") -> None:
        """Tell the application how it ended, once it has read what came before.

        If it was the one that closed, it hears what it said itself, as with uvicorn.
        """
        if self._disconnect is None:
            if self._closed_with is not None:
                code, reason = self._closed_with
            self._disconnect = {"type": "websocket.disconnect", "code": code, "reason": reason}
            self._wake()
            self._begin_grace()

    def _begin_grace(self) -> None:
        grace, task = self._server_state.config.timeout_disconnect_grace, self._task
        if grace is not None and task is not None and not task.done():
            self._grace = self._server_state.loop.call_later(grace, task.cancel)

    # --- ASGI's send

    async def send(self, message: Message) -> None:
        """Take ``websocket.accept``, ``.send``, ``.close`` and ``.http.response`` messages.

        ``ASGIProtocolError``: the message is not one that may come now, or is malformed;
        ``ClientDisconnected``: the WebSocket is closed, or being closed.
        """
        kind = message["type"]
        if self._state is _State.OPEN:
            if kind == "websocket.send":
                connection = self.connection
                for part in self._writer.message(_content(message)):
                    connection.write(part)
                if connection.congested:
                    await connection.drained()
            elif kind == "websocket.close":
                code, reason = message.get("code"), message.get("reason") or ""
                code = CloseCode.NORMAL if code is None else code
                self._close(code, reason)
                self._closed_with = code, reason
                self._queue.clear()
            else:
                raise ASGIProtocolError(f"unexpected message {kind!r} for an open WebSocket")
        elif self._state is _State.CONNECTING:
            if kind == "websocket.accept":
                self._accept(message)
            elif kind == "websocket.close":
                self._answer(403)
            elif kind == "websocket.http.response.start":
                self._start_denial(message)
            else:
                raise ASGIProtocolError(f"unexpected message {kind!r} before 'websocket.accept'")
        elif self._state is _State.DENYING:
            if kind != "websocket.http.response.body":
                raise ASGIProtocolError(f"unexpected message {kind!r} for an HTTP response")
            await self._send_denial(message)
        else:
            raise ClientDisconnected("the WebSocket is closed")

    def _accept(self, message: Message) -> None:
        config, handshake = self._server_state.config, self._handshake
        deflate = None
        if config.ws_per_message_deflate:
            deflate = negotiate_deflate(handshake.extensions)
        inflater = deflater = None
        try:
            if deflate is not None:
                inflater, deflater = deflate.inflater(), deflate.deflater()
        except (ImportError, OSError) as exc:  # an import opens files, and none may be left
            logger.warning("a WebSocket goes without compression: %s", exc)
            deflate = inflater = None
        response = handshake.response(
            subprotocol=message.get("subprotocol"),
            headers=message.get("headers") or (),
            deflate=deflate,
            defaults=self._server_state.defaults,
        )
        self._parser = MessageParser(max_size=config.ws_max_size, inflater=inflater)
        self._writer = MessageWriter(deflater)
        self.connection.write(response)
        self._state = _State.OPEN
        self._accepted = True
        self._server_state.counters.websockets += 1
        self._log(101)
        self.started = perf_counter()
        self._await_silence()
        if self._server_state.draining:
            self._leave()
        self._parser.feed(self._early)
        self._early = b""
        self._advance()

    def _start_denial(self, message: Message) -> None:
        denial = ResponseWriter(self._server_state.defaults, keep_alive=False)
        try:
            denial.start(message["status"], message.get("headers", ()))
        except KeyError:
            raise ASGIProtocolError(f"{message['type']!r} has no status") from None
        self._denial = denial
        self._state = _State.DENYING

    async def _send_denial(self, message: Message) -> None:
        denial, body = self._denial, bytes(message.get("body", b""))
        if data := denial.send(body, more=message.get("more_body", False)):
            self.connection.write(data)
        if denial.complete:
            self._log(denial.status)
            self._deny()
        else:
            await self.connection.drained()

    # --- the end

    def _close(self, code: int, reason: str = "") -> None:
        """Send a close frame and wait for the peer's."""
        frame = self._writer.close(code, reason)
        self._state = _State.CLOSING
        self.connection.expect_within(CLOSE_TIMEOUT)
        self._write(frame)
        if self._blocked:
            self._blocked = False
            self._advance_later()  # the peer's close frame may be among what was not parsed

    def _fail(self, code: int, reason: str, told: int) -> None:
        """Fail the connection (RFC 6455 section 7.1.7): nothing that comes is read any more.

        The peer is given ``code``, the application ``told``.
        """
        self._write(self._writer.close(code, reason))
        self._state = _State.CLOSED
        self._disconnected(told, reason)
        self.connection.close(linger=True)

    def _app_ended(self, *, failed: bool) -> None:
        """The application has returned, raised or was cancelled."""
        self._server_state.websocket_ended()
        if self._grace is not None:
            self._grace.cancel()
        if self._state is _State.CONNECTING:
            if not failed:
                logger.error(
                    "the ASGI application returned without answering a WebSocket handshake"
                )
            self._answer(500)
        elif self._state is _State.DENYING:
            if not failed:
                logger.error("the ASGI application returned without completing a response")
            if self._denial.head_sent:
                self._log(self._denial.status)
                self._deny()  # cut short, which the client can tell by the missing last chunk
            else:
                self._answer(500)
        elif self._state is _State.OPEN:
            self._queue.clear()
            self._close(CloseCode.INTERNAL_ERROR if failed else CloseCode.NORMAL)

    def _answer(self, status: int) -> None:
        """Answer the handshake with a response of the server's own."""
        self._log(status)
        self._state = _State.CLOSED
        self._write(simple_response(status, self._server_state.defaults, keep_alive=False))
        self._deny()

    def _deny(self) -> None:
        """The handshake was answered with an HTTP response."""
        self._state = _State.CLOSED
        self._disconnected(CloseCode.ABNORMAL)
        self.connection.close(linger=True)

    def _write(self, data: bytes) -> None:
        """Write where the application is not there to be told that nobody reads it."""
        try:
            self.connection.write(data)
        except ClientDisconnected:
            logger.debug("the client had gone")

    def _log(self, status: int) -> None:
        """The handshake was answered, or never will be."""
        self._server_state.counters.statuses[status // 100] += 1
        self._server_state.log_request(self, status)


def _content(message: Message) -> str | bytes:
    """What a ``websocket.send`` message is to send."""
    text, data = message.get("text"), message.get("bytes")
    if data is None and isinstance(text, str):
        return text
    if text is None and isinstance(data, bytes | bytearray | memoryview):
        return bytes(data)
    raise ASGIProtocolError("'websocket.send' needs either text, a str, or bytes")
