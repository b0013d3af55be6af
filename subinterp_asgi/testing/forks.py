"""Forks that fail in a test rather than kill the child without a word.

CPython ends a child of ``fork()`` at once if other interpreters than the main one exist. A hook
can't prevent that, so that the functions themselves are replaced meanwhile. ``subprocess`` and the
start methods ``spawn`` and ``forkserver`` of ``multiprocessing`` don't call them.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ..errors import ForkRefusedError

_NAMES = [name for name in ("fork", "forkpty") if hasattr(os, name)]
_lock = threading.Lock()
_users = 0


@contextmanager
def no_forks() -> Iterator[None]:
    """Have ``os.fork()`` and ``os.forkpty()`` raise ``ForkRefusedError`` within the block."""
    global _users
    with _lock:
        _users += 1
        for name in _NAMES:
            if not hasattr(getattr(os, name), "forks"):
                setattr(os, name, _refusing(name, getattr(os, name)))
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if not _users:
                for name in _NAMES:
                    # If somebody else has put something in its place, that goes on calling ours.
                    setattr(os, name, getattr(getattr(os, name), "forks", getattr(os, name)))


def _refusing(name: str, forks: Callable[[], Any]) -> Callable[[], Any]:
    def refuse() -> Any:
        if not _users:
            return forks()
        raise ForkRefusedError(
            f"os.{name}() while workers run in interpreters: CPython would kill the child at once. "
            "Fork before the server starts, or use subprocess, or multiprocessing with 'spawn' or "
            "'forkserver', or isolation='thread'"
        )

    refuse.forks = forks  # type: ignore[attr-defined]
    refuse.__name__ = name
    return refuse
