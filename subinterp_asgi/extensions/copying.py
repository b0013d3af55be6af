"""Whether an extension module that refuses may work from a private copy, told from its file.

A second file under another name is, to the dynamic linker, another library with variables of its
own. A module that is loaded from a copy which no other interpreter loads sees one interpreter in
all its life, and that is what most of those that refuse need. What can't work even so shows in
what the file wants of others.
"""

from __future__ import annotations

import os
import sys

from ..types import TYPE_CHECKING
from .elf import Elf

if TYPE_CHECKING:
    from .reader import Verdict

_THREADS = {"pthread_create", "thrd_create", "std::thread"}

_BUILT_ON_GREENLET = {"gevent"}
"""They use the C part of greenlet, which nothing can stand in for."""

VETTED = {"cryptography": "50.0", "uvloop": "0.23"}
"""Packages that show something against them and were run all the same, under load and on debug
builds, up to these versions: they start threads and attach threads, but not the same ones."""


def objection(module: str, path: str, verdict: Verdict) -> str | None:
    """Say why a copy of a module would not be safe, or possible; ``None`` if nothing shows.

    Args:
        module: Its full name.
        path: Its file.
        verdict: What ``reader`` says of that.
    """
    if (reason := _unsupported()) is not None:
        return reason
    wants = set(verdict.imports)
    if module.partition(".")[0] in _BUILT_ON_GREENLET:
        return "it uses the extension module of greenlet"
    if "Py_AddPendingCall" in wants:
        return "it has the main interpreter run code (Py_AddPendingCall)"
    if verdict.static_tls:
        return "each copy would take thread-local memory that is never given back (DF_STATIC_TLS)"
    for library in bundled_libraries(verdict):
        if _look_at(library)[1]:
            return f"copies would share {os.path.basename(library)}, which uses Python"
    if "PyGILState_Ensure" in wants and wants & _THREADS and not _is_vetted(module, path):
        return "threads of its own may run Python code, in the main interpreter (PyGILState_Ensure)"
    return None


def stands_in(module: str) -> bool:
    """Whether threads can stand in for a module that can't be copied: for that of greenlet."""
    return module == "greenlet._greenlet" and _unsupported() is None


def cure_by_private(module: str, against: str | None) -> str | None:
    """Say what ``extensions="private"`` does about a module, if it does anything."""
    if stands_in(module):
        return "takes threads instead (experimental)"
    return "loads it from a copy (experimental)" if against is None else None


def _unsupported() -> str | None:
    if sys.platform != "linux" or sys.maxsize < 2**32:
        return "that needs 64-bit Linux"
    if not getattr(sys, "_is_gil_enabled", lambda: True)():
        return "that needs a build of CPython with a GIL"
    return None


def bundled_libraries(verdict: Verdict) -> tuple[str, ...]:
    """Return the paths of the libraries that come with a module, each after those that it needs.

    A copy lies elsewhere and would not find them; once loaded by path, they are found by name.
    """
    found: dict[str, None] = {}

    def add(paths: tuple[str, ...], above: tuple[str, ...]) -> None:
        for path in paths:
            if path not in found and path not in above:
                add(_look_at(path)[0], (*above, path))
                found[path] = None

    add(verdict.bundled, ())
    return tuple(found)


_libraries: dict[tuple[str, int, int], tuple[tuple[str, ...], bool]] = {}


def _look_at(path: str) -> tuple[tuple[str, ...], bool]:
    """Return what comes with a library in turn, and whether it uses Python.

    It is read again only if it has changed: modules of a distribution share their libraries.
    """
    from .reader import bundled, state_of

    state = state_of(path)
    if state not in _libraries:
        with open(path, "rb", buffering=0) as file:
            elf = Elf(file, path)
            _libraries[state] = bundled(elf, path), elf.imports_any(("Py", "_Py"))
    return _libraries[state]


def _is_vetted(module: str, path: str) -> bool:
    package = module.partition(".")[0]
    if package not in VETTED:
        return False
    # Told by the folder that it is in, which need not be one of this process's.
    folder = path
    for _ in module.split("."):
        folder = os.path.dirname(folder)
    begins, ends = f"{package}-", ".dist-info"
    try:
        names = os.listdir(folder)
    except OSError:
        return False
    return any(
        _numbers(name.removeprefix(begins)) <= _numbers(VETTED[package])
        for name in names
        if name.startswith(begins) and name.endswith(ends)
    )


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".")[:2] if part.isdecimal()]
