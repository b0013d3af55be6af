"""asyncio's selector loop, with the parts written anew that each callback and each thread pays for.

What they do is what asyncio's do, on CPython with a GIL and without ``loop.set_debug()``; there a
callback costs half as much: its handle asks the loop nothing, and is run without a call of its own.
And what comes back from a thread is one callback of a future, where asyncio chains two futures.

They rest on private parts of asyncio, which are the same in 3.13, 3.14 and 3.15; see ``LEAN``.
"""

from __future__ import annotations

import asyncio
import sys
from asyncio import futures
from concurrent.futures import CancelledError
from contextvars import copy_context
from heapq import heapify, heappop
from time import monotonic

from ...types import TYPE_CHECKING
from ..interpreter.marks import takes_interrupts

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Callable
    from concurrent.futures import Executor, Future
    from contextvars import Context
    from typing import Any

LEAN = getattr(sys, "_is_gil_enabled", lambda: True)() and sys.version_info < (3, 16)
"""Whether this Python is one that the loop here is written for."""

_LONGEST_SLEEP = 24 * 3600.0
_MANY_CANCELLED = 100  # timers, above which the cancelled ones are removed once they are half


class Handle(asyncio.Handle):
    """One that is made without asking the loop whether it debugs."""

    __slots__ = ()

    def __init__(
        self,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        loop: asyncio.AbstractEventLoop,
        context: Context | None,
    ) -> None:
        self._context = copy_context() if context is None else context
        self._loop = loop
        self._callback = callback
        self._args = args
        self._cancelled = False
        self._repr = None
        self._source_traceback = None


def _where_it_was_made(handle: Any) -> asyncio.Handle:
    """Leave the loop itself out of what a handle says of that, when debugging."""
    if handle._source_traceback:
        del handle._source_traceback[-1]
    return handle  # type: ignore[no-any-return]


class _JobFuture(asyncio.Future["Any"]):
    """What a job in an executor comes to."""

    _job: Future[Any] | None  # the executor's own future, until it is done

    def cancel(self, msg: Any | None = None) -> bool:
        job = self._job
        if not super().cancel(msg):
            return False
        if job is not None:
            job.cancel()  # (if it has not begun)
        return True

    def done_in_thread(self, job: Future[Any]) -> None:
        """Called by the executor, in whatever thread."""
        loop = self.get_loop()
        if asyncio._get_running_loop() is loop:
            self._arrive()
            return
        try:
            loop.call_soon_threadsafe(self._arrive)
        except RuntimeError:
            if not loop.is_closed():  # else nobody waits any more
                raise

    def _arrive(self) -> None:
        job, self._job = self._job, None  # (it knows this one)
        if job is None or self.cancelled():
            return
        try:
            exc = job.exception()
        except CancelledError:
            super().cancel()
            return
        if exc is None:
            self.set_result(job.result())
        else:
            futures._copy_future_state(job, self)  # type: ignore[attr-defined]


class LeanLoop(asyncio.SelectorEventLoop):
    """The loop; see the docstring of the module."""

    if TYPE_CHECKING:
        # asyncio's own, of which type checkers are not told
        _closed: bool
        _debug: bool
        _default_executor: Executor | None
        _executor_shutdown_called: bool
        _ready: deque[Any]
        _scheduled: list[Any]
        _selector: Any
        _stopping: bool
        _timer_cancelled_count: int

        def _process_events(self, events: list[Any]) -> None: ...
        def _write_to_self(self) -> None: ...

    time = staticmethod(
        monotonic
    )  # (asked for with each timeout, and twice by each job of anyio's)

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        if self._debug or self._closed:
            return _where_it_was_made(super().call_soon(callback, *args, context=context))
        handle = Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def call_soon_threadsafe(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        if self._debug or self._closed:
            handle = super().call_soon_threadsafe(callback, *args, context=context)
            return _where_it_was_made(handle)
        # asyncio's has a lock of its own, against being cancelled while it is run without a GIL.
        handle = Handle(callback, args, self, context)
        self._ready.append(handle)
        self._write_to_self()
        return handle

    def run_in_executor(  # type: ignore[override]
        self, executor: Executor | None, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        if executor is None and not self._executor_shutdown_called:
            executor = self._default_executor
            if executor is None:
                from .thread_pool import ThreadPool  # by those who need one

                executor = self._default_executor = ThreadPool(thread_name_prefix="asyncio")
        if executor is None or self._debug or self._closed:
            return super().run_in_executor(executor, func, *args)
        job = executor.submit(func, *args)
        future = _JobFuture(loop=self)
        future._job = job
        job.add_done_callback(future.done_in_thread)
        return future

    def _run_once(self) -> None:
        if self._debug:
            super()._run_once()  # type: ignore[misc]
            return
        ready, scheduled = self._ready, self._scheduled
        if scheduled and (scheduled[0]._cancelled or len(scheduled) > _MANY_CANCELLED):
            scheduled = self._drop_cancelled_timers()
        if ready or self._stopping:
            timeout: float | None = 0
        elif scheduled:
            timeout = min(max(0, scheduled[0]._when - monotonic()), _LONGEST_SLEEP)
        else:
            timeout = None
        if events := self._selector.select(timeout):
            self._process_events(events)
        if scheduled := self._scheduled:
            now = monotonic() + 1e-9
            while scheduled and scheduled[0]._when < now:
                handle = heappop(scheduled)
                handle._scheduled = False
                ready.append(handle)
        if ready:
            self._run_ready(len(ready))

    def _drop_cancelled_timers(self) -> list[Any]:
        scheduled = self._scheduled
        if len(scheduled) > _MANY_CANCELLED and self._timer_cancelled_count > len(scheduled) / 2:
            left = []
            for handle in scheduled:
                if handle._cancelled:
                    handle._scheduled = False
                else:
                    left.append(handle)
            heapify(left)
            self._scheduled = left
            self._timer_cancelled_count = 0
            return left
        while scheduled and scheduled[0]._cancelled:
            self._timer_cancelled_count -= 1
            heappop(scheduled)._scheduled = False
        return scheduled

    @takes_interrupts
    def _run_ready(self, number: int) -> None:
        """Run so many callbacks; what these add has its turn after the next look at descriptors."""
        next_ready = self._ready.popleft
        for _ in range(number):
            handle = next_ready()
            # (In this order: another thread may cancel it, which forgets both.)
            callback, args = handle._callback, handle._args
            if handle._cancelled:
                continue
            try:
                handle._context.run(callback, *args)
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as exc:
                self.call_exception_handler(
                    {
                        "message": f"Exception in callback {handle!r}",
                        "exception": exc,
                        "handle": handle,
                    }
                )
            finally:
                # what they hold is let go now, not with the next one
                del handle, callback, args
