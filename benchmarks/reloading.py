"""From the signal to reload, or from a worker's death, to the first response by what is new.

``python -m benchmarks.reloading`` has a FastAPI application served by two workers of each server,
in turn. Its file is changed and SIGHUP sent; later a worker is ended by a SystemExit in its loop.
What is taken is the time until a worker answers that was not there before. Each request is sent on
a connection of its own. uvicorn and gunicorn (with uvicorn-worker) are left out if not installed.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

from benchmarks.startup import ROOT, cpu, free_port, pss, tree

_APP = """
import asyncio, sys, time

from fastapi import FastAPI

app = FastAPI()
BORN = f"{NUMBER} {{time.monotonic_ns()}}"

@app.get("/")
async def born() -> str:
    return BORN

@app.get("/exit")
async def exit() -> None:
    asyncio.get_running_loop().call_soon(sys.exit)
"""
_AT_ONCE = 16  # connections, so that more than one worker takes some
_PATIENCE = 60.0
_SERVED = 2.0  # seconds for which a worker has served at least before it dies


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    workers = f"--workers={arguments.workers}"
    ours = ["subinterp_asgi", "app:app", workers, "--extensions=private", "--no-access-log"]
    commands = {
        "subinterp-asgi": ours,
        "  a spare": [*ours, "--spares=1"],
        "  reuse": [*ours, "--reuse-interpreters"],
        "uvicorn": ["uvicorn", "app:app", workers, "--no-access-log"],
        "gunicorn": ["gunicorn", "app:app", workers, "-k=uvicorn_worker.UvicornWorker"],
    }
    for name in ("uvicorn", "gunicorn"):
        if not importlib.util.find_spec(name):
            del commands[name]
    times: dict[str, dict[str, list[float]]] = {name: {} for name in commands}
    with contextlib.ExitStack() as running:
        servers = {
            name: running.enter_context(_Server(command, arguments.workers))
            for name, command in commands.items()
        }
        for number in range(arguments.runs + 1):
            for name, server in servers.items():
                found = {"reload": server.reload(number + 1), "death": server.lose_one()}
                for what, seconds in found.items() if number else ():  # the first fills caches
                    times[name].setdefault(what, []).append(seconds * 1000)
        sizes = {name: server.size() for name, server in servers.items()}
    print(f"CPython {sys.version.split()[0]}, {arguments.workers} workers, {arguments.runs} runs")
    print(f"{'':16}{'reload (ms)':>20}{'death (ms)':>20}{'PSS then (MB)':>16}")
    for name, taken in times.items():
        shown = [f"{statistics.median(each):.0f} ({max(each):.0f})" for each in taken.values()]
        print(f"{name:16}{shown[0]:>20}{shown[1]:>20}{sizes[name] / 1e6:16.1f}")
    print("medians (slowest)")
    return 0


class _Server:
    """A server that runs, and the application's file."""

    def __init__(self, arguments: list[str], workers: int) -> None:
        self._arguments = arguments
        self._workers = workers
        self._port = free_port()

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory()
        self._write(0)
        module, *rest = self._arguments
        address = f"-b=127.0.0.1:{self._port}" if module == "gunicorn" else f"--port={self._port}"
        path = os.pathsep.join((str(ROOT), os.environ.get("PYTHONPATH", "")))
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *rest, address],
            cwd=self._folder.name,
            env={**environment, "PYTHONPATH": path},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._until(lambda answer: answer is not None)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.terminate()
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._folder.cleanup()

    def reload(self, number: int) -> float:
        """Change the application and have it reloaded; return the seconds until it answers."""
        self._write(number)
        began = time.perf_counter()
        self._process.send_signal(signal.SIGHUP)
        self._until(lambda answer: answer is not None and answer.startswith(f'"{number} '))
        return time.perf_counter() - began

    def lose_one(self) -> float:
        """Have a worker end; return the seconds until another one answers in its place."""
        self._settle()
        time.sleep(_SERVED)
        known = self._all_workers()
        began = time.perf_counter()
        self._ask("/exit")
        self._until(lambda answer: answer is not None and answer not in known)
        took = time.perf_counter() - began
        self._settle()
        return took

    def size(self) -> float:
        """Octets that it takes, all processes."""
        return sum(map(pss, tree(self._process.pid)))

    def _settle(self) -> None:
        """Wait until nothing is going on any more."""
        before, now = -1.0, 0.0
        while not before <= now < before + 0.01:
            before = now
            time.sleep(0.5)
            now = self._spent()

    def _spent(self) -> float:
        with contextlib.suppress(OSError):  # a thread or a process that has ended meanwhile
            return sum(map(cpu, tree(self._process.pid)))
        return 0.0

    def _write(self, number: int) -> None:
        # (Of another length each time, which tells caches of byte code within a second.)
        text = _APP.replace("{NUMBER}", str(number)).replace("{{", "{").replace("}}", "}")
        file = Path(self._folder.name, "new")
        file.write_text(text + "\n" * number)
        file.rename(file.with_name("app.py"))

    def _all_workers(self) -> set[str | None]:
        """Ask until each worker has answered."""
        known: set[str | None] = set()
        deadline = time.monotonic() + _PATIENCE
        while len(known) < self._workers:
            with ThreadPoolExecutor(_AT_ONCE) as pool:
                known.update(pool.map(self._ask, ["/"] * _AT_ONCE))
            known.discard(None)
            if time.monotonic() > deadline:
                raise TimeoutError(f"of {self._arguments[0]} not all workers answer")
        return known

    def _ask(self, path: str) -> str | None:
        request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        received = b""
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", self._port), timeout=5) as client,
        ):
            client.sendall(request.encode())
            while data := client.recv(4096):
                received += data
        head, _, body = received.decode().partition("\r\n\r\n")
        return body if head.startswith("HTTP/1.1 200") else None

    def _until(self, holds: Callable[[str | None], bool]) -> None:
        deadline = time.monotonic() + _PATIENCE
        while not holds(self._ask("/")):
            if time.monotonic() > deadline or self._process.poll() is not None:
                raise TimeoutError(f"{self._arguments[0]} does not answer")
            time.sleep(0.002)


if __name__ == "__main__":
    sys.exit(main())
