"""What the supervisor's thread waits for: the workers' wakeup, connections that queue up, time."""

from __future__ import annotations

import contextlib
import selectors
import time

from ...control.wakeup import Wakeup

NEVER = float("inf")
"""A time that does not come."""
_POLL_INTERVAL = 0.05  # seconds between looks once an application has closed what is waited with


class Selector:
    """Waits for a wakeup, and for listeners that have connections queued.

    Each listener is reported once and must be armed again, so that one which is busy costs nothing
    as long as it is not.
    """

    def __init__(self, wakeup: Wakeup) -> None:
        self._wakeup = wakeup
        self._selector = selectors.DefaultSelector()
        self._selector.register(wakeup.fileno(), selectors.EVENT_READ)
        self._broken = False

    def arm(self, fd: int, *, write: bool = False) -> None:
        """Report a listener the next time that a connection is queued there, or is already.

        (Or any socket that is to be read from, or written to.)
        """
        events = selectors.EVENT_WRITE if write else selectors.EVENT_READ
        if self._broken:
            return
        if fd in self._selector.get_map():
            self._selector.modify(fd, events)
        else:
            self._selector.register(fd, events)

    def forget(self, fd: int) -> None:
        """Do not report a socket any more, which will be closed."""
        if fd in self._selector.get_map():
            self._selector.unregister(fd)

    def wait(self, timeout: float | None) -> list[int]:
        """Wait until something happens, or time has come; return the listeners where it did."""
        try:
            if not self._broken:
                return self._select(timeout)
        except (OSError, ValueError):
            # An application has closed it, and nobody can wake who waits any more.
            self._broken = True
        time.sleep(_POLL_INTERVAL)
        return []

    def _select(self, timeout: float | None) -> list[int]:
        ready = [key.fd for key, _ in self._selector.select(timeout)]
        if self._wakeup.fileno() in ready:
            ready.remove(self._wakeup.fileno())
            self._wakeup.clear()
        for fd in ready:
            self._selector.unregister(fd)
        return ready

    def close(self) -> None:
        """Release what the system waits with."""
        with contextlib.suppress(OSError):  # an application has closed it
            self._selector.close()
