"""For the tests of those who use this package. Nothing of it is imported when a server runs.

The names below are loaded when they are first used; ``docs/testing.md`` shows what for.
"""

from __future__ import annotations

from importlib import import_module

from ..types import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

    from .case import LiveServerTestCase as LiveServerTestCase
    from .clients import Response as Response
    from .records import AppError as AppError
    from .records import LeftBehindWarning as LeftBehindWarning
    from .records import NotReachedWarning as NotReachedWarning
    from .records import Received as Received
    from .server import LiveServer as LiveServer
    from .server import serve as serve

_HOME = {
    "AppError": "records",
    "LeftBehindWarning": "records",
    "LiveServer": "server",
    "LiveServerTestCase": "case",
    "NotReachedWarning": "records",
    "Received": "records",
    "Response": "clients",
    "serve": "server",
}
__all__ = [*_HOME]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f".{_HOME[name]}", __name__), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
