"""Subinterpreters and queues between them: the only module that knows CPython's interfaces.

3.14 and later have ``concurrent.interpreters``; for 3.13 its private forerunner is wrapped by
``_interpreters_313``. Rules that hold everywhere, each a crash, a hang or a silent loss otherwise:

* ``datetime`` is imported in the main interpreter before the first other one is created. On 3.13
  two interpreters which both imported it abort the process when they are closed.
* Nothing is raised through ``exec()``: an exception that crosses interpreters is formatted by C
  code that may crash on it. The code that is executed reports by other means.
* An interpreter is closed only when no thread is left in it.
"""

from __future__ import annotations

import datetime  # noqa: F401  (see above)
import sys
from collections.abc import Mapping

from ..types import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing import Protocol

    class Queue(Protocol):
        """A bounded queue that works across interpreters."""

        def put_nowait(self, obj: Any, /) -> None:
            """Put a shareable object, or raise ``queue.Full``."""

        def get_nowait(self) -> Any:
            """Get an object, or raise ``queue.Empty``."""


if sys.version_info >= (3, 14):
    from concurrent import interpreters as _backend
else:
    from . import _interpreters_313 as _backend


_ADOPT_PATH = "import sys\nsys.path[:] = path"
if sys.version_info < (3, 14):
    _ADOPT_PATH += "\nimport subinterp_asgi.control._interpreters_313"


class InterpreterFailed(Exception):
    """Code executed in an interpreter raised; the message is its traceback, where there is one."""


class Interpreter:
    """An isolated interpreter with its own GIL."""

    def __init__(self) -> None:
        self._interpreter: Any = _backend.create()

    def adopt_path(self, path: tuple[str, ...]) -> None:
        """Give the interpreter an import path, and load what it needs to receive objects.

        ``InterpreterFailed``: this package is not on the path.
        """
        self.prepare({"path": path})
        self.execute(_ADOPT_PATH)

    def expect_queues(self) -> None:
        """Load what it needs to receive a queue, which takes 2 ms, before one comes."""
        if sys.version_info >= (3, 14):
            self.execute("import concurrent.interpreters")

    def prepare(self, names: Mapping[str, object]) -> None:
        """Bind shareable objects to names in the interpreter's ``__main__``."""
        self._interpreter.prepare_main(dict(names))

    def execute(self, source: str) -> None:
        """Run source code of ours there, in this thread, until it ends.

        ``InterpreterFailed``: it raised. (Out of memory may look like success on 3.14.)
        """
        try:
            self._interpreter.exec(source)
        except _backend.ExecutionFailed as exc:
            raise InterpreterFailed(getattr(exc.excinfo, "errdisplay", None) or str(exc)) from None

    def has_threads(self) -> bool:
        """Whether threads are left that forbid closing."""
        return not self.confirms("import _thread", "_thread._count() == 0")

    def confirms(self, preparation: str, condition: str) -> bool:
        """Whether a condition holds there: a constant expression, and what it needs executed."""
        try:
            # (No assert: there is none under -O.)
            self.execute(f"{preparation}\nif not ({condition}): raise RuntimeError")
        except InterpreterFailed:
            return False
        return True

    def close(self) -> None:
        """End the interpreter and free what it holds, where CPython can (not on 3.13)."""
        self._interpreter.close()


def create_queue(size: int) -> Queue:
    """Create a queue bounded to ``size`` items; it lives as long as this object."""
    queue: Queue = _backend.create_queue(size)
    return queue


def alive() -> int:
    """Number of interpreters in this process besides the main one, whoever created them."""
    return len(_backend.list_all()) - 1
