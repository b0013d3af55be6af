"""Serve ASGI applications from subinterpreters: one process, N workers, each with its own GIL.

The names below are loaded when they are first used: an interpreter that runs ``bootstrap`` must not
pay for the supervisor, nor a supervisor for the server. The plan, from the top down; a module
imports only what stands below it (``docs/architecture.md``):

===================  =============================================================================
``__main__``         the command: the one place that owns a process
``testing``          for tests of users: a server that tells what it has seen, and takes harm
``supervisor``       the main side: owns listeners and workers, from the host's interpreter
``  .policy``        what is decided: replacing, reloading, failing over, shutting down
``  .pool``          what runs: workers, their slots, what they run in
``bootstrap``        the door: from plain values in a new interpreter to a worker that serves
``worker``           the worker side: one application on one loop, and the commands it obeys
``  .asgi``          messages: scope, lifespan, HTTP, WebSocket, extensions, health and metrics
``  .net``           octets: loop, accepting, connections, TLS
``  .proxies``       what proxies say of a client, without I/O
``  .interpreter``   what subinterpreters ask for: importing, threads, atexit, lazy ssl, watchdog
``control``          the seam: all that crosses between the two sides
``websocket``        the codec of RFC 6455 and RFC 7692, without I/O
``http1``            the codec of RFC 9112, without I/O
``config``           options, their checks, the trust list
``extensions``       reads files of extension modules: which interpreters can load them
``errors, types``    exceptions that users see, types of ASGI
===================  =============================================================================
"""

from __future__ import annotations

from importlib import import_module

from .types import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import errors as errors
    from . import events as events
    from .bootstrap import bootstrap as bootstrap
    from .config import Config as Config
    from .extensions.doctor import doctor as doctor
    from .supervisor.supervisor import Supervisor as Supervisor
    from .worker.worker import Worker as Worker

__version__ = "0.1.0"
__all__ = ["Config", "Supervisor", "Worker", "bootstrap", "doctor"]

_HOME = {
    "Config": "config",
    "Supervisor": "supervisor",
    "Worker": "worker",
    "doctor": "extensions.doctor",
}


def __getattr__(name: str) -> Any:
    if name == "bootstrap":  # the module, which is callable; see there
        return import_module(".bootstrap", __name__)
    if name in ("errors", "events"):
        return import_module(f".{name}", __name__)
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f".{_HOME[name]}", __name__), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
