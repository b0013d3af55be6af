"""The seam: all that crosses between a supervisor and its workers. Both sides import it.

Only ints, strings, bytes, tuples and memoryviews cross. Besides the messages described here these
are counters in shared memory (``scoreboard``), sockets (``handoff``) and log records.

Messages are tuples of strings on two queues. To a worker go **commands**:

``("drain",)``
    Let ``health_path`` fail, accept no more connections after ``drain_delay``, and serve what has
    been accepted. ``("drain", "restart")`` if another worker takes this one's place: that happens
    at once, health does not fail, and the peers of WebSockets are told. ``("drain", "hand_over")``
    if that is one of another process: idle connections are kept for ``timeout_keep_alive`` then.
    ``("drain", "later")``: let ``health_path`` fail; all else goes on until ``("drain",)``, without
    ``drain_delay``: who says so times that, for the workers of a server should cease together.
``("shutdown",)``
    Drain, wait for requests in flight up to ``timeout_graceful_shutdown``, and end. Sent again, it
    shortens what is going on: requests in flight are broken off, ``drain_delay`` ends, and after
    that the lifespan's shutdown is not waited for, nor are threads. ``("shutdown", "now")`` breaks
    off requests, and nothing else.
``("reload_tls",)``
    Read the certificates again, for new connections.
``("reopen_logs",)``
    Open the files anew that this interpreter's logging writes, if they were renamed.
``("adopt", slot, fd, family, ...)``
    Accept from these listeners of another worker's slot too; they are this worker's to close.
``("disown", slot)``
    Close them.
``("serve", worker_id, inbox, fd, family, ...)``
    To a spare only: become this worker, with these listeners; ``inbox`` as in ``Runtime``, or -1.
``("fault", kind, argument)``
    For tests: do yourself some harm (see ``testing.faults``).
``("ask", number, json)``
    Only with ``Runtime.recording``, for tests (see ``testing``): answer a question, which is
    ``{"flush": seconds}`` or ``{"call": path, "arguments": [...], "more": {...}}``.

From a worker come **statuses**, in this order:

``("started",)``
    Its code runs; the application is not imported yet.
``("said", text)``
    Only with ``Runtime.tell_loaded``: what it has logged of the application's extension modules,
    unless that is what ``Runtime.said`` has.
``("loaded",)``
    Only with ``Runtime.tell_loaded``: the application is imported.
``("spare",)``
    Only if it was to be one: the application is imported, and ``("serve", ...)`` waited for.
``("serving",)``
    The lifespan has started and connections are accepted.
``("lifespan_failed", text)``
    The lifespan has raised, as ``("error", text)`` tells it; the worker goes on.
``("files", paths, since)``
    Only with ``reload``: files that it has imported, one in each line, or that would mend a failure
    to start. They were read at some time from ``since`` on (``time.time_ns()``). Further ones may
    follow while it serves.
``("exhausted",)``
    As many requests were begun as ``Runtime.request_limit`` says, or with a further item the option
    of that name wants it replaced; it goes on.
``("draining",)``
    No more connections are accepted.
``("idle",)``
    Draining, and nothing is in flight any more.
``("shutdown_failed",)``
    Only if the application's shutdown failed; the error follows.
``("left", daemons, name, ...)``
    Only if threads of the application do not end: their names, and 1 if all of them were to be
    daemons, else 0. The interpreter can't be closed, but the worker is at its end.
``("stopped",)``
    The last message of a worker that ended as it was told to.
``("failure", kind, cause)``
    Of one that did not, before its last message: what ``StartupError`` has by these names.
``("error", text)``
    The last message of one that did not: what happened in the first line, then a traceback.
``("rejected", text)``
    Instead of that, only with ``Runtime.reused``: the application could not be loaded, which may be
    because another one was loaded there before. The listeners are still open.
``("reusable", reason)``
    The interpreter, in which a worker has stopped, is ready for another one, or not for a reason.

At any time between these may come, from a thread beside the one that serves:

``("stuck", stack)``
    The answer to a supervisor that asked what a worker is at whose heartbeat is old, if its loop
    still had not gone on: the Python stack of its thread, or in parentheses why that can't be told.
    A worker that gives no answer is in C code that does not let any other thread run.
``("debugged",)``
    The same, but somebody looks at it with a debugger, who takes as long as he likes.
``("dump", text)``
    The answer to a supervisor that asked for the stacks of all threads and tasks.

And only with ``Runtime.recording``:

``("answer", number, json)``
    The answer to the question of that number; 0: nobody has asked (see ``worker.recorder``).

A queue is anything with ``put()`` and with a ``get_nowait()`` that raises ``queue.Empty``, as
``concurrent.interpreters.Queue`` and ``queue.Queue`` are. Queues between interpreters can only be
polled, so that a supervisor lends the worker two **wakeups**, descriptors that become readable:
one that it sets after each command, and one that the worker sets after each status. A loop that
is held up reads no commands; a **watchdog line** reaches a thread that waits beside it. The numbers
of all these, and the listeners beyond the first, travel as ``Runtime`` within the config's JSON.

This vocabulary is part of the package's public interface and follows its version.
"""

from __future__ import annotations

from importlib import import_module

from ..types import TYPE_CHECKING, Any
from . import messages
from .messages import *  # noqa: F403

if TYPE_CHECKING:
    from .launch import Runtime as Runtime
    from .wakeup import Channel as Channel
    from .wakeup import Wakeup as Wakeup
    from .wakeup import WatchdogLine as WatchdogLine

__all__ = ["Channel", "Runtime", "Wakeup", "WatchdogLine"]
__all__ += [name for name in vars(messages) if name.isupper()]

# Imported when they are asked for: interpreters can be made before the options are known.
_HOME = {"Channel": "wakeup", "Runtime": "launch", "Wakeup": "wakeup", "WatchdogLine": "wakeup"}
_OLD_NAMES = {"Doorbell": "Wakeup", "RungQueue": "Channel"}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = globals()[name] = getattr(import_module(f".{_HOME[name]}", __name__), name)
        return value
    if name not in _OLD_NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import warnings

    from . import old_names

    text = f"{__name__}.{name} is now called {_OLD_NAMES[name]}"
    warnings.warn(text, DeprecationWarning, stacklevel=2)
    return getattr(old_names, name)
