"""The end of an interpreter: its exit callbacks, and what would keep its memory.

Libraries end their daemon threads in exit callbacks, or send what is queued. CPython calls them
when it closes the interpreter, which is not possible before these threads have ended.

CPython 3.14 and later give back what an interpreter has allocated, save what something outside of
it, or a type that never dies, still refers to. Libraries cause that without knowing: urllib3,
requests, aiohttp and boto3 leave 4 to 11 MB for each reload, h11 and so httpx 4, pymongo and celery
4 to 8.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
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


def tell_failures(loop: asyncio.AbstractEventLoop) -> None:
    """Tell the loop of the exceptions of its futures and tasks that nobody has asked for.

    asyncio does so when they are collected. Those that a module keeps are so only while the
    interpreter is closed, when nothing can be imported any more, as showing a traceback does, and
    when a test that was to see them is over.
    """
    # (By its very type: that is quick, and never asks a proxy what it stands for.)
    kinds = {asyncio.Future, *_subclasses(asyncio.Future)}
    futures: list[Any] = [each for each in gc.get_objects() if type(each) in kinds]
    for future in futures:
        if getattr(future, "_loop", None) is not loop or not future._log_traceback:
            continue
        future._log_traceback = False
        text = f"{type(future).__name__} exception was never retrieved"
        context = {"message": text, "exception": future._exception, "future": future}
        if future._source_traceback:
            context["source_traceback"] = future._source_traceback
        with contextlib.suppress(SystemExit):  # of a handler of the application's
            loop.call_exception_handler(context)


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
