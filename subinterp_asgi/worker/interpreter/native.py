"""What becomes of an extension module from outside the standard library that a worker imports.

``importer`` calls this instead of CPython, which only refuses: and that, for a module of a single
phase, after it has run it in the main interpreter. Here the file is read first. What refuses is
replaced by the Python source beside it, or loaded from a private copy, or refused with an error
that says what would do. The extension module of greenlet is replaced by ``greenlets``.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import typing  # noqa: F401  (dataclasses take it from sys.modules, half imported by another thread)
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES, SourceFileLoader
from importlib.util import cache_from_source, module_from_spec, spec_from_file_location

from ...errors import ExtensionFileError, ExtensionRefusedError
from ...extensions import reader
from ...extensions.copying import cure_by_private, objection, stands_in
from ...types import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from importlib.machinery import ExtensionFileLoader, ModuleSpec
    from types import ModuleType
    from typing import Any

    from .private_copies import Create

logger = logging.getLogger("subinterp_asgi.error")

_twins: list[str] = []  # modules of which the source was taken instead
_useless: dict[str, str] = {}  # modules whose source does not work instead, and why
_replaced: list[str] = []  # modules that something of this package stands in for
_REPLACED = "threads that hand over to each other are taken instead of greenlets"
_outdated: list[str] = []  # modules of which an earlier file goes on being used
_refusals: dict[str, ExtensionRefusedError] = {}  # the first of each module


def create_module(
    loader: ExtensionFileLoader, spec: ModuleSpec, create: Create, mode: str, *, late: bool
) -> ModuleType | None:
    """Do what ``ExtensionFileLoader.create_module()`` does, where a worker can have it.

    Args:
        create: The loader's own method.
        mode: The option ``extensions``.
        late: The application has been imported: a refusal is logged at once.

    Raises:
        ExtensionRefusedError: The module can't be had.
    """
    path = spec.origin or ""
    try:
        verdict = reader.examine(path)
    except ExtensionFileError:
        return create(loader, spec)  # the linker will say what is wrong with it
    # By a path through links, which a deployment changes, the process would take what it has loaded
    # by that path before. (A link to the file itself stays: libraries are sought beside it.)
    folder, name = os.path.split(path)
    real = os.path.join(os.path.realpath(folder), name)
    outdated = _is_outdated(real)
    if not verdict.refused:
        if outdated and mode == "private" and objection(spec.name, path, verdict) is None:
            from . import private_copies

            with contextlib.suppress(OSError):
                return private_copies.load(loader, spec, create, verdict)
        if outdated:
            _outdated.append(spec.name)
        spec.origin = real
        try:
            return create(loader, spec)
        finally:
            spec.origin = path
    if mode != "refuse" and spec.name not in _useless and (twin := _twin(path)):
        _take_source(spec, twin)
        return None
    against, cure = objection(spec.name, path, verdict), None
    if mode == "private" and against is None:
        from . import private_copies

        try:
            return private_copies.load(loader, spec, create, verdict)
        except private_copies.NotExecutableError as exc:
            against, cure = str(exc), "TMPDIR can name a folder that is not mounted noexec"
        except OSError as exc:
            against = f"that can't be made: {exc}"
    if mode == "private" and stands_in(spec.name):
        _take_threads(spec, late=late)
        return None
    error = _refusal(spec, verdict, mode, against, cure)
    if _refusals.setdefault(spec.name, error) is error and late:
        logger.warning("%s", error)
    raise error


def forget() -> None:
    """Begin again: another application will be imported, perhaps after packages were upgraded."""
    _twins.clear()
    _useless.clear()
    _outdated.clear()
    _refusals.clear()
    _mapped_libraries.cache_clear()


def report(worker_id: int, mode: str, said: str) -> str:
    """Log what became of modules while the application was imported, and return it.

    Packages may go on without a module that is refused, or fail in ways that do not tell. All
    workers would say the same, so that only the first one does, and after a reload only if it is
    not what was ``said`` before.
    """
    if worker_id > 0:
        return said
    found = [*_found(mode)]
    text = "\n".join(line for _, line in found)
    if text != said:
        for level, line in found:
            logger.log(level, "%s", line)
    return text


def _found(mode: str) -> Iterator[tuple[int, str]]:
    if _twins:
        yield (
            logging.INFO,
            f"Python source taken instead of extension modules: {', '.join(_twins)}",
        )
    if _replaced:
        yield logging.INFO, _REPLACED
    if _outdated:
        instead = "" if mode == "private" else ", or use extensions='private'"
        yield (
            logging.WARNING,
            "extension modules that were upgraded are still those of before, since a process loads "
            f"a file by the same path only once: {', '.join(_outdated)}; start a new process"
            f"{instead}",
        )
    if _refusals:
        cures = next(iter(_refusals.values())).cures
        yield (
            logging.WARNING,
            "extension modules that do not support subinterpreters, without which the application "
            f"goes on: {', '.join(_refusals)}; {'; or '.join(cures)}",
        )


class _Stead:
    """Loads ``greenlets`` as the extension module of greenlet, whose Python part stays."""

    def create_module(self, spec: ModuleSpec) -> None:
        """Have importlib make an empty module."""

    def exec_module(self, module: ModuleType) -> None:
        from . import greenlets

        module.__dict__.update({name: getattr(greenlets, name) for name in greenlets.OFFERED})


def _take_threads(spec: ModuleSpec, *, late: bool) -> None:
    spec.loader = _Stead()  # type: ignore[assignment]  # a Loader would cost an import
    spec.origin = None
    spec.has_location = False
    _replaced.append(spec.name)
    if late:  # as with SQLAlchemy, which imports greenlet when it is needed first
        logger.info(_REPLACED)


def _is_outdated(path: str) -> bool:
    """Whether the process has loaded another file by the same path, which it would take again.

    That is so once a package has been upgraded in place, for interpreters that are new too.
    """
    inodes = _mapped_libraries().get(path)
    return inodes is not None and os.stat(path).st_ino not in inodes


@cache
def _mapped_libraries() -> dict[str, set[int]]:
    """Return the inodes of the shared libraries in this process, by path, as they were before."""
    found: dict[str, set[int]] = {}
    with contextlib.suppress(OSError), open("/proc/self/maps", "rb") as maps:
        for line in maps:
            if b".so" in line:
                inode, name = line.split(maxsplit=5)[4:]
                path = os.fsdecode(name.rstrip().removesuffix(b" (deleted)"))
                found.setdefault(path, set()).add(int(inode))
    return found


def _twin(path: str) -> str | None:
    """Return the Python source of the same module that lies beside it."""
    for suffix in EXTENSION_SUFFIXES:
        if path.endswith(suffix):
            twin = path[: -len(suffix)] + ".py"
            return twin if os.path.isfile(twin) else None
    return None


class _Twin(SourceFileLoader):
    """Loads the source, and what it lies beside if that is only meant to be compiled (pyzmq)."""

    def __init__(self, spec: ModuleSpec, path: str) -> None:
        super().__init__(spec.name, path)
        self._original = spec.origin
        self._search = spec.submodule_search_locations

    def exec_module(self, module: ModuleType) -> None:
        try:
            super().exec_module(module)
        except ImportError as exc:
            if isinstance(exc, ExtensionRefusedError):
                raise  # it is about another one
            _useless[self.name] = next(
                iter(str(exc).strip(" .\n").splitlines()), "ImportError"
            ).rstrip(".")
            _twins.remove(self.name)
            spec = spec_from_file_location(
                self.name, self._original, submodule_search_locations=self._search
            )
            assert spec is not None
            assert spec.loader is not None
            instead = module_from_spec(spec)
            sys.modules[self.name] = instead  # which importlib takes
            spec.loader.exec_module(instead)


def _take_source(spec: ModuleSpec, path: str) -> None:
    """Make it the spec of a module that is made from source; importlib goes on with that."""
    spec.loader = _Twin(spec, path)
    spec.origin = path
    spec.cached = cache_from_source(path)
    _twins.append(spec.name)


def _refusal(
    spec: ModuleSpec, verdict: reader.Verdict, mode: str, against: str | None, cure: str | None
) -> ExtensionRefusedError:
    from ...extensions.environment import distribution_of
    from ...extensions.remedies import cures

    path = spec.origin or ""
    distribution = distribution_of(spec.name, path)
    chain = _importers(spec.name)
    reason = verdict.reason
    if spec.name in _useless:
        reason += f"; nor does the source beside it do: {_useless[spec.name]}"
    if mode == "private":
        reason += f"; nor can it be loaded from a copy: {against}"
    return ExtensionRefusedError(
        spec.name,
        path,
        distribution=distribution,
        reason=reason,
        chain=chain,
        cures=cures(
            (*(name.partition(".")[0] for name in chain), (distribution or "").partition(" ")[0]),
            private=None if mode == "private" else cure_by_private(spec.name, against),
            first=cure,
        ),
    )


def _importers(name: str) -> tuple[str, ...]:
    """Say by whom a module is imported: the first module, the packages between, the module."""
    found = [name]
    frame: Any = sys._getframe()
    importing = False
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if importing and module not in found:
            found.append(module)
        importing = module.startswith(("importlib.", "_frozen_importlib"))
        frame = frame.f_back
    first, *others = [name for name in reversed(found) if name.partition(".")[0] not in _OURS]
    packages = dict.fromkeys(name.partition(".")[0] for name in others[:-1])
    for own in (first, name):
        packages.pop(own.partition(".")[0], None)
    return (first, *packages, *others[-1:])


_OURS = {"importlib", __name__.partition(".")[0], "__main__"}
