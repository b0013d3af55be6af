"""What counts requests for all workers together: only with ``limit_concurrency_total``.

How many are in flight is on the scoreboard at once then, which nobody needs otherwise, and a
request leaves before the end of its response is written: who has read that may send the next one
to another worker.
"""

from __future__ import annotations

from collections.abc import Coroutine

from ...control.scoreboard import CONCURRENCY_SHARE, IN_FLIGHT
from ...types import TYPE_CHECKING, Any, Message
from ..net.total_limit import TotalLimit
from .exchange import HTTPExchange
from .http import HTTPSession
from .state import ServerState

if TYPE_CHECKING:
    from .state import Served


class StateInTotal(ServerState):
    """Knows what other workers have in flight.

    (``super()`` at the beginning of a request would be 0.1 of the 0.6 us that this costs it.)
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        limit = self.config.limit_concurrency_total
        assert limit is not None
        self._total = TotalLimit(self.counters, limit, held=IN_FLIGHT, share=CONCURRENCY_SHARE)
        self._slot = self.counters.slot

    @property
    def overloaded(self) -> bool:
        """Whether as many requests are in flight as may be, here or in all workers."""
        limit, in_flight = self._limit_concurrency, self.counters.in_flight
        return (limit is not None and in_flight >= limit) or self._total.reached(in_flight)

    def request_started(self) -> None:
        """Count a request, for others too."""
        counters = self.counters
        counters.requests += 1
        counters.in_flight += 1
        self._slot[IN_FLIGHT] = counters.in_flight

    def request_ends(self) -> None:
        """Let others know that ``request_ended()`` is about to be called."""
        self._slot[IN_FLIGHT] = self.counters.in_flight - 1

    def request_ended(self, served: Served, status: int) -> None:
        """Count and log what the client saw."""
        self.request_ends()
        super().request_ended(served, status)

    def websocket_ended(self) -> None:
        """As ``request_ended()``, of a WebSocket."""
        super().websocket_ended()
        self._slot[IN_FLIGHT] = self.counters.in_flight


class ExchangeInTotal(HTTPExchange):
    """Leaves before its last piece is written."""

    __slots__ = ()

    _server_state: StateInTotal

    def send(self, message: Message) -> Coroutine[Any, Any, None]:
        """Take a message. (Whatever comes of it, the next request to begin or end is counted.)"""
        if (
            message["type"] == "http.response.body"
            and not (message.get("more_body", False) or self._ended or self._gone)
            and self.writer.status
            and not self.writer.trailers_due
        ):
            self._server_state.request_ends()
        return super().send(message)

    def fail(self) -> None:
        """The response will not be completed; perhaps that is answered."""
        if not self._ended:
            self._server_state.request_ends()
        super().fail()


class SessionInTotal(HTTPSession):
    """Serves requests that leave before."""

    __slots__ = ()

    exchange_kind = ExchangeInTotal
