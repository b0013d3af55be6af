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
from mmap import mmap

from ..types import TYPE_CHECKING, Any
from .wakeup import LACKING

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


_DONE = "__subinterp_asgi_done__"
_NO_MEMORY = "MemoryError: there is not enough for what an interpreter needs"
_LACKING = tuple(f"[Errno {number}]" for number in LACKING)


_LEAST_MEMORY = 16 << 20
"""Octets that there must be for one more: what CPython takes, and what its allocators reserve."""
_beginning: list[None] = []  # one for each that is being created now


class InterpreterFailed(Exception):
    """Code executed in an interpreter raised; the message is its traceback, where there is one.

    ``lacking``: that was for want of a descriptor, or of memory.
    """

    def __init__(self, text: str, *, lacking: bool) -> None:
        super().__init__(text)
        self.lacking = lacking


def _expect_memory(size: int) -> None:
    """Look whether the system would give as much, where it bounds that (``ulimit -v``).

    CPython crashes if it gives out just while an interpreter is made.
    """
    try:
        mmap(-1, size).close()
    except (OSError, MemoryError):
        raise InterpreterFailed(_NO_MEMORY, lacking=True) from None


class Interpreter:
    """An isolated interpreter with its own GIL."""

    def __init__(self) -> None:
        _beginning.append(None)
        try:
            _expect_memory(len(_beginning) * _LEAST_MEMORY)
            self._interpreter: Any = _backend.create()
        except _backend.InterpreterError as exc:
            raise InterpreterFailed(
                f"{exc}, for want of memory or descriptors", lacking=True
            ) from exc
        finally:
            _beginning.pop()
        self._done: memoryview | None = None  # where it can say that it came to its end

    def adopt_path(self, path: tuple[str, ...]) -> None:
        """Give the interpreter an import path, and load what it needs to receive objects.

        ``InterpreterFailed``: this package is not on the path.
        """
        self.prepare({"path": path})
        self.execute(_ADOPT_PATH)
        if self._done is None:
            done = memoryview(bytearray(1))
            try:
                self.prepare({_DONE: done})
            except _backend.InterpreterError:
                return  # it can't receive anything, as what is executed next will tell
            self._done = done

    def expect_queues(self) -> None:
        """Load what it needs to receive a queue, which takes 2 ms, before one comes."""
        if sys.version_info >= (3, 14):
            self.execute("import concurrent.interpreters")

    def prepare(self, names: Mapping[str, object]) -> None:
        """Bind shareable objects to names in the interpreter's ``__main__``."""
        self._interpreter.prepare_main(dict(names))

    def execute(self, source: str) -> None:
        """Run source code of ours there, in this thread, until it ends.

        ``InterpreterFailed``: it raised. (A ``MemoryError`` looks like success to CPython 3.14, and
        what is executed next would miss a name: the source has to say that it came to its end. On
        3.13 it has neither a name nor a text.)
        """
        done = self._done
        if done is not None:
            done[0] = 0
            source += f"\n{_DONE}[0] = 1"
        try:
            self._interpreter.exec(source)
        except _backend.ExecutionFailed as exc:
            kind = getattr(getattr(exc.excinfo, "type", None), "__name__", "")
            text = getattr(exc.excinfo, "errdisplay", None) or str(exc)
            if kind:
                lacking = kind == "MemoryError" or any(each in text for each in _LACKING)
                raise InterpreterFailed(text, lacking=lacking) from None
        else:
            if done is None or done[0]:
                return
        raise InterpreterFailed(_NO_MEMORY, lacking=True)

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
