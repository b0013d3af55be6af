"""Standard error, which may be closed, full, without a reader, or on a full disk.

Nothing may end a server, or hold it up, because nobody takes what it says. What can't be written at
once waits in memory, up to a bound, for a thread that is there only meanwhile; what can't be
written at all is dropped and counted, and a line says how many are missing as soon as one can be.

``O_NONBLOCK`` is no means to that: it is shared with all who have inherited the descriptor, such as
the shell whose terminal it is. Nor is polling enough: another worker may take the room before this
one writes. So the kernel is asked not to wait for this one write; where it can't be asked that, a
pipe or terminal is opened anew, with flags of our own; polling is what is left for others. Regular
files are written as they are, and so is everything on Windows.
"""

from __future__ import annotations

import contextlib
import io
import os
import select
import stat
import sys
import threading
from _thread import daemon_threads_allowed
from collections import deque
from collections.abc import Callable
from errno import EINVAL, ENOSYS, EOPNOTSUPP, EPERM
from time import monotonic, sleep

from ..types import TYPE_CHECKING, Any
from .wakeup import WRITE, ready

if TYPE_CHECKING:
    from .counters import Counters

MAX_WAITING = 1024 * 1024
"""Octets that wait in memory."""
STANDARD = ("stdin", "stdout", "stderr")
"""Names in ``sys`` of what a process is given, by descriptor."""
_PIECE = getattr(select, "PIPE_BUF", 512)
_INTERVAL = 0.1  # seconds after which the thread looks whether it is to end
_PAUSE = 0.02  # seconds, if there is room but not enough
_END_TIMEOUT = 0.5  # seconds for the rest at the end
_CAN_BLOCK = sys.platform != "win32" and hasattr(select, "poll")
_NOT_ASKED = (EOPNOTSUPP, ENOSYS, EINVAL, EPERM)


class Output:
    """Writes to a descriptor without waiting and without failing; from any thread.

    Attributes:
        fd: The descriptor; ``None``: there is none.
        counters: Where dropped lines are counted too.
    """

    def __init__(self, fd: int | None) -> None:
        self.fd = fd
        self.counters: Counters | None = None
        self._write: Callable[[bytes], int] = self._look
        self._can_ask = hasattr(os, "RWF_NOWAIT")
        self._own: int | None = None  # what was opened anew
        self._ending = False
        self._lock = threading.RLock()  # guards what follows
        self._in_turn = False  # something waits or was lost, so that others have to queue up
        self._waiting: deque[bytes] = deque()
        self._size = 0
        self._lost = 0  # lines behind those that wait
        self._torn = False  # the last of what was written is the beginning of a line
        self._flushing = False
        self._thread: threading.Thread | None = None

    def write(self, data: bytes) -> None:
        """Write a line, or what else belongs together."""
        if not self._in_turn:  # (not locked: that is the ordinary case, and has to cost little)
            try:
                if (written := self._write(data)) == len(data):
                    return
                data = data[written:]
                self._torn = True
            except BlockingIOError:
                pass
            except OSError:
                with self._lock:
                    self._lose(1)
                    self._forget()
                return
        with self._lock:
            self._queue_up(data)

    def begin(self) -> None:
        """Have threads see to what waits, again after ``end()``."""
        self._ending = False

    def end(self) -> None:
        """Write what waits if that is possible soon; no thread sees to that from now on."""
        deadline = monotonic() + (0.0 if self._ending else _END_TIMEOUT)
        self._ending = True
        while self._waiting and (left := deadline - monotonic()) > 0:
            self._flush_with_patience(left)
        if (thread := self._thread) is not None:
            thread.join()
        with self._lock:
            self._flush()
            self._forget()

    # --- ways to write; BlockingIOError where others would wait

    def _look(self, data: bytes) -> int:
        """Choose a way by what the descriptor is, and write."""
        if self.fd is None:
            return len(data)
        with self._lock:
            way = self._write = self._choose(self.fd)
        return way(data)

    def _choose(self, fd: int) -> Callable[[bytes], int]:
        mode = os.fstat(fd).st_mode
        is_terminal = stat.S_ISCHR(mode) and os.isatty(fd)
        if not (_CAN_BLOCK and (stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or is_terminal)):
            return self._write_as_it_is
        if self._can_ask and not is_terminal:
            return self._write_if_room
        if self._own is None and not self._ending:
            self._own = open_anew(fd)
        return self._write_piece if self._own is None else self._write_anew

    def _forget(self) -> None:
        """Look again next time: the descriptor may have become another's."""
        self._write = self._look
        own, self._own = self._own, None
        if own is not None:
            os.close(own)

    def _write_as_it_is(self, data: bytes) -> int:
        assert self.fd is not None
        return os.write(self.fd, data)

    def _write_if_room(self, data: bytes) -> int:
        if sys.platform == "linux" and self.fd is not None:
            try:
                return os.pwritev(self.fd, (data,), -1, os.RWF_NOWAIT)
            except OSError as exc:
                if exc.errno not in _NOT_ASKED:
                    raise
        self._can_ask = False  # before Linux 6.4 that was not for pipes
        return self._look(data)

    def _write_anew(self, data: bytes) -> int:
        with self._lock:  # or another thread may close it just before, and its number be a socket's
            return self._look(data) if self._own is None else os.write(self._own, data)

    def _write_piece(self, data: bytes) -> int:
        assert self.fd is not None
        if not has_room(self.fd):
            raise BlockingIOError
        return os.write(self.fd, data[:_PIECE])  # as much as there is room for at least

    # --- what waits; all with the lock held

    def _queue_up(self, data: bytes) -> None:
        self._in_turn = True
        if not self._flush() and (self._lost or self._size + len(data) > MAX_WAITING):
            self._lose(1)
            return
        self._in_turn = True
        self._waiting.append(data)
        self._size += len(data)
        if not self._flush() and self._waiting and self._thread is None and not self._ending:
            # A daemon where there may be one: the host's end is not held up by it.
            daemon = daemon_threads_allowed()
            thread = threading.Thread(target=self._run, name="asgi-stderr", daemon=daemon)
            with contextlib.suppress(RuntimeError):  # none is left: the next line sees to it
                self._thread = thread
                thread.start()
                return
            self._thread = None

    def _lose(self, count: int) -> None:
        self._in_turn = True
        self._lost += count
        if self.counters is not None:
            self.counters.logs_dropped += count

    def _flush(self) -> bool:
        """Write what waits, as far as possible; return whether nothing is left to be said."""
        with self._lock:
            if self._flushing:
                return False  # a signal handler, or destructor, in the midst of this
            self._flushing = True
            try:
                while self._waiting:
                    self._sent(self._write(self._waiting[0]))
                if self._lost:
                    begin = "\n" if self._torn else ""  # what is left of its line will not come
                    text = f"{begin}WARNING: {self._lost} line(s) are missing here\n"
                    self._write(text.encode())
                    self._lost, self._torn = 0, False
                self._in_turn = bool(self._waiting)
            except BlockingIOError:
                pass
            except OSError:
                self._lose(len(self._waiting))
                self._waiting.clear()
                self._size = 0
                self._forget()
            finally:
                self._flushing = False
            return not self._in_turn

    def _sent(self, count: int) -> None:
        self._size -= count
        self._torn = count != len(self._waiting[0])
        if not self._torn:
            self._waiting.popleft()
        else:
            self._waiting[0] = self._waiting[0][count:]

    # --- the thread

    def _run(self) -> None:
        while True:
            self._flush_with_patience(_INTERVAL)
            with self._lock:
                if self._ending or not self._waiting:
                    self._thread = None
                    return

    def _flush_with_patience(self, seconds: float) -> None:
        """Write what waits, as far as there is room within the time."""
        assert self.fd is not None
        before = self._size
        if has_room(self.fd, seconds):
            self._flush()
            if self._size == before:  # it is too little
                sleep(min(_PAUSE, seconds))


def has_room(fd: int, timeout: float = 0.0) -> bool:
    """Whether a descriptor takes something, or fails at once."""
    return sys.platform == "win32" or bool(ready(fd, WRITE, timeout))


def open_anew(fd: int) -> int | None:
    """Open a pipe or terminal once more, with flags of our own, if the system lets us."""
    if sys.platform == "win32":
        return None
    try:
        path = f"/proc/self/fd/{fd}" if sys.platform == "linux" else os.ttyname(fd)
        return os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:
        return None


stderr = Output(2)
"""Standard error of the process, as this interpreter writes to it."""


def say(text: str) -> None:
    """Write lines of this package's own to ``sys.stderr``, whatever that is."""
    stream = sys.stderr
    if stream is None:
        return
    if stream is sys.__stderr__:
        stderr.write(text.encode("utf-8", "backslashreplace"))
        return
    with contextlib.suppress(OSError, ValueError):  # the host's, which is closed, for example
        stream.write(text)
        stream.flush()


def say_unlogged(exc: Exception) -> None:
    """Say what has kept something from being logged, in the words that ``logging`` has for it."""
    with contextlib.suppress(MemoryError):
        if isinstance(exc, MemoryError):
            say("ERROR: there is not enough memory to log what has happened\n")
        else:
            say(f"--- Logging error ---\n{plain_traceback(exc)}\n")


# --- for who owns the interpreter, or the process


class _Raw(io.RawIOBase):
    """What lies under ``sys.stderr`` once it does not wait any more."""

    name = "<stderr>"
    mode = "wb"

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return 2

    def isatty(self) -> bool:
        return os.isatty(2)

    def write(self, data: Any) -> int:
        octets = bytes(data)
        stderr.write(octets)
        return len(octets)


def unblock_stderr() -> None:
    """Have ``sys.stderr`` of this interpreter neither wait nor fail."""
    stderr.begin()
    if not _CAN_BLOCK or sys.stderr is None or sys.stderr is not sys.__stderr__:
        return
    stream: Any = sys.stderr
    raw: Any = _Raw()
    ours: Any = io.TextIOWrapper(
        raw if stream.write_through else io.BufferedWriter(raw),
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=True,
        write_through=stream.write_through,
    )
    ours.mode = stream.mode
    sys.stderr = ours


def missing() -> tuple[str, ...]:
    """Names of what this process was started without: its descriptors may be other files now."""
    return tuple(name for name in STANDARD if getattr(sys, f"__{name}__") is None)


def go_without(names: tuple[str, ...]) -> None:
    """Have this interpreter not use what its process was started without."""
    for name in names:
        setattr(sys, name, None)
    if "stderr" in names:
        stderr.fd = None


def end_streams() -> None:
    """Say what is left to be said, before the interpreter or the process ends; never wait long."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # whatever the host, or application, has put there
            flush(stream)
    stderr.end()


def flush(stream: Any) -> None:
    """Flush ``sys.stdout`` or ``sys.stderr`` without waiting; what is not taken is lost.

    CPython flushes them when an interpreter ends, however long that takes. Other streams than those
    that it has made are flushed as they are.
    """
    if stream is None:
        return
    if stream not in (sys.__stdout__, sys.__stderr__):
        stream.flush()
        return
    raw = getattr(stream.buffer, "raw", stream.buffer)
    fd = raw.fileno()
    mode = os.fstat(fd).st_mode
    with contextlib.ExitStack() as cleanup:
        ways = [os.open(os.devnull, os.O_WRONLY)]
        cleanup.callback(os.close, ways[0])
        own = open_anew(fd) if stat.S_ISFIFO(mode) or os.isatty(fd) else None
        if own is not None:
            cleanup.callback(os.close, own)
            ways.insert(0, own)
        elif has_room(fd):
            ways.insert(0, fd)
        cleanup.callback(raw.__init__, fd, "wb", closefd=False)
        for way in ways:
            raw.__init__(way, "wb", closefd=False)
            with contextlib.suppress(OSError):
                stream.flush()
                return


def plain_traceback(exc: BaseException) -> str:
    """Format an exception by what is there: nothing is imported or read for it."""
    lines = ["Traceback (most recent call last):"]
    step = exc.__traceback__
    while step is not None:
        code = step.tb_frame.f_code
        lines.append(f'  File "{code.co_filename}", line {step.tb_lineno}, in {code.co_name}')
        step = step.tb_next
    return "\n".join((*lines, f"{type(exc).__name__}: {exc}"))
