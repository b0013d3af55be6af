"""The table of packages is what its data gives, and data what interpreters have written down."""

from __future__ import annotations

import subprocess
import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from typing import Any

import pytest

from tests.support import ROOT

SCRIPT = str(ROOT / "scripts" / "extension-table")


@pytest.fixture(scope="module")
def script() -> Any:
    spec = spec_from_loader("extension_table", SourceFileLoader("extension_table", SCRIPT))
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    path = [*sys.path]
    spec.loader.exec_module(module)
    sys.path[:] = path
    return module


def test_the_table_is_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, SCRIPT, "--check"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_data_is_of_packages_that_are_listed(script: Any) -> None:
    rows = script.read()
    assert {row["package"] for row in rows} <= {*script.packages()}
    for row in rows:
        assert None not in row.values()
        assert row["date"]
        assert row["pure"]
        assert row["private"]


@pytest.mark.parametrize(
    ("events", "status", "outcome"),
    [
        ([["imported", "probe"]], 0, ("no C", "")),
        ([["native", "a", ""], ["imported", "probe"]], 0, ("native", "")),
        ([["native", "a", ""], ["pure twin", "b", ""]], 0, ("twin", "")),
        ([["refused", "a", "", "why"], ["native", "b", ""]], 0, ("slower", "a")),
        ([["private copy", "a", ""], ["native", "b", ""]], 0, ("copy", "")),
        ([["pure twin", "a", ""], ["private copy", "a", ""]], 0, ("copy", "")),
        ([["private copy", "a", ""], ["refused", "b", ""]], 0, ("copy, slower", "b")),
        ([["private copy", "greenlet._greenlet", ""]], 0, ("threads", "")),
        ([["refused", "a", "", "why"], ["failed", "probe", "", "x"]], 0, ("refused", "a")),
        ([["failed", "probe", "", "no such thing"]], 0, ("fails", "no such thing")),
        ([["loading", "a", ""], ["loading", "b", ""]], -11, ("crashes", "status -11 after b")),
    ],
)
def test_outcomes(
    script: Any, events: list[list[str]], status: int, outcome: tuple[str, str]
) -> None:
    assert script.judge(events, status) == outcome


def test_cells(script: Any) -> None:
    row = {"package": "lib", "date": "2026-01-02", "foreseen": "refused works", "note": ""}
    here = {"version": "1.0", "python": "3.14.1", "pure": "refused", "private": "copy"}
    there = {"version": "1.1", "python": "3.15.0", "pure": "slower", "private": "slower"}
    lines = script.table([row | here, row | there]).splitlines()
    assert lines[0] == "Measured 2026-01-02, on Linux, x86-64, with CPython 3.14.1, 3.15.0."
    assert lines[1] == "The doctor foresaw 2 of 2 on 3.14."
    assert lines[2] == "The doctor foresaw 1 of 2 on 3.15."
    assert lines[-3] == "| package | 3.14 | 3.15 |"
    assert lines[-1] == "| lib | refused → copy (1.0) | slower (1.1) |"
