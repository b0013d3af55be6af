"""A worker that has no descriptors left, or needs many."""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ...support import ROOT, wait_until
from ..rawclient import TIMEOUT, RawClient

SERVER = """
    import json, os, resource, sys, time
    from subinterp_asgi import Supervisor

    limit, options = int(sys.argv[1]), json.loads(sys.argv[2])
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    with Supervisor("application:app", port=0, access_log=False, **options) as server:
        print(server.addresses[0][1], flush=True)
        held = []
        for line in sys.stdin:
            command, _, number = line.rstrip().partition(" ")
            if command == "fill":  # leave so many descriptors
                while True:
                    try:
                        held.append(os.dup(0))
                    except OSError:
                        break
                for _ in range(int(number)):
                    os.close(held.pop())
            elif command == "free":
                while held:
                    os.close(held.pop())
            elif command == "workers":
                server.scale(int(number))
            print(time.process_time(), flush=True)
    print("stopped")
"""
APPLICATION = """
    import time

    async def app(scope, receive, send):
        if scope["type"] != "http":
            raise RuntimeError("no lifespan")
        if scope["path"] == "/fail":
            raise ValueError("as a test wants it")
        while scope["path"] == "/stuck":
            time.sleep(0.01)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"hello"})
"""


class Process:
    """A server as a process of its own, with so many descriptors at most."""

    def __init__(self, directory: Path, limit: int) -> None:
        (directory / "server.py").write_text(textwrap.dedent(SERVER))
        (directory / "application.py").write_text(textwrap.dedent(APPLICATION))
        self.limit = limit
        options = (
            '{"workers": 2, "timeout_header": 600, "timeout_keep_alive": 600, "log_level": "error",'
            ' "timeout_worker_healthcheck": 2}'
        )
        self._errors = (directory / "errors").open("w+")
        self._process = subprocess.Popen(
            [sys.executable, "server.py", str(limit), options],
            cwd=directory,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        self.address = ("127.0.0.1", int(self._ask()))

    def _ask(self) -> str:
        assert self._process.stdout is not None
        answer = self._process.stdout.readline()
        assert answer, f"it has ended:\n{self.errors()}"
        return answer

    def errors(self) -> str:
        """What it has written to standard error."""
        return Path(self._errors.name).read_text()

    def tell(self, command: str) -> float:
        """Have it do something; return how many seconds of processor time it has used."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{command}\n")
        self._process.stdin.flush()
        return float(self._ask())

    def cpu_time(self) -> float:
        """Seconds of processor time it has used."""
        return self.tell("")

    def descriptors(self) -> int:
        """How many it has open."""
        return len(os.listdir(f"/proc/{self._process.pid}/fd"))

    def assert_not_spinning(self) -> None:
        """Check that it sleeps: a thread that does not would use all of this time."""
        before = self.cpu_time()
        time.sleep(1.0)
        assert self.cpu_time() - before < 0.4

    def stop(self) -> None:
        """Stop it, and check that it ends as it should."""
        output, _ = self._process.communicate(timeout=30)
        assert (output, self._process.returncode) == ("stopped\n", 0), self.errors()

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()
        self._errors.close()


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[[int], Process]]:
    processes: list[Process] = []

    def run(limit: int) -> Process:
        processes.append(Process(tmp_path, limit))
        return processes[-1]

    yield run
    for process in processes:
        process.close()


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    """Enough for the clients."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 2048:
        pytest.skip("this process may not open enough descriptors")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2048), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_no_descriptors_left(run: Callable[[int], Process]) -> None:
    """Workers neither spin nor die, serve whom they have accepted, and later the others."""
    began = time.monotonic()
    server = run(64)
    with contextlib.ExitStack() as stack:

        def connect() -> RawClient:
            return stack.enter_context(RawClient(server.address))

        early = [connect() for _ in range(4)]
        for client in early:
            client.assert_open()
        others = [connect() for _ in range(100)]  # more than it can accept
        wait_until(lambda: server.descriptors() >= server.limit, "no descriptor is left")
        wait_until(lambda: "Too many open files" in server.errors(), "it says so")
        server.assert_not_spinning()
        for client in early:
            client.assert_open()
        # Each worker may complain when it begins, and after each pause of half a second.
        assert server.errors().count("\n") <= 2 * (1 + (time.monotonic() - began) / 0.5)
        for client in others[:70]:
            client.close()
        for client in others[70:]:
            client.assert_open()
        for client in early:
            client.assert_open()
        new = connect()
        new.assert_open()
    server.stop()
    assert "Traceback" not in server.errors()


def test_nothing_is_imported_while_accepting(run: Callable[[int], Process]) -> None:
    """To import is to open files; a worker that accepts may have used the last descriptor."""
    server = run(128)
    server.tell("workers 1")
    with contextlib.ExitStack() as stack:
        early = [stack.enter_context(RawClient(server.address)) for _ in range(20)]
        for client in early:
            client.assert_open()
        server.tell("workers 2")  # of which the first has more, and may pass new ones on
        server.tell("fill 1")
        for _ in range(50):
            with RawClient(server.address) as client:
                client.assert_open()
            wait_until(lambda: server.descriptors() < server.limit, "there is room for the next")
        for client in early:
            client.assert_open()
        server.tell("free")
    server.stop()
    assert server.errors() == ""


def test_application_fails_without_descriptors(run: Callable[[int], Process]) -> None:
    """That is logged, with its traceback, though source can't be read then."""
    server = run(128)
    with RawClient(server.address) as client:
        client.assert_open()
        server.tell("fill 0")
        assert client.get(b"/fail").status == 500
        server.tell("free")
    server.stop()
    assert 'application.py", line 8, in app' in server.errors()
    assert "ValueError: as a test wants it" in server.errors()


def test_worker_stuck_without_descriptors(run: Callable[[int], Process]) -> None:
    """The supervisor says so, though it can't even import what logs, and goes on."""
    server = run(128)
    server.tell("workers 1")
    with RawClient(server.address) as client:
        client.assert_open()
        server.tell("fill 0")
        client.send(b"GET /stuck HTTP/1.1\r\nHost: a\r\n\r\n")
        wait_until(lambda: "worker 0 is stuck" in server.errors(), "it says so")
        # More often than restart_limit allows: that is no worker's fault, and passes.
        failed = "worker 0 could not be started: [Errno 24]"
        wait_until(lambda: server.errors().count(failed) > 6, "none can be started")
        server.tell("free")
        assert client.response().status == 500
    with RawClient(server.address) as client:
        client.assert_open()
    server.stop()
    assert "Exception in thread" not in server.errors()


@pytest.mark.usefixtures("many_descriptors")
def test_many_idle_connections(run: Callable[[int], Process]) -> None:
    server = run(1024)
    with RawClient(server.address) as busy:
        busy.assert_open()
        before = server.descriptors()
        idle = [RawClient(server.address) for _ in range(500)]
        for client in idle[::2]:
            client.assert_open()
        # (Before, one worker may still have been lent the listeners of the other.)
        wait_until(lambda: server.descriptors() >= before + 490, "all are accepted")
        server.assert_not_spinning()
        for _ in range(200):
            busy.assert_open()
        for client in idle:
            client.assert_open()
        leaving = threading.Thread(target=lambda: [client.reset() for client in idle])
        leaving.start()
        for _ in range(200):
            busy.assert_open()
        leaving.join(TIMEOUT)
        wait_until(lambda: server.descriptors() <= before, "all are closed")
    server.stop()
    assert server.errors() == ""
