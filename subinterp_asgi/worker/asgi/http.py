"""The HTTP/1.1 session: the requests of one connection, one after the other.

It stands between the connection (octets), the parser (requests) and the exchanges (ASGI), and
decides what only all three together can tell: when the next request may begin, whether the
connection lives on, and what a client is answered that broke the protocol.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from ...errors import ClientDisconnected
from ...http1.errors import ProtocolError
from ...http1.heads import Request
from ...http1.parser import RequestParser
from ...http1.response import ResponseWriter, simple_response
from ...types import TYPE_CHECKING
from ..net.connection import HIGH_WATER, NEVER, Connection
from .exchange import HTTPExchange
from .state import CLIENT_CLOSED_REQUEST, ServerState

if TYPE_CHECKING:
    from .endpoints import Reply

logger = logging.getLogger("subinterp_asgi.error")

REQUESTS_PER_WAKEUP = 16
"""Pipelined requests served before other connections get their turn."""
RETRY = ((b"retry-after", b"1"),)
"""Goes with 503: when to try again, in seconds."""
DISCARD_SIZE = 262144
"""Octets of an unread body that are read and dropped to keep a connection; beyond, it is closed."""


class HTTPSession:
    """Serves the requests that arrive on a connection."""

    __slots__ = (
        "_connection",
        "_discarded",
        "_exchange",
        "_in_head",
        "_lingering",
        "_parser",
        "_scheduled",
        "_server_state",
        "advancing",
    )

    exchange_kind = HTTPExchange

    def __init__(self, connection: Connection, server_state: ServerState) -> None:
        self._connection = connection
        self._server_state = server_state
        self._parser = RequestParser(heads=server_state.heads)
        self._exchange: HTTPExchange | None = None
        self._discarded = -1  # octets dropped of a body nobody reads, or -1 if there is none
        self.advancing = False  # requests that came together are being served, in one go
        self._scheduled = False  # the next request will be served when others had their turn
        self._in_head = True  # the deadline is that of a request head
        self._lingering = False  # while the worker drains, the next request may be on its way
        connection.expect_within(server_state.config.timeout_header or NEVER)

    # --- called by the connection

    def data_received(self, data: bytes) -> None:
        parser = self._parser
        parser.feed(data)
        exchange = self._exchange
        if exchange is None:
            if self._discarded >= 0:
                self._discard_body()
            elif not self._scheduled:
                self._serve()
            elif parser.buffered >= HIGH_WATER:
                self._connection.pause_reading()
        else:
            if parser.buffered >= HIGH_WATER:
                self._connection.pause_reading()
            if not parser.body_complete:
                self._connection.deadline = NEVER
                exchange.wake()

    def turn_away(self) -> None:
        """There are too many connections: say so and close."""
        self._answer(503, fields=RETRY)

    def eof_received(self) -> None:
        if self._exchange is not None:
            # The client may only have closed its sending half: what came is still delivered and
            # the response written, but an application that waits for more hears that nobody is
            # there.
            self._exchange.eof_received()
        elif self._discarded >= 0:
            self._connection.close()
        elif not self._scheduled:
            self._await_head()

    def connection_lost(self) -> None:
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.lost(exchange.writer.status or CLIENT_CLOSED_REQUEST)

    def timed_out(self) -> None:
        exchange = self._exchange
        if exchange is not None:
            self._break_off(exchange, ProtocolError("the request body came too slowly", 408))
        elif self._in_head and self._parser.mid_message:
            self._refuse(ProtocolError("the request head came too slowly", 408))
        else:
            self._connection.close()

    @property
    def idle(self) -> bool:
        return not (self._busy or self._parser.mid_message or self._lingering)

    @property
    def movable(self) -> bool:
        return self.idle and not self._connection.at_eof

    @property
    def _busy(self) -> bool:
        """Whether the next request has to wait for the end of this one."""
        return self._exchange is not None or self._discarded >= 0

    def break_off(self) -> None:
        exchange = self._exchange
        if exchange is None:
            self._connection.close()
        else:
            exchange.disconnect()

    def drain(self) -> None:
        # A request may be on its way already: closing in its face would lose it. The worker closes
        # what is still idle in a while; until then one more request is served.
        if self.idle:
            self._connection.read_available()

    # --- called by the exchange

    def read_body(self, exchange: HTTPExchange) -> tuple[bytes, bool] | None:
        """Return what has come of the body, and whether it is complete.

        ``None``: it is malformed, and the exchange over.
        """
        try:
            piece = self._parser.read_body()
        except ProtocolError as exc:
            self._break_off(exchange, exc)
            return None
        complete = self._parser.body_complete
        if self._connection.at_eof and not (piece or complete):
            self._break_off(exchange, ProtocolError("the request was cut short"))
            return None
        if self._parser.buffered < HIGH_WATER:
            self._connection.resume_reading()
        return piece, complete

    def may_keep_alive(self, continue_due: bool, final: bool) -> bool:
        """Whether the connection can live on after a response; called before its head is rendered.

        ``final``: the head goes out with the last piece of the response's body.
        """
        parser = self._parser
        if (
            self._server_state.draining
            or (self._connection.at_eof and not parser.buffered)
            # A client that was never told to go on may send the body next, or another request.
            or continue_due
        ):
            return False
        if not final or parser.body_complete:
            return True
        return (parser.body_remaining or 0) <= DISCARD_SIZE

    def exchange_ended(self, exchange: HTTPExchange) -> None:
        """The exchange's response is complete."""
        self._exchange = None
        connection, writer = self._connection, exchange.writer
        # (No time limit is on: that of a body was lifted when it came.)
        if connection.closed:
            return
        if writer.truncated:
            logger.error("the response body was shorter than its Content-Length")
            connection.close(linger=True)
        elif not (self.advancing and writer.keep_alive and self._parser.body_complete):
            self._answered(exchange.request, writer.keep_alive)  # (else _serve() goes on)

    def _answered(self, request: Request, keep_alive: bool) -> None:
        """The response to a request is out: go on, or close."""
        if not keep_alive:
            # A client that has not asked for this may have sent its next request already.
            self._connection.close(linger=request.keep_alive or self._parser.mid_message)
        elif not self._parser.body_complete:
            self._discarded = 0
            self._discard_body()
        elif not self.advancing:
            self._proceed()

    def exchange_failed(self, exchange: HTTPExchange, *, told: bool) -> int:
        """The exchange's response will never be complete; return the status the client saw.

        ``told``: the application was told that the client is gone, and took it at that.
        """
        self._exchange = None
        connection, writer = self._connection, exchange.writer
        if connection.closed:
            return writer.status or CLIENT_CLOSED_REQUEST
        if not writer.head_sent:
            if told and self._connection.at_eof:
                connection.close()
                return CLIENT_CLOSED_REQUEST
            status = 503 if told else 500
            self._answer(status, head_request=exchange.request.method == "HEAD")
            return status
        self._cut_short(exchange)
        return writer.status

    # --- requests in turn

    def _serve(self) -> None:
        """Serve the requests that have come, as far as they are done at once."""
        connection, parser = self._connection, self._parser
        endpoints = self._server_state.endpoints
        self.advancing = True
        for _ in range(REQUESTS_PER_WAKEUP):
            try:
                request = parser.next_request()
            except ProtocolError as exc:
                self._refuse(exc)
                break
            if request is None:
                self._await_head()
                break
            if endpoints is not None and (reply := endpoints.find(request)) is not None:
                self._give(reply, request, endpoints.keep_alive)
                if self._busy or connection.closing:
                    break
                continue
            if self._server_state.overloaded:
                self._answer(503, head_request=request.method == "HEAD", fields=RETRY)
                break
            upgrade = request.fields.upgrade
            if upgrade and b"websocket" in upgrade and request.http_version == "1.1":
                self._upgrade(request)
                break
            connection.deadline = NEVER
            self._in_head = False
            exchange = self._exchange = self.exchange_kind(
                self, connection, self._server_state, request
            )
            if parser.buffered:
                connection.cork()  # responses to pipelined requests leave together
            exchange.run()
            if self._busy or connection.closing:
                break
            if not parser.buffered:
                self._await_head()
                break
        else:
            self._proceed()
        self.advancing = False
        connection.uncork()
        if parser.buffered >= HIGH_WATER and (self._busy or self._scheduled):
            connection.pause_reading()

    def _give(self, reply: Reply, request: Request, keep_alive: bool) -> None:
        """Answer a request with a reply, in the place of an exchange."""
        connection, parser = self._connection, self._parser
        connection.deadline = NEVER
        self._in_head = False
        keep_alive = (
            keep_alive
            and request.keep_alive
            and self.may_keep_alive(request.expect_continue, final=True)
        )
        writer = ResponseWriter(
            self._server_state.defaults,
            head_request=request.method == "HEAD",
            http10=request.http_version == "1.0",
            keep_alive=keep_alive,
        )
        status, fields, body = reply
        writer.start(status, fields)
        if parser.buffered:
            connection.cork()
        try:
            connection.write(writer.send(body, more=False))
        except ClientDisconnected:
            return
        self._answered(request, keep_alive)

    def _upgrade(self, request: Request) -> None:
        """Hand the connection over to a WebSocket, if this is how one is opened."""
        connection = self._connection
        try:
            from ...websocket.errors import HandshakeError  # imported by those who need it
            from ...websocket.handshake import read_handshake
            from .websocket import WebSocketSession
        except (ImportError, OSError) as exc:  # an import opens files, and none may be left
            logger.error("no WebSocket can be opened: %s", exc)
            self._answer(503, fields=RETRY)
            return
        try:
            handshake = read_handshake(request.method, request.http_version, request.headers)
        except HandshakeError as exc:
            logger.debug("refused a WebSocket with %d: %s", exc.status, exc)
            self._answer(exc.status, head_request=request.method == "HEAD", fields=exc.headers)
            return
        rest = self._parser.take_rest()
        self._lingering = False
        session = WebSocketSession(connection, self._server_state, request, handshake, rest)
        connection.session = session
        session.run()
        if self._connection.at_eof:
            session.eof_received()  # it was seen while an earlier request was served

    def _proceed(self) -> None:
        """Go on to the next request, if it has come already, after others have had their turn."""
        if self._parser.buffered:
            self._scheduled = True
            self._connection.call_soon(self._serve_later)
        else:
            self._await_head()

    def _serve_later(self) -> None:
        self._scheduled = False
        if not (self._busy or self._connection.closing):
            self._serve()

    def _await_head(self) -> None:
        """Nothing is left to do until the client sends more."""
        connection, config = self._connection, self._server_state.config
        if self._connection.at_eof:
            if self._parser.mid_message:
                self._refuse(ProtocolError("the request was cut short"))
            else:
                connection.close()
            return
        connection.resume_reading()
        if self._parser.mid_message:
            if not self._in_head:
                self._in_head = True
                connection.expect_within(config.timeout_header or NEVER)
        elif self._server_state.draining:
            # The response was begun too early to announce this, so that the client may have sent
            # its next request already; it is served if it comes within a moment.
            self._in_head = False
            self._lingering = True
            connection.deadline = NEVER
            self._server_state.loop.call_later(config.timeout_linger, self._cease_to_linger)
        else:
            self._in_head = False
            connection.expect_within(config.timeout_keep_alive)  # 0: at once

    def _cease_to_linger(self) -> None:
        if self._lingering:
            self._connection.look()  # if the worker was held up, a request may have come in time
        if self._lingering:
            self._lingering = False
            if self.idle and not self._connection.closing:
                self._connection.close()

    def _discard_body(self) -> None:
        """Read and drop what is left of a body whose response is complete already."""
        connection, parser = self._connection, self._parser
        try:
            self._discarded += len(parser.read_body())
        except ProtocolError:
            connection.close(linger=True)  # the response is out; there is no other to give
            return
        if parser.body_complete:
            self._discarded = -1
            if not self.advancing:
                self._proceed()
        elif self._discarded > DISCARD_SIZE or self._connection.at_eof:
            connection.close(linger=True)
        else:
            connection.resume_reading()
            connection.expect_within(self._server_state.config.timeout_body or NEVER)

    # --- errors

    def _break_off(self, exchange: HTTPExchange, error: ProtocolError) -> None:
        """The request can't be completed: answer if nothing was, and tell the application."""
        self._exchange = None
        if exchange.writer.head_sent:
            self._cut_short(exchange)
            exchange.lost(exchange.writer.status)
        else:
            self._refuse(error, head_request=exchange.request.method == "HEAD")
            exchange.lost(error.status)

    def _cut_short(self, exchange: HTTPExchange) -> None:
        """End the connection in the middle of a response, so that the client can tell."""
        if exchange.writer.close_delimited:
            self._connection.reset()
        else:
            # (Complete responses to requests before this one may still wait to be written.)
            self._connection.close(linger=True)

    def _refuse(self, error: ProtocolError, *, head_request: bool | None = None) -> None:
        """Answer what is no valid request, and parse no more of what comes (RFC 9112 section 9)."""
        logger.debug("refused a request with %d: %s", error.status, error)
        if head_request is None:
            head_request = self._parser.head_refused
        self._answer(error.status, head_request=head_request)

    def _answer(
        self,
        status: int,
        *,
        head_request: bool = False,
        fields: Iterable[tuple[bytes, bytes]] = (),
    ) -> None:
        """Send a response of the server's own as the last on this connection."""
        connection = self._connection
        response = simple_response(
            status,
            self._server_state.defaults,
            keep_alive=False,
            head_request=head_request,
            fields=fields,
        )
        try:
            connection.write(response)
        except ClientDisconnected:
            return
        connection.close(linger=True)
