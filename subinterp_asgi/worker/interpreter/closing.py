"""The end of an interpreter: its exit callbacks, and what would keep its memory.

Libraries end their daemon threads in exit callbacks, or send what is queued. CPython calls them
when it closes the interpreter, which is not possible before these threads have ended.

CPython 3.14 and later give back what an interpreter has allocated, save what something outside of
it, or a type that never dies, still refers to. Libraries cause that without knowing: urllib3,
requests, aiohttp and boto3 leave 4 to 11 MB for each reload, h11 and so httpx 4, pymongo and celery
4 to 8.
"""

from __future__ import annotations

import atexit
import gc
import logging
import sys
import threading
import warnings
from collections.abc import Iterator

from ...types import Any

logger = logging.getLogger("subinterp_asgi.error")


def call_before_threads(worker_id: int) -> None:
    """Call what ``threading`` is to call before it waits for threads; what that raises is logged.

    (``concurrent.futures`` ends its threads so, and pymongo does in interpreters.)
    """
    callbacks: list[Any] = threading._threading_atexits  # type: ignore[attr-defined]
    while callbacks:
        try:
            callbacks.pop()()
        except BaseException:
            logger.exception("worker %d: an exit callback failed", worker_id)


def call_exit_callbacks(worker_id: int) -> None:
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


def let_go() -> None:
    """Undo the rest, as the last thing that is done in the interpreter."""
    gc.unfreeze()  # what was frozen would never be collected
    # A category in a filter that is the application's own keeps the application. Those of Python
    # itself stay, for what is said while the interpreter is closed.
    general = [
        (action, category, line)
        for action, message, category, module, line in warnings.filters
        if message is None and module is None and category.__module__ == "builtins"
    ]
    warnings.resetwarnings()
    for action, category, line in general:
        warnings.simplefilter(action, category, line, append=True)  # type: ignore[arg-type]
    # So does a class that is its own class, as h11's sentinels are.
    for metaclass in tuple(_subclasses(type)):
        if type(metaclass) is metaclass and metaclass is not type:
            metaclass.__class__ = metaclass.__base__  # type: ignore[assignment]  # as it was made
    # What is collected last may use datetime (tqdm's progress bars do). If its module has gone, as
    # modules do before, CPython 3.13 crashes and 3.14 complains. What sys refers to stays longer.
    if sys.version_info < (3, 15):
        system: Any = sys
        system._datetime = sys.modules.get("_datetime")


def _subclasses(cls: Any) -> Iterator[Any]:
    for subclass in type.__subclasses__(cls):
        yield subclass
        yield from _subclasses(subclass)
