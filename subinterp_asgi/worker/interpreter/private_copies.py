"""Loads an extension module that refuses from a copy of its file that is this interpreter's alone.

It rests on CPython's private parts, no author of such modules supports it, and a crash takes all
workers. ``extensions.copying`` says what is not even tried. Rules, each a crash or a silent mixing
of interpreters otherwise:

* The check of CPython is off while a copy is loaded and executed, since modules inside of modules
  are checked as well; what else is imported meanwhile is judged by its file.
* A module of a single phase is initialised by a call in this interpreter. CPython would do that in
  the main one, whose the module's objects then were.
* No two copies in a process have the same name, for by name the linker finds what it has.
* No lock is held while a module executes: it may import others, whose locks other threads hold.
"""

from __future__ import annotations

import _imp
import os
import tempfile
import threading
import time
from importlib.machinery import ExtensionFileLoader

from ...extensions import reader
from ...extensions.copying import bundled_libraries
from ...types import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any

    type Create = Callable[[ExtensionFileLoader, ModuleSpec], ModuleType | None]

_linux: Any = os  # of which type checkers do not know everywhere

_OFF, _AS_CONFIGURED = -1, 0
_MFD_CLOEXEC, _MFD_EXEC = 1, 0x10

_libraries: list[Any] = []  # what was loaded for them, which must stay


class _Unchecked:
    """While one of these is entered, in whatever thread, CPython checks no extension module."""

    _number = 0
    _lock = threading.Lock()

    @classmethod
    def __enter__(cls) -> None:
        with cls._lock:
            cls._number += 1
            _imp._override_multi_interp_extensions_check(_OFF)  # type: ignore[attr-defined]

    @classmethod
    def __exit__(cls, *exc_info: object) -> None:
        with cls._lock:
            cls._number -= 1
            if not cls._number:
                _imp._override_multi_interp_extensions_check(_AS_CONFIGURED)  # type: ignore[attr-defined]


class _Loader(ExtensionFileLoader):
    def exec_module(self, module: ModuleType) -> None:
        with _Unchecked():
            super().exec_module(module)


def load(
    loader: ExtensionFileLoader, spec: ModuleSpec, create: Create, verdict: reader.Verdict
) -> ModuleType | None:
    """Create a module from a private copy."""
    path = spec.origin or ""
    spec.loader = _Loader(spec.name, path)  # which importlib has execute it
    for library in bundled_libraries(verdict):
        _load_library(library)
    copy, fd = _copy(path)
    try:
        if verdict.phase == "single":
            return _initialise(copy, spec)
        spec.origin = copy
        try:
            with _Unchecked():
                module = create(loader, spec)
        finally:
            spec.origin = path
        if module is not None and module.__dict__.get("__file__") == copy:
            module.__file__ = path  # Cython's modules have taken it from the spec
        return module
    finally:
        os.close(fd)


def _load_library(path: str) -> None:
    import ctypes

    _libraries.append(ctypes.CDLL(path))


def _initialise(copy: str, spec: ModuleSpec) -> ModuleType:
    """Call what initialises a module of a single phase."""
    import ctypes

    library = ctypes.PyDLL(copy)
    _libraries.append(library)
    initialise = getattr(library, reader.init_symbol(spec.name))
    initialise.restype = ctypes.py_object
    with _Unchecked():
        module: ModuleType = initialise()
    api = ctypes.pythonapi
    api.PyModule_GetDef.argtypes = [ctypes.py_object]
    api.PyModule_GetDef.restype = ctypes.c_void_p
    api.PyState_FindModule.argtypes = [ctypes.c_void_p]
    api.PyState_FindModule.restype = ctypes.c_void_p
    api.PyState_AddModule.argtypes = [ctypes.py_object, ctypes.c_void_p]
    definition = api.PyModule_GetDef(module)
    if definition and not api.PyState_FindModule(definition):
        api.PyState_AddModule(module, definition)  # where the module looks for itself
    module.__name__ = spec.name  # it knows its last part only
    module.__file__ = spec.origin
    return module


def _copy(path: str) -> tuple[str, int]:
    """Copy a file to where nothing is left of it; return a name that never was, and a descriptor.

    That is memory if the kernel lets memory be executed, else a file without a name.
    """
    fd = _memory_file(os.path.basename(path))
    if fd is None:
        fd = os.open(tempfile.gettempdir(), _linux.O_TMPFILE | os.O_RDWR | _linux.O_CLOEXEC, 0o700)
    try:
        with open(path, "rb") as source:
            size = os.fstat(source.fileno()).st_size
            done = 0
            while done < size and (sent := _linux.sendfile(fd, source.fileno(), done, size - done)):
                done += sent
    except BaseException:
        os.close(fd)
        raise
    # Descriptors are used again. "/." and "/" change nothing in a path: they spell a number.
    number = time.monotonic_ns() << 22 | threading.get_native_id()
    detour = "".join("./" if bit == "1" else "/" for bit in f"{number:b}")
    return f"/proc/self/fd/{detour}{fd}", fd


def _memory_file(name: str) -> int | None:
    for flags in (_MFD_CLOEXEC | _MFD_EXEC, _MFD_CLOEXEC):
        try:
            fd: int = _linux.memfd_create(name, flags)
        except OSError:  # before Linux 6.3 there is no _MFD_EXEC; a system may forbid it
            continue
        return fd
    return None
