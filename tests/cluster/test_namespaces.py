"""Nothing is left of hosts when the process that made them is killed."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path

from tests.support import ROOT, wait_until

from .hosts import FRONT, Namespaces

MAKE = """
    import subprocess
    from tests.cluster.hosts import FRONT, Namespaces
    with Namespaces() as namespaces:
        for which in (FRONT, "1", "2", "3"):
            there = "readlink /proc/$$/ns/net; exec sleep 600"
            subprocess.Popen([*namespaces.enter(which), "sh", "-c", there])
        subprocess.run(["sleep", "600"])
"""


def in_use() -> set[str]:
    """All network namespaces that a process is in."""
    found = set()
    for file in Path("/proc").glob("[0-9]*/ns/net"):
        with contextlib.suppress(OSError):
            found.add(str(file.readlink()))
    return found


def test_nothing_is_left_of_them() -> None:
    with Namespaces() as namespaces:  # or else they can't be had here
        command = [*namespaces.enter(FRONT), "readlink", "/proc/self/ns/net"]
        made = {subprocess.check_output(command, text=True).strip()}
        assert made <= in_use()
    wait_until(lambda: not made & in_use())


def test_nothing_is_left_when_their_maker_is_killed() -> None:
    with Namespaces():
        pass
    source = "\n".join(line[4:] for line in MAKE.splitlines())
    with subprocess.Popen(
        [sys.executable, "-c", source], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as maker:
        assert maker.stdout is not None
        made = {maker.stdout.readline().strip() for _ in range(4)}
        assert made <= in_use()
        maker.kill()
    wait_until(lambda: not made & in_use())
