"""Interpreters that could not be closed, since threads of the application are left in them.

They cost memory, and the process can't be finalized as long as there is one. They are closed as
soon as their threads have ended.
"""

from __future__ import annotations

import contextlib
import threading
import time

from ..control.interpreters import Interpreter

_INTERVAL = 1.0  # seconds between looks whether their threads have ended


class Kept:
    """An interpreter whose worker has ended, run by the thread ``name``.

    ``daemons_only``: its threads were to be daemons, which no process waits for at its end.
    """

    def __init__(self, interpreter: Interpreter, name: str, *, daemons_only: bool) -> None:
        self.name = name
        self.daemons_only = daemons_only
        self.closed = False
        self._interpreter = interpreter

    def try_to_close(self) -> None:
        """Close it if no thread is left."""
        if not self._interpreter.has_threads():
            self._interpreter.close()
            self.closed = True


_lock = threading.Lock()
_all: list[Kept] = []
_closer: threading.Thread | None = None


def keep(kept: Kept) -> None:
    """Keep one, and close it later."""
    global _closer
    with _lock:
        _all.append(kept)
        if _closer is None:
            closer = threading.Thread(target=_close_later, name="asgi-kept", daemon=True)
            with contextlib.suppress(RuntimeError):  # none can be had: it stays, till the next one
                closer.start()
                _closer = closer


def any_left() -> bool:
    """Whether there is one, so that the process can't be finalized."""
    return bool(_all)


def _close_later() -> None:
    global _closer
    while True:
        for kept in tuple(_all):
            kept.try_to_close()
        with _lock:
            _all[:] = [kept for kept in _all if not kept.closed]
            if not _all:
                _closer = None
                return
        time.sleep(_INTERVAL)
