"""Workers whose loop does not come round: noticed, reported with their stack, interrupted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from time import monotonic_ns

from ...config import Config
from ..events import Event, WorkerStuck
from ..pool.handle import WorkerHandle
from ..pool.pool import Pool
from ..pool.selector import NEVER
from ..states import WorkerState

LATE = 1.0
"""Seconds by which a look may come too late before the process is taken not to have run."""
STACK_TIME = 1.0
"""Seconds to wait for the stack of a worker that is stuck."""
_MAY_BE_STUCK = (
    WorkerState.SERVING,
    WorkerState.DRAINING,
    WorkerState.IDLE,
    WorkerState.FAILED,  # its last turns of the loop may call the application as well
)


class Liveness:
    """Finds the workers that are stuck; iterating over it gives them."""

    def __init__(
        self,
        config: Config,
        pool: Pool,
        emit: Callable[[Event], None],
        log: Callable[[str, str], None],
    ) -> None:
        self._config = config
        self._pool = pool
        self._emit = emit
        self._log = log
        self._asked: dict[WorkerHandle, float] = {}  # and when they should have answered
        self._interrupt_at: dict[WorkerHandle, float] = {}  # those that are stuck, once more
        self.recovered: list[WorkerHandle] = []  # as the last step has found
        self._look_at = NEVER  # when it wants to look again
        self._running_since = 0  # as far as is known (``time.monotonic_ns()``)

    def __iter__(self) -> Iterator[WorkerHandle]:
        return iter(tuple(self._interrupt_at))

    def forget(self, handle: WorkerHandle) -> None:
        """That one has ended."""
        self._asked.pop(handle, None)
        self._interrupt_at.pop(handle, None)

    def step(self, now: float, *, at_end: bool) -> float:
        """Look at all workers; return when to look again.

        ``at_end``: all are to end, those included that start.
        """
        self.recovered.clear()
        timeout = self._config.timeout_worker_healthcheck
        if not timeout:
            return NEVER
        if now > self._look_at + LATE:
            # Nobody ran: the process was stopped, the machine asleep, or a debugger held all. A
            # worker whose heartbeat is as old has the time that it would have had.
            self._running_since = monotonic_ns()
        next_look = now + min(5.0, timeout / 4)
        for handle in self._pool.handles:
            since = handle.busy_since
            # Who looks at it with a debugger takes his time.
            began = max(since, self._running_since, handle.debugged_at)
            held_up = (monotonic_ns() - began) / 1e9 if since else 0.0
            if handle in self._interrupt_at:
                if held_up < timeout:
                    self._recover(handle)
                elif now >= self._interrupt_at[handle]:
                    self._interrupt(handle, since, now)
            elif held_up < timeout or not _may_be_stuck(handle, at_end):
                self._asked.pop(handle, None)
            elif handle not in self._asked:
                self._asked[handle] = now + STACK_TIME
                handle.stack = None
                handle.ask_for_stack(since)
            elif handle.stack is not None or now >= self._asked[handle]:
                del self._asked[handle]
                handle.become(WorkerState.STUCK)
                self._report(handle, held_up)
                self._interrupt(handle, since, now)
            next_look = min(
                next_look,
                self._asked.get(handle, NEVER),
                self._interrupt_at.get(handle, NEVER),
            )
        self._look_at = next_look
        return next_look

    def _recover(self, handle: WorkerHandle) -> None:
        self.forget(handle)
        self.recovered.append(handle)
        handle.become(WorkerState.SERVING if not handle.retiring else WorkerState.DRAINING)

    def _report(self, handle: WorkerHandle, held_up: float) -> None:
        stack = handle.stack or "(its watchdog does not run: C code lets no other thread run)"
        self._emit(handle.event(WorkerStuck, seconds=held_up, stack=stack))
        self._log("error", f"worker {handle.worker_id} is stuck for {held_up:.1f} s:\n{stack}")

    def _interrupt(self, handle: WorkerHandle, since: int, now: float) -> None:
        # What is called next may hold it up as well, in the same turn of the loop.
        self._interrupt_at[handle] = now + self._config.timeout_worker_healthcheck
        if self._config.worker_interrupt:
            handle.interrupt(since)
        handle.ask_for_stack(since)  # somebody may look at it by now


def _may_be_stuck(handle: WorkerHandle, at_end: bool) -> bool:
    # One that starts has startup_timeout; what hangs beyond that keeps it from ending.
    return handle.state in _MAY_BE_STUCK or (
        handle.state is WorkerState.STARTING and (handle.retiring or at_end)
    )
