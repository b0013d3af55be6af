"""Marks on functions, by which the watchdog knows what an exception from outside may do to them.

They say it at the function itself, so that moving or renaming it loses nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from types import CodeType

from ...types import Any

TAKES_INTERRUPTS: set[CodeType] = set()
"""Code that calls the application, and is ready for any exception to come out of it."""
PASSES_INTERRUPTS: set[CodeType] = set()
"""Code that an exception may go through, on its way from one greenlet's thread to another's."""
STANDS_FOR_APPLICATION: set[CodeType] = set()
"""Code of this package that is treated as if it were the application's."""


def takes_interrupts[F: Callable[..., Any]](function: F) -> F:
    """Mark a function that calls the application and is ready for any exception."""
    TAKES_INTERRUPTS.add(function.__code__)
    return function


def passes_interrupts[F: Callable[..., Any]](function: F) -> F:
    """Mark a function that any exception may go through, but that none may begin in."""
    PASSES_INTERRUPTS.add(function.__code__)
    return function


def stands_for_application[F: Callable[..., Any]](function: F) -> F:
    """Mark a function that does what tests want done in the application's place."""
    STANDS_FOR_APPLICATION.add(function.__code__)
    return function
