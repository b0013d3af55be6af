"""From exec to the first response, memory, idle wake-ups and stop: what it costs to have a server.

``python -m benchmarks.startup`` starts the command line as a process, several times, and prints the
median of each figure. ``--uvicorn`` does the same with as many uvicorn processes, in turn, and
``--lazy`` with lazy imports as well, which CPython has from 3.15 on. Ratios are medians of those to
the last server, round by round.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent
_REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
_IDLE_TIME = 2.0
_REQUESTS = 10
"""Asked of workers that have served nothing yet: what is loaded late is loaded then."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--app", default="examples.bare:app")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--uvicorn", action="store_true", help="also measure uvicorn, in turn")
    parser.add_argument("--lazy", action="store_true", help="also with lazy imports, in turn")
    parser.add_argument("--extensions", default="pure", help="our option of that name")
    arguments = parser.parse_args()

    ours = ["-m", "subinterp_asgi", f"--extensions={arguments.extensions}"]
    servers = {"subinterp-asgi": ours}
    if arguments.lazy:
        servers["  lazy"] = [*ours, "--lazy-imports=all"]
    if arguments.uvicorn:
        if arguments.lazy:
            servers["uvicorn, lazy"] = ["-X", "lazy_imports=all", "-m", "uvicorn"]
        servers["uvicorn"] = ["-m", "uvicorn"]
    results: dict[str, list[dict[str, float]]] = {name: [] for name in servers}
    for number in range(arguments.runs + 1):
        for name, command in servers.items():
            serve = [sys.executable, *command, arguments.app, f"--workers={arguments.workers}"]
            figures = measure(serve)
            if number:  # the first run fills the caches
                results[name].append(figures)
    print(
        f"CPython {sys.version.split()[0]}, {arguments.workers} workers, {arguments.app}, "
        f"median of {arguments.runs} runs"
    )
    show(results)
    return 0


def show(results: dict[str, list[dict[str, float]]]) -> None:
    """Print medians, and medians of ratios to the last."""
    *_, last = results.values()
    print(f"{'':16}" + "".join(f"{column:>24}" for column in last[0]))
    for name, runs in results.items():
        line = f"{name:16}"
        for column in last[0]:
            line += f"{statistics.median(run[column] for run in runs):16.1f}"
            pairs = zip(runs, last, strict=True)
            ratio = statistics.median(
                run[column] / base[column] if base[column] else 1.0 for run, base in pairs
            )
            line += " " * 8 if runs is last else f"  x{ratio:4.2f} "
        print(line)


def measure(command: list[str]) -> dict[str, float]:
    """Start a server, get a response, look at it idle, stop it."""
    port = free_port()
    # Byte code is cached, as it is for everything that is installed.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    began = time.perf_counter()
    process = subprocess.Popen(
        [*command, "--port", str(port)],
        cwd=ROOT,
        env=environment,
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    try:
        wait_for_response(port, deadline=began + 30)
        first_response = time.perf_counter() - began
        time.sleep(1.0)  # until all workers of either server have come up
        spent = sum(map(cpu, tree(process.pid)))
        began = time.perf_counter()
        for _ in range(_REQUESTS):
            wait_for_response(port, deadline=began + 30)
        answered = time.perf_counter() - began
        memory = sum(map(pss, tree(process.pid)))
        time.sleep(1.0)  # after which none of these connections is thought of any more
        before = sum(map(wakeups, tree(process.pid)))
        time.sleep(_IDLE_TIME)
        idle = sum(map(wakeups, tree(process.pid))) - before
        began = time.perf_counter()
        process.send_signal(signal.SIGTERM)
        process.wait(30)
        stop = time.perf_counter() - began
    finally:
        process.kill()
        process.wait()
    return {
        "first 200 (ms)": first_response * 1000,
        "its CPU (ms)": spent * 1000,
        f"{_REQUESTS} requests (ms)": answered * 1000,
        "PSS (MB)": memory / 1e6,
        "idle wake-ups/s": idle / _IDLE_TIME,
        "stop (ms)": stop * 1000,
    }


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def wait_for_response(port: int, deadline: float) -> None:
    while time.perf_counter() < deadline:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
                client.sendall(_REQUEST)
                if client.recv(64).startswith(b"HTTP/1.1 200"):
                    return
        except OSError:
            time.sleep(0.002)
    raise TimeoutError("the server did not answer with 200")


def tree(pid: int) -> Iterator[int]:
    """A process and its descendants."""
    yield pid
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            yield from tree(int(child))


def cpu(pid: int) -> float:
    """Seconds of processor time that a process has taken so far, those of its threads."""
    return time.clock_gettime(~pid << 3 | 2)  # which is how Linux numbers clocks of processes


def pss(pid: int) -> float:
    """Proportional set size in bytes."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise LookupError("no Pss")


def wakeups(pid: int) -> int:
    """Voluntary context switches of all threads so far."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        for line in (task / "status").read_text().splitlines():
            if line.startswith("voluntary_ctxt_switches"):
                total += int(line.split()[1])
    return total


if __name__ == "__main__":
    sys.exit(main())
