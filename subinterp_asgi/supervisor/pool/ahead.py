"""Interpreters with what a worker needs; by the command they are made ahead of time.

The command owns its process and hardly ever does anything but serve. So it begins with one, as far
as there are processors, while it still imports itself and reads its options.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import threading
from collections.abc import Sequence
from mmap import mmap

from ...control.interpreters import Interpreter, create_queue

# Without the collector: what is loaded here stays. It is not looked at later either.
_PUT_OFF = """
import gc
gc.disable()
from subinterp_asgi.worker.interpreter import lazy_imports
lazy_imports.make_colours_lazy()
lazy_imports.make_rare_lazy()
"""
_LOAD = """
lazy_imports.import_asyncio(ssl={tls})
import subinterp_asgi.bootstrap
gc.freeze()
gc.enable()
"""

_USE_CODE = """
from subinterp_asgi.worker.interpreter import lazy_imports
lazy_imports.use_code(places, codes)
del places, codes
"""
_TELL_CODE = """
from subinterp_asgi.worker.interpreter import lazy_imports
told.put_nowait(lazy_imports.loaded_code(memory))
del told, memory
"""
_MOST_CODE = 8 << 20

type Code = tuple[bytes, memoryview]
"""What modules are made of; see ``worker.interpreter.lazy_imports``."""

_WITHOUT = ("doctor", "-h", "--help", "--version", "--isolation", "--ssl")
"""With these there are no workers, or others. (Who abbreviates them has made some in vain.)"""

_REFRESH = """
from subinterp_asgi.worker.interpreter import starting_values
starting_values.refresh_environment()
"""

_MOST_SECONDS = 1.0
"""For how long one waits at most for its turn: others may import what waits for something."""

_processors = os.process_cpu_count() or 1
_turns = threading.BoundedSemaphore(_processors)


class Turn:
    """Held by a worker that is made, until it has imported the application.

    That is nothing but work, as a rule: if there are more at once than processors, the first of
    them serves no sooner than the last.
    """

    def __init__(self) -> None:
        self._held: list[None] = []

    def begin(self) -> None:
        """Wait for it."""
        if _turns.acquire(timeout=_MOST_SECONDS):
            self._held.append(None)

    def end(self) -> None:
        """Let another one have it; from any thread, and more than once."""
        with contextlib.suppress(IndexError):
            self._held.pop()
            _turns.release()


def search_path() -> tuple[str, ...]:
    """``sys.path`` for other interpreters, wherever the process goes by then."""
    try:
        here = os.getcwd()
    except FileNotFoundError:  # it was removed; Python's own imports pass over it as well
        return tuple(filter(None, sys.path))
    return tuple(entry or here for entry in sys.path)


def load(
    interpreter: Interpreter, path: tuple[str, ...], *, tls: bool, code: Code | None = None
) -> None:
    """Load a new one with what a worker needs, of ``code`` as far as that goes.

    ``InterpreterFailed``: that is not on the path.
    """
    try:
        interpreter.adopt_path(path)
        if code is not None:
            interpreter.prepare({"places": code[0], "codes": code[1]})
            interpreter.execute(_USE_CODE)
        interpreter.execute(_PUT_OFF)
        interpreter.expect_queues()
        interpreter.execute(_LOAD.format(tls=tls))
    except BaseException:
        interpreter.close()
        raise


def code_of(interpreter: Interpreter) -> Code:
    """Return the code of what is loaded in one that is loaded, for others."""
    told = create_queue(1)
    # (No bytes: glibc, once it has freed so large a piece, keeps more of what is free.)
    memory = memoryview(mmap(-1, _MOST_CODE))
    interpreter.prepare({"told": told, "memory": memory})
    interpreter.execute(_TELL_CODE)
    return told.get_nowait(), memory.toreadonly()


def _make(path: tuple[str, ...], *, tls: bool) -> Interpreter:
    made = Interpreter()
    load(made, path, tls=tls)
    return made


class _Maker(threading.Thread):
    """Makes an interpreter in the background."""

    def __init__(self) -> None:
        super().__init__(name="asgi-ahead", daemon=True)
        self.interpreter: Interpreter | None = None
        self.turn = Turn()

    def run(self) -> None:
        self.turn.begin()
        try:
            self.interpreter = _make(search_path(), tls=False)
        except Exception:
            self.turn.end()  # the worker will try the same, and tell


_begun: list[_Maker] = []


def begin(arguments: Sequence[str]) -> None:
    """Begin with as many as there will be workers, and processors beside the one in use."""
    if not arguments or any(argument.startswith(_WITHOUT) for argument in arguments):
        return
    try:
        for fd in range(3):
            os.fstat(fd)  # what is missing has to be opened first
        atexit.register(end)  # CPython can't be finalized beside them
        for _ in range(min(_workers(arguments), max(1, _processors - 1))):
            maker = _Maker()
            maker.start()
            _begun.append(maker)
    except (OSError, RuntimeError):
        return  # it will be seen whether workers can be started


def _workers(arguments: Sequence[str]) -> int:
    number = os.environ.get("WEB_CONCURRENCY", "1")
    number = os.environ.get("SUBINTERP_ASGI_WORKERS", number)
    for argument, following in zip(arguments, (*arguments[1:], ""), strict=True):
        if argument in ("--workers", "-w"):
            number = following
        elif argument.startswith("--workers="):
            number = argument.partition("=")[2]
    return int(number) if number.isdecimal() else 1


def take(path: tuple[str, ...], *, tls: bool) -> tuple[Interpreter, Turn]:
    """Return an interpreter that was begun ahead, or else make one; and its turn.

    ``InterpreterFailed``: this package is not on the path.
    """
    with contextlib.suppress(IndexError):
        maker = _begun.pop(0)
        maker.join()
        if maker.interpreter is not None:
            maker.interpreter.execute(_REFRESH)  # variables for the command alone were taken out
            return maker.interpreter, maker.turn
    turn = Turn()
    turn.begin()
    try:
        return _make(path, tls=tls), turn
    except BaseException:
        turn.end()
        raise


def end() -> None:
    """Close those that nobody has taken."""
    while _begun:
        maker = _begun.pop()
        maker.join()
        maker.turn.end()
        if maker.interpreter is not None:
            maker.interpreter.close()
