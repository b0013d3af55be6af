"""Says from the file alone whether an extension module can be loaded by interpreters of their own.

Nothing of the file is executed. CPython asks a module's *definition* the same question when it
imports one, and the definition lies in the file as data: a structure with the module's name and a
pointer to an array of slots. That is found through the pointers which the dynamic linker would
write. What can't be seen is what code writes at run time: slots that are put together then are
taken for slots that say nothing, for such modules want nothing of several interpreters (pybind11).

``inspect`` reads a file each time, ``examine`` keeps what it has read for the interpreter. Verdicts
are about the running CPython on Linux, where nothing else is said.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass

from ..errors import ExtensionFileError, UnsupportedFileError
from ..types import TYPE_CHECKING
from .elf import Elf

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Literal

    type Support = Literal["own_gil", "shared_gil", "no", "unknown"]
    type Phase = Literal["multi", "single", "unknown"]
    type Slots = list[tuple[int, int]]

_VERSION = sys.version_info[:2]

_CREATE, _EXEC = (1, 84), (2, 85)
_INTERPRETERS = (3, 86)
"""``Py_mod_multiple_interpreters`` of PyModuleDef_Slot, and of PySlot, which 3.15 has brought."""
_SUPPORT: tuple[Support, ...] = ("no", "shared_gil", "own_gil")  # by the slot's value
_NESTED = (92, 94)  # Py_slot_subslots, Py_mod_slots: their value is another array
_SLOTS = frozenset((1, 2, 3, 4, 84, 85, 86, 87, *_NESTED, *range(100, 107), 109, 110))
_MOST_SLOTS = 64
_MOST_NESTED = 4

_TOOLCHAINS = (  # in the order in which they are looked at: the first whose word is there
    (b"pyo3_runtime", "pyo3"),
    (b"_cffi_backend", "cffi"),
    (b"__mypyc", "mypyc"),
    (b"nanobind", "nanobind"),
    (b"pybind11", "pybind11"),
    (b"cython_runtime", "cython"),
)
_WORDS = tuple(word for word, _ in _TOOLCHAINS)
_MOST_CONSTANTS = 16 << 20

_MAKE_MODULES = {"PyModule_Create2", "PyModule_FromDefAndSpec2"}

_TELLING = {
    "Py_AddPendingCall",
    "Py_AtExit",
    "PyGILState_Ensure",
    "PyInterpreterState_GetID",
    "PyInterpreterState_Main",
    "PyState_FindModule",
    "PyThreadState_New",
    "pthread_create",
    "thrd_create",
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a file says of an extension module."""

    support: Support
    """By which interpreters it can be loaded: those with a GIL of their own, only those that share
    the main interpreter's, or only the main one."""
    phase: Phase
    """How it is initialised. A module with a single phase is run in the main interpreter first."""
    reason: str
    toolchain: str | None = None
    """What it was written with, as far as that shows; ``None`` if it was not looked for."""
    imports: tuple[str, ...] = ()
    """What it wants of C that matters to several interpreters; ``std::thread`` among that."""
    needed: tuple[str, ...] = ()
    """The libraries it is linked with, by name."""
    bundled: tuple[str, ...] = ()
    """The paths of those that come with it."""
    static_tls: bool = False

    @property
    def refused(self) -> bool:
        """Whether a worker can't import it, as far as is known."""
        return self.support in ("no", "shared_gil")


def module_name(path: str) -> str:
    """Return the last part of the name under which a file is imported."""
    folder, file = os.path.split(path)
    name = file.partition(".")[0]
    return os.path.basename(folder) if name == "__init__" else name


def inspect(path: str, *, with_toolchain: bool = True) -> Verdict:
    """Read a file.

    Args:
        path: The file.
        with_toolchain: Look for what it was written with, which takes half of the time.

    Raises:
        ExtensionFileError: It is not there, or is broken.
    """
    try:
        with open(path, "rb", buffering=0) as file:
            return _judge(Elf(file, path), path, with_toolchain=with_toolchain)
    except UnsupportedFileError as exc:
        return Verdict("unknown", "unknown", str(exc).removeprefix(f"{path}: "))
    except (OSError, ValueError) as exc:
        if isinstance(exc, ExtensionFileError):
            raise
        raise ExtensionFileError(path, f"it can't be read: {exc}") from exc


_verdicts: dict[tuple[str, int, int], Verdict] = {}


def examine(path: str) -> Verdict:
    """Return the verdict on a file, which is read again only if it has changed."""
    state = state_of(path)
    verdict = _verdicts.get(state)
    if verdict is None:
        verdict = _verdicts[state] = inspect(path, with_toolchain=False)
    return verdict


def state_of(path: str) -> tuple[str, int, int]:
    """Return what changes if a file is another one.

    Raises:
        ExtensionFileError: It is not there.
    """
    try:
        found = os.stat(path)
    except (OSError, ValueError) as exc:
        raise ExtensionFileError(path, f"it can't be read: {exc}") from exc
    return path, found.st_size, found.st_mtime_ns


def init_symbol(name: str) -> str:
    """Return the name of the function that initialises a module."""
    return f"PyInit{_suffix(name.rpartition('.')[2])}"


def _suffix(name: str) -> str:
    """Return how the names of a module's functions end (PEP 489)."""
    suffix = f"_{name}" if name.isascii() else "U_" + name.encode("punycode").decode()
    return suffix.replace("-", "_")


def _judge(elf: Elf, path: str, *, with_toolchain: bool) -> Verdict:
    name = module_name(path)
    suffix = _suffix(name)
    exports = _VERSION >= (3, 15) and elf.defines(f"PyModExport{suffix}")
    if not exports and not elf.defines(f"PyInit{suffix}"):
        return Verdict("unknown", "unknown", f"it has no PyInit{suffix}, so it is no module {name}")
    names = set(elf.imports())
    toolchain = None
    # One with a single phase that calls nothing to make a module is told by its toolchain.
    if with_toolchain or not (exports or names & {"PyModuleDef_Init", *_MAKE_MODULES}):
        words = elf.contains(_WORDS, _MOST_CONSTANTS)
        toolchain = next((tool for word, tool in _TOOLCHAINS if word in words), "plain")
    support, phase, reason = _judge_definition(elf, name.encode(), exports, names, toolchain)
    telling = names & _TELLING
    if any(imported.startswith("_ZNSt6thread") for imported in names):
        telling.add("std::thread")
    return Verdict(
        support,
        phase,
        reason,
        toolchain,
        tuple(sorted(telling)),
        elf.needed,
        bundled(elf, path),
        elf.static_tls,
    )


def _judge_definition(
    elf: Elf, name: bytes, exports: bool, imported: set[str], toolchain: str | None
) -> tuple[Support, Phase, str]:
    multi = exports or "PyModuleDef_Init" in imported
    if not multi:
        if _MAKE_MODULES & imported:
            return "no", "single", "it is initialised in a single phase"
        if toolchain == "cffi":
            return "no", "single", "it is made by cffi's _cffi_backend, which has a single phase"
        if toolchain == "mypyc":
            return "no", "single", "it is made by a module of mypyc that has a single phase"
        return "unknown", "unknown", "how it is initialised can't be seen"
    elf.read_relocations()
    arrays = [] if exports else list(_slots_of_definitions(elf, name))
    if not arrays:
        arrays = list(_slots_anywhere(elf))
    said = {_interpreters(slots) for slots in arrays}
    if len(said) > 1:
        return "unknown", "multi", "it defines several modules, which differ"
    value = said.pop() if said else None
    if value is None:
        # CPython takes that for "those that share a GIL".
        return "shared_gil", "multi", "it does not say that it supports several interpreters"
    if value == 2:
        return "own_gil", "multi", "it says that it supports interpreters with their own GIL"
    if value == 1:
        return "shared_gil", "multi", "it says that it supports interpreters with a shared GIL only"
    return "no", "multi", "it says that it does not support several interpreters"


def _interpreters(slots: Slots) -> int | None:
    """Return the value of the slot that says which interpreters are supported."""
    known = _INTERPRETERS if _VERSION >= (3, 15) else _INTERPRETERS[:1]
    return next((value for slot, value in slots if slot in known), None)


def _slots_of_definitions(elf: Elf, name: bytes) -> Iterator[Slots]:
    """Yield the slots of each PyModuleDef with that name.

    A head of at least 40 octets without pointers comes before the name. Three words on there is
    no pointer but a size, and the slots are the fifth.
    """
    for room, at, to in elf.pointers():
        if room < 40 or elf.pointer(at + 16) is not None:
            continue
        slots = elf.pointer(at + 32)
        if slots is None or elf.is_code(to):
            continue
        text = elf.text(to, 1024)
        if text is not None and text.rpartition(b".")[2] == name:
            found = _read_slots(elf, slots)
            if found is not None:
                yield found


def _slots_anywhere(elf: Elf) -> Iterator[Slots]:
    """Yield all arrays of slots that create or execute a module.

    ``PyModExport`` returns one that no definition leads to, and a definition may have another name.
    """
    end = 0
    for room, at, to in elf.pointers():
        if room < 8 or at < end or not _is_slot(elf.word(at - 8), *_CREATE, *_EXEC):
            continue
        if to and not elf.is_code(to):
            continue
        start = at - 8
        while _is_slot(elf.word(start - 16), *_SLOTS):
            start -= 16
        found = _read_slots(elf, start)
        if found:
            end = start + 16 * len(found)
            yield found


def _is_slot(word: int | None, *which: int) -> bool:
    # The number takes 16 bits, flags 16, and 32 are reserved.
    return word is not None and word >> 32 == 0 and word >> 16 < 8 and word & 0xFFFF in which


def _read_slots(elf: Elf, at: int, depth: int = 0) -> Slots | None:
    """Return an array of PyModuleDef_Slot or PySlot, or ``None`` if that is none."""
    if depth > _MOST_NESTED:
        return None
    found: Slots = []
    for _ in range(_MOST_SLOTS):
        word = elf.word(at)
        if word == 0:
            return found
        if word is None or elf.pointer(at) is not None or not _is_slot(word, *_SLOTS):
            return None
        slot = word & 0xFFFF
        target = elf.pointer(at + 8)
        if slot in (*_CREATE, *_EXEC):
            if target is None:
                return None
            found.append((slot, target))
        elif slot in _NESTED:
            nested = (
                _read_slots(elf, target, depth + 1) if target and depth < _MOST_NESTED else None
            )
            if nested is None:
                return None
            found += nested
        else:
            value = elf.word(at + 8) if target is None else target
            if value is None or (slot in _INTERPRETERS and (target is not None or value > 2)):
                return None
            found.append((slot, value))
        at += 16
    return None


def bundled(elf: Elf, path: str) -> tuple[str, ...]:
    """Return the paths of needed libraries that are found from the module's own folder."""
    origin = os.path.dirname(os.path.abspath(path))
    folders = [
        os.path.normpath(part.replace("${ORIGIN}", origin).replace("$ORIGIN", origin))
        for part in elf.search_path
        if part.startswith(("$ORIGIN", "${ORIGIN}"))
    ]
    if not folders:
        return ()
    return tuple(
        found
        for name in elf.needed
        if (found := next(filter(os.path.isfile, (f"{f}/{name}" for f in folders)), ""))
    )
