"""Logging from the supervisor's threads, through handlers and filters that are the host's.

They may want locks, and raise: call nothing of this with a lock held. And they may wait, even for
ever, as one does that writes to a pipe which nobody reads. So ``log()`` has a thread write, and
waits for it only for a while: workers must not be without their supervisor, nor a stop without end.

``logging`` is imported only when there is something to say, since a host that has no use for it
need not pay for it.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable

from ..control import output

_PATIENCE = 1.0
"""Seconds for handlers, after which what is logged is queued."""
_MOST_WAITING = 1000  # records; later ones are lost


class _Writer:
    """Calls what logs, in turn, in a thread that is there only as long as something is left."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a signal handler that stops a server may log, too
        self._waiting: deque[Callable[[], object]] = deque()
        self._thread: threading.Thread | None = None
        self.held_up = False

    def write(self, log: Callable[[], object]) -> None:
        with self._lock:
            thread, held_up = self._thread, self.held_up
            if thread is not threading.current_thread():  # or a handler of the host's calls us
                if len(self._waiting) >= _MOST_WAITING:
                    return
                self._waiting.append(log)
                if thread is None:
                    thread = self._start(log)
        if thread is None or thread is threading.current_thread():
            call(log)
        elif not held_up:
            with contextlib.suppress(RuntimeError):  # this has interrupted who starts it
                thread.join(_PATIENCE)
            with self._lock:
                self.held_up = self._thread is thread

    def _start(self, log: Callable[[], object]) -> threading.Thread | None:
        thread = threading.Thread(target=self._run, name="asgi-log", daemon=True)
        try:
            self._thread = thread
            thread.start()
        except (RuntimeError, MemoryError):  # there is none: the caller has to wait
            self._thread = None
            self._waiting.remove(log)
            return None
        return thread

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._thread, self.held_up = None, False
                    return
                log = self._waiting.popleft()
            call(log)


_writer = _Writer()


def held_up() -> bool:
    """Whether a handler does not come back, which ``logging`` would wait for at the end."""
    return _writer.held_up


def log(level: str, text: str, exc: BaseException | None = None) -> None:
    """Log a line, perhaps with an exception."""
    try:
        import logging
    except (ImportError, OSError):
        # An import opens files, and descriptors may have run out: then it is said without.
        if level not in ("debug", "info"):
            output.say(f"{text}\n" if exc is None else f"{text}: {exc!r}\n")
        return
    logger = logging.getLogger("subinterp_asgi.error")
    if logger.hasHandlers() or logger.filters or logging.lastResort is None:
        method = getattr(logger, level)
        _writer.write(lambda: method("%s", text, exc_info=exc))
    elif logger.isEnabledFor(getattr(logging, level.upper())):
        # As the last resort of ``logging`` would, which may wait for ever.
        output.say(text + "\n" + ("" if exc is None else _format(exc)))


def call(function: Callable[..., object], *arguments: object) -> None:
    """Call what may call the host's handlers; their errors go where ``logging`` sends its own."""
    import logging

    try:
        function(*arguments)
    except BaseException as exc:
        if logging.raiseExceptions:
            output.say(_format(exc))


def _format(exc: BaseException) -> str:
    import traceback

    try:
        return "".join(traceback.format_exception(exc))
    except (ImportError, OSError):  # it imports what reads source, for which nothing may be left
        return f"{output.plain_traceback(exc)}\n"
