"""How many CPUs this process may use, which a machine's number says little of in a container."""

from __future__ import annotations

import os
from collections.abc import Iterator
from math import ceil
from pathlib import Path, PurePosixPath


def available_cpus(root: Path = Path("/")) -> int:
    """What the affinity mask and the bandwidth of control groups allow, at least 1.

    A part of a CPU counts as one. (``PYTHON_CPU_COUNT`` and ``-X cpu_count`` stand for the mask.)

    Args:
        root: Where ``proc`` and ``sys`` are.
    """
    found = os.process_cpu_count() or 1
    return max(1, min([found, *(ceil(quota) for quota in _quotas(root))]))


def _quotas(root: Path) -> Iterator[float]:
    """The CPUs that each control group above this process allows."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return  # no Linux, or no control groups
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:  # version 2
            tops = [root / "sys/fs/cgroup", root / "sys/fs/cgroup/unified"]
        elif "cpu" in controllers.split(","):
            tops = [root / "sys/fs/cgroup" / controllers, root / "sys/fs/cgroup/cpu"]
        else:
            continue
        relative = PurePosixPath(path.lstrip("/"))
        for top in tops:
            # In a container the path may be the host's, and all there is of it the top.
            for group in (relative, *relative.parents):
                quota = _quota(top / group, version2=not controllers)
                if quota is not None:
                    yield quota


def _quota(group: Path, *, version2: bool) -> float | None:
    try:
        if version2:
            limit, period = (group / "cpu.max").read_text().split()
            return None if limit == "max" else int(limit) / int(period)
        limit = (group / "cpu.cfs_quota_us").read_text()
        period = (group / "cpu.cfs_period_us").read_text()
        return int(limit) / int(period) if int(limit) > 0 else None
    except (OSError, ValueError):
        return None
