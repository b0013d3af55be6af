"""Says before production what of an application CPython will refuse in a worker.

The imports are followed from the application's module through the environment by their source, and
each extension module that is met is read; Django's settings are followed too. Nothing is executed,
so what only shows when it runs is missed: names that are put together, plug-ins, other settings
that name modules. ``rehearsal`` sees those.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import accumulate

from ..errors import AppModuleNotFoundError, AppPathError, ExtensionFileError
from ..types import Literal
from . import django, reader
from .attributes import taken_by_attribute
from .copying import cure_by_private, objection, stands_in
from .environment import Environment, Module
from .findings import OUTCOMES, Finding, Outcome, Report
from .imports import Import, Need, imports_of, offered_lazily
from .remedies import DAEMON_THREADS, cures, normalised

_REFUSED: tuple[Outcome, ...] = ("refused", "refused when used", "speed-up lost")  # by the need
_MAIN_ONLY = "of the standard library, CPython has it in its main interpreter only"
_WITHOUT = "a `try` around the import, which goes on after an ImportError"
_LAZY_SIGNS = (b"__getattr__", b"lazy", b"Lazy", b"LAZY")

type Extensions = Literal["pure", "private", "refuse"]


def doctor(
    app: str,
    *,
    path: Sequence[str] | None = None,
    extensions: Extensions = "pure",
    hide_modules: Sequence[str] = (),
    run: bool = False,
) -> Report:
    """Look through the imports of an application.

    Args:
        app: Its import path, ``"package.module:attribute"``, or a module alone.
        path: Where modules are looked for; by default ``sys.path``.
        extensions: The option of that name, with which it is to be served.
        hide_modules: Likewise.
        run: Import it too, as a worker does, but in a process of its own, and compare.

    Raises:
        AppPathError: The path is malformed.
        AppModuleNotFoundError: There is no such module.
    """
    name = app.partition(":")[0]
    if not all(map(str.isidentifier, name.split("."))):
        raise AppPathError(f"Invalid app path {app!r}: expected 'package.module:attribute'")
    path = sys.path if path is None else path
    environment = Environment(path, hide_modules)
    if environment.find(name) is None:
        raise AppModuleNotFoundError(
            f"no module named {name!r}, looking for the application; "
            "is its directory on sys.path (--app-dir on the command line)?",
            name=name,
        )
    walk = _Walk(environment, name, extensions)
    walk.run()
    findings = [*walk.findings()]
    outcome = None
    if run:
        from .rehearsal import compare, rehearse

        happened = rehearse(app, path, extensions, hide_modules)
        findings = [*compare(findings, happened, environment, app)]
        outcome = happened.outcome
    findings.sort(key=lambda found: (OUTCOMES.index(found.outcome), found.module))
    version = ".".join(map(str, sys.version_info[:3]))
    return Report(app, version, walk.count, tuple(findings), outcome)


def _top(name: str) -> str:
    return name.partition(".")[0]


def _with_those_above(name: str) -> Iterator[str]:
    """Yield the packages that a module is in, from the top, and the module."""
    return accumulate(name.split("."), "{}.{}".format)


class _Walk:
    """Visits modules, those first on which most depends, each by the shortest way."""

    def __init__(self, environment: Environment, start: str, extensions: Extensions) -> None:
        self._environment = environment
        self._extensions = extensions
        self._from: dict[str, str | None] = {}
        self._need: dict[str, Need] = {}
        self._unread: dict[str, str] = {}
        self._main_only: dict[str, Need] = {}
        self._waiting: tuple[deque[tuple[str, str | None]], ...] = tuple(deque() for _ in Need)
        self._conditional: list[tuple[str, str, Need]] = []
        self._offers: dict[str, dict[str, str]] = {}
        self._optional: set[tuple[str, str]] = set()  # by which package, and what
        self._settings = django.settings_in_environment()
        self._settings_named_by = start
        self._want(start, None, Need.NOW)

    @property
    def count(self) -> int:
        return len(self._need)

    def run(self) -> None:
        for need in Need:
            self._visit_all(need)
            if need == Need.NOW and self._settings is not None and "django" in self._need:
                project = django.Project(self._environment, self._settings)
                for name, origin, wanted in project.wanted(self._settings_named_by):
                    self._want(name, origin, wanted)
                self._visit_all(need)

    def _visit_all(self, need: Need) -> None:
        self._visit(need)
        while self._conditional:
            conditional, self._conditional = self._conditional, []
            for name, origin, wanted in conditional:
                if self._is_optional(name, origin):
                    wanted = Need.OPTIONAL
                self._want(name, origin, wanted)
            self._visit(need)

    def _visit(self, need: Need) -> None:
        waiting = self._waiting[need]
        while waiting:
            name, origin = waiting.popleft()
            if name in self._from:
                continue
            if module := self._environment.find(name):
                self._need[name] = need
                self._from[name] = origin
                self._follow(module, need)
            elif self._environment.is_main_only(name):
                self._main_only[name] = need
                self._from[name] = origin

    def _is_optional(self, name: str, origin: str) -> bool:
        """Whether a package imports under a condition what it can do without elsewhere.

        The condition then says whether it was there, as a rule.
        """
        package, top = _top(origin), _top(name)
        return (package, name) in self._optional or (
            package != top and (package, top) in self._optional
        )

    def _want(self, name: str, origin: str | None, need: Need) -> None:
        """Note an import: of the packages above a module too."""
        for each in _with_those_above(name):
            self._waiting[need].append((each, origin))

    def _follow(self, module: Module, need: Need) -> None:
        try:
            source = module.source()
            imports = imports_of(source, module.name, module.is_package)
            imports += self._taken_lazily(module, source, imports)
            if self._settings is None and not module.installed:
                self._settings = django.settings_named_in(source, module.name)
                self._settings_named_by = module.name
        except (OSError, SyntaxError, ValueError, RecursionError, MemoryError) as exc:
            self._unread[module.name] = (
                f"its source can't be read: {str(exc) or type(exc).__name__}"
            )
            return
        for found in imports:
            if found.need == Need.LATER and module.installed:
                continue  # libraries import much in functions that an application never calls
            whole = max(need, found.need)
            names = [found.module]
            origin = self._environment.find(found.module)
            if origin is not None and origin.is_package:
                names += [f"{found.module}.{name}" for name in found.names if name != "*"]
                names += self._offered(origin, found.names)
            for name in names:
                if found.need == Need.OPTIONAL:
                    package = _top(module.name)
                    self._optional |= {(package, name), (package, _top(name))}
                if found.conditional and whole != Need.OPTIONAL:
                    self._conditional.append((name, module.name, whole))
                else:
                    self._want(name, module.name, whole)

    def _taken_lazily(
        self, module: Module, source: bytes, imports: Sequence[Import]
    ) -> Iterator[Import]:
        """Find what packages import when a module asks them for an attribute; errors likewise."""
        named: set[str] = set()
        for found in imports:
            origin = self._environment.find(found.module)
            if origin is not None and origin.is_package:
                named.update(f"{found.module}.{name}" for name in found.names)
            named.update(_with_those_above(found.module))
        if any(map(self._offers_of, named)):
            for taken in taken_by_attribute(source, module.name, module.is_package):
                if place := self._offers_of(taken.module).get(taken.names[0]):
                    yield replace(taken, module=place, names=())

    def _offers_of(self, name: str) -> dict[str, str]:
        """Say which modules a module imports when it is asked for names, if it is a package."""
        package = self._environment.find(name)
        return {} if package is None or not package.is_package else self._read_offers(package)

    def _offered(self, package: Module, names: tuple[str, ...]) -> Iterator[str]:
        """Name the modules that a package imports when it is asked for names."""
        offers = self._read_offers(package)
        return (offers[name] for name in names if name in offers)

    def _read_offers(self, package: Module) -> dict[str, str]:
        if package.name not in self._offers:
            try:
                source = package.source()
                # (Most packages have no such table, and need not be parsed for it.)
                has_table = any(sign in source for sign in _LAZY_SIGNS)
                offers = offered_lazily(source, package.name) if has_table else {}
            except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
                offers = {}  # which is told where it is followed
            self._offers[package.name] = offers
        return self._offers[package.name]

    def _chain(self, name: str) -> tuple[str, ...]:
        chain: list[str] = []
        at: str | None = name
        while at is not None:
            chain.append(at)
            at = self._from[at]
        return tuple(reversed(chain))

    def findings(self) -> Iterator[Finding]:
        told: set[str] = set()
        for name, need in self._need.items():
            module = self._environment.find(name)
            unread = self._unread.get(name)
            if module is None or not (module.installed or module.is_extension or unread):
                continue
            distribution, version = self._environment.distribution(module) or (None, None)
            known = normalised(distribution or "")
            if need != Need.OPTIONAL and known in DAEMON_THREADS and known not in told:
                told.add(known)
                yield Finding(
                    name,
                    distribution,
                    version,
                    "daemon threads",
                    f"it starts threads that ask to be daemons: {DAEMON_THREADS[known]}",
                    self._chain(name),
                    ("daemon_threads='demote', the default, makes them ordinary threads",),
                )
            if module.is_extension:
                finding = self._judge(module, need)
                yield replace(finding, distribution=distribution, version=version)
            elif unread and need != Need.OPTIONAL:
                yield Finding(
                    name,
                    distribution,
                    version,
                    "unknown",
                    unread,
                    self._chain(name),
                    path=module.path,
                )

        for name, need in self._main_only.items():
            if need != Need.OPTIONAL:  # (those are no speed-ups, and many look for one)
                would_do = cures((), private=None, first=_WITHOUT)
                chain = self._chain(name)
                yield Finding(name, None, None, _REFUSED[need], _MAIN_ONLY, chain, would_do)

    def _judge(self, module: Module, need: Need) -> Finding:
        chain = self._chain(module.name)
        outcome: Outcome = "unknown"
        twin = against = None
        try:
            verdict = reader.examine(module.path)
            reason = verdict.reason
            if verdict.support == "own_gil":
                outcome = "native"
            elif verdict.refused:
                twin, against = module.twin, objection(module.name, module.path, verdict)
                if twin and self._extensions != "refuse":
                    outcome = "pure twin"
                elif against is None and self._extensions == "private":
                    outcome = "private copy"
                elif stands_in(module.name) and self._extensions == "private":
                    outcome, reason = "private copy", f"{reason}; threads stand in for it"
                else:
                    outcome = _REFUSED[need]
                    if self._extensions == "private":
                        reason += f"; nor can it be loaded from a copy: {against}"
        except ExtensionFileError as exc:
            reason = str(exc)
        would_do: tuple[str, ...] = ()
        if outcome in ("refused", "refused when used"):
            private = cure_by_private(module.name, against)
            would_do = cures(
                self._distributions(chain),
                private=None if self._extensions == "private" else private,
            )
        return Finding(module.name, None, None, outcome, reason, chain, would_do, twin, module.path)

    def _distributions(self, chain: tuple[str, ...]) -> Iterator[str]:
        """Yield those that lead to a module, from the application's own import on."""
        for name in chain:
            module = self._environment.find(name)
            found = module and module.installed and self._environment.distribution(module)
            if found:
                yield found[0]
