"""Daemon threads in an interpreter, where CPython refuses them.

Libraries start daemon threads so that these never hold up the end of the process. An isolated
interpreter raises ``RuntimeError`` instead, which breaks such libraries; asgiref, hence Django, has
one for each request to a synchronous view. Demoted to ordinary threads they work, and the worker
waits for them when it ends.
"""

from __future__ import annotations

import _thread
import sys
import threading
import time
import weakref
from collections.abc import Callable

from ...types import Any

_JOIN_INTERVAL = 0.01  # seconds between what is done meanwhile
_LAST_STEPS = 0.5  # seconds for threads to be gone that ``threading`` does not know, or no more

_demoted: weakref.WeakSet[threading.Thread] = weakref.WeakSet()


def demote() -> None:
    """Make every thread of this interpreter that asks to be a daemon an ordinary one.

    For the interpreter of a worker only: it changes ``threading.Thread``. Calling it again does
    nothing.
    """
    thread_class: Any = threading.Thread
    if getattr(thread_class.__init__, "_demotes", False):
        return
    original_init, original_daemon = thread_class.__init__, thread_class.daemon

    def __init__(self: threading.Thread, *args: Any, daemon: bool | None = None, **kw: Any) -> None:
        original_init(self, *args, daemon=None if daemon is None else False, **kw)
        if daemon:
            _demoted.add(self)

    def set_daemon(self: threading.Thread, value: bool) -> None:
        if value:
            _demoted.add(self)
        else:
            original_daemon.fset(self, False)

    __init__._demotes = True  # type: ignore[attr-defined]
    thread_class.__init__ = __init__
    thread_class.daemon = property(original_daemon.fget, set_daemon)


def note_refusals() -> None:
    """Count a thread that could not be started among those that are left.

    Before 3.13.1 it leaves its state behind in the interpreter, and CPython aborts the process when
    such an interpreter is closed. For the interpreter of a worker only, as ``demote()``.
    """
    modules: Any = (threading, "_start_joinable_thread"), (_thread, "start_new_thread")
    for module, name in modules:
        setattr(module, name, _noting(getattr(module, name)))


def _noting(start: Callable[..., Any]) -> Callable[..., Any]:
    def noting(*args: Any, **kwargs: Any) -> Any:
        try:
            return start(*args, **kwargs)
        except RuntimeError as exc:
            if str(exc).startswith("can't start new thread"):
                known = _thread._count
                _thread._count = lambda: known() + 1
            raise

    return noting


def join_all(
    timeout: float,
    meanwhile: Callable[[], object] = lambda: None,
    *,
    demoted: bool | None = None,
) -> list[str]:
    """Wait for other threads of this interpreter and return the names of those still alive.

    Idle threads of executors never end by themselves: call ``release_pools()`` first.

    Args:
        timeout: Bound on the whole wait, in seconds.
        meanwhile: Called again and again while waiting, which ends if it returns something true.
        demoted: Only those that asked to be daemons, or only others.
    """
    deadline = time.monotonic() + timeout
    not_ours = (threading.current_thread(), threading.main_thread())
    remaining = []
    for thread in threading.enumerate():
        if thread in not_ours or demoted not in (None, thread in _demoted):
            continue
        while thread.is_alive() and (left := deadline - time.monotonic()) > 0:
            thread.join(min(left, _JOIN_INTERVAL))
            if meanwhile():
                deadline = 0.0
        if thread.is_alive():
            remaining.append(thread.name + (" (a daemon)" if thread in _demoted else ""))
    return remaining


def end_demoted() -> None:
    """Have those that asked to be daemons end, of which no library has taken care.

    A process ends daemons where they stand. Here each is sent an exception, and whatever waits for
    a condition, as queues and events do, is woken to receive it. What waits in C code otherwise,
    such as ``time.sleep()``, does not.
    """
    idents = [thread.ident for thread in tuple(_demoted) if thread.is_alive()]
    if not idents:
        return
    import gc  # in need only
    from ctypes import c_ulong, py_object, pythonapi

    for ident in idents:
        pythonapi.PyThreadState_SetAsyncExc(c_ulong(ident or 0), py_object(SystemExit))
    for condition in gc.get_objects():
        if type(condition) is threading.Condition:
            for waiter in tuple(condition._waiters):  # type: ignore[attr-defined]
                try:
                    waiter.release()
                except RuntimeError:
                    pass  # it was woken meanwhile


def count(known: int) -> int:
    """Number of other threads of this interpreter, those included that ``threading`` ignores.

    Args:
        known: How many there are; others are given a moment to end.
    """
    deadline = time.monotonic() + _LAST_STEPS
    while (number := _thread._count()) > known and time.monotonic() < deadline:
        time.sleep(0.001)
    return number


def release_pools() -> None:
    """Let the threads of executors that nobody shut down end once they have nothing to do.

    This is what CPython itself does when an interpreter ends, but without its unbounded wait.
    """
    pools: Any = sys.modules.get("concurrent.futures.thread")
    if pools is not None:
        with pools._global_shutdown_lock:
            pools._shutdown = True
            queues = list(pools._threads_queues.values())
            # Nothing is left for CPython to do, and 3.13 would complain of a thread of its own.
            pools._threads_queues.clear()
        for work in queues:
            work.put(None)
