"""A request whose client is gone, or may be: what it may still do, and for how long.

Applications are written against uvicorn, hence:

- ``receive()`` says so, and an application that has heard it ends by itself: it is not cancelled.
- ``send()`` takes what comes and does nothing with it, so that what an application does after its
  response is done. Who goes on sending is slowed down, and gets an ``OSError`` after a while.
- Who neither hears it nor ends is cancelled when ``timeout_disconnect_grace`` is over.

The end of what a client sends does not tell whether it still reads. If nothing has been sent to it
meanwhile, the end of the grace is the time to find out: it is sent octets that mean nothing, which
a system resets where nobody reads any more.
"""

from __future__ import annotations

import asyncio

from ...errors import ClientDisconnected
from ...types import Message
from . import extensions
from .state import ServerState

UNHEARD_TIME = 1.0
"""Seconds for which an application may go on sending pieces to a client that is gone."""
UNHEARD_PIECES = 64
"""Such pieces that take no time, as with uvicorn; each one more takes ``UNHEARD_PACE``."""
UNHEARD_PACE = 0.01

_LAST_UNLESS = {
    "http.response.body": "more_body",
    "http.response.zerocopysend": "more_body",
    "http.response.trailers": "more_trailers",
    "http.response.pathsend": "",
}
"""Messages that end a response, unless they say that more follows."""


class Absence:
    """What is known of a client that is gone, or has closed its sending half.

    Attributes:
        status: The status that the client saw, if it is gone.
        cancellation: What ended a call of ``send()``.
        sent: Something was sent to it since this was last looked at.
    """

    def __init__(self, exchange: extensions.Exchange, server_state: ServerState) -> None:
        self._exchange = exchange
        self._server_state = server_state
        self.status: int | None = None
        self.cancellation: asyncio.CancelledError | None = None
        self.sent = False
        self._timer: asyncio.TimerHandle | None = None
        self._probed = False
        self._completed = False
        self._pieces = 0
        self._until = 0.0

    # --- how long it may go on

    def half_closed(self) -> None:
        """The client will send no more; perhaps it reads."""
        self._server_state.unattended.add(self.drain)
        if self._timer is None:
            self._begin(self._server_state.config.timeout_disconnect_grace)
        if self._server_state.draining:
            self.drain()

    def lost(self, status: int) -> None:
        """The client is gone, or was answered by the server, and saw that status."""
        self.status = status
        self._server_state.unattended.add(self.drain)
        if self._server_state.draining and self._exchange.writer.status:
            self._begin(0.0)
        elif self._timer is None:
            self._begin(0.0 if self._probed else self._server_state.config.timeout_disconnect_grace)

    def end(self) -> None:
        """The request has ended."""
        self._begin(None)
        self._server_state.unattended.discard(self.drain)

    def forget(self) -> None:
        """The application's call has ended: let go what it has left behind.

        AnyIO keeps an exception that cancelled a task in a circle with its traceback, and with that
        the generator of a stream which was cancelled between two pieces. It is to be closed now,
        not at the next garbage collection.
        """
        exc, self.cancellation = self.cancellation, None
        traceback = None if exc is None else exc.__traceback__
        while traceback is not None:
            try:
                traceback.tb_frame.clear()
            except RuntimeError:
                pass  # it still runs
            traceback = traceback.tb_next

    def drain(self) -> None:
        """The worker ends, which does not wait for a response that nobody reads."""
        if self._exchange.writer.status:
            if self.status is not None:
                self._begin(0.0)
            elif not self._probed:
                self._probe()

    def _begin(self, grace: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if grace is not None:
            self._timer = self._server_state.loop.call_later(grace, self._over)

    def _over(self) -> None:
        """The grace is over."""
        self._timer = None
        exchange = self._exchange
        if not exchange.heedless:
            return
        if self.status is not None:
            exchange.cancel()
        elif self.sent or exchange.connection.congested:
            # It was not reset: somebody reads, or the time limit for writing is on.
            self.sent = False
            self._begin(self._server_state.config.timeout_disconnect_grace)
        elif not (self._probed or self._probe()):
            exchange.cancel()

    def _probe(self) -> bool:
        """Send what means nothing to a client that reads; return whether there is such a thing."""
        exchange = self._exchange
        data = b"" if exchange.sending_file else exchange.writer.probe()
        if data:
            self._probed = True
            try:
                exchange.connection.write(data)
            except ClientDisconnected:
                return True  # (the exchange knows)
        return bool(data)

    # --- what it sends

    async def discard(self, message: Message) -> None:
        """Take a message that nobody will read.

        ``ClientDisconnected``: there were too many, for too long.
        """
        kind = message["type"]
        more = _LAST_UNLESS.get(kind)
        if more is not None and not message.get(more, False) and not self._completed:
            exchange = self._exchange
            exchange.fail()
            exchange.sending_file = False
            exchange.writer.complete = True  # for the application: what follows is its own affair
            self._completed = True
            return
        if kind == "http.response.start":
            return
        self._pieces += 1
        now = self._server_state.loop.time()
        if self._pieces == 1:
            self._until = now + UNHEARD_TIME
        elif now > self._until:
            raise ClientDisconnected("the client is gone")
        if self._pieces > UNHEARD_PIECES:
            await asyncio.sleep(UNHEARD_PACE)
