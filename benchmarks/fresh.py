"""What a fresh server costs a test: its start, one request, its stop, over and over.

``python -m benchmarks.fresh`` does it 300 times with each way and each application, as fast as
they go or with ``--pause`` between them, each in a process of its own. What is made beforehand or
closed afterwards is counted in *in all*, the wall clock of the whole row, divided, and in *CPU*.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import resource
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, contextmanager
from importlib import import_module
from typing import TYPE_CHECKING

from benchmarks.startup import ROOT, free_port, pss, wait_for_response

if TYPE_CHECKING:
    from collections.abc import Iterator

APPS = {
    "bare": "examples.bare:app",
    "starlette": "benchmarks.starlette_app:app",
    "django": "benchmarks.django_app:app",
}
_REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"

type Way = Callable[[str], AbstractContextManager[int]]
"""Serves an application in a ``with``, on a port."""


@contextmanager
def interpreter(app: str) -> Iterator[int]:
    from subinterp_asgi.testing import LiveServer

    with LiveServer(app) as server:
        yield server.port


@contextmanager
def modules(app: str) -> Iterator[int]:
    from subinterp_asgi.testing import LiveServer

    with LiveServer(app, fresh="modules") as server:
        yield server.port


@contextmanager
def uvicorn_thread(app: str) -> Iterator[int]:
    import uvicorn

    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.001)
    yield port
    server.should_exit = True
    thread.join()


@contextmanager
def uvicorn_process(app: str) -> Iterator[int]:
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", app, "--port", str(port), "--log-level", "warning"]
    with subprocess.Popen(command, cwd=ROOT) as process:
        wait_for_response(port, time.perf_counter() + 30)
        yield port
        process.send_signal(signal.SIGTERM)


@contextmanager
def django_thread(app: str) -> Iterator[int]:
    """What ``live_server`` of pytest-django is, with no modules or settings of its own."""
    import_module(app.partition(":")[0])  # which configures Django
    from django.test.testcases import LiveServerThread

    thread = LiveServerThread("127.0.0.1", lambda app: app, connections_override={})
    thread.daemon = True
    thread.start()
    thread.is_ready.wait()
    yield thread.port
    thread.terminate()


WAYS: dict[str, Way] = {
    "interpreter": interpreter,
    "modules": modules,
    "uvicorn-thread": uvicorn_thread,
    "django-thread": django_thread,
    "uvicorn-process": uvicorn_process,
}


def get(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(_REQUEST)
        answer = b""
        while data := client.recv(65536):
            answer += data
    if not answer.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(f"the server answered {answer[:100]!r}")


def measure(way: Way, app: str, number: int, pause: float) -> dict[str, float]:
    """Do it so often, after three that fill caches."""
    logging.getLogger("subinterp_asgi").setLevel(logging.WARNING)
    for _ in range(3):
        with way(app) as port:
            get(port)
    before, took = _cpu(), []
    began = time.perf_counter()
    for _ in range(number):
        start = time.perf_counter()
        with way(app) as port:
            get(port)
        took.append((time.perf_counter() - start) * 1000)
        time.sleep(pause)
    if "subinterp_asgi.testing.interpreters" in sys.modules:
        from subinterp_asgi.testing.interpreters import stock

        stock.empty()
    in_all = time.perf_counter() - began
    return {
        "median": statistics.median(took),
        "p95": statistics.quantiles(took, n=20)[-1],
        "in all": (in_all / number - pause) * 1000,
        "CPU": (_cpu() - before) / number * 1000,
        "MB": pss(os.getpid()) / 1e6,
        "threads": threading.active_count(),
        "files": len(os.listdir("/proc/self/fd")),
    }


def _cpu() -> float:
    own = [resource.getrusage(x) for x in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in own)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--number", type=int, default=300)
    parser.add_argument("--pause", type=float, default=0.0, help="seconds between two servers")
    parser.add_argument("--apps", default=",".join(APPS))
    parser.add_argument("--ways", default=",".join(WAYS))
    parser.add_argument("--alone", action="store_true", help="measure here, and print JSON")
    options = parser.parse_args()
    if options.alone:
        way = WAYS[options.ways]
        print(json.dumps(measure(way, APPS[options.apps], options.number, options.pause)))
        return 0
    print(
        f"CPython {sys.version.split()[0]}, {options.number} in a row, {options.pause:g} s between "
        "them; milliseconds for each"
    )
    columns = ("median", "p95", "in all", "CPU", "MB", "threads", "files")
    print(f"{'':27}" + "".join(f"{column:>9}" for column in columns))
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    for app in options.apps.split(","):
        for way in options.ways.split(","):
            if way == "django-thread" and app != "django":
                continue
            command = [sys.executable, "-m", "benchmarks.fresh", "--alone", "--apps", app]
            command += ["--ways", way, "--number", str(options.number)]
            command += ["--pause", str(options.pause)]
            done = subprocess.run(
                command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, check=False
            )
            if done.returncode:
                print(f"{app:10} {way:16} failed")
                continue
            figures = json.loads(done.stdout)
            print(f"{app:10} {way:16}" + "".join(f"{figures[c]:9.1f}" for c in columns), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
