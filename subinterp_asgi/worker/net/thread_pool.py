"""The loop's own pool of threads, where synchronous endpoints run. Loaded when it is first needed.

It differs from ``concurrent.futures`` only if the system has no thread left. There a job is refused
though it is in the queue already, and so it is done later, after its caller was told that it failed
and may have tried again. Here it waits for the threads that there are, or is not done at all.
"""

from __future__ import annotations

import contextlib
import queue
from concurrent.futures import ThreadPoolExecutor

from ...types import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any


class ThreadPool(ThreadPoolExecutor):
    """One that makes do with the threads it has; it rests on private parts, as ``LeanLoop``."""

    if TYPE_CHECKING:
        _threads: set[Any]
        _work_queue: queue.SimpleQueue[Any]

    def _adjust_thread_count(self) -> None:
        """Called for each job, with a lock held, once it is in the queue."""
        try:
            super()._adjust_thread_count()
        except (RuntimeError, MemoryError):
            if self._threads:
                return
            with contextlib.suppress(queue.Empty):
                self._work_queue.get_nowait()  # nobody else can have put or taken one
            raise
