"""The exit callbacks of an interpreter, called before its threads are looked at once more.

Libraries end their daemon threads in them, or send what is queued. CPython calls them when it
closes the interpreter, which is not possible before these threads have ended.
"""

from __future__ import annotations

import atexit
import logging
import sys
import threading

from ...types import Any

logger = logging.getLogger("subinterp_asgi.error")


def run_before_threads(worker_id: int) -> None:
    """Call what ``threading`` is to call before it waits for threads; what that raises is logged.

    (``concurrent.futures`` ends its threads so, and pymongo does in interpreters.)
    """
    callbacks: list[Any] = threading._threading_atexits  # type: ignore[attr-defined]
    while callbacks:
        try:
            callbacks.pop()()
        except BaseException:
            logger.exception("worker %d: an exit callback failed", worker_id)


def run(worker_id: int) -> None:
    """Call all callbacks, once; what they raise is logged."""

    def log(unraisable: Any) -> None:
        logger.error(
            "worker %d: an atexit callback failed", worker_id, exc_info=unraisable.exc_value
        )

    hook, sys.unraisablehook = sys.unraisablehook, log
    try:
        atexit._run_exitfuncs()  # closing the interpreter finds none left
    finally:
        sys.unraisablehook = hook
