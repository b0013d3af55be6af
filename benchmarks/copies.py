"""FastAPI from interpreters with private copies beside processes: the first 200, and memory.

``python -m benchmarks.copies`` starts each server's command line in turn, round after round, with
two workers. PSS is the process tree's, once all workers have answered. *Copies* is the part of it
that lies in copies of extension modules, as far as they are touched.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.startup import ROOT, free_port, pss, tree, wait_for_response

_SETTLING_TIME = 2.0
_REQUESTS = 200
_COMMANDS = {
    "subinterp_asgi": ["subinterp_asgi", "--extensions=private", "--no-access-log"],
    "uvicorn": ["uvicorn", "--no-access-log", "--log-level=warning"],
    "granian": ["granian", "--interface=asgi", "--no-access-log", "--log-level=warning"],
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--app", default="benchmarks.fastapi_app:app")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--servers", default=",".join(_COMMANDS))
    arguments = parser.parse_args()
    results: dict[str, list[tuple[float, ...]]] = {
        name: [] for name in arguments.servers.split(",")
    }
    for number in range(arguments.rounds + 1):
        for name, runs in results.items():
            figures = _measure(_COMMANDS[name], arguments.app, arguments.workers)
            if number:  # the first round fills the caches
                runs.append(figures)
    print(
        f"CPython {sys.version.split()[0]}, {arguments.workers} workers, {arguments.app}, "
        f"medians of {arguments.rounds} rounds; ours/its: of the ratios in a round\n"
    )
    print("| server | first 200 ms | ours/its | PSS MB | ours/its | of it copies MB |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    ours = next(iter(results.values()))
    for name, runs in results.items():
        first, memory, copies = (statistics.median(column) for column in zip(*runs, strict=True))
        ratios = [
            statistics.median(mine[at] / its[at] for mine, its in zip(ours, runs, strict=True))
            for at in (0, 1)
        ]
        told = [f"{ratio:.2f}" if runs is not ours else "" for ratio in ratios]
        print(f"| {name} | {first:.0f} | {told[0]} | {memory:.1f} | {told[1]} | {copies:.1f} |")
    return 0


def _measure(command: list[str], app: str, workers: int) -> tuple[float, ...]:
    """Return milliseconds to the first 200, and megabytes: all, and of copies."""
    port = free_port()
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    module, *options = command
    options += [app, f"--port={port}", f"--workers={workers}"]
    began = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "-m", module, *options],
        cwd=ROOT,
        env=environment,
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        try:
            wait_for_response(port, deadline=began + 60)
            first = time.perf_counter() - began
            time.sleep(_SETTLING_TIME)  # the others come up
            for _ in range(_REQUESTS):
                wait_for_response(port, deadline=time.perf_counter() + 60)
            members = list(tree(process.pid))
            memory, copies = sum(map(pss, members)), sum(map(_copies, members))
            process.send_signal(signal.SIGTERM)
            process.wait(60)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    return first * 1000, memory / 1e6, copies / 1e6


def _copies(pid: int) -> int:
    """Return what of a process's PSS is in copies of extension modules, in octets."""
    total, inside = 0, False
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        name, _, rest = line.partition(":")
        if "-" in name.partition(" ")[0]:
            inside = "/memfd:" in line and ".so" in line
        elif inside and name == "Pss":
            total += int(rest.split()[0]) * 1024
    return total


if __name__ == "__main__":
    sys.exit(main())
