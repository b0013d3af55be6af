"""Interpreters whose workers have retired, to be used by the next generation.

A reload starts its workers while those before serve. So the first one makes new interpreters, and
from the second one on there are those of the generation before the last: as many as there are
workers, which wait. All are called from the threads of workers.
"""

from __future__ import annotations

import contextlib
import threading

from ...control.interpreters import Interpreter, InterpreterFailed
from .. import host_log

_REUSE = "from subinterp_asgi.worker.interpreter import reuse"
_LET_GO = "from subinterp_asgi.worker.interpreter import closing\nclosing.let_go()"


class Reserve:
    """Keeps up to ``limit`` interpreters, until ``close()``."""

    def __init__(self) -> None:
        self.limit = 0
        self._lock = threading.Lock()
        self._waiting: list[Interpreter] = []
        self._distrusted: set[Interpreter] = set()
        self._said: set[str] = set()

    def put(self, interpreter: Interpreter) -> bool:
        """Keep one that is ready, if there is room."""
        with self._lock:
            fits = len(self._waiting) < self.limit
            if fits:
                self._waiting.append(interpreter)
        return fits

    def take(self) -> Interpreter | None:
        """Return one that is as good as new, if there is one; close those that are not."""
        while True:
            with self._lock:
                if not self._waiting:
                    return None
                interpreter = self._waiting.pop()
                trusted = interpreter not in self._distrusted
                self._distrusted.discard(interpreter)
            if trusted:
                if interpreter.confirms(_REUSE, "reuse.is_current()"):
                    return interpreter
                host_log.log("info", "files of libraries have changed: interpreters are new")
            end(interpreter)

    def distrust(self) -> None:
        """Have none of those used again that wait now."""
        with self._lock:
            self._distrusted.update(self._waiting)

    def close(self) -> None:
        """Close all, and take no more."""
        with self._lock:
            self.limit = 0
            waiting, self._waiting = self._waiting, []
        for interpreter in waiting:
            end(interpreter)

    def say_once(self, text: str) -> None:
        """Log a warning, unless it was logged before: all workers would say the same."""
        with self._lock:
            said = text in self._said
            self._said.add(text)
        if not said:
            host_log.log("warning", text)


def end(interpreter: Interpreter) -> None:
    """Close an interpreter that has no threads, and have it give its memory back."""
    let_go(interpreter)
    interpreter.close()


def let_go(interpreter: Interpreter) -> None:
    """Have an interpreter that will be closed let go of what would keep its memory.

    (Its worker has done so if it could not know that it might be used again.)
    """
    with contextlib.suppress(InterpreterFailed):  # for want of a descriptor: it is closed as it is
        interpreter.execute(_LET_GO)
