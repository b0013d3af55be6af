"""Reloads give back what the generations before have held; ``make soak`` does more of them."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support import run_module

# CPython 3.13 keeps the memory of interpreters: some megabytes for each worker and reload.
COUNTS = (
    ("--count", "15", "--warm-up", "10")
    if sys.version_info >= (3, 14)
    else ("--count", "8", "--warm-up", "2")
)


def run(source: str = "") -> subprocess.CompletedProcess[str]:
    """Reload a bare application, after some other code if there is any."""
    return run_module("tests.soak", "reloads", "--app", "bare", *COUNTS, source=source)


def test_nothing_is_left_of_the_generations_before() -> None:
    done = run()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "memory has changed" in done.stdout


BREAK_AND_RUN = """
import os, sys, threading
from subinterp_asgi.supervisor.pool.pool import Pool
from tests.soak import reloads
from tests.soak.__main__ import main

reloads.DEADLINE = 1.0
release, kept = Pool.release, []

def defective(self, handle):
    release(self, handle)
    {defect}

Pool.release = defective
sys.exit(main())
"""


@pytest.mark.once
@pytest.mark.parametrize(
    "defect",
    [
        "os.dup(0)",
        "threading.Thread(target=threading.Event().wait, daemon=True).start()",
        pytest.param(
            "kept.append(b'x' * 2**20)",
            marks=pytest.mark.skipif(sys.version_info < (3, 14), reason="memory grows anyway"),
        ),
    ],
)
def test_it_finds_what_is_left(defect: str) -> None:
    done = run(BREAK_AND_RUN.format(defect=defect))
    assert done.returncode == 1, done.stdout + done.stderr
    assert "before: " in done.stdout or "more than 10%" in done.stdout
