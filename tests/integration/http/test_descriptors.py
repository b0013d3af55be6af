"""A worker that has no descriptors left, or needs many."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
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
    from subinterp_asgi.testing import faults

    def call(function):
        try:
            outcome = function()
        except Exception as exc:
            outcome = f"{type(exc).__name__}: {exc}"
        if outcome is not None:
            print(outcome, file=sys.stderr, flush=True)

    limit, options = int(sys.argv[1]), json.loads(sys.argv[2])
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    with Supervisor("application:app", port=0, access_log=False, **options) as server:
        print(server.addresses[0][1], flush=True)
        held = []
        for line in sys.stdin:
            command, _, number = line.rstrip().partition(" ")
            if command == "fill":  # leave so many descriptors
                quiet_since = time.monotonic()
                while time.monotonic() < quiet_since + 0.2:  # what others close, too
                    try:
                        held.append(os.dup(0))
                        quiet_since = time.monotonic()
                    except OSError:
                        time.sleep(0.01)
                for _ in range(int(number)):
                    os.close(held.pop())
            elif command == "free":
                while held:
                    os.close(held.pop())
            elif command == "workers":
                call(lambda: server.scale(int(number)))
            elif command == "crash":
                call(lambda: faults.crash_worker(server, int(number)))
            elif command == "call":
                call(getattr(server, number))
            print(time.process_time(), flush=True)
    print("stopped")
"""
EXIT = "an exit callback\n"
APPLICATION = """
    import atexit, os, time

    atexit.register(lambda: os.write(2, b"an exit callback\\n"))

    async def app(scope, receive, send):
        if scope["type"] == "websocket":
            await send({"type": "websocket.accept"})
            return
        if scope["type"] != "http":
            raise RuntimeError("no lifespan")
        if scope["path"] == "/fail":
            raise ValueError("of the application")
        while scope["path"] == "/stuck":
            time.sleep(0.01)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"hello"})
"""


class Process:
    """A server as a process of its own, with so many descriptors at most."""

    def __init__(self, directory: Path, limit: int, **options: object) -> None:
        (directory / "server.py").write_text(textwrap.dedent(SERVER))
        (directory / "application.py").write_text(textwrap.dedent(APPLICATION))
        self.limit = limit
        options = {
            "workers": 2,
            "timeout_header": 600,
            "timeout_keep_alive": 600,
            "log_level": "error",
            "timeout_worker_healthcheck": 2,
            **options,
        }
        self._errors = (directory / "errors").open("w+")
        self._process = subprocess.Popen(
            [sys.executable, "server.py", str(limit), json.dumps(options)],
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
        return Path(self._errors.name).read_text().replace(EXIT, "")

    def ends(self) -> int:
        """How many workers have called their exit callbacks."""
        return Path(self._errors.name).read_text().count(EXIT)

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
def run(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    processes: list[Process] = []

    def run(limit: int, **options: object) -> Process:
        processes.append(Process(tmp_path, limit, **options))
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


def test_no_descriptors_left(run: Callable[..., Process]) -> None:
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


def test_nothing_is_imported_while_accepting(run: Callable[..., Process]) -> None:
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


def test_worker_stuck_without_descriptors(run: Callable[..., Process]) -> None:
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


UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: YWFhYWFhYWFhYWFhYWFhYQ==\r\n"
    b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
)
BOTH = pytest.mark.parametrize("isolation", ["interpreter", "thread"])


def test_logs_reopened_without_descriptors(run: Callable[..., Process]) -> None:
    server = run(128)
    server.tell("fill 0")
    server.tell("call reopen_logs")
    said = "'reopen_logs' could not be done, and the worker goes on: OSError(24, "
    wait_until(lambda: server.errors().count(said) == 2, "both say so")
    server.tell("free")
    server.tell("call reopen_logs")
    with RawClient(server.address) as client:
        client.assert_open()
    server.stop()
    assert "died" not in server.errors()


@BOTH
def test_nothing_to_load_an_answer_by(run: Callable[..., Process], isolation: str) -> None:
    """What needs an import is answered with 503, until one can be done again."""
    server = run(128, workers=1, isolation=isolation, metrics_path="/metrics")
    with contextlib.ExitStack() as stack:
        first, second = [stack.enter_context(RawClient(server.address)) for _ in range(2)]
        for client in (first, second):
            client.assert_open()
        server.tell("fill 0")
        first.send(UPGRADE)
        answer = first.response()
        assert (answer.status, answer.get(b"retry-after")) == (503, b"1")
        assert "no WebSocket can be opened: [Errno 24]" in server.errors()
        assert second.get(b"/metrics").status == 503
        server.tell("free")
        assert second.get(b"/metrics").status == 200
        second.send(UPGRADE)
        assert second.read_until(b"\r\n").startswith(b"HTTP/1.1 101 ")
    server.stop()
    assert "Traceback" not in server.errors()


@BOTH
def test_websocket_without_compression(run: Callable[..., Process], isolation: str) -> None:
    """Nothing is left to load that by, and the peer is not told that there will be some."""
    server = run(128, workers=1, isolation=isolation)
    plain = b"".join(UPGRADE.partition(b"Sec-WebSocket-Extensions")[:1]) + b"\r\n"
    with RawClient(server.address) as first, RawClient(server.address) as second:
        second.assert_open()
        first.send(plain)  # which loads the rest
        first.read_until(b"\r\n\r\n")
        server.tell("fill 0")
        second.send(UPGRADE)
        answer = second.read_until(b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 101 ")
        assert b"permessage-deflate" not in answer
        server.tell("free")
    server.stop()


@BOTH
def test_errors_without_descriptors(run: Callable[..., Process], isolation: str) -> None:
    """An exception is logged with its traceback, if without what can't be read."""
    server = run(128, workers=1, isolation=isolation)
    with RawClient(server.address) as client:
        client.assert_open()
        server.tell("fill 0")
        assert client.get(b"/fail").status == 500
        wait_until(lambda: "\nValueError: of the application\n" in server.errors(), "it says so")
        if sys.version_info >= (3, 13, 18):  # before, that takes ctypes
            server.tell("call dump")
            assert "can't be shown" not in server.errors()
            assert ", in run_until_complete\n" in server.errors()
        server.tell("free")
    server.stop()
    assert "Logging error" not in server.errors()


@BOTH
def test_calls_without_descriptors(run: Callable[..., Process], isolation: str) -> None:
    """They say by an exception of their own what was not possible, and nothing is left behind."""
    server = run(128, workers=1, isolation=isolation)
    before = server.descriptors()
    for left in range(4):  # each is what something else needs first
        server.tell(f"fill {left}")
        server.tell("workers 3")
        server.tell("call reload")
        server.tell("free")
    assert server.errors().count("StartupError: the supervisor needs more than the system") == 4
    assert server.errors().count("ReloadError: generation") == 4
    with RawClient(server.address) as client:
        client.assert_open()
    wait_until(lambda: server.descriptors() <= before, "all others are closed")
    server.stop()


def test_end_without_descriptors(run: Callable[..., Process]) -> None:
    """Workers that end do what they do at any end, and their interpreters are closed."""
    server = run(128)
    server.tell("fill 0")
    server.tell("workers 1")
    wait_until(lambda: server.ends() == 1, "one has ended")
    server.tell("fill 0")  # what that one had
    server.tell("call stop")
    server.stop()
    assert server.ends() == 2
    assert "did not end well" not in server.errors()
    assert "Error" not in server.errors()


@pytest.mark.parametrize("left", [1, 4, 5, 6, 8])
def test_worker_that_can_not_begin(run: Callable[..., Process], left: int) -> None:
    """However far it comes for want of descriptors, that is no death, and is tried again."""
    server = run(128, workers=1, restart_limit=1, restart_delay=1)
    before = server.descriptors()
    server.tell("crash 0")
    wait_until(lambda: server.descriptors() <= before - 8, "it has died, and left nothing")
    server.tell(f"fill {left}")
    wait_until(lambda: server.errors().count("\nworker 0 ") >= 2, "it is tried again and again")
    server.tell("free")
    with RawClient(server.address) as client:
        client.assert_open()
    server.stop()
    assert "has no attribute" not in server.errors()  # of half of a loop


@pytest.mark.parametrize("signals", [["USR1"], ["QUIT"], ["HUP", "USR1", "TTIN"], ["USR2"]])
def test_signals_without_descriptors(tmp_path: Path, signals: list[str]) -> None:
    """The command says what it can't do, goes on, and stops when it is told to."""
    (tmp_path / "application.py").write_text(textwrap.dedent(APPLICATION))
    command = [sys.executable, "-m", "subinterp_asgi", "application:app", "--port", "0"]
    errors = tmp_path / "errors"
    with (
        errors.open("w") as file,
        subprocess.Popen(
            command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, stderr=file
        ) as process,
    ):
        try:
            wait_until(lambda: "Ctrl+C stops" in errors.read_text(), "it serves")
            _, hard = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
            resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (3, hard))  # all others are open
            said = {
                "USR1": "not reopened: [Errno 24]",
                "QUIT": "--- asgi-worker-0 (serving, generation 1)",
                "HUP": "could not be started: [Errno 24]",
                "TTIN": "more than the system grants",
                "USR2": "no process can be started: [Errno 24]",
            }
            for name in signals:
                process.send_signal(getattr(signal, f"SIG{name}"))
                text = said[name]
                wait_until(lambda: text in errors.read_text(), name)  # noqa: B023
            process.terminate()
            assert process.wait(TIMEOUT) == 0
        finally:
            process.kill()
    assert errors.read_text().endswith("Stopped\n")
    assert "Exception in thread" not in errors.read_text()


@pytest.mark.usefixtures("many_descriptors")
def test_many_idle_connections(run: Callable[..., Process]) -> None:
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
