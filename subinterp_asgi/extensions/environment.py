"""Where modules are, and which distributions they are of, found by names of files alone.

``importlib`` would import the packages above a module to find it. What hooks find, such as some
editable installs, and what is in zip files is not found here.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.machinery import BYTECODE_SUFFIXES, EXTENSION_SUFFIXES, FrozenImporter
from itertools import takewhile
from pathlib import Path

_LARGEST_SOURCE = 16 << 20
_STDLIB = os.path.dirname(os.path.abspath(os.__file__))

MAIN_ONLY = frozenset(
    {
        "_curses",
        "_curses_panel",
        "_suggestions",
        "_tkinter",
        "_tracemalloc",
        "curses",
        "faulthandler",
        "readline",
        "tkinter",
        "tracemalloc",
        "turtle",
    }
)
"""What CPython 3.13 to 3.15 have in their main interpreter only, of the standard library: its
extension modules, some of which are no files, and modules that can't be imported without them."""


@dataclass(frozen=True, slots=True)
class Module:
    """A module that was found."""

    name: str
    path: str
    """Its file; of a package without ``__init__``, its folder."""
    is_package: bool
    is_extension: bool
    twin: str | None
    """The ``.py`` beside an extension module, which CPython passes over, unless it is only meant
    to be compiled."""
    installed: bool
    """It is in a site-packages folder, so not of the application itself."""

    def source(self) -> bytes:
        """Return the source, also that of the twin; nothing of what needs none.

        Raises:
            OSError: It can't be read.
            ValueError: There is only byte code, or too much of it.
        """
        path = self.twin if self.is_extension else self.path
        if path is None or os.path.isdir(path):
            return b""
        if path.endswith(BYTECODE_SUFFIXES[0]):
            raise ValueError("there is only byte code")
        if os.path.getsize(path) > _LARGEST_SOURCE:
            raise ValueError("it is too large")
        with open(path, "rb") as file:
            return file.read()


class Environment:
    """The modules of an import path, but for those that are hidden."""

    def __init__(self, path: Sequence[str], hidden: Sequence[str] = ()) -> None:
        self._path = list(dict.fromkeys(os.path.abspath(folder) for folder in path))
        self._hidden = {*hidden}
        self._found: dict[str, Module | None] = {}
        self._owners: dict[str, dict[str, tuple[str, str]]] = {}

    def find(self, name: str) -> Module | None:
        """Return a module; ``None`` also for those that the standard library has."""
        if name not in self._found:
            parts = name.split(".")
            above = {".".join(parts[:count]) for count in range(1, len(parts) + 1)}
            absent = parts[0] in sys.stdlib_module_names and not self._is_replaced(parts[0])
            self._found[name] = None if absent or above & self._hidden else self._search(name)
        return self._found[name]

    def is_main_only(self, name: str) -> bool:
        """Whether this is the standard library's, and can't be imported in a worker."""
        return name in MAIN_ONLY and name not in self._hidden and self.find(name) is None

    def _is_replaced(self, name: str) -> bool:
        """Whether the application has a module in the place of one of the standard library."""
        if name in sys.builtin_module_names or FrozenImporter.find_spec(name):
            return False  # which is found before anything on the path
        before = takewhile(lambda folder: folder != _STDLIB, self._path)
        found = self._search(name, [folder for folder in before if not _is_installed(folder)])
        return found is not None and not os.path.isdir(found.path)

    def _search(self, name: str, folders: Sequence[str] | None = None) -> Module | None:
        namespace = None
        for folder in self._path if folders is None else folders:
            base = os.path.join(folder, *name.split("."))
            installed = _is_installed(folder)
            is_folder = os.path.isdir(base)
            for stem in (os.path.join(base, "__init__"), base) if is_folder else (base,):
                extension = next(
                    filter(os.path.isfile, map(stem.__add__, EXTENSION_SUFFIXES)), None
                )
                source = stem + ".py" if os.path.isfile(stem + ".py") else None
                bytecode = stem + BYTECODE_SUFFIXES[0]
                path = extension or source or (bytecode if os.path.isfile(bytecode) else None)
                if path is not None:
                    is_extension = extension is not None
                    twin = source if is_extension and source and _is_usable(source) else None
                    return Module(name, path, stem != base, is_extension, twin, installed)
            if is_folder and namespace is None:
                namespace = Module(name, base, True, False, None, installed)
        return namespace

    def distribution(self, module: Module) -> tuple[str, str] | None:
        """Return the name and the version of the distribution that a module is of."""
        for folder in self._path:
            if not module.path.startswith(folder + os.sep):
                continue
            if folder not in self._owners:
                self._owners[folder] = _read_owners(folder)
            parts = os.path.relpath(module.path, folder).split(os.sep)
            for count in (len(parts), 2, 1):
                if found := self._owners[folder].get("/".join(parts[:count])):
                    return found
        return None


def _is_installed(folder: str) -> bool:
    return os.path.basename(folder) in ("site-packages", "dist-packages")


def _is_usable(source: str) -> bool:
    """Whether it works uncompiled: some of Cython's source says that it does not."""
    try:
        with open(source, "rb") as file:
            text = file.read(_LARGEST_SOURCE)
    except OSError:
        return True  # whoever reads it is told
    return b"if not cython.compiled:" not in text or b"raise ImportError" not in text


def _read_owners(folder: str) -> dict[str, tuple[str, str]]:
    """Return which distribution has brought a file, or what begins with one or two names."""
    owners: dict[str, tuple[str, str]] = {}
    try:
        heads = sorted(name for name in os.listdir(folder) if name.endswith(".dist-info"))
    except OSError:
        return owners
    for head in heads:
        name, _, version = head.removesuffix(".dist-info").partition("-")
        try:
            with open(os.path.join(folder, head, "METADATA"), encoding="utf-8") as file:
                for line in file:
                    if line.startswith("Name:"):
                        name = line[5:].strip()
                        break
            with open(os.path.join(folder, head, "RECORD"), encoding="utf-8") as file:
                record = [line.partition(",")[0] for line in file]
        except (OSError, ValueError):
            continue
        for entry in record:
            parts = entry.split("/")
            for key in {entry, "/".join(parts[:2]), parts[0]}:
                owners.setdefault(key, (name, version))
    return owners


def distribution_of(module: str, path: str) -> str | None:
    """Return name and version of the distribution that a module's file was installed with.

    For one file: it reads no more records than it must.

    Args:
        module: Its full name, by which the folder of the installation is known.
        path: Its file.
    """
    folder = Path(path)
    for _ in module.split("."):
        folder = folder.parent
    if Path(path).name.startswith("__init__."):
        folder = folder.parent
    wanted = os.path.relpath(path, folder).replace(os.sep, "/").encode()
    try:
        records = sorted(folder.glob("*.dist-info/RECORD"))
        for record in records:
            if any(line.startswith(wanted + b",") for line in record.read_bytes().splitlines()):
                name, _, version = record.parent.name.removesuffix(".dist-info").partition("-")
                return f"{name.replace('_', '-')} {version}"
    except OSError:
        pass  # it is only told
    return None
