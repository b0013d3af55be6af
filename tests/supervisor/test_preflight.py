"""What is said before anything is started."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.support import run_script

START = """
    import sys, tracemalloc, warnings
    from subinterp_asgi import Supervisor

    warnings.simplefilter("error")  # so that no interpreter is made
    isolation, start = sys.argv[1:]
    server = Supervisor("missing:app", port=0, isolation=isolation)
    if start == "call":
        tracemalloc.start()
    try:
        server.start()
    except Exception as exc:
        print(type(exc).__name__, exc)
"""


@pytest.mark.parametrize("how", ["flag", "environment", "call", "not at all"])
@pytest.mark.parametrize("isolation", ["interpreter", "thread"])
def test_tracemalloc_is_warned_of_where_it_crashes(
    isolation: str, how: str, tmp_path: Path
) -> None:
    crashes = sys.version_info < (3, 15) and isolation == "interpreter" and how != "not at all"
    done = run_script(
        tmp_path,
        START,
        isolation,
        how,
        flags=("-X", "tracemalloc") if how == "flag" else (),
        environment={"PYTHONTRACEMALLOC": "1"} if how == "environment" else {},
    )
    assert done.returncode == 0, done.stderr
    if crashes:
        version = f"{sys.version_info[0]}.{sys.version_info[1]}"
        assert done.stdout.startswith(
            f"RuntimeWarning tracemalloc is on: CPython {version} crashes"
        ), done.stdout
        assert "PYTHONTRACEMALLOC" in done.stdout
    else:
        assert done.stdout.startswith("StartupError"), done.stdout
