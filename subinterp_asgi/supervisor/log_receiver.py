"""Gives the host's ``logging`` what workers log in interpreters of their own.

The other end of ``log_forwarding``, and all that a host pays for it: one thread, which sleeps
unless something is logged. To the host's loggers, handlers and filters the records are as if they
had been logged here, with ``worker_id`` and ``generation`` beside what else a record has; but
the exception in ``exc_info`` is a stand-in without a traceback, which is text (``exc_text``).
"""

from __future__ import annotations

import logging
import os
import selectors
import threading
from enum import Enum

from ..control import log_records
from ..control.wakeup import Wakeup, close
from . import host_log

_READ_SIZE = 64 * 1024  # what a pipe holds


class _Pipe:
    """A worker's pipe. Its reading end is closed by the last of those who may need it open.

    That is the thread which watches it, and also the worker: who writes to a pipe without a reader
    is sent SIGPIPE, and a host may have chosen to die of that.
    """

    def __init__(self, worker_id: int, generation: int) -> None:
        self.worker_id = worker_id
        self.generation = generation
        self.buffer = bytearray()
        self.watched = True
        self.ended = False
        self.read_fd, self.write_fd = os.pipe()
        os.set_blocking(self.read_fd, False)
        os.set_blocking(self.write_fd, False)


class LogReceiver:
    """Hands records of workers to the host's loggers, in a thread of its own.

    The methods may be called from any thread.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pipes: dict[int, _Pipe] = {}  # by writing descriptor, until their worker has ended
        self._new: list[_Pipe] = []
        self._waiting: list[threading.Event] = []  # to be set once all was read
        self._wakeup = Wakeup()
        self._closing = False
        self._thread: threading.Thread | None = None

    def open(self, worker_id: int, generation: int) -> int:
        """Make a pipe for a worker and return its writing end, a non-blocking descriptor.

        The worker borrows it; ``worker_ended()`` closes it.
        """
        with self._lock:
            if self._closing:
                raise RuntimeError("the receiver is closed")
            if self._thread is None:
                self._thread = self._start_thread()
            pipe = _Pipe(worker_id, generation)
            self._pipes[pipe.write_fd] = pipe
            self._new.append(pipe)
            self._wakeup.set()
        return pipe.write_fd

    def became(self, fd: int, worker_id: int) -> None:
        """Note that a spare (-1) has become a worker."""
        with self._lock:
            self._pipes[fd].worker_id = worker_id

    def worker_ended(self, fd: int) -> None:
        """Close a worker's pipe; what is in it is still read.

        Only when nothing is left of the worker that could write: another file may get the number.
        """
        with self._lock:
            pipe = self._pipes.pop(fd)
            pipe.ended = True
            close(fd)  # behind what was written the thread will find the end
            if not pipe.watched:
                close(pipe.read_fd)

    def flush(self, timeout: float) -> None:
        """Wait until what workers have written by now is with the host's loggers."""
        done = threading.Event()
        with self._lock:
            thread = self._thread
            if thread is None or self._closing or thread is threading.current_thread():
                return
            self._waiting.append(done)
            self._wakeup.set()
        done.wait(timeout)

    def close(self, timeout: float = 5.0) -> bool:
        """Hand over what has come, and end the thread; return whether it has ended.

        A pipe whose worker has not ended stays open, though nobody reads it any more, until
        ``worker_ended()`` is called. Don't hold a lock that one of the host's handlers may want.

        Args:
            timeout: How long the host's handlers may take. After that, and if one of them is what
                calls this, the thread ends when they are done.
        """
        with self._lock:
            if not self._closing:
                self._closing = True
                self._wakeup.set()
                if self._thread is None:
                    self._wakeup.close()
        thread = self._thread
        if thread is None:
            return True
        if thread is not threading.current_thread():
            # (If an application has closed what wakes it, that would be in vain.)
            thread.join(0 if self._wakeup.lost else timeout)
        return not thread.is_alive()

    # --- the thread

    def _start_thread(self) -> threading.Thread:
        selector = selectors.DefaultSelector()
        try:
            selector.register(self._wakeup, selectors.EVENT_READ)
            thread = threading.Thread(
                target=self._run, args=(selector,), name="asgi-logs", daemon=True
            )
            thread.start()
        except BaseException:
            selector.close()
            raise
        return thread

    def _run(self, selector: selectors.BaseSelector) -> None:
        with selector:
            while not self._closing:
                for key, _ in selector.select():
                    if key.data is None:
                        self._wakeup.clear()
                    elif _read(key.data) is _Read.END:
                        selector.unregister(key.fd)
                        self._unwatch(key.data)
                for pipe in self._take_new():
                    selector.register(pipe.read_fd, selectors.EVENT_READ, pipe)
                self._answer_flushes([key.data for key in selector.get_map().values()])
            watched = [key.data for key in selector.get_map().values() if key.data is not None]
        pipes = [*watched, *self._take_new()]
        self._answer_flushes(pipes)
        for pipe in pipes:
            # A worker that has not ended may log without end; what it has sent by now is enough.
            while _read(pipe) is _Read.MORE and pipe.ended:
                pass
            self._unwatch(pipe)
        with self._lock:
            self._wakeup.close()

    def _take_new(self) -> list[_Pipe]:
        with self._lock:
            new, self._new = self._new, []
        return new

    def _answer_flushes(self, pipes: list[_Pipe | None]) -> None:
        with self._lock:
            waiting, self._waiting = self._waiting, []
        if waiting:
            for pipe in filter(None, pipes):
                for _ in range(2):  # a pipe holds no more
                    if _read(pipe) is not _Read.MORE:
                        break  # (the selector finds the end again)
        for done in waiting:
            done.set()

    def _unwatch(self, pipe: _Pipe) -> None:
        with self._lock:
            pipe.watched = False
            if pipe.ended:
                close(pipe.read_fd)


class _Read(Enum):
    MORE = 1
    NOTHING = 2
    END = 3


def _read(pipe: _Pipe) -> _Read:
    """Read once and hand over what has come; tell whether there was something."""
    try:
        data = os.read(pipe.read_fd, _READ_SIZE)
    except BlockingIOError:
        return _Read.NOTHING
    if not data:
        return _Read.END
    pipe.buffer += data
    try:
        frames = log_records.take(pipe.buffer)
    except ValueError as exc:
        # Somebody else has written to the descriptor; where the next frame is nobody knows.
        text = "worker %d: its log is not forwarded any more: %s"
        host_log.call(logging.getLogger("subinterp_asgi.error").error, text, pipe.worker_id, exc)
        return _Read.END
    for fields in frames:
        host_log.call(_hand_over, fields, pipe)
    return _Read.MORE


def _hand_over(fields: log_records.Fields, pipe: _Pipe) -> None:
    logger = logging.getLogger(fields[log_records.NAME])
    if logger.isEnabledFor(fields[log_records.LEVELNO]):
        own_name = f"asgi-worker-{pipe.worker_id}" if pipe.worker_id >= 0 else "asgi-spare"
        record = log_records.rebuild(fields, own_name)
        record.worker_id = pipe.worker_id
        record.generation = pipe.generation
        logger.handle(record)
