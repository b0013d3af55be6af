"""Sends what is logged in a worker's interpreter to the host's, through a pipe.

A handler on the root logger, put there before the application is imported. What the loop's thread
logs in one turn of the loop goes out with one system call; warnings, and records of other threads,
go at once, for they may be the last words before the loop hangs. The pipe never blocks: what it
can't take waits in memory, what would be too much for that is dropped and counted, and a record at
the place of the gap says how many.

The handler is put back if the application's own configuration takes it off while it is imported or
starts, and this package's loggers are enabled again if that disables them. Not forwarded is what
never gets to the root logger: records of loggers with ``propagate = False``, or below the level
that the application, or else ``log_level``, sets. A handler on the root logger also means that
``logging.basicConfig()`` does nothing there (unless told ``force=True``).
"""

from __future__ import annotations

import asyncio
import logging
import os
import selectors
from asyncio import _get_running_loop  # (get_running_loop() raises where there is none)
from collections import deque
from itertools import islice
from threading import RLock, get_ident
from time import monotonic

from ..control import log_records
from ..control.counters import Counters
from ..control.scoreboard import LOGS_DROPPED
from . import access_log
from .asgi.state import LoggedRequest

MAX_WAITING = log_records.MAX_FRAME
"""Octets that wait in memory for room in the pipe."""

_FRAMES_AT_ONCE = 256
_END_TIMEOUT = 2.0  # seconds that the host may take to make room at the end

_OUR_LOGGERS = ("subinterp_asgi", "subinterp_asgi.error", "subinterp_asgi.access")


class LogForwarder(logging.Handler):
    """Forwards records, from ``attach()`` to ``end()``, to a pipe that is lent and never blocks."""

    lock: RLock  # which every handler has

    def __init__(self, fd: int, log_level: str, counters: Counters) -> None:
        super().__init__(log_level.upper())
        self._fd: int | None = fd
        self._counters = counters
        self._worker_id = 0
        self._attached = False
        self._thread = get_ident()
        self._loop: asyncio.AbstractEventLoop | None = None
        # All below is guarded by the handler's lock, which handle() holds when it calls emit().
        self._waiting: deque[bytes] = deque()  # each one a record, or what is left of it
        self._size = 0
        self._unreported = 0  # records dropped since the last report
        self._scheduled = False  # the loop will call flush()
        self._blocked = False  # the loop will tell when there is room
        self._writing = False

    def attach(self) -> None:
        """Put the handler on the root logger, unless it is there."""
        root = logging.getLogger()
        if self not in root.handlers:
            root.addHandler(self)
        if not self._attached:  # what the application sets afterwards stays
            self._attached = True
            root.setLevel(self.level)
        for name in _OUR_LOGGERS:  # dictConfig() disables all loggers that it does not know
            logging.getLogger(name).disabled = False

    def use_loop(self, loop: asyncio.AbstractEventLoop, worker_id: int) -> None:
        """Set the loop that will run in the worker's thread, and the worker's number."""
        self._loop = loop
        self._worker_id = worker_id

    def end(self) -> None:
        """Take the handler off and send what waits, if there is room for it soon."""
        logging.getLogger().removeHandler(self)
        try:
            self._send_the_rest()
        except Exception:
            pass  # out of memory: nothing must escape from here
        self._counters.slot[LOGS_DROPPED] = self._counters.logs_dropped

    # --- records come in

    def emit(self, record: logging.LogRecord) -> None:
        """Take a record. Never blocks and never raises."""
        if self._fd is None:
            self._drop()
            return
        try:
            frame = log_records.encode(record, self._thread)
        except Exception:
            self._drop()
            return
        self._take(frame, urgent=record.levelno >= logging.WARNING)

    def log_access(self, *request: *LoggedRequest) -> None:
        """Do what ``logs.log_access()`` comes to, in half the time: no record is made here."""
        if not access_log.access_logger.isEnabledFor(logging.INFO):
            return
        arguments = access_log.access_arguments(*request)
        origin = access_log.log_access.__code__
        name, msg = access_log.access_logger.name, access_log.ACCESS_MESSAGE
        frame = log_records.encode_info(name, msg, arguments, self._thread, origin)
        with self.lock:
            if self._fd is None:
                self._drop()
            else:
                self._take(frame)

    def _take(self, frame: bytes, urgent: bool = False) -> None:
        # Once records are dropped go on with it for a while: one large gap is better than many.
        limit = MAX_WAITING // 2 if self._unreported else MAX_WAITING
        if self._size + len(frame) > limit:
            self._drop()
            return
        try:
            if self._unreported:
                frame = self._report() + frame
                self._unreported = 0
            self._waiting.append(frame)
            self._size += len(frame)
            if not urgent and _get_running_loop() is self._loop is not None:
                if not (self._scheduled or self._blocked):
                    self._loop.call_soon(self.flush)
                    self._scheduled = True
            elif not self._blocked:
                self.flush()
        except Exception:
            pass  # out of memory or of stack; the record waits for the next one

    def _drop(self) -> None:
        self._counters.logs_dropped += 1
        self._unreported += 1

    def _report(self) -> bytes:
        """Make a record, in a frame, that says how many are missing in this place."""
        text = "worker %d: %d log record(s) were dropped here: the host did not keep up"
        arguments = (self._worker_id, self._unreported)
        record = logging.LogRecord(
            "subinterp_asgi.error", logging.WARNING, __file__, 0, text, arguments, None
        )
        return log_records.encode(record, self._thread)

    # --- and go out

    def flush(self) -> None:
        """Write what waits, as far as there is room; the loop will see to the rest."""
        with self.lock:
            self._scheduled = False
            if self._fd is not None and not self._write(self._fd):
                self._await_room()

    @property
    def behind(self) -> bool:
        """Whether records wait for room in the pipe."""
        return bool(self._waiting)

    def _write(self, fd: int) -> bool:
        """Write; return whether all is written."""
        if self._writing:
            return True  # called by a destructor that logs, in the midst of this very function
        self._writing = True
        try:
            while self._waiting:
                self._sent(os.write(fd, b"".join(islice(self._waiting, _FRAMES_AT_ONCE))))
            if self._unreported:
                # Too short for a pipe to take only half of it.
                os.write(fd, self._report())
                self._unreported = 0
        except BlockingIOError:
            return False
        except OSError:  # there is no pipe any more
            self._give_up()
        finally:
            self._writing = False
        return True

    def _sent(self, count: int) -> None:
        waiting = self._waiting
        self._size -= count
        while count:
            frame = waiting[0]
            if len(frame) <= count:
                waiting.popleft()
                count -= len(frame)
            else:
                waiting[0] = frame[count:]
                count = 0

    def _await_room(self) -> None:
        if self._blocked or self._loop is None:
            return
        try:
            if _get_running_loop() is self._loop:
                self._watch()
            else:
                self._loop.call_soon_threadsafe(self._watch)
        except RuntimeError:
            return  # the loop is closed; end() will come
        self._blocked = True

    def _watch(self) -> None:
        if self._loop is not None and self._fd is not None:
            self._loop.add_writer(self._fd, self._on_room)

    def _on_room(self) -> None:
        assert self._loop is not None
        with self.lock:
            if self._fd is not None and self._write(self._fd):
                self._blocked = False
                self._loop.remove_writer(self._fd)

    def _send_the_rest(self) -> None:
        deadline = monotonic() + _END_TIMEOUT
        with self.lock:
            fd, self._loop = self._fd, None
            if fd is None:
                return
            if not self._write(fd):
                with selectors.DefaultSelector() as selector:
                    selector.register(fd, selectors.EVENT_WRITE)
                    while (left := deadline - monotonic()) > 0:
                        if selector.select(left) and self._write(fd):
                            break
            self._give_up()

    def _give_up(self) -> None:
        """Count what waits as dropped, and write to the descriptor no more: it may be another's."""
        self._counters.logs_dropped += len(self._waiting)
        self._waiting.clear()
        self._size = 0
        self._fd = None
