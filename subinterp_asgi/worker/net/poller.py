"""Readiness of many file descriptors, as callbacks on an asyncio loop.

Sockets are read and written directly rather than through asyncio's transports, which cost more than
all the rest of serving a small request. ``EpollPoller`` keeps all descriptors in an epoll of its
own and puts only that into the loop: the loop's per-event cost (a selector key, a handle, a context
switch) is then paid once for a batch of events. ``LoopPoller`` does the same job with
``loop.add_reader`` and ``loop.add_writer`` where there is no epoll.
"""

from __future__ import annotations

import asyncio
import select
import sys
from collections.abc import Callable

from ...control.wakeup import READ as READ
from ...control.wakeup import WRITE as WRITE
from ...types import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Protocol

    class Poller(Protocol):
        """Calls a handler when its descriptor is ready, with ``READ``, ``WRITE`` and error bits.

        Any bit but ``WRITE`` means that reading will tell what happened.
        """

        def add(self, fd: int, events: int, handler: EventHandler) -> None:
            """Begin to watch a descriptor, which must not be watched yet."""

        def modify(self, fd: int, events: int) -> None:
            """Change what to watch for; 0 leaves only errors, where the system reports them."""

        def remove(self, fd: int) -> None:
            """Cease to watch a descriptor; call this before it is closed."""

        def close(self) -> None:
            """Release the poller's own resources."""


type EventHandler = Callable[[int], None]

_BATCH = 128  # events taken at once; the loop gets its turn in between


def octets_queued(fd: int) -> int:
    """Return how many octets a socket was given that the peer's system has not taken yet.

    Linux tells that, of Unix sockets too (in a measure of its own). Elsewhere it is always -1.
    """
    if sys.platform != "linux":
        return -1
    try:
        import fcntl  # where somebody reads slowly, not where a worker starts
        import termios

        answer = fcntl.ioctl(fd, termios.TIOCOUTQ, bytes(4))
    except (ImportError, OSError):  # an import needs a descriptor
        return -1
    return int.from_bytes(answer, sys.byteorder)


if sys.platform == "linux":

    class EpollRegistry:
        """Descriptors in an epoll, and their handlers, which are called by whoever polls it."""

        def __init__(self, epoll: select.epoll) -> None:
            self._epoll = epoll
            self.handlers: dict[int, EventHandler] = {}

        def add(self, fd: int, events: int, handler: EventHandler) -> None:
            self._epoll.register(fd, events)
            self.handlers[fd] = handler

        def modify(self, fd: int, events: int) -> None:
            self._epoll.modify(fd, events)

        def remove(self, fd: int) -> None:
            if self.handlers.pop(fd, None) is not None:
                self._epoll.unregister(fd)

        def close(self) -> None:
            for fd in list(self.handlers):
                self.remove(fd)

    class EpollPoller(EpollRegistry):
        """All descriptors in one epoll, which is the only one that the loop watches."""

        def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
            super().__init__(select.epoll())
            self._loop = loop
            loop.add_reader(self._epoll.fileno(), self._dispatch)

        def close(self) -> None:
            self._loop.remove_reader(self._epoll.fileno())
            self._epoll.close()
            self.handlers.clear()

        def _dispatch(self) -> None:
            handlers = self.handlers
            for fd, events in self._epoll.poll(0, _BATCH):
                handler = handlers.get(fd)  # (as in ``EpollSelector``, there may be none any more)
                if handler is not None:
                    handler(events)


class LoopPoller:
    """Each descriptor in the loop by itself."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._watched: dict[int, tuple[int, EventHandler]] = {}

    def add(self, fd: int, events: int, handler: EventHandler) -> None:
        self._watched[fd] = (0, handler)
        self.modify(fd, events)

    def modify(self, fd: int, events: int) -> None:
        before, handler = self._watched[fd]
        self._watched[fd] = (events, handler)
        if events & READ and not before & READ:
            self._loop.add_reader(fd, handler, READ)
        elif before & READ and not events & READ:
            self._loop.remove_reader(fd)
        if events & WRITE and not before & WRITE:
            self._loop.add_writer(fd, handler, WRITE)
        elif before & WRITE and not events & WRITE:
            self._loop.remove_writer(fd)

    def remove(self, fd: int) -> None:
        if fd in self._watched:
            self.modify(fd, 0)
            del self._watched[fd]

    def close(self) -> None:
        for fd in list(self._watched):
            self.remove(fd)
