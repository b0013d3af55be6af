"""Serve ASGI applications from subinterpreters: one process, N workers, each with its own GIL.

The names below are loaded when they are first used: an interpreter that runs ``bootstrap`` must not
pay for the supervisor, nor a supervisor for the server.
"""

from __future__ import annotations

from importlib import import_module

from .types import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

    from .bootstrap import bootstrap as bootstrap
    from .config import Config as Config
    from .supervisor.supervisor import Supervisor as Supervisor
    from .worker.worker import Worker as Worker

__version__ = "0.1.0"
__all__ = ["Config", "Supervisor", "Worker", "bootstrap"]

_HOME = {"Config": "config", "Supervisor": "supervisor", "Worker": "worker"}


def __getattr__(name: str) -> Any:
    if name == "bootstrap":  # the module, which is callable; see there
        return import_module(".bootstrap", __name__)
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f".{_HOME[name]}", __name__), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
