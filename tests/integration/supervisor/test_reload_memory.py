"""What is left of the memory of workers that were replaced, if libraries do what libraries do."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from ...support import run_script

pytestmark = pytest.mark.skipif(
    sys.version_info < (3, 14), reason="CPython 3.13 gives back no memory of interpreters"
)

HOST = """
    from subinterp_asgi import Supervisor
    from subinterp_asgi.supervisor.policy.recycling import resident_memory
    from tests.support import get

    def mebibytes():
        return resident_memory() / 1024 / 1024

    with Supervisor("served:app", port=0, access_log=False, lifespan="off") as server:
        for _ in range(3):
            server.reload()
        before = mebibytes()
        for _ in range(5):
            server.reload()
        print("flat" if mebibytes() - before < 40 else f"grew by {mebibytes() - before:.0f} MB")
"""
APP = """
    ballast = bytearray(b"x") * 20_000_000  # each worker's, and part of what is kept or not

    async def app(scope, receive, send):
        raise NotImplementedError
"""
CAUSES = {
    "nothing": "",
    "a category of its own in a warnings filter": """
    import warnings
    class OwnWarning(Warning):
        kept = ballast
    warnings.simplefilter("ignore", OwnWarning)
    """,
    "a class that is its own class": """
    class Meta(type):
        kept = ballast
    class Sentinel(Meta, metaclass=Meta):
        pass
    Sentinel.__class__ = Sentinel
    """,
}


@pytest.mark.parametrize("cause", CAUSES)
def test_memory_is_flat_over_reloads(cause: str, tmp_path: Path) -> None:
    done = run_script(tmp_path, HOST, files={"served.py": APP + CAUSES[cause]})
    assert (done.returncode, done.stdout, done.stderr) == (0, "flat\n", "")


def test_nothing_is_said_that_would_not_be_said_otherwise(tmp_path: Path) -> None:
    """ResourceWarnings are ignored by default, those of a closing interpreter too."""
    source = APP + "    import sqlite3\n    left_open = sqlite3.connect(':memory:')\n"
    done = run_script(tmp_path, HOST, files={"served.py": source})
    assert (done.returncode, done.stdout, done.stderr) == (0, "flat\n", "")
