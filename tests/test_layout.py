"""What the import contracts in ``pyproject.toml`` can't say of the plan of the house."""

from __future__ import annotations

import ast
import graphlib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ["subinterp_asgi", "conformance"]

MOST_AT_THE_TOP = 16
MOST_BELOW = {"subinterp_asgi": 14, "conformance": 16}  # there, a table for each topic

CONVERSIONS = {"AF_INET", "AF_INET6", "inet_ntop", "inet_pton"}


def modules(package: str) -> dict[str, Path]:
    """Return the modules of a package by name; a folder's is its ``__init__``."""
    found = {}
    for path in (ROOT / package).rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported(name: str, path: Path, known: dict[str, Path]) -> Iterator[str]:
    """Yield which of the known modules one imports, for type checkers and in functions too."""
    folder = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom):
            above = folder[: len(folder) + 1 - node.level] if node.level else []
            source = ".".join(above + ([node.module] if node.module else []))
            for alias in node.names:
                inside = f"{source}.{alias.name}"
                if inside in known or source in known:
                    yield inside if inside in known else source


def holds_something(path: Path) -> bool:
    """Whether it is more than what git leaves of a folder that was there once."""
    return path.is_file() or any(path.rglob("*.py"))


@pytest.mark.parametrize("package", PACKAGES)
def test_every_folder_can_be_taken_in_at_a_glance(package: str) -> None:
    full = []
    for folder in sorted({path.parent for path in (ROOT / package).rglob("*.py")}):
        names = sorted(path.name for path in folder.iterdir() if holds_something(path))
        if len(names) > (MOST_AT_THE_TOP if folder.name == package else MOST_BELOW[package]):
            full.append(f"{folder.relative_to(ROOT)} has {len(names)}: {', '.join(names)}")
    assert not full


@pytest.mark.parametrize("package", PACKAGES)
def test_no_modules_import_each_other(package: str) -> None:
    """A folder's ``__init__`` is a module as well: the contract looks beside, but not above."""
    known = modules(package)
    graph = {name: set(imported(name, path, known)) for name, path in known.items()}
    assert sum(map(len, graph.values())) > len(known), "the imports were not found"
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as exc:
        pytest.fail(" -> ".join(reversed(exc.args[1])))


def test_codecs_only_convert_addresses_with_the_socket_module() -> None:
    """The contract has to let them import it."""
    used = set()
    for pattern in ("http1/*.py", "websocket/*.py", "worker/proxies/*.py", "config/*.py"):
        for path in (ROOT / "subinterp_asgi").glob(pattern):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ImportFrom) and node.module == "socket":
                    used |= {alias.name for alias in node.names}
                elif isinstance(node, ast.Attribute) and ast.unparse(node.value) == "socket":
                    used.add(node.attr)
    assert used, "none imports it: then the contract needn't let them"
    assert used <= CONVERSIONS
