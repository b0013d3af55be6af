"""Which files of the application's own a worker has imported, told to who watches them.

Own are those outside of the standard library and of installed packages. This is loaded only where
the supervisor reloads on change.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator, Set
from itertools import takewhile
from time import time_ns

from ..control import messages
from ..types import Any
from .interpreter.importer import INSTALLED, behind

_INTERVAL = 1.0
"""Seconds between looks for modules that were imported while the worker serves."""
_OTHERS = tuple(
    os.path.realpath(path) + os.sep
    for path in (os.path.dirname(os.__file__), os.path.dirname(os.path.dirname(__file__)))
)


class Sources:
    """Tells each file once, as ``STATUS_FILES``."""

    def __init__(self, status_queue: Any) -> None:
        self._status_queue = status_queue
        self._told: set[str] = set()
        self._modules: Set[str] = frozenset()
        self._looked_at = time_ns()

    def tell(self, failure: BaseException | None = None) -> None:
        """Tell what has been imported; after a failure, also what could mend it."""
        since, self._looked_at = self._looked_at, time_ns()
        self._modules = frozenset(sys.modules)
        files = set(_imported())
        if failure is not None:
            files.update(_concerned(failure))
        new = sorted(file for file in files - self._told if _is_own(file))
        if new:
            self._told.update(new)
            self._status_queue.put((messages.STATUS_FILES, "\n".join(new), since))

    def keep_telling(self, loop: asyncio.AbstractEventLoop) -> None:
        """Tell now, and later what is imported meanwhile, for as long as the loop runs."""
        if sys.modules.keys() != self._modules:
            self.tell()
        loop.call_later(_INTERVAL, self.keep_telling, loop)


def _imported() -> Iterator[str]:
    for module in tuple(sys.modules.values()):
        try:  # not getattr(): a lazy module would be imported by that
            file = object.__getattribute__(module, "__dict__").get("__file__")
        except AttributeError:
            continue
        if isinstance(file, str):
            yield os.path.abspath(file)


def _concerned(failure: BaseException) -> Iterator[str]:
    """The files that an exception came through, and those that were looked for in vain."""
    for exc in behind(failure):
        if isinstance(exc, SyntaxError) and exc.filename:
            yield os.path.abspath(exc.filename)
        if isinstance(exc, ImportError) and exc.name:
            # (A name that a package lacks may be a module that it lacks.)
            yield from _wanted(f"{exc.name}.{exc.name_from}" if exc.name_from else exc.name)
        if isinstance(exc, OSError) and isinstance(exc.filename, str):
            yield os.path.abspath(exc.filename)
        frame = exc.__traceback__
        while frame is not None:
            yield os.path.abspath(frame.tb_frame.f_code.co_filename)
            frame = frame.tb_next


def _wanted(name: str) -> Iterator[str]:
    """Where a module could be that was not found."""
    parts = list(takewhile(str.isidentifier, name.split(".")))
    for folder in sys.path:
        path = os.path.join(os.path.abspath(folder), *parts)
        yield from (f"{path}.py", path, os.path.join(path, "__init__.py"))


def _is_own(file: str) -> bool:
    if "<" in file or not file.isprintable() or any(part in file for part in INSTALLED):
        return False  # (what can't be sent is not watched)
    real = os.path.realpath(file)
    return not real.startswith(_OTHERS)
