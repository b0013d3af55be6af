"""Shutting down all workers: gracefully, as long as that may take, and then not."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Sequence
from time import monotonic

from ...config import Config
from ...control.messages import (
    CMD_DRAIN,
    CMD_SHUTDOWN,
    DRAIN_HAND_OVER,
    DRAIN_LATER,
    SHUTDOWN_NOW,
)
from ..listeners import Listeners
from ..pool.handle import ACCEPTING, WorkerHandle
from ..pool.selector import NEVER
from ..states import WorkerState

STOP_MARGIN = 1.0
"""Seconds for a worker to end beyond the timeouts it keeps itself."""
HANDSHAKE = 0.25
"""Seconds after ``drain_delay`` for connections under way to be made: the longest round trip."""
_BREAKING_OFF = 2.0
"""Seconds that it takes itself to break off requests, and to leave daemon threads to their fate."""

_DEAF_INTERVAL = 0.05
"""Seconds between looks at workers if an application has closed what they wake others by."""

_MUTE = (WorkerState.STARTING, WorkerState.SERVING, WorkerState.STUCK)
"""Of workers that have not answered that they are to end."""
_ENDING = (WorkerState.STOPPED, WorkerState.FAILED)
_IDLE = (WorkerState.IDLE, WorkerState.SPARE)
_NOT_ACCEPTING = set(WorkerState) - {WorkerState.STARTING, WorkerState.SERVING}


def longest_end(config: Config) -> float:
    """Seconds after which a worker has ended that was told to, unless it never will."""
    return config.timeout_graceful_shutdown + config.shutdown_timeout + _BREAKING_OFF + STOP_MARGIN


class Shutdown:
    """How the workers of a supervisor are ended; its lock is notified when something changes."""

    def __init__(
        self,
        config: Config,
        changed: threading.Condition,
        handles: Callable[[], Sequence[WorkerHandle]],
    ) -> None:
        self._config = config
        self._changed = changed
        self._handles = handles
        self._delay = config.drain_delay and config.drain_delay + HANDSHAKE
        # Without a delay, that is what a worker gives requests once it was told to shut down.
        self._patience = config.timeout_graceful_shutdown + self._delay
        self._grace_ends = float("inf")
        self._hurry = False  # what is going on is to be shortened, whatever it is
        self._running = False
        self._told = False  # the workers were told to end, not only to drain
        self._lost_since = NEVER  # all that have not ended
        self.handing_over = False  # another process serves, as another worker does in a reload

    def limit(self, timeout: float | None) -> None:
        """Break off requests in flight after as many seconds, or earlier if that was said before.

        ``None``: as the options say. 0, said meanwhile, shortens what is going on, be it requests
        or what comes after them.
        """
        grace = self._patience if timeout is None else timeout
        self._grace_ends = min(self._grace_ends, monotonic() + grace)
        if grace <= 0 and self._running:
            self._hurry = True

    def run(self, listeners: Sequence[Listeners]) -> None:
        """Tell the workers to end and wait as long as that may take; called again, it forces them.

        The listeners are closed as soon as nobody accepts any more.
        """
        again, self._running = self._running, True
        patient = not again and self._grace_ends - monotonic() > self._patience
        if self.handing_over:
            self._send(CMD_DRAIN, DRAIN_HAND_OVER)
        elif not again:
            self._leave(listeners)
        if patient or (self._delay and not again):
            # With a delay none ends before all have accepted: they hand connections on.
            self._send(CMD_DRAIN)
        else:
            self._shut_down(again)
        self._wait_within_grace(_NOT_ACCEPTING)
        # Who connects from now on is refused rather than left waiting for nobody.
        with self._changed:
            for each in listeners:
                each.refuse()
        if patient:
            self._wait_within_grace(_IDLE)
        if not self._told:
            self._shut_down()
        self._wait_within_grace()
        if not self._all_in():
            self._send(CMD_SHUTDOWN, SHUTDOWN_NOW, again=True)
            self._wait_for_ends()

    def _leave(self, listeners: Sequence[Listeners]) -> None:
        """Go on until load balancers have noticed, and then have nobody connect any more."""
        if self._delay:
            self._send(CMD_DRAIN, DRAIN_LATER)
            self._wait_while_accepting(self._config.drain_delay)
        for each in listeners:
            each.bar(local=False)
        if self._delay:
            self._wait_while_accepting(HANDSHAKE)
        for each in listeners:
            each.bar(local=True)

    def _shut_down(self, again: bool = False) -> None:
        """Tell the workers to end; ``again``, what is going on is shortened."""
        self._hurry = self._hurry or (again and not self._told)  # or else this is the second time
        self._told = True
        self._send(CMD_SHUTDOWN)

    def _wait_while_accepting(self, seconds: float) -> None:
        """Wait so long, unless requests have less time, or nobody serves."""
        ends = monotonic() + seconds
        with self._changed:
            while any(h.state in ACCEPTING and not h.exited for h in self._handles()):
                left = min(ends, self._grace_ends) - monotonic()
                if left <= 0 or self._is_in_vain():
                    return
                self._wait(left)

    def _wait_for_ends(self) -> None:
        """Wait for what comes after requests, as long as that may take.

        One that is at it has the time it was given. One that has not even answered, and whose loop
        does not come round, is stuck in the application, and more patience would be in vain.
        """
        began = monotonic()
        ends = began + STOP_MARGIN + self._config.shutdown_timeout + _BREAKING_OFF
        with self._changed:
            while not self._all_in():
                if self._tell_to_hurry():
                    ends = min(ends, monotonic() + _BREAKING_OFF + STOP_MARGIN)
                left = min(ends, self._stuck_from(began)) - monotonic()
                if left <= 0 or self._is_in_vain():
                    return
                self._wait(min(left, STOP_MARGIN))  # heartbeats are not announced

    def _stuck_from(self, began: float) -> float:
        """When all that have not ended will count as stuck; never, if one may still answer.

        That is one whose heartbeat is 0: its loop sleeps, and it has only to get its turn, or it
        is still being made.
        """
        since = began
        for handle in self._handles():
            if not (handle.exited or _is_lost(handle)):
                busy_since = handle.busy_since
                if handle.state not in _MUTE or not busy_since:
                    return NEVER
                since = max(since, busy_since / 1e9)
        return since + STOP_MARGIN

    def _tell_to_hurry(self) -> bool:
        """Have the workers shorten what is going on, if that was said since the last time."""
        hurry, self._hurry = self._hurry, False
        if hurry:
            self._send(CMD_SHUTDOWN, again=True)
        return hurry

    def _wait_within_grace(self, states: Collection[WorkerState] = ()) -> None:
        with self._changed:
            # Another call of limit() may shorten the time meanwhile.
            while not self._all_in(states) and (left := self._grace_ends - monotonic()) > 0:
                if self._is_in_vain():
                    break
                self._wait(left)
            self._tell_to_hurry()

    def _wait(self, seconds: float) -> None:
        """Wait so long, or until something has changed."""
        deaf = [handle for handle in self._handles() if handle.deaf]
        self._changed.wait(min(seconds, _DEAF_INTERVAL) if deaf else seconds)
        for handle in deaf:
            handle.collect()  # who does so otherwise can't be woken either

    def _is_in_vain(self) -> bool:
        """Whether none that is left will end, since nothing wakes it any more."""
        left = [handle for handle in self._handles() if not handle.exited]
        if not left or not all(map(_is_lost, left)):
            self._lost_since = NEVER
            return False
        self._lost_since = min(self._lost_since, monotonic())
        return monotonic() >= self._lost_since + STOP_MARGIN  # its own timer may wake it yet

    def _send(self, *command: str, again: bool = False) -> None:
        """Send a command to all that have not ended; to those that retire only ``again``."""
        for handle in self._handles():
            if not handle.exited and (again or not handle.retiring):
                handle.command(*command)

    def _all_in(self, states: Collection[WorkerState] = ()) -> bool:
        """Whether all workers have ended, or are in one of some states."""
        return all(handle.exited or handle.state in states for handle in self._handles())


def _is_lost(handle: WorkerHandle) -> bool:
    """Whether it sleeps, and an application has closed what would wake it.

    (One that does something finds that out as soon as its loop comes round, and ends.)
    """
    return handle.deaf and not handle.busy_since and handle.state not in _ENDING
