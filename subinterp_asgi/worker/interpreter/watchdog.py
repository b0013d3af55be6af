"""A thread beside a worker's loop that can tell where the loop is held up, and interrupt it there.

A loop that is held up can do nothing about it, and nobody outside its interpreter can: the stack of
a thread is visible, and an exception can be raised in it, only from within the same interpreter. So
this thread waits there, blocked in reading a pipe (``control.WatchdogLine``), for a supervisor that
has seen an old heartbeat. It needs no signals, which are the host's, and never wakes up otherwise.

An exception that comes from outside can land anywhere, and must not land in the loop or in this
package, where it would break more than the one call of the application. So the stack is looked at
first, and the exception raised only where the application's own code will receive it.

It also tells what all threads and tasks of the interpreter do, whether the loop is held up or not.

If the loop's thread waits for a greenlet, which is another thread (see ``greenlets``), the stack is
that of both, and the exception is raised in the one that goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
import time
import traceback
from collections.abc import Iterable, Iterator
from time import monotonic
from types import FrameType

from ...control.counters import Counters
from ...control.messages import STATUS_DEBUGGED, STATUS_DUMP, STATUS_STUCK, sendable
from ...control.scoreboard import BUSY_SINCE
from ...control.wakeup import WatchdogLine
from ...errors import WorkerInterrupted
from ...types import Any
from .marks import PASSES_INTERRUPTS, STANDS_FOR_APPLICATION, TAKES_INTERRUPTS

_MAX_STACK_TEXT = 20_000
_MAX_DUMP_TEXT = 200_000
_AIMING_TIME = 1.0  # seconds to wait for the application's code to be what runs
_AIMING_INTERVAL = 0.001

_PACKAGE = __name__.removesuffix("worker.interpreter.watchdog")
"""What the names of this package's modules begin with, wherever somebody keeps a copy of it."""

_LIBRARY = {"asyncio", "contextlib"}
_DEBUGGERS = {"bdb", "code", "pydevd", "IPython"}
"""Packages whose code is on the stack of a thread that somebody looks at. (Of bdb are pdb and most
others.)"""
_OF_A_FUNCTION = 0x1  # inspect.CO_OPTIMIZED, which the code of a module or a class has not

# Before 3.13.18, sys._current_frames() touches frames of other interpreters, which crashes.
_FRAMES_ARE_SAFE = sys.version_info >= (3, 13, 18)


class Watchdog:
    """Watches the thread that it is made in, which must be the one that will run the loop.

    A ``daemon`` in an interpreter that allows it, so that this thread never holds up its end.

    Attributes:
        loop: The loop, once there is one.
    """

    def __init__(self, line: WatchdogLine, counters: Counters, status_queue: Any, *, daemon: bool):
        self._line = line
        self._slot = counters.slot
        self._status_queue = status_queue
        self._ident = threading.get_ident()
        # (Only its identity: a reference would make a cycle of all that it holds.)
        self._outermost = 0 if _FRAMES_ARE_SAFE else id(sys._getframe(1))
        self._quitting = False
        self._alone = not daemon  # in an interpreter of its own
        self.loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, name="asgi-watchdog", daemon=daemon)
        self._thread.start()

    def close(self, timeout: float) -> None:
        """End the thread, and wait for that as many seconds.

        It may be held up itself if the application has caused that, for example by a thread of its
        own that never ends to import a module.
        """
        self._quitting = True
        self._line.quit()
        self._thread.join(timeout)

    def _run(self) -> None:
        while True:
            request, busy_since = self._line.receive()
            if self._quitting or not request:
                return
            # What went wrong here must not cost the next request its answer.
            with contextlib.suppress(Exception):
                if request == WatchdogLine.REPORT:
                    self._report(busy_since)
                elif request == WatchdogLine.INTERRUPT:
                    self._interrupt(busy_since)
                elif request == WatchdogLine.DUMP:
                    self._status_queue.put((STATUS_DUMP, self._dump()))

    def _held_up(self, busy_since: int) -> bool:
        """Whether the loop has not gone on since then."""
        return busy_since != 0 and self._slot[BUSY_SINCE] == busy_since

    # --- report

    def _report(self, busy_since: int) -> None:
        if not self._held_up(busy_since):
            return
        try:
            if _in_debugger(frame for _, frame in self._frames()):
                self._status_queue.put((STATUS_DEBUGGED,))
                return
            text = self._describe()
        except Exception as exc:
            text = f"(the stack can't be shown: {type(exc).__name__})"
        if self._held_up(busy_since):
            self._status_queue.put((STATUS_STUCK, text))

    def _describe(self) -> str:
        frames = [frame for _, frame in self._frames()]
        if not frames:
            return "(the stack is not available: this Python can't look at other threads safely)"
        # Line numbers first, while the thread is most likely still there.
        walk = [step for frame in frames for step in traceback.walk_stack(frame)]
        return sendable(_format(reversed(walk))[-_MAX_STACK_TEXT:])

    def _frames(self) -> list[tuple[int, FrameType]]:
        """What the worker's thread executes, by its identity; nothing if that can't be looked at.

        Greenlets for which it waits come first, the innermost before all others.
        """
        if not getattr(sys, "_is_gil_enabled", lambda: True)():
            return []  # it would go on executing meanwhile
        greenlets = sys.modules.get(f"{__package__}.greenlets")
        threads = greenlets.runners_for(self._ident) if greenlets is not None else []
        found = []
        for ident, outermost in (*threads, (self._ident, self._outermost)):
            if _FRAMES_ARE_SAFE:
                frame = sys._current_frames().get(ident)
            else:
                frame = _frame_above(outermost)
            if frame is None:
                return []
            found.append((ident, frame))
        return found

    # --- dump

    def _dump(self) -> str:
        """Describe what all threads of the worker's do, and its tasks."""
        parts: list[tuple[str, str]] = []
        try:
            parts.append(("its thread", self._describe()))
            if self._alone and parts[0][1][:1] != "(":
                parts += _other_threads({self._ident, self._outermost})
            if self.loop is not None:
                tasks = asyncio.all_tasks(self.loop)
                for task in sorted(tasks, key=lambda task: task.get_name()):
                    walk = [*_walk_task(task)]
                    if not _is_server_task([frame for frame, _ in walk]):
                        parts.append((f"task {task.get_name()}", _format(walk)))
        except Exception as exc:
            parts.append(("more", f"(it can't be shown: {type(exc).__name__})"))
        texts = (f"{title}:\n{text.rstrip()}" for title, text in parts)
        return sendable("\n".join(texts)[:_MAX_DUMP_TEXT])

    # --- interrupt

    def _interrupt(self, busy_since: int) -> None:
        """Raise ``WorkerInterrupted`` in the worker's thread, if that can be done safely."""
        from ctypes import c_ulong, py_object, pythonapi  # half a megabyte, in need only

        raise_in_thread = pythonapi.PyThreadState_SetAsyncExc
        exception = py_object(WorkerInterrupted)
        deadline = monotonic() + _AIMING_TIME
        while self._held_up(busy_since) and not self._quitting:
            # The thread stands still while this one has the lock of the interpreter, which nobody
            # takes away before the switch interval is over. A look takes some 20 microseconds; if
            # this thread was held up in between it looks again.
            until = monotonic() + sys.getswitchinterval() / 2
            frames = self._frames()
            # Between looking at the heartbeat and the call, nothing gives the lock away at all.
            if (
                frames
                and _would_hit_application([frame for _, frame in frames])
                and monotonic() < until
                and self._slot[BUSY_SINCE] == busy_since
            ):
                raise_in_thread(c_ulong(frames[0][0]), exception)
                return
            del frames
            if monotonic() > deadline:
                return
            time.sleep(_AIMING_INTERVAL)


def _would_hit_application(frames: list[FrameType]) -> bool:
    """Whether an exception raised in a frame leaves only code of the application's.

    It must not be raised in asyncio, which may be in the middle of something that concerns others,
    nor in this package. In the outer frames it must come to where one of the two expects it.

    The thread sees it when it next calls a function, returns or jumps back: in this frame, at the
    entrance of a function where nothing is done yet, or just after the return to an outer frame.

    Args:
        frames: The innermost of each thread; the exception goes on in the next one's.
    """
    if _in_debugger(frames) or _is_ours(frames[0]) or _module_of(frames[0]).startswith("asyncio."):
        return False
    for innermost in frames:
        frame: FrameType | None = innermost
        while frame is not None:
            module = _module_of(frame)
            if module == "asyncio.events" and frame.f_code.co_qualname == "Handle._run":
                return (
                    True  # a task or a callback of the application's; asyncio logs what leaves it
                )
            if module == "asyncio.base_events":
                return False  # the loop: it logs, for example
            if _is_ours(frame) and frame.f_code not in PASSES_INTERRUPTS:
                return frame.f_code in TAKES_INTERRUPTS
            frame = frame.f_back
    return False


def _in_debugger(frames: Iterable[FrameType]) -> bool:
    """Whether somebody looks at one of these threads with a debugger.

    Who only imports one does not.
    """
    return any(
        frame.f_code.co_flags & _OF_A_FUNCTION and _module_of(frame).partition(".")[0] in _DEBUGGERS
        for innermost in frames
        for frame, _ in traceback.walk_stack(innermost)
    )


def _format(walk: Iterable[tuple[FrameType, int]]) -> str:
    """Format a stack, the outermost frame first."""
    stack = traceback.StackSummary.extract(iter([*walk]), lookup_lines=False)
    try:
        return "".join(stack.format())
    except (ImportError, OSError):  # CPython 3.15 loads colours at first, and nothing may be left
        return "".join(f'  File "{x.filename}", line {x.lineno}, in {x.name}\n' for x in stack)


def _walk_task(task: asyncio.Task[Any]) -> Iterator[tuple[FrameType, int]]:
    """Yield what a task is in, the outermost first; of one that runs, what its thread is not in."""
    awaited: Any = task.get_coro()
    while awaited is not None:
        kind = next(
            (kind for kind in ("cr", "ag", "gi") if hasattr(awaited, f"{kind}_frame")), None
        )
        if kind is None:
            return
        if (frame := getattr(awaited, f"{kind}_frame")) is not None:
            yield frame, frame.f_lineno
        awaited = getattr(awaited, "gi_yieldfrom" if kind == "gi" else f"{kind}_await")


def _is_server_task(frames: list[FrameType]) -> bool:
    """Whether it is one of this package's that the application has no part in."""
    return bool(frames) and all(
        _is_ours(frame) or (index and _module_of(frame).partition(".")[0] in _LIBRARY)
        for index, frame in enumerate(frames)
    )


def _other_threads(known: set[int]) -> Iterator[tuple[str, str]]:
    """Yield names and stacks of threads of this interpreter.

    Args:
        known: Not of these, by their identity or the ``id()`` of one of their frames.
    """
    for ident, innermost in _all_frames():
        walk = [*traceback.walk_stack(innermost)]
        if ident not in known and known.isdisjoint(id(frame) for frame, _ in walk):
            thread = walk[-1][0].f_locals.get("self")  # of Thread._bootstrap()
            name = thread.name if isinstance(thread, threading.Thread) else "that has no name"
            yield f"thread {name}", _format(reversed(walk))


def _is_ours(frame: FrameType) -> bool:
    return _module_of(frame).startswith(_PACKAGE) and frame.f_code not in STANDS_FOR_APPLICATION


def _module_of(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", ""))


def _frame_above(outermost: int) -> FrameType | None:
    """Return the innermost frame of the thread of this interpreter that has a certain frame.

    That is given by its ``id()``, and must be alive.
    """
    for _, innermost in _all_frames():
        if any(id(frame) == outermost for frame, _ in traceback.walk_stack(innermost)):
            return innermost
    return None


def _all_frames() -> list[tuple[int, FrameType]]:
    """Return the innermost frames of all threads of this interpreter but the calling one.

    By their identities, where ``sys._current_frames()`` does not touch other interpreters' threads;
    elsewhere these are 0.
    """
    if _FRAMES_ARE_SAFE:
        own = threading.get_ident()
        return [(ident, frame) for ident, frame in sys._current_frames().items() if ident != own]
    from ctypes import c_void_p, cast, py_object, pythonapi

    def function(name: str, result: Any, *arguments: Any) -> Any:
        prototype = pythonapi[name]  # (not the attribute, which others may have configured)
        prototype.restype, prototype.argtypes = result, arguments
        return prototype

    next_thread = function("PyThreadState_Next", c_void_p, c_void_p)
    # (Not as a py_object: ctypes crashes on a NULL, of a thread that executes no Python code.)
    get_frame = function("PyThreadState_GetFrame", c_void_p, c_void_p)
    decref = function("Py_DecRef", None, c_void_p)
    own = function("PyThreadState_Get", c_void_p)()
    interpreter = function("PyInterpreterState_Get", c_void_p)()
    thread = function("PyInterpreterState_ThreadHead", c_void_p, c_void_p)(interpreter)
    found: list[tuple[int, FrameType]] = []
    while thread:
        if thread != own and (address := get_frame(thread)):
            innermost: FrameType = cast(address, py_object).value
            decref(address)
            found.append((0, innermost))
        thread = next_thread(thread)
    return found
