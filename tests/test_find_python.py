"""``scripts/find-python`` takes the newest CPython that will do, wherever it is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ROOT

# What the probe asks an interpreter for is its rank, and what comes after that its path.
STAND_IN = """#!/bin/sh
case "$2" in *verdict*) echo "{rank}" ;; *) echo "$0" ;; esac
"""


def install(path: Path, rank: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(STAND_IN.format(rank=rank))
    path.chmod(0o755)
    return path


def find(folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(ROOT / "scripts" / "find-python")],
        env={"HOME": str(folder), "PATH": f"{folder / 'bin'}:/usr/bin:/bin", **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize(
    ("on_path", "in_pyenv", "taken"),
    [
        ("3.13.99 ok", "3.15.99 ok", "pyenv"),
        ("3.15.99 ok", "3.13.99 ok", "PATH"),
        ("3.15.98 ok", "3.15.99 ok", "pyenv"),
        ("3.15.99 ok", "3.15.99 ok", "PATH"),  # the first that was found
        ("3.15.99 ok", "3.16.0 else", "PATH"),
        ("3.15.99 ok", "is not CPython", "PATH"),
        ("", "3.15.99 ok", "pyenv"),
    ],
)
def test_the_newest_is_taken(on_path: str, in_pyenv: str, taken: str, tmp_path: Path) -> None:
    paths = {
        "PATH": install(tmp_path / "bin" / "python3.13", on_path),
        "pyenv": install(tmp_path / ".pyenv/versions/3.15.99/bin/python", in_pyenv),
    }
    found = find(tmp_path)
    assert (found.returncode, found.stdout.strip()) == (0, str(paths[taken])), found.stderr


def test_one_that_is_named_is_taken(tmp_path: Path) -> None:
    install(tmp_path / "bin" / "python3.15", "3.15.99 ok")
    found = find(tmp_path, PYTHON=sys.executable)
    assert (found.returncode, found.stdout.strip()) == (0, sys.executable), found.stderr
    named = install(tmp_path / "bin" / "python3.13", "is not CPython")
    found = find(tmp_path, PYTHON="python3.13")
    assert found.returncode == 1
    assert found.stderr == "find-python: PYTHON=python3.13 is not CPython\n", named
