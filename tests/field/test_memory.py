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
APP = """
    import {module}

    async def app(scope, receive, send):
        raise NotImplementedError
"""
MOST = 0.3
"""MiB by which the process may grow with each reload of a worker, from the 5th to the 30th."""


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "module", ["httpx", "urllib3", "requests", "aiohttp.web", "boto3", "pymongo"]
)
def test_memory_is_flat(module: str, tmp_path: Path) -> None:
    source = APP.format(module=module)
    done = run_script(tmp_path, HOST, files={"served.py": source}, timeout=280)
    assert done.returncode == 0, done.stderr
    mebibytes = [int(line) / 1024 / 1024 for line in done.stdout.split()][4:]
    slope = statistics.linear_regression(range(len(mebibytes)), mebibytes).slope
    print(f"{module}: {slope:.2f} MiB for each reload, {mebibytes[0]:.0f} to {mebibytes[-1]:.0f}")
    assert slope <= MOST, [round(x) for x in mebibytes]
