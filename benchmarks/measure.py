"""What the kernel knows of a process and its descendants: processor time and memory; and pinning.

Linux only: it is all read from ``/proc``.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.startup import pss, tree

_TICK = 1 / os.sysconf("SC_CLK_TCK")
_CHILDREN = slice(13, 15)  # cutime and cstime, counted after the name in parentheses


def cpu_seconds(pid: int) -> float:
    """Processor time, user and system, of a process tree so far, its dead children's included.

    The kernel gives the time of the dead in hundredths of a second, that of the living exactly.
    """
    seconds = 0.0
    for member in _living(pid):
        with contextlib.suppress(OSError):
            seconds += time.clock_gettime(~member << 3 | 2)  # clock_getcpuclockid()
            _, _, fields = Path(f"/proc/{member}/stat").read_text().rpartition(")")
            seconds += sum(map(int, fields.split()[_CHILDREN])) * _TICK
    return seconds


def memory(pid: int) -> float:
    """Proportional set size of a process tree in bytes."""
    total = 0.0
    for member in _living(pid):
        with contextlib.suppress(OSError):
            total += pss(member)
    return total


def _living(pid: int) -> list[int]:
    try:
        return list(tree(pid))
    except OSError:  # one ended while we looked
        return [pid]


class Cores:
    """Who may use which processor: the servers one, the load another.

    With a single processor nobody is pinned, and ``note`` says so.
    """

    def __init__(self) -> None:
        self.all = frozenset(os.sched_getaffinity(0))
        self.apart = len(self.all) > 1
        first, *others = sorted(self.all)
        self.servers = frozenset({first}) if self.apart else self.all
        self.load = frozenset(others[:1]) if self.apart else self.all

    @property
    def note(self) -> str:
        """A line about it for the report."""
        if not self.apart:
            return "one processor: servers and load share it, nothing is pinned"
        return f"servers on processor {min(self.servers)}, load on {min(self.load)}"

    @contextlib.contextmanager
    def used(self, cores: frozenset[int]) -> Iterator[None]:
        """Run this thread, and what it starts meanwhile, on these processors."""
        before = os.sched_getaffinity(0)
        os.sched_setaffinity(0, cores)
        try:
            yield
        finally:
            os.sched_setaffinity(0, before)
