"""The open connections of a worker: their deadlines, and what all of them are told."""

from __future__ import annotations

from time import monotonic

from ...control.scoreboard import CONNECTIONS_SHARE, SERVED
from ...types import TYPE_CHECKING
from .connection import Connection

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Iterator

    from ...config import Config
    from ...control.counters import Counters
    from .handshake import Handshake
    from .poller import Poller
    from .total_limit import TotalLimit


class Connections:
    """Registry of connections, and of those that are still handshake.

    ``on_progress()`` is called when one is closed or has been given its last answer.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        poller: Poller,
        config: Config,
        counters: Counters,
        on_progress: Callable[[], None],
    ) -> None:
        self.loop = loop
        self.poller = poller
        self.config = config
        self.counters = counters
        self.on_progress = on_progress
        self._open: set[Connection | Handshake] = set()
        self._served = 0  # of them: those that were not given their last answer
        self._limit = config.limit_connections or float("inf")
        self._total: TotalLimit | None = None
        if config.limit_connections_total is not None:
            from .total_limit import TotalLimit

            self._total = TotalLimit(
                counters, config.limit_connections_total, held=SERVED, share=CONNECTIONS_SHARE
            )
        self._timer: asyncio.TimerHandle | None = None
        self._tick_interval = _tick_interval(config)
        self._closing_idle = False

    def __len__(self) -> int:
        return len(self._open)

    def __iter__(self) -> Iterator[Connection | Handshake]:
        return iter(tuple(self._open))

    @property
    def all_idle(self) -> bool:
        """Whether nothing would be lost if all were closed."""
        return all(connection.idle for connection in self._open)

    @property
    def all_answered(self) -> bool:
        """Whether all that are left have had their last answer."""
        return all(connection.answered for connection in self._open)

    @property
    def crowded(self) -> bool:
        """Whether there are as many as may be, here or in all workers.

        Those that were turned away and have not left yet must not keep others out.
        """
        served = self._served
        return served >= self._limit or (self._total is not None and self._total.reached(served))

    def add(self, connection: Connection | Handshake) -> None:
        """Take in a new one."""
        self._open.add(connection)
        self.counters.connections = len(self._open)
        self._count(1)
        if self._timer is None:
            self._timer = self.loop.call_later(self._tick_interval, self._tick)

    def discard(self, connection: Connection | Handshake) -> None:
        """Called by a connection that is closed."""
        self._open.discard(connection)
        self.counters.connections = len(self._open)
        if not connection.answered:
            self._count(-1)
        self.on_progress()

    def answered(self) -> None:
        """Called by a connection that has been given its last answer, and waits for its end."""
        self._count(-1)
        self.on_progress()

    def _count(self, more: int) -> None:
        self._served += more
        if self._total is not None:
            self._total.hold(self._served)

    def drain(self) -> None:
        """Have all finish what was begun and start nothing new."""
        for connection in self:
            connection.drain()

    def move_idle(self, pass_on: Callable[[int], bool]) -> None:
        """Leave those to other workers that wait for a request; see ``Connection.move()``."""
        for connection in self:
            if isinstance(connection, Connection):
                connection.move(pass_on)

    def close_idle(self) -> None:
        """Close those that are idle, and from now on those that become so."""
        self._closing_idle = True
        for connection in self:
            if connection.idle:
                connection.look()  # if the worker was held up, a request may have come in time
                if connection.idle:
                    connection.close()

    def leave_answered(self) -> None:
        """Wait no longer for those that have had their last answer."""
        for connection in self:
            if connection.answered:
                connection.abort()

    def break_off(self) -> None:
        """Have all give up what is not finished."""
        for connection in self:
            connection.break_off()

    def abort(self) -> None:
        """Close all at once."""
        for connection in self:
            connection.abort()
        if self._timer is not None:
            self._timer.cancel()

    def _tick(self) -> None:
        """Check all deadlines. One timer for all connections, and none while there are none."""
        now = monotonic()
        for connection in self:
            connection.check_deadlines(now)
        if self._closing_idle:
            self.close_idle()
        self._timer = None
        if self._open:
            self._timer = self.loop.call_later(self._tick_interval, self._tick)


def _tick_interval(config: Config) -> float:
    """Seconds between looks at the deadlines: a fraction of the shortest timeout."""
    timeouts = (
        config.timeout_keep_alive,
        config.timeout_header,
        config.timeout_body,
        config.timeout_write,
        config.timeout_tls_handshake,
        config.ws_ping_interval,
        config.ws_ping_timeout,
    )
    return min(1.0, max(0.02, min((t for t in timeouts if t), default=1.0) / 4))
