"""The script that compares the reader with CPython, on what tests need anyway."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys

import pytest

from tests.support import ROOT

PACKAGES = ["aiohttp", "frozenlist", "markupsafe", "multidict", "propcache", "websockets", "yarl"]
SCRIPT = str(ROOT / "scripts" / "check-extension-reader")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere no file is judged")
def test_it_agrees() -> None:
    assert all(map(importlib.util.find_spec, PACKAGES))
    done = subprocess.run(
        [sys.executable, SCRIPT, "--jobs", "2", "--least", "1.0", *PACKAGES],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "miss" not in done.stdout
    counts = re.search(r"(\d+) are refused, (\d+) load, 0 can't be decided", done.stdout)
    assert counts is not None, done.stdout
    assert all(int(count) for count in counts.groups()), "too little to compare"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere no file is judged")
def test_it_would_find_a_difference() -> None:
    lie = (
        "import runpy, sys; sys.path.insert(0, sys.argv.pop(1)); "
        "from subinterp_asgi.extensions import reader; "
        "reader.Verdict.refused = property(lambda self: False); "
        "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    done = subprocess.run(
        [sys.executable, "-c", lie, str(ROOT), SCRIPT, "--least", "0.99", "yarl"],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "miss       yarl._quoting_c" in done.stdout
