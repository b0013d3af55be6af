"""The memory of the process over reloads, with libraries that are known to hold on to it."""

from __future__ import annotations

import statistics
import sys
from pathlib import Path

import pytest

from tests.support import run_script

pytestmark = pytest.mark.skipif(
    sys.version_info < (3, 14), reason="CPython 3.13 gives back no memory of interpreters"
)

HOST = """
    from subinterp_asgi import Supervisor
    from subinterp_asgi.supervisor.policy.recycling import resident_memory

    with Supervisor("served:app", port=0, access_log=False, lifespan="off") as server:
        for number in range(30):
            server.reload()
            print(resident_memory())
"""
TESTS = """
    from subinterp_asgi.supervisor.policy.recycling import resident_memory
    from subinterp_asgi.testing import serve
    from subinterp_asgi.testing.interpreters import stock

    for number in range(60):
        with serve("served:app", fresh="{fresh}", lifespan="off"):
            pass
        if number % 2:
            stock.empty()
            print(resident_memory())
"""
APP = """
    import {module}

    async def app(scope, receive, send):
        raise NotImplementedError
"""
MOST = 0.3
"""MiB by which the process may grow with each reload of a worker, from the 5th to the 30th."""


KNOWN = {"asyncpg": 12.0, "brotli": 6.0}
"""Those that keep something inside of their extension, which nothing outside can undo, and at most
how much. (brotli keeps nothing if it is only imported.)"""
USE = """
    import brotli as used

    used.decompress(used.compress(b"x" * 100_000))
"""


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "module", ["httpx", "urllib3", "requests", "aiohttp.web", "boto3", "pymongo"]
)
def test_memory_is_flat(module: str, tmp_path: Path) -> None:
    assert slope(tmp_path, module, APP.format(module=module)) <= MOST


@pytest.mark.timeout(300)
@pytest.mark.parametrize("module", KNOWN)
def test_known_exceptions(module: str, tmp_path: Path) -> None:
    """Once one of them has become flat, the documentation is to say so."""
    pytest.importorskip(module)
    source = APP.format(module=module) + (USE if module == "brotli" else "")
    assert MOST < slope(tmp_path, module, source) <= KNOWN[module]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("fresh", ["interpreter", "modules"])
def test_fresh_servers_of_tests_leave_nothing(fresh: str, tmp_path: Path) -> None:
    source = APP.format(module="starlette.applications")
    two = slope(tmp_path, "starlette", source, TESTS.format(fresh=fresh))
    assert two <= 2 * MOST


def slope(directory: Path, module: str, source: str, host: str = HOST) -> float:
    """MiB by which the process grows with each reload of one worker."""
    done = run_script(directory, host, files={"served.py": source}, timeout=280)
    assert done.returncode == 0, done.stderr
    mebibytes = [int(line) / 1024 / 1024 for line in done.stdout.split()][4:]
    found = statistics.linear_regression(range(len(mebibytes)), mebibytes).slope
    print(f"{module}: {found:.2f} MiB for each reload, {mebibytes[0]:.0f} to {mebibytes[-1]:.0f}")
    return found
