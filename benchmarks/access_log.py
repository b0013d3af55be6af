"""What logging costs: nothing logged, lines to standard error, records forwarded to the host.

One worker for each way, all in this process, take turns with the same requests, so that what
disturbs the machine disturbs all alike. The figures are microseconds of CPU time of the worker's
thread and of the one that hands records to the host's logging, from the clocks of these threads:
the client is a process of its own. Standard error is ``/dev/null``; the host's handler does
nothing.
``python -m benchmarks.access_log``
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from queue import Empty
from typing import Any

from subinterp_asgi import Config
from subinterp_asgi.control import interpreters
from subinterp_asgi.control.launch import Runtime
from subinterp_asgi.supervisor.log_receiver import LogReceiver

RECORDS = 20  # that the application logs for one request, if it is asked to
_BODY = b"Hello, world!"
_START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-length", b"%d" % len(_BODY))],
}
_CALL = """
from subinterp_asgi.bootstrap import bootstrap
bootstrap(
    ctrl_queue, status_queue, config_json, lifespan_state_json, app_import_path,
    sock_fd, sock_family, worker_id, parent_sys_path,
)
"""

logger = logging.getLogger("the_app")


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Logs nothing, or ``RECORDS`` records for ``/log``."""
    if scope["path"] == "/log":
        for number in range(RECORDS):
            logger.info("number %d of %s", number, scope["path"])
    await send(_START)
    await send({"type": "http.response.body", "body": _BODY})


def with_handler() -> Any:
    """The same, with logging configured as most applications do it."""
    logging.basicConfig(level="INFO", format="%(levelname)s: %(message)s")
    return app


class Way:
    """A way to log, and the worker that does it."""

    def __init__(
        self,
        name: str,
        *,
        app: str = "app",
        access_log: bool = True,
        receiver: LogReceiver | None = None,
    ) -> None:
        self.name = name
        listener = socket.create_server(("127.0.0.1", 0))
        self.address = listener.getsockname()
        self._receiver = receiver
        self._log_fd = None if receiver is None else receiver.open(0, 1)
        self._commands = interpreters.create_queue(16)
        self._statuses = interpreters.create_queue(16)
        self._interpreter = interpreters.Interpreter()
        self._interpreter.adopt_path(tuple(sys.path))
        config = Config(access_log=access_log, lifespan="off")
        self._interpreter.prepare(
            {
                "ctrl_queue": self._commands,
                "status_queue": self._statuses,
                "config_json": Runtime(log_fd=self._log_fd).join(config),
                "lifespan_state_json": "{}",
                "app_import_path": f"benchmarks.access_log:{app}",
                "sock_fd": listener.fileno(),
                "sock_family": int(listener.family),
                "worker_id": 0,
                "parent_sys_path": tuple(sys.path),
            }
        )
        listener.detach()
        self._thread = threading.Thread(target=self._interpreter.execute, args=(_CALL,))
        self._thread.start()
        while self._status() != "serving":
            time.sleep(0.01)

    def _status(self) -> str | None:
        with contextlib.suppress(Empty):
            status: str = self._statuses.get_nowait()[0]
            return status
        return None

    def cpu(self) -> float:
        """CPU time that the worker has taken."""
        assert self._thread.ident is not None
        return time.clock_gettime(time.pthread_getcpuclockid(self._thread.ident))

    def stop(self) -> None:
        self._commands.put_nowait(("shutdown",))
        self._thread.join()
        self._interpreter.close()
        if self._receiver is not None and self._log_fd is not None:
            self._receiver.worker_ended(self._log_fd)


class Client:
    """A process that sends requests: in this one it would compete with the host for the GIL."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.access_log", "--client"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )

    def request(self, address: Any, path: str, count: int, connections: int) -> None:
        """Send so many requests, and return when all are answered."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(f"{address[1]} {path} {count} {connections}\n")
        assert stdout.readline() == "done\n"

    def stop(self) -> None:
        self._process.communicate()


def be_client() -> None:
    """Do what ``Client`` asks for."""
    for line in sys.stdin:
        port, path, count, connections = line.split()
        request(("127.0.0.1", int(port)), path, int(count), int(connections))
        print("done", flush=True)


def request(address: Any, path: str, count: int, connections: int) -> None:
    """Send so many requests, one at a time on each of a few connections."""
    message = f"GET {path} HTTP/1.1\r\nhost: benchmark\r\n\r\n".encode()
    with contextlib.ExitStack() as stack:
        clients = [
            stack.enter_context(socket.create_connection(address)) for _ in range(connections)
        ]
        for _ in range(count // connections):
            for client in clients:
                client.sendall(message)
            for client in clients:
                data = client.recv(4096)
                while not data.endswith(_BODY):
                    data += client.recv(4096)


@contextlib.contextmanager
def without_stderr() -> Iterator[None]:
    """Point descriptor 2 to where writing costs least."""
    kept, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(null)


def measure(count: int, rounds: int, connections: int) -> None:
    """Measure and print a table."""
    client, receiver = Client(), LogReceiver()
    access = logging.getLogger("subinterp_asgi.access")
    for host_logger in (access, logger):
        host_logger.addHandler(logging.NullHandler())
        host_logger.propagate = False
    forwarded = Way("forwarded", receiver=receiver)
    ways = [
        (Way("nothing", access_log=False), logging.INFO),
        (Way("lines of our own"), logging.INFO),
        (Way("a StreamHandler of the application's", app="with_handler()"), logging.INFO),
        (forwarded, logging.INFO),
        (forwarded, logging.WARNING),
    ]
    took: dict[tuple[int, str], list[tuple[float, float]]] = {}
    for number in range(rounds + 1):
        for index, (way, level) in enumerate(ways):
            for path, requests in (("/", count), ("/log", count // 4)):
                access.setLevel(level)
                logger.setLevel(level)
                before = way.cpu(), _receiver_cpu(receiver)
                client.request(way.address, path, requests, connections)
                _settle(receiver)
                after = way.cpu(), _receiver_cpu(receiver)
                if number:  # the first round warms up
                    worker, host = (
                        (b - a) / requests * 1e6 for a, b in zip(before, after, strict=True)
                    )
                    took.setdefault((index, path), []).append((worker, host))

    def median(index: int, path: str, side: int) -> float:
        return statistics.median(pair[side] for pair in took[index, path])

    print("| | request: worker | request: host | record: worker | record: host |")
    print("|---|---|---|---|---|")
    base = (median(0, "/log", 0) - median(0, "/", 0)) / RECORDS  # of calls that log nothing
    for index, (way, level) in enumerate(ways):
        name = way.name + (", unwanted by the host" if level > logging.INFO else "")
        # The application's records come on top of the access log's line.
        records = [
            (median(index, "/log", side) - median(index, "/", side)) / RECORDS for side in (0, 1)
        ]
        shown = f"{records[0] - base:.1f} | {records[1]:.1f}" if index > 1 else " | "
        print(
            f"| {name} | {median(index, '/', 0):.1f} "
            f"({median(index, '/', 0) - median(0, '/', 0):+.1f}) | {median(index, '/', 1):.1f} "
            f"| {shown} |"
        )
    for way, _ in ways[:4]:
        way.stop()
    receiver.close()
    client.stop()


def _receiver_cpu(receiver: LogReceiver) -> float:
    thread = receiver._thread
    assert thread is not None
    assert thread.ident is not None
    return time.clock_gettime(time.pthread_getcpuclockid(thread.ident))


def _settle(receiver: LogReceiver) -> None:
    """Wait until the host has nothing left to do."""
    before = -1.0
    while (now := _receiver_cpu(receiver)) != before:
        before = now
        time.sleep(0.02)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--client", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.client:
        be_client()
        return
    with without_stderr():
        measure(arguments.requests, arguments.rounds, arguments.connections)


if __name__ == "__main__":
    main()
