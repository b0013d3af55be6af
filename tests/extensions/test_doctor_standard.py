"""What the doctor says of modules of the standard library that CPython refuses in interpreters."""

from __future__ import annotations

import importlib.util
import sys
from importlib.machinery import ExtensionFileLoader
from pathlib import Path

import pytest

from subinterp_asgi import doctor
from subinterp_asgi.control.interpreters import Interpreter, InterpreterFailed
from subinterp_asgi.extensions.environment import MAIN_ONLY


def outcomes(folder: Path, source: str, **files: str) -> dict[str, tuple[str, tuple[str, ...]]]:
    for name, text in {"shop": source, **files}.items():
        (folder / f"{name}.py").write_text(text)
    report = doctor("shop:app", path=[str(folder)])
    assert all(found.cures for found in report.findings if found.outcome == "refused")
    return {found.module: (found.outcome, found.chain) for found in report.findings}


@pytest.mark.parametrize(
    ("source", "outcome"),
    [
        ("import {0}", "refused"),
        ("from {0} import x", "refused"),
        ("def dump():\n    import {0}", "refused when used"),
    ],
)
@pytest.mark.parametrize("name", ["tracemalloc", "faulthandler", "readline", "curses"])
def test_they_are_told_like_others(source: str, outcome: str, name: str, tmp_path: Path) -> None:
    assert outcomes(tmp_path, source.format(name)) == {name: (outcome, ("shop", name))}


def test_the_way_to_them_is_told(tmp_path: Path) -> None:
    found = outcomes(tmp_path, "import shelf", shelf="import curses.ascii")
    assert found == {"curses": ("refused", ("shop", "shelf", "curses"))}


def test_what_is_not_needed_is_not_told(tmp_path: Path) -> None:
    source = "try:\n    import readline\nexcept ImportError:\n    pass\n"
    assert not outcomes(tmp_path, source)


def test_others_are_not_told(tmp_path: Path) -> None:
    assert not outcomes(tmp_path, "import asyncio, json, sqlite3, ssl, code, pdb, cmd")


def test_one_of_the_applications_own_takes_its_place(tmp_path: Path) -> None:
    assert not outcomes(tmp_path, "import readline", readline="")


def test_what_is_hidden_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text("import readline")
    report = doctor("shop:app", path=[str(tmp_path)], hide_modules=["readline"])
    assert not report.findings


def _extension_modules() -> list[str]:
    found = {*sys.builtin_module_names} & sys.stdlib_module_names
    for name in sys.stdlib_module_names - found - {"__main__"}:
        spec = importlib.util.find_spec(name)
        if spec is not None and isinstance(spec.loader, ExtensionFileLoader):
            found.add(name)
    return sorted(found)


def _is_refused(name: str) -> bool:
    interpreter = Interpreter()
    try:
        interpreter.execute(f"import {name}")
    except InterpreterFailed as exc:
        return "does not support loading in subinterpreters" in str(exc)
    else:
        return False
    finally:
        interpreter.close()


def test_cpython_refuses_just_these() -> None:
    refused = {name for name in _extension_modules() if _is_refused(name)}
    assert refused <= MAIN_ONLY
    assert {"_tracemalloc", "faulthandler"} <= refused
