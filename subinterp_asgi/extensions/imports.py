"""What a module's source says that it imports, and whether it can do without.

Read as text, nothing is executed. Followed is what runs when the module is imported; what is
imported in functions is told apart. Imports by a name that is put together can't be seen.
"""

from __future__ import annotations

import ast
import operator
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from enum import IntEnum

from ..types import Any


class Need(IntEnum):
    """How much depends on an import; of two that follow each other, the greater holds."""

    NOW = 0
    """Without it the import fails."""
    LATER = 1
    """It is imported in a function, which fails when it is called."""
    OPTIONAL = 2
    """Its failure is expected and caught."""


@dataclass(frozen=True, slots=True)
class Import:
    """One import of a module."""

    module: str
    names: tuple[str, ...]
    """What is taken of it, which may be modules as well."""
    need: Need
    conditional: bool = False
    """It is done under a condition that is not known."""


_CATCHING = {"ImportError", "Exception", "BaseException"}  # not ModuleNotFoundError
_CALLS = {"import_module", "__import__"}


def imports_of(source: bytes, module: str, is_package: bool) -> list[Import]:
    """Return the imports of a module.

    Raises:
        SyntaxError: It isn't Python.
        ValueError: Likewise.
        RecursionError: It is nested too deeply.
        MemoryError: Likewise.
    """
    body = parse(source, module).body
    return imports_in(body, module if is_package else module.rpartition(".")[0])


def parse(source: bytes, module: str) -> ast.Module:
    """Return the tree of a module's source; errors as ``imports_of()``."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its escape sequences, say
        return ast.parse(source, module)


def offered_lazily(source: bytes, package: str) -> dict[str, str]:
    """Return what a package imports once it is asked for a name, as far as it has a table of that.

    Such tables have names for keys and, as a whole or in a tuple, where in the package each is:
    ``".applications.App"``. (PEP 562; libraries that make such a ``__getattr__`` are many.) Errors
    as ``imports_of()``.
    """
    offered: dict[str, str] = {}
    inside = f"{package.partition('.')[0]}."
    for node in ast.walk(parse(source, package)):
        if not isinstance(node, ast.Dict):
            continue
        for key, value in zip(node.keys, node.values, strict=True):
            name = getattr(key, "value", None)
            for part in value.elts if isinstance(value, ast.Tuple) else (value,):
                place = getattr(part, "value", None)
                if not isinstance(name, str) or not isinstance(place, str):
                    continue
                place = place.replace(":", ".")
                if place.startswith(".") and place[1:2] not in ("", "."):
                    offered[name] = package + place
                elif place.startswith(inside):
                    offered[name] = place
    return offered


def imports_in(body: Iterable[ast.stmt], package: str) -> list[Import]:
    """Return the imports of statements in a module of a package."""
    return list(_in_body(body, package, Need.NOW))


def _in_body(body: Iterable[ast.stmt], package: str, need: Need) -> Iterator[Import]:
    for node in body:
        yield from _in_statement(node, package, need)


def _in_statement(node: ast.stmt, package: str, need: Need) -> Iterator[Import]:
    match node:
        case ast.Import():
            for alias in node.names:
                yield Import(alias.name, (), need)
        case ast.ImportFrom():
            if (origin := origin_of(node, package)) is not None:
                yield Import(origin, tuple(alias.name for alias in node.names), need)
        case ast.Try() | ast.TryStar():
            caught = max(need, Need.OPTIONAL) if catches(node.handlers) else need
            yield from _in_body(node.body, package, caught)
            for handler in node.handlers:  # the way out
                yield from _in_body(handler.body, package, max(need, Need.OPTIONAL))
            yield from _in_body(node.orelse, package, caught)  # only if nothing was raised
            yield from _in_body(node.finalbody, package, need)
        case ast.If():
            known = holds(node.test)
            for body, value in ((node.body, True), (node.orelse, False)):
                for found in _in_body(body, package, need):
                    if known is None:
                        yield replace(found, conditional=True)
                    elif known is value:
                        yield found
        case ast.With() | ast.AsyncWith():
            caught = max(need, Need.OPTIONAL) if suppresses(node) else need
            yield from _in_body(node.body, package, caught)
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            yield from _in_body(node.body, package, max(need, Need.LATER))
        case ast.Match():
            for branch in node.cases:
                yield from _in_body(branch.body, package, need)
        case ast.ClassDef() | ast.For() | ast.AsyncFor() | ast.While():
            yield from _in_body(node.body, package, need)
            yield from _in_body(getattr(node, "orelse", ()), package, need)
        case ast.Expr() | ast.Assign() | ast.AnnAssign() | ast.Return():
            for call in ast.walk(node):
                if (name := _named_in(call)) is not None:
                    yield Import(name, (), need)


def origin_of(node: ast.ImportFrom, package: str) -> str | None:
    """Return the absolute name of what is imported from."""
    if not node.level:
        return node.module
    parts = package.split(".")
    if node.level > len(parts):
        return None
    parts = parts[: len(parts) - node.level + 1]
    return ".".join((*parts, node.module) if node.module else parts)


def _named_in(node: ast.AST) -> str | None:
    """Return the module that a call of ``import_module()`` names as a constant."""
    if not isinstance(node, ast.Call) or not node.args:
        return None
    function = node.func
    called = getattr(function, "id", None) or getattr(function, "attr", None)
    name = getattr(node.args[0], "value", None)
    if called not in _CALLS or not isinstance(name, str) or not name or name.startswith("."):
        return None
    return name


def catches(handlers: list[ast.ExceptHandler]) -> bool:
    """Whether one of them catches an ImportError and goes on."""
    for handler in handlers:
        kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
        for kind in kinds:
            name = getattr(kind, "id", None) or getattr(kind, "attr", None)
            if kind is None or name in _CATCHING:
                return not any(map(_raises, handler.body))
    return False


def suppresses(node: ast.With | ast.AsyncWith) -> bool:
    """Whether it goes on after an ImportError."""
    return any("suppress" in ast.unparse(item.context_expr) for item in node.items)


def _raises(node: ast.stmt) -> bool:
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        called = node.value.func
        name = getattr(called, "id", None) or getattr(called, "attr", "")
        return str(name).startswith("raise")
    return isinstance(node, ast.Raise)


def holds(test: ast.expr) -> bool | None:
    """Whether a condition holds here, as far as that is certain."""
    match test:
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            inner = holds(operand)
            return None if inner is None else not inner
        case ast.BoolOp(op=op, values=values):
            known = [holds(value) for value in values]
            decisive = isinstance(op, ast.Or)
            if decisive in known:
                return decisive
            return None if None in known else not decisive
        case ast.Name(id="TYPE_CHECKING") | ast.Attribute(attr="TYPE_CHECKING"):
            return False
        case ast.Compare(left=left, ops=[op], comparators=[right]):
            return _compare(ast.unparse(left), op, right)
    return None


_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], object]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda mine, value: mine in value,
    ast.NotIn: lambda mine, value: mine not in value,
}


def _compare(name: str, op: ast.cmpop, right: ast.expr) -> bool | None:
    known = {
        "sys.version_info": tuple(sys.version_info[:3]),
        "sys.version_info[:2]": sys.version_info[:2],
        "sys.version_info[0]": sys.version_info[0],
        "sys.version_info.major": sys.version_info[0],
        "sys.platform": sys.platform,
        "sys.implementation.name": sys.implementation.name,
        "platform.python_implementation()": "CPython",
        "__name__": "",  # that of a module is never "__main__"
    }
    try:
        value = ast.literal_eval(right)
        mine = known[name]
        if name == "__name__" and value != "__main__":
            return None
        return bool(_COMPARE[type(op)](mine, value))
    except (KeyError, ValueError, TypeError, SyntaxError):
        pass
    return None
