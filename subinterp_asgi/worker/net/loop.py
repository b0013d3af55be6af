"""A worker's event loop: asyncio's, with a selector of our own.

The selector does four things at the one place where a loop waits. It shows on the scoreboard that
the loop is alive; it brings the counters there up to date; and where there is epoll, it hands the
events of connections to these directly. On their way through asyncio they would pay for a key, a
handle and a context each, or (in an epoll of their own) for a second system call. And it knows
whether the loop sleeps: other threads, which return each result of a thread pool by
``call_soon_threadsafe()``, need not wake one that is awake.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import selectors
import sys
from math import ceil
from time import monotonic_ns

from ...control import output, scoreboard
from ...types import TYPE_CHECKING
from .lean_loop import LEAN, LeanLoop
from .poller import LoopPoller

if sys.platform == "linux":
    from .poller import EpollPoller, EpollRegistry

if TYPE_CHECKING:
    from collections.abc import Sized
    from typing import Any

    from ...control.counters import Counters
    from .poller import Poller

_HAS_GIL = getattr(sys, "_is_gil_enabled", lambda: True)()
_DEBUG = sys.flags.dev_mode or (
    not sys.flags.ignore_environment and bool(os.environ.get("PYTHONASYNCIODEBUG"))
)
"""Loops begin in asyncio's debug mode."""
_LEAST_TURN = int(scoreboard.BOUNDS[0] * 1e9)  # ns; turns that are shorter are told of together
_BATCH = 256  # events taken at once; the loop's callbacks get their turn in between


class ServerLoop(LeanLoop if LEAN else asyncio.SelectorEventLoop):  # type: ignore[misc]
    """A loop with a heartbeat, and a ``poller`` that watches connections.

    It is the selector loop, since that can watch descriptors on every system.
    """

    poller: Poller

    def __init__(self, counters: Counters) -> None:
        selector: Any
        self._closed = True  # until asyncio has made it: half of a loop can't be closed
        # (In debug mode all goes through asyncio, which tells what has taken long.)
        if sys.platform == "linux" and hasattr(select, "epoll") and not _DEBUG:
            selector = EpollSelector(counters)
            self.poller = selector.poller
        else:
            selector = HeartbeatSelector(counters)
            self.poller = LoopPoller(self)
        try:
            super().__init__(selector)
        except BaseException:
            self._closed = True
            selector.close()
            raise
        if sys.platform == "linux" and isinstance(selector, EpollSelector) and _HAS_GIL:
            loop: Any = self  # (type checkers are not told of asyncio's own parts)
            try:
                selector.wake_for(loop._ready)
            except OSError:
                self.close()
                raise
            loop._write_to_self = selector.wake  # asyncio: a write and two reads of sockets

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """As asyncio's; but if that can't be logged, whatever the reason, the loop goes on."""
        try:
            super().call_exception_handler(context)
        except Exception as exc:
            output.say_unlogged(exc)


def make_poller(loop: asyncio.AbstractEventLoop) -> Poller:
    """Return the fastest poller that a loop allows; on loops of others too."""
    if isinstance(loop, ServerLoop):
        return loop.poller
    if sys.platform == "linux" and hasattr(select, "epoll"):
        return EpollPoller(loop)
    return LoopPoller(loop)


class _Heart:
    """Counts how long a loop was held up, and says on the scoreboard whether it is."""

    __slots__ = ("_counters", "_slot", "_woken")

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._slot = counters.slot
        self._woken = monotonic_ns()
        counters.flush(self._woken)

    def skips(self) -> bool:
        """Whether a loop that has more to do, and will not wait, need not tell of it yet."""
        return monotonic_ns() - self._woken < _LEAST_TURN

    def rest(self) -> None:
        """The loop is about to wait. The heartbeat is 0 meanwhile, which needs no timer."""
        counters = self._counters
        held_up, lag = monotonic_ns() - self._woken, counters.lag
        counters.lag = held_up if held_up > lag else lag - (lag >> 6)
        if held_up <= _LEAST_TURN:
            counters.turns += 1
            counters.turn_sum += held_up
        else:
            counters.turned(held_up)
        counters.flush()

    def beat(self) -> None:
        """It has woken up: an old time tells others that it is held up."""
        self._woken = self._slot[scoreboard.BUSY_SINCE] = monotonic_ns()


class HeartbeatSelector(selectors.DefaultSelector):
    """The system's selector, with a heartbeat."""

    def __init__(self, counters: Counters) -> None:
        super().__init__()
        self._heart = _Heart(counters)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self._heart.rest()
        try:
            return super().select(timeout)
        finally:
            self._heart.beat()


if sys.platform == "linux":

    class EpollSelector(selectors.EpollSelector):
        """The same over epoll, with a ``poller`` that watches connections in the same epoll.

        Their handlers are called by ``select()``, in the loop's thread and while the loop runs, but
        before callbacks.
        """

        def __init__(self, counters: Counters) -> None:
            super().__init__()
            self._heart = _Heart(counters)
            # the same one, by another name
            self._epoll = select.epoll.fromfd(os.dup(self.fileno()))
            self.poller = EpollRegistry(self._epoll)
            self._ready: Sized = ()
            self._sleeping = False
            self._alarm = -1

        def wake_for(self, ready: Sized) -> None:
            """Let ``wake()`` wake the loop, which has something to do when ``ready`` has items."""
            self._alarm = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            # Edge-triggered: each write is an event, so that nobody has to read it away.
            self._epoll.register(self._alarm, select.EPOLLIN | select.EPOLLET)
            self._ready = ready

        def wake(self) -> None:
            """Wake the loop if it sleeps; from any thread, once there is something in ``ready``.

            With a GIL, either this sees that it sleeps, or the loop sees what it has to do.
            """
            if self._sleeping:
                self._sleeping = False
                with contextlib.suppress(OSError):  # the loop has ended meanwhile
                    os.eventfd_write(self._alarm, 1)

        def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
            if timeout is None:
                timeout = -1
            elif timeout > 0:
                timeout = ceil(timeout * 1000) * 0.001  # never earlier than asked for
            else:
                timeout = 0
            if timeout == 0 and self._heart.skips():
                events = self._epoll.poll(0, _BATCH)
            else:
                events = self._wait(timeout)
            if not events:
                return []
            ready = []
            handlers = self.poller.handlers
            for fd, event in events:
                # A handler earlier in the batch may have closed this one. If its number was reused
                # at once the event is stale; handlers take events as hints, so that does no harm.
                handler = handlers.get(fd)
                if handler is not None:
                    handler(event)
                elif (key := self.get_map().get(fd)) is not None:
                    mask = selectors.EVENT_WRITE if event & ~select.EPOLLIN else 0
                    if event & ~select.EPOLLOUT:
                        mask |= selectors.EVENT_READ
                    ready.append((key, mask & key.events))
            return ready

        def _wait(self, timeout: float) -> list[tuple[int, int]]:
            self._heart.rest()
            try:
                if timeout:
                    self._sleeping = True
                    if self._ready:  # since the loop has looked
                        timeout = 0
                return self._epoll.poll(timeout, _BATCH)
            finally:
                self._sleeping = False
                self._heart.beat()

        def close(self) -> None:
            self._sleeping = False
            self._epoll.close()
            alarm, self._alarm = self._alarm, -1  # its number may be another's at once
            if alarm >= 0:
                os.close(alarm)
            super().close()
