"""What happens to workers when the process ends, or forks, under them.

CPython must never be finalized while another interpreter runs: it crashes or hangs. A host that
does not call ``stop()`` is no reason for either, so that supervisors are stopped at exit, and if
one can't be the process is ended on the spot. Forking with other interpreters around kills the
child at once; that can't be prevented from here, but it can be explained.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import threading
import time
import warnings

from ...control import output
from ...types import TYPE_CHECKING
from .. import kept

if TYPE_CHECKING:
    from typing import NoReturn, Protocol

    class Watched(Protocol):
        """What is asked of a supervisor."""

        def stop(self, timeout: float | None = None) -> None: ...
        @property
        def has_running_workers(self) -> bool: ...
        @property
        def in_threads(self) -> bool: ...


EXIT_STATUS = 70
"""Exit status of a process whose workers could not be stopped (``EX_SOFTWARE``)."""
EXIT_GRACE = 2.0
"""Seconds that requests in flight have when the host ends without having called ``stop()``."""
_OWN_TIME = 0.5  # seconds that CPython may take itself for what has nothing left to do


_watched: set[Watched] = set()
_installed = False
_pid = 0


def watch(supervisor: Watched) -> None:
    """Stop this supervisor at exit unless ``unwatch()`` is called before."""
    global _installed, _pid
    if _pid != os.getpid():  # the first time, or in a forked child
        _pid = os.getpid()
        _watched.clear()
    if not _installed:
        _installed = True
        atexit.register(_stop_all)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(before=_warn_of_fork)
    _watched.add(supervisor)


def unwatch(supervisor: Watched) -> None:
    """Forget a supervisor whose workers have all ended."""
    _watched.discard(supervisor)


def _stop_all() -> None:
    if os.getpid() != _pid:
        return  # a forked child, which has none of the threads
    for supervisor in tuple(_watched):
        # Whatever prevents it, an impatient KeyboardInterrupt too: the result is seen below.
        with contextlib.suppress(BaseException):
            supervisor.stop(EXIT_GRACE)
    if any(supervisor.has_running_workers for supervisor in _watched) or kept.any_left():
        output.say(
            "subinterp_asgi: workers can't be stopped; the process ends without finalization\n"
        )
        end_process(EXIT_STATUS)


def end_process(status: int) -> NoReturn:
    """End the process at once, without the finalization that running interpreters don't survive."""
    output.end_streams()
    os._exit(status)


def end_within(seconds: float, status: int) -> None:
    """Bound what CPython waits for at the end of the process, which is about to begin.

    That is for who owns the process, and served from threads: there threads of the application,
    jobs of its executors and its exit callbacks are those of the process, and nobody else bounds
    them.

    Args:
        seconds: For all of them together, from now on.
        status: What the process ends with after that too, unless it is 0: then ``EXIT_STATUS``.
    """

    def end() -> None:
        time.sleep(seconds + _OWN_TIME)
        names = ", ".join(thread.name for thread in _waited_for()) or "an exit callback"
        output.say(f"Error: still running after shutdown_timeout={seconds:g} s: {names}\n")
        end_process(status or EXIT_STATUS)

    # (If there is no thread to be had, what is left can take as long as it likes.)
    with contextlib.suppress(RuntimeError):
        threading.Thread(target=end, name="asgi-end", daemon=True).start()


def _waited_for() -> list[threading.Thread]:
    """Threads that CPython waits for, some of them daemons: those of executors."""
    executors = sys.modules.get("concurrent.futures.thread")
    workers = getattr(executors, "_threads_queues", ())
    return [
        thread
        for thread in threading.enumerate()
        if thread is not threading.main_thread() and (not thread.daemon or thread in workers)
    ]


def _warn_of_fork() -> None:
    if os.getpid() == _pid and any(not supervisor.in_threads for supervisor in tuple(_watched)):
        warnings.warn(
            "fork() while subinterpreters exist: CPython kills the child at once. Fork before the "
            "supervisor starts, or use posix_spawn, subprocess without preexec_fn, or "
            "multiprocessing's 'spawn' or 'forkserver'",
            RuntimeWarning,
            stacklevel=2,
        )
