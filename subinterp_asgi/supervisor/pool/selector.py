"""What the supervisor's thread waits for: the workers' wakeup, connections that queue up, time."""

from __future__ import annotations

import contextlib
import select
import sys

from ...control.wakeup import Wakeup

NEVER = float("inf")
"""A time that does not come."""


class Selector:
    """Waits for a wakeup and, where there is epoll, for listeners that have connections queued.

    Each listener is reported once and must be armed again, so that one which is busy costs nothing
    as long as it is not.

    Attributes:
        tells: There is epoll; or else only the wakeup is waited for.
    """

    def __init__(self, wakeup: Wakeup) -> None:
        self._wakeup = wakeup
        self._epoll = select.epoll() if hasattr(select, "epoll") else None
        self.tells = self._epoll is not None
        if sys.platform == "linux" and self._epoll is not None:
            self._epoll.register(wakeup.fileno(), select.EPOLLIN)
        self._known: set[int] = set()

    def arm(self, fd: int, *, write: bool = False) -> None:
        """Report a listener the next time that a connection is queued there, or is already.

        (Or any socket that is to be read from, or written to.)
        """
        if sys.platform == "linux" and self._epoll is not None:
            events = (select.EPOLLOUT if write else select.EPOLLIN) | select.EPOLLONESHOT
            if fd in self._known:
                self._epoll.modify(fd, events)
            else:
                self._epoll.register(fd, events)
                self._known.add(fd)

    def forget(self, fd: int) -> None:
        """Do not report a socket any more, which will be closed."""
        if sys.platform == "linux" and self._epoll is not None and fd in self._known:
            self._known.remove(fd)
            self._epoll.unregister(fd)

    def wait(self, timeout: float | None) -> list[int]:
        """Wait until something happens; return the listeners where it did."""
        if self._epoll is None:
            self._wakeup.wait(timeout)
            self._wakeup.clear()
            return []
        ready = [fd for fd, _ in self._epoll.poll(timeout)]
        if self._wakeup.fileno() in ready:
            ready.remove(self._wakeup.fileno())
            self._wakeup.clear()
        return ready

    def close(self) -> None:
        """Release the epoll."""
        if sys.platform == "linux" and self._epoll is not None:
            with contextlib.suppress(OSError):
                self._epoll.close()
