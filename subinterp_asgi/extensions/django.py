"""What Django imports by names that stand in settings, read as text: nothing is executed.

All that may be in a setting counts, under whatever condition it is put there.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Iterable, Iterator

from .environment import Environment
from .imports import Import, Need, imports_in, parse

VARIABLE = "DJANGO_SETTINGS_MODULE"

_ADMIN = "django.contrib.admin"

type Wanted = tuple[str, str, Need]
"""A module, which one leads to it, and how much depends on it."""


def settings_named_in(source: bytes, module: str) -> str | None:
    """Return the settings that a module names, by a constant; as ``asgi.py`` does, for one."""
    if VARIABLE.encode() not in source:
        return None
    for node in ast.walk(parse(source, module)):
        pair: list[ast.expr] = []
        if isinstance(node, ast.Call):
            pair = node.args[:2]  # os.environ.setdefault(), or os.putenv()
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Subscript):
            pair = [node.targets[0].slice, node.value]
        values = [getattr(expression, "value", None) for expression in pair]
        if len(values) == 2 and values[0] == VARIABLE and isinstance(values[1], str):
            return values[1]
    return None


def settings_in_environment() -> str | None:
    """Return the settings that this process would take."""
    return os.environ.get(VARIABLE) or None


class Project:
    """The settings of a project, and what follows from them."""

    def __init__(self, environment: Environment, settings: str) -> None:
        self._environment = environment
        self._settings = settings
        self._trees: dict[str, ast.Module] = {}

    def wanted(self, origin: str) -> Iterator[Wanted]:
        """Yield what is imported once Django is set up, and what the first request imports."""
        settings = self._settings
        yield settings, origin, Need.NOW
        apps = [*self._strings(settings, "INSTALLED_APPS", set())]
        names = []
        for entry in apps:
            name, module = self._app(entry)
            names.append(name)
            yield module, settings, Need.NOW
            yield from self._ready(module)
        for name in names:
            yield f"{name}.models", settings, Need.NOW
            if any(entry.startswith(_ADMIN) for entry in apps):
                yield f"{name}.admin", settings, Need.NOW
        for engine in self._strings(settings, "DATABASES", set()):
            if engine.isascii() and all(map(str.isidentifier, engine.split("."))):
                yield f"{engine}.base", settings, Need.NOW
        for entry in self._strings(settings, "MIDDLEWARE", set()):
            yield entry.rpartition(".")[0], settings, Need.NOW
        for urls in self._strings(settings, "ROOT_URLCONF", set()):
            yield from self._urls(urls, settings, set())

    def _app(self, entry: str) -> tuple[str, str]:
        """Return the name of an application, and the module that has its configuration."""
        find = self._environment.find
        if find(entry) is not None:
            apps = f"{entry}.apps"
            return entry, apps if find(apps) is not None else entry
        module, _, cls = entry.rpartition(".")
        for node in ast.walk(self._tree(module)):
            if isinstance(node, ast.ClassDef) and node.name == cls:
                for name in _constants_of(node.body, "name"):
                    return name, module
        return module.removesuffix(".apps"), module

    def _ready(self, module: str) -> Iterator[Wanted]:
        """Yield what ``ready()`` of configurations imports, which Django calls."""
        package = self._package_of(module)
        for node in ast.walk(self._tree(module)):
            if isinstance(node, ast.FunctionDef) and node.name == "ready":
                for item in imports_in(node.body, package):
                    for name in self._modules_of(item):
                        yield name, module, item.need

    def _modules_of(self, item: Import) -> Iterator[str]:
        """Yield a module that is imported, and what is taken of it that may be one."""
        yield item.module
        found = self._environment.find(item.module)
        if found is not None and found.is_package:
            yield from (f"{item.module}.{name}" for name in item.names if name != "*")

    def _urls(self, module: str, origin: str, seen: set[str]) -> Iterator[Wanted]:
        """Yield a module of URLs, and those that it includes by name."""
        if module in seen:
            return
        seen.add(module)
        yield module, origin, Need.LATER
        for node in ast.walk(self._tree(module)):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "include":
                for name in _strings_in(node.args[:1]):
                    yield from self._urls(name, module, seen)

    # --- settings

    def _strings(self, module: str, name: str, seen: set[tuple[str, str]]) -> Iterator[str]:
        """Yield the strings that a name of a module is given, in all places, also by other names.

        It may have been taken from the modules that this one is made on.
        """
        if (module, name) in seen:
            return
        seen.add((module, name))
        for value in _given(self._tree(module), name):
            yield from _strings_in([value])
            for node in ast.walk(value):
                match node:
                    case ast.Name(id=other):
                        yield from self._strings(module, other, seen)
                    case ast.Attribute(value=ast.Name(id=base), attr=other):
                        for item in self._imports(module):
                            for found in self._modules_of(item):
                                if found.rpartition(".")[2] == base:
                                    yield from self._strings(found, other, seen)
        for item in self._imports(module):
            if "*" in item.names or name in item.names:
                yield from self._strings(item.module, name, seen)

    def _imports(self, module: str) -> list[Import]:
        return imports_in(self._tree(module).body, self._package_of(module))

    def _package_of(self, module: str) -> str:
        found = self._environment.find(module)
        is_package = found is not None and found.is_package
        return module if is_package else module.rpartition(".")[0]

    def _tree(self, module: str) -> ast.Module:
        if module not in self._trees:
            found = self._environment.find(module)
            try:
                source = b"" if found is None else found.source()
                self._trees[module] = parse(source, module)
            except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
                self._trees[module] = ast.Module([], [])
        return self._trees[module]


def _given(tree: ast.Module, name: str) -> Iterator[ast.expr]:
    """Yield the expressions of what is assigned to a name, or put into what it names."""
    for node in ast.walk(tree):
        match node:
            case ast.Assign(targets=targets, value=value):
                if any(getattr(target, "id", None) == name for target in targets):
                    yield value
            case ast.AugAssign(target=ast.Name(id=target), value=value) if target == name:
                yield value
            case ast.AnnAssign(target=ast.Name(id=target), value=ast.expr() as value):
                if target == name:
                    yield value
            case ast.Call(func=ast.Attribute(value=ast.Name(id=target), attr=method), args=args):
                if target == name and method in ("append", "extend", "insert", "update"):
                    yield from args


def _strings_in(expressions: Iterable[ast.expr]) -> Iterator[str]:
    for expression in expressions:
        for node in ast.walk(expression):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


def _constants_of(body: Iterable[ast.stmt], name: str) -> Iterator[str]:
    for statement in body:
        if isinstance(statement, ast.Assign) and getattr(statement.targets[0], "id", "") == name:
            yield from _strings_in([statement.value])
