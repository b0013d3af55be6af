"""What a module takes of others by their attributes: ``import a``, then ``a.b``.

That is worth knowing of packages that import something once they are asked for it (PEP 562); others
have imported by then what they offer. As in ``imports``, nothing is executed, and a variable of the
same name as a module is taken for it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator

from .imports import Import, Need, catches, holds, origin_of, parse, suppresses

type _Part = tuple[ast.AST, Need, bool]
"""A node, how much depends on it, and whether under a condition that is not known."""


def taken_by_attribute(source: bytes, module: str, is_package: bool) -> list[Import]:
    """Return modules and the names that are asked of each, with how much depends on that.

    Of ``a.b.c`` that is ``b`` of ``a``, and ``c`` of ``a.b``. Errors as ``imports_of()``.
    """
    tree = parse(source, module)
    bound = dict(_bound(tree, module if is_package else module.rpartition(".")[0]))
    taken: list[Import] = []
    # (Not by recursion: expressions may be nested deeply, such as sums.)
    waiting: list[_Part] = [(tree, Need.NOW, False)]
    while waiting:
        node, need, conditional = waiting.pop()
        path = _path(node) if isinstance(node, ast.Attribute) else []
        if path and path[0] in bound:
            above = bound[path[0]]
            for name in path[1:]:
                taken.append(Import(above, (name,), need, conditional))
                above = f"{above}.{name}"
        else:
            waiting += reversed([*_parts(node, need, conditional)])
    return list(dict.fromkeys(taken))


def _bound(tree: ast.Module, package: str) -> Iterator[tuple[str, str]]:
    """Yield the names that are bound to what may be modules, and the names of these."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                name = alias.name if alias.asname else alias.name.partition(".")[0]
                yield alias.asname or name, name
        elif isinstance(node, ast.ImportFrom) and (origin := origin_of(node, package)) is not None:
            for alias in node.names:
                yield alias.asname or alias.name, f"{origin}.{alias.name}"


def _parts(node: ast.AST, need: Need, conditional: bool) -> Iterator[_Part]:
    """Yield what a node consists of.

    (Annotations count as if they were in a function: most are never evaluated.)
    """
    later = max(need, Need.LATER)
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            arguments = node.args
            defaults = [*arguments.defaults, *filter(None, arguments.kw_defaults)]
            yield from _each((*node.decorator_list, *defaults), need, conditional)
            every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
            every += filter(None, (arguments.vararg, arguments.kwarg))
            annotations = (*(each.annotation for each in every), node.returns)
            yield from _each((*filter(None, annotations), *node.body), later, False)
        case ast.Lambda():
            yield node.args, need, conditional
            yield node.body, later, False
        case ast.AnnAssign():
            yield node.annotation, later, False
            yield from _each(filter(None, (node.target, node.value)), need, conditional)
        case ast.Try() | ast.TryStar():
            optional = max(need, Need.OPTIONAL)
            caught = optional if catches(node.handlers) else need
            yield from _each((*node.body, *node.orelse), caught, conditional)
            yield from _each(node.handlers, optional, conditional)
            yield from _each(node.finalbody, need, conditional)
        case ast.If():
            known = holds(node.test)
            yield node.test, need, conditional
            for body, value in ((node.body, True), (node.orelse, False)):
                if known is None or known is value:
                    yield from _each(body, need, conditional or known is None)
        case ast.With() | ast.AsyncWith():
            caught = max(need, Need.OPTIONAL) if suppresses(node) else need
            yield from _each(node.items, need, conditional)
            yield from _each(node.body, caught, conditional)
        case _:
            yield from _each(ast.iter_child_nodes(node), need, conditional)


def _each(nodes: Iterable[ast.AST], need: Need, conditional: bool) -> Iterator[_Part]:
    return ((node, need, conditional) for node in nodes)


def _path(node: ast.Attribute) -> list[str]:
    """Return the names of ``a.b.c``; nothing if it begins with something else."""
    names: list[str] = []
    at: ast.expr = node
    while isinstance(at, ast.Attribute):
        names.append(at.attr)
        at = at.value
    return [at.id, *reversed(names)] if isinstance(at, ast.Name) else []
