"""Interpreters that are ready before a server needs them, and closed when it needs them no more.

Making one takes most of the time that a small application needs to start, and closing it half of
the rest. Both are done in threads beside the tests: two interpreters wait, at most, from the second
server of the process on. As long as one waits the threads leave the processors to the server that
starts or ends, and begin when it is done. The interpreters are gone before the process forks or
ends, which both would crash.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
from collections import deque

from ..control.interpreters import Interpreter
from ..supervisor.pool import ahead
from ..supervisor.pool.reserve import Reserve, end

_SIZE = 2
_AT_ONCE = 2  # threads
_ENDS = 16  # after which memory is given back
_PREPARE = """
import gc
gc.disable()
import subinterp_asgi.bootstrap
import subinterp_asgi.worker.recorder
from subinterp_asgi.worker import log_forwarder
from subinterp_asgi.worker.interpreter import closing, starting_values, watchdog
gc.freeze()  # all of this stays: collections need not look at it
gc.enable()
"""


class SharedReserve(Reserve):
    """Interpreters that have served an application, and may serve it in another server."""

    def __init__(self) -> None:
        super().__init__()
        self.limit = _SIZE

    def close(self) -> None:
        """Called when a server ends, which others may follow."""


class Stock:
    """Makes interpreters beforehand, and closes those that were used."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._ready: list[Interpreter] = []
        self._to_end: deque[Interpreter] = deque()
        self._wanted = 0  # how many to have ready
        self._being_made = 0
        self._threads = 0
        self._ended = 0  # how many were closed since memory was given back
        self._asked_before = False
        self._process_ends = False
        self._watching = False  # the ends of the process, and its forks
        self._reserves: dict[object, SharedReserve] = {}
        self._known: tuple[tuple[str, ...], ahead.Code | None] = (), None

    def take(self) -> Interpreter:
        """Return an interpreter that nobody has used."""
        self._watch()
        with self._changed:
            self._wanted = _SIZE if self._asked_before else 0
            self._asked_before = True
            self._changed.wait_for(lambda: self._ready or not self._being_made)
            interpreter = self._ready.pop(0) if self._ready else None
            if not self._ready:
                self._get_to_work()
        return self._make() if interpreter is None else interpreter

    def end(self, interpreter: Interpreter, *, later: bool) -> None:
        """Have an interpreter closed that has no threads; ``later``: not before ``work()``."""
        with self._changed:
            if not self._process_ends:
                self._to_end.append(interpreter)
                if not later:
                    self._get_to_work()
                return
        end(interpreter)

    def work(self) -> None:
        """Begin with what is due: a server has ended."""
        with self._changed:
            if not self._process_ends:
                self._get_to_work()

    def reserve(self, key: object) -> SharedReserve:
        """Return where interpreters are put by that have served an application."""
        self._watch()
        reserve = self._reserves.pop(key, None) or SharedReserve()
        self._reserves[key] = reserve  # the last of them, in that order
        if len(self._reserves) > _SIZE:
            Reserve.close(self._reserves.pop(next(iter(self._reserves))))
        return reserve

    def empty(self) -> None:
        """Close all, and return when that is done; the next ``take()`` begins anew."""
        while self._reserves:
            Reserve.close(self._reserves.popitem()[1])
        with self._changed:
            self._wanted = 0
            self._asked_before = False
            self._to_end.extend(self._ready)
            self._ready.clear()
            self._threads += 1
        self._work()
        with self._changed:
            self._changed.wait_for(lambda: not self._threads)
        if self._ended:
            self._give_back_memory()

    def _watch(self) -> None:
        if not self._watching:
            self._watching = True
            atexit.register(self._end)
            if hasattr(os, "register_at_fork"):
                os.register_at_fork(before=self.empty)

    def _end(self) -> None:
        self._process_ends = True  # and there are no new threads any more
        self.empty()

    @property
    def _missing(self) -> int:
        return self._wanted - len(self._ready) - self._being_made

    def _get_to_work(self) -> None:
        while self._threads < min(len(self._to_end) + max(0, self._missing), _AT_ONCE):
            thread = threading.Thread(target=self._work, name="asgi-interpreters", daemon=True)
            try:
                thread.start()
            except RuntimeError:
                return  # none can be had: what is left to do waits for the next call
            self._threads += 1

    def _work(self) -> None:
        """Do what is due, in one of the threads that are counted."""
        try:
            while True:
                with self._changed:
                    old = self._to_end.popleft() if self._to_end else None
                    if old is None and self._missing <= 0:
                        return
                    self._being_made += old is None
                if old is None:
                    self._make_one()
                else:
                    end(old)
                    self._ended += 1  # (It is no matter if one gets lost.)
                    if self._ended >= _ENDS:
                        self._give_back_memory()
        finally:
            with self._changed:
                self._threads -= 1
                self._changed.notify_all()

    def _give_back_memory(self) -> None:
        """Have glibc return to the system what is free; else it may keep 40 MB, in pieces.

        What an interpreter allocates comes from the arenas of all threads that work on it.
        """
        self._ended = 0
        if sys.platform == "linux":
            import ctypes

            trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # other C libraries lack it
            if trim is not None:
                trim(0)

    def _make(self) -> Interpreter:
        interpreter, path = Interpreter(), ahead.search_path()
        known_path, code = self._known
        if known_path != path:  # by which other files may be found
            code = None
        ahead.load(interpreter, path, tls=False, code=code)
        interpreter.execute(_PREPARE)
        if code is None and self._asked_before:
            self._known = path, ahead.code_of(interpreter)
        return interpreter

    def _make_one(self) -> None:
        made: list[Interpreter] = []
        try:
            made.append(self._make())
        finally:
            with self._changed:
                self._being_made -= 1
                if not made:
                    self._wanted = 0  # take() will say what is wrong
                (self._ready if self._missing > 0 else self._to_end).extend(made)
                self._changed.notify_all()


stock = Stock()
