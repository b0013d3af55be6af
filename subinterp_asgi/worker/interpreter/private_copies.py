"""Loads an extension module that refuses from a copy of its file that is this interpreter's alone.

It rests on CPython's private parts, no author of such modules supports it, and a crash takes all
workers. ``extensions.copying`` says what is not even tried. Rules, each a crash or a silent mixing
of interpreters otherwise:

* The check of CPython is off while a copy is loaded and executed, since modules inside of modules
  are checked as well; what else is imported meanwhile is judged by its file.
* A module is initialised by a call in this interpreter. CPython would do that in the main one, and
  the module's objects, or what it imports, were that one's.
* No two copies in a process have the same name, for by name the linker finds what it has.
* No lock is held while a module executes: it may import others, whose locks other threads hold.
"""

from __future__ import annotations

import _imp
import mmap
import os
import tempfile
import threading
import time
from importlib.machinery import ExtensionFileLoader
from operator import itemgetter
from types import ModuleType

from ...extensions import reader
from ...extensions.copying import bundled_libraries
from ...extensions.elf import Elf
from ...types import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from importlib.machinery import ModuleSpec
    from typing import Any, BinaryIO

    type Create = Callable[[ExtensionFileLoader, ModuleSpec], ModuleType | None]

_linux: Any = os  # of which type checkers do not know everywhere
_mmap: Any = mmap

_OFF, _AS_CONFIGURED = -1, 0
_MFD_CLOEXEC, _MFD_EXEC = 1, 0x10
_MAP_FIXED = 0x10
_PUNCH_HOLE = 3  # and keep the size
_API_VERSION = 1013  # PYTHON_API_VERSION

_libraries: list[Any] = []  # what was loaded for them, which must stay


class NotExecutableError(OSError):
    """This system lets neither memory nor temporary files be executed."""

    def __str__(self) -> str:
        return f"neither memory nor a file in {tempfile.gettempdir()} may be executed here"


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
    """Create a module from a private copy.

    Raises:
        ImportError: The linker can't load it.
        NotExecutableError: There is no place for a copy.
        OSError: It can't be copied.
    """
    import ctypes

    path = spec.origin or ""
    with open(path, "rb", buffering=0) as source:
        copy, fd = _copy(source)
        spec.loader = _Loader(spec.name, path)  # which importlib has execute it
        try:
            _libraries.extend(map(ctypes.CDLL, bundled_libraries(verdict)))
            library = ctypes.PyDLL(copy)
            _libraries.append(library)
            if verdict.refused:  # (others may have been upgraded, and ``native`` asks the maps)
                _share_constants(library, copy, fd, source)
            initialise = getattr(library, reader.init_symbol(spec.name), None)
            with _Unchecked():
                if initialise is not None:
                    return _initialise(initialise, spec)
                # (Only 3.15 knows others, which do nothing but describe the module.)
                spec.origin = copy
                return create(loader, spec)
        except OSError as exc:
            raise ImportError(str(exc), name=spec.name, path=path) from None
        finally:
            spec.origin = path
            os.close(fd)


def _initialise(initialise: Any, spec: ModuleSpec) -> ModuleType:
    """Call what initialises a module, in this interpreter.

    CPython calls it in the main one, whatever its phases are. Of several it should only describe
    the module, but pandas, for one, imports numpy there and keeps what it finds.
    """
    from ctypes import c_int, c_void_p, cast, py_object, pythonapi

    initialise.restype = c_void_p
    address = initialise()
    found = cast(address, py_object).value
    if not isinstance(found, ModuleType):
        make = pythonapi.PyModule_FromDefAndSpec2
        make.argtypes, make.restype = [c_void_p, py_object, c_int], py_object
        module: ModuleType = make(address, spec, _API_VERSION)
        return module
    pythonapi.Py_DecRef(py_object(found))  # the reference that was returned
    pythonapi.PyModule_GetDef.argtypes = [py_object]
    pythonapi.PyModule_GetDef.restype = c_void_p
    pythonapi.PyState_FindModule.argtypes = [c_void_p]
    pythonapi.PyState_FindModule.restype = c_void_p
    pythonapi.PyState_AddModule.argtypes = [py_object, c_void_p]
    definition = pythonapi.PyModule_GetDef(found)
    if definition and not pythonapi.PyState_FindModule(definition):
        pythonapi.PyState_AddModule(found, definition)  # where the module looks for itself
    found.__name__ = spec.name  # it knows its last part only
    found.__file__ = spec.origin
    return found


def _copy(source: BinaryIO) -> tuple[str, int]:
    """Copy a file to where nothing is left of it; return a name that never was, and a descriptor.

    That is memory if the system lets it be executed, else a file without a name.

    Raises:
        NotExecutableError: It lets neither be executed.
    """
    size = os.fstat(source.fileno()).st_size
    for fd in _files(os.path.basename(source.name)):
        try:
            done = 0
            while done < size:
                done += _linux.sendfile(fd, source.fileno(), done, size - done) or size
            if _may_be_executed(fd):
                # Descriptors are used again. "/." and "/" change nothing in a path: they spell a
                # number.
                number = time.monotonic_ns() << 22 | threading.get_native_id()
                detour = "".join("./" if bit == "1" else "/" for bit in f"{number:b}")
                return f"/proc/self/fd/{detour}{fd}", fd
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)
    raise NotExecutableError


def _share_constants(library: Any, copy: str, fd: int, source: BinaryIO) -> None:
    """Have the parts of a copy that never change be those of the file itself.

    All copies and all processes then have them in common, and what was copied of them is given
    back. These are the same octets, so that nothing is wrong if only some, or none, are shared.
    """
    from ctypes import CDLL, c_char_p, c_int, c_long, c_size_t, c_void_p

    # What dlopen() returns begins with the address and the name, with glibc and with musl.
    base = c_size_t.from_address(library._handle).value
    if c_char_p.from_address(library._handle + 8).value != os.fsencode(copy):
        return
    parts = sorted(Elf(source, source.name).parts(), key=itemgetter(1))
    changing = {page for at, _, size, _, written in parts if written for page in _pages(at, size)}
    libc = CDLL(None)
    libc.mmap.argtypes = [c_void_p, c_size_t, c_int, c_int, c_int, c_long]
    libc.mmap.restype = c_void_p
    libc.fallocate.argtypes = [c_int, c_int, c_long, c_long]
    needed_until = 0
    for address, offset, size, protection, written in parts:
        inside = _pages(offset, size)
        begin, length = inside.start * mmap.PAGESIZE, len(inside) * mmap.PAGESIZE
        if written:
            libc.fallocate(fd, _PUNCH_HOLE, needed_until, max(0, begin - needed_until))
            needed_until = begin + length
            continue
        if not changing.isdisjoint(_pages(address, size)):
            return
        where = base + address // mmap.PAGESIZE * mmap.PAGESIZE
        flags = _mmap.MAP_PRIVATE | _MAP_FIXED
        mapped = libc.mmap(where, length, protection, flags, source.fileno(), begin)
        if mapped != where:
            return
    libc.fallocate(fd, _PUNCH_HOLE, needed_until, os.fstat(fd).st_size)


def _pages(start: int, size: int) -> range:
    """Return the numbers of the pages in which something lies."""
    return range(start // mmap.PAGESIZE, -((start + size) // -mmap.PAGESIZE))


def _files(name: str) -> Iterator[int]:
    """Yield descriptors of new files, which their receiver closes: the better ones first."""
    for flags in (_MFD_CLOEXEC | _MFD_EXEC, _MFD_CLOEXEC):
        try:
            fd: int = _linux.memfd_create(name, flags)
        except OSError:  # before Linux 6.3 there is no _MFD_EXEC; a system may forbid it
            continue
        yield fd
        break
    with tempfile.TemporaryFile(buffering=0) as file:
        yield os.dup(file.fileno())


def _may_be_executed(fd: int) -> bool:
    """Whether the linker can map it so: not if it is on a file system that is mounted noexec."""
    try:
        _mmap.mmap(fd, 0, _mmap.MAP_PRIVATE, _mmap.PROT_READ | _mmap.PROT_EXEC).close()
    except PermissionError:
        return False
    return True
