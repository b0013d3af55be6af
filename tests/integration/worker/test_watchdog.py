"""Workers that are held up, told of and interrupted: through ``control``, without a supervisor."""

from __future__ import annotations

import ctypes  # noqa: F401  (libffi opens a descriptor, once, when it is first loaded)
import os
import queue
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from subinterp_asgi import Config
from subinterp_asgi.control import interpreters
from subinterp_asgi.control.counters import Counters
from subinterp_asgi.control.launch import Runtime
from subinterp_asgi.control.scoreboard import BUSY_SINCE, ERRORS, IN_FLIGHT, new_board, slot_of
from subinterp_asgi.control.wakeup import WatchdogLine
from subinterp_asgi.worker.interpreter.importer import import_app
from subinterp_asgi.worker.run import WorkerRun
from tests.support import ROOT, Pending, get, nothing_left, run_script, wait_until

from ..rawclient import request
from ..wsclient import WSClient

APPS = "tests.integration.apps.stuck"
ATTACH = "from subinterp_asgi.control import scoreboard\nscoreboard.attach(board, 1)"
CALL = """
from subinterp_asgi.bootstrap import bootstrap
bootstrap(
    ctrl_queue, status_queue, config_json, "{}", app, sock_fd, sock_family, 0, path,
)
"""


class Watched:
    """A worker with a watchdog, in an interpreter or (``threads``) in this one."""

    def __init__(self, app: str = f"{APPS}:app", *, threads: bool = False, **options: Any) -> None:
        config = Config(**{"access_log": False, "shutdown_timeout": 10} | options)
        sock = socket.create_server(("127.0.0.1", 0))
        self.address = sock.getsockname()
        self.url = f"http://127.0.0.1:{self.address[1]}"
        self.line = WatchdogLine()
        board = new_board(1)
        self.slot = slot_of(board, 1)
        self.statuses: list[tuple[str, ...]] = []
        self.commands: Any = queue.Queue() if threads else interpreters.create_queue(64)
        self._queue: Any = queue.Queue() if threads else interpreters.create_queue(64)
        runtime = Runtime(watchdog=self.line.numbers)
        self._interpreter: interpreters.Interpreter | None = None
        run: Callable[[], None]
        if threads:
            listeners = [(sock.detach(), int(sock.family))]

            def run() -> None:
                WorkerRun(
                    load_app=lambda: import_app(app),
                    config=config,
                    listeners=listeners,
                    ctrl_queue=self.commands,
                    status_queue=self._queue,
                    worker_id=0,
                    state={},
                    counters=Counters(board, 1),
                    own_interpreter=False,
                    runtime=runtime,
                ).run()
                for fd, _ in listeners:  # that the worker did not come to
                    os.close(fd)
        else:
            interpreter = self._interpreter = interpreters.Interpreter()
            interpreter.adopt_path((str(ROOT), *sys.path))
            interpreter.prepare({"board": board})
            interpreter.execute(ATTACH)
            interpreter.prepare(
                {
                    "ctrl_queue": self.commands,
                    "status_queue": self._queue,
                    "config_json": runtime.join(config),
                    "app": app,
                    "sock_family": int(sock.family),
                    "sock_fd": sock.detach(),
                    "path": (str(ROOT), *sys.path),
                }
            )

            def run() -> None:
                interpreter.execute(CALL)

        self.thread = threading.Thread(target=run, name="test-worker", daemon=True)
        self.thread.start()

    def collect(self) -> list[str]:
        """Take in the statuses that have come and return their names."""
        while True:
            try:
                self.statuses.append(self._queue.get_nowait())
            except queue.Empty:
                return [status[0] for status in self.statuses]

    def wait_for(self, status: str) -> tuple[str, ...]:
        """Wait for a status and return it."""
        wait_until(lambda: status in self.collect() or not self.thread.is_alive(), status)
        found = [s for s in self.statuses if s[0] == status]
        assert found, self.statuses
        return found[-1]

    def begin(
        self, action: str, directory: Path, *, function: str = "spin", name: str = "begun"
    ) -> Pending:
        """Send a request and return once the application is stuck in a function."""
        pending = Pending(self.url, f"/{action}{directory}/{name}")
        self.wait_until_stuck(directory / name, function)
        return pending

    def wait_until_stuck(self, begun: Path, function: str = "spin") -> None:
        """Wait for the file that tells of it, and a little more."""
        wait_until(begun.exists, "the request to be begun")
        wait_until(lambda: f"in {function}\n" in self.report(), f"{function} to be called")

    @property
    def heartbeat(self) -> int:
        """When the loop woke up last."""
        return self.slot[BUSY_SINCE]

    def report(self) -> str:
        """Ask where the worker is held up, and return the answer, once it is that."""
        self.collect()
        self.statuses = [s for s in self.statuses if s[0] != "stuck"]
        asked = 0

        def answered() -> bool:
            nonlocal asked
            if asked != self.heartbeat:  # what was asked is void
                asked = self.heartbeat
                self.line.report(asked)
            return "stuck" in self.collect()

        wait_until(answered, "a report")
        return self.statuses[-1][1]

    def ask(self) -> str:
        """Ask once what the worker is at; return the kind of the answer, or nothing: it went on."""
        asked = self.heartbeat
        self.statuses.clear()
        self.line.report(asked)
        answers = {"stuck", "debugged"}
        wait_until(lambda: answers & set(self.collect()) or self.heartbeat != asked)
        return next((status[0] for status in self.statuses if status[0] in answers), "")

    def interrupt(self) -> None:
        """Interrupt what the worker is at."""
        self.line.interrupt(self.heartbeat)

    def flush_watchdog(self) -> None:
        """Return once the watchdog has done all that it was asked, while the worker is held up."""
        self.report()

    def finish(self) -> list[str]:
        """Wait for the worker's end and release all; return the names of its statuses."""
        self.thread.join(30)
        assert not self.thread.is_alive(), f"still running after {self.statuses}"
        statuses = self.collect()
        if self._interpreter is not None:
            # Its own threads are gone, so that it can be closed.
            assert not self._interpreter.has_threads()
            self._interpreter.close()
        self.line.close()
        return statuses

    def stop(self) -> None:
        """End a worker that is well."""
        assert get(self.url).text == "ok"
        self.commands.put_nowait(("shutdown",))
        assert self.finish()[-1] == "stopped"


@pytest.fixture(autouse=True)
def leaves_nothing() -> Iterator[None]:
    with nothing_left():
        yield


@pytest.fixture(params=["interpreter", "thread"])
def watched(request: pytest.FixtureRequest) -> Iterator[Watched]:
    worker = Watched(threads=request.param == "thread")
    worker.wait_for("serving")
    yield worker
    if worker.thread.is_alive():
        worker.stop()


def test_who_looks_at_it_with_a_debugger_is_left_alone(watched: Watched, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "terminal")
    pending = Pending(watched.url, f"/debug{tmp_path}/terminal")

    wait_until(lambda: watched.ask() == "debugged")
    watched.interrupt()
    assert watched.ask() == "debugged"  # which is answered after that
    (tmp_path / "terminal").write_text("continue\n")
    answer = pending.result()
    assert not isinstance(answer, Exception)
    assert answer.status == 200


def failed(pending: Pending) -> bool:
    answer = pending.result()
    assert not isinstance(answer, Exception), answer
    return answer.status == 500


# --- in Python code


@pytest.mark.parametrize("action", ["spin", "spin-after-waiting", "spin-whatever-happens"])
def test_a_loop_in_python_is_told_of_and_interrupted(
    watched: Watched,
    action: str,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    pending = watched.begin(action, tmp_path)
    stack = watched.report()
    assert 'apps/stuck.py", line ' in stack
    assert "in spin\n" in stack
    assert "in app\n    spin" in stack
    assert stack.index("in run\n") < stack.index("in app\n")  # the innermost frame is last
    watched.interrupt()
    assert failed(pending)
    log = capfd.readouterr().err + caplog.text
    assert "the ASGI application held the worker up for " in log
    assert "WorkerInterrupted: " in log
    assert "in spin\n" in log
    assert get(watched.url).text == "ok"
    wait_until(lambda: not watched.heartbeat, "the loop to sleep")
    assert (watched.slot[ERRORS], watched.slot[IN_FLIGHT]) == (1, 0)


def test_a_response_that_was_begun_is_cut_short(watched: Watched, tmp_path: Path) -> None:
    with WSClient(watched.address) as client:
        client.send(request(b"GET", b"/spin-in-the-middle" + os.fsencode(tmp_path / "begun")))
        assert client.head().status == 200
        watched.wait_until_stuck(tmp_path / "begun")
        watched.interrupt()
        assert client.read_to_end() == b"4\r\nhalf\r\n"


def test_a_websocket_is_closed_with_1011(watched: Watched, tmp_path: Path) -> None:
    with WSClient(watched.address) as client:
        client.open(target=os.fsencode(tmp_path / "begun"))
        watched.wait_until_stuck(tmp_path / "begun")
        watched.interrupt()
        client.expect_close(1011)
    wait_until(lambda: not watched.slot[IN_FLIGHT], "the WebSocket to end")


def test_a_task_in_a_group_fails_the_request(
    watched: Watched,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    pending = watched.begin("spin-in-a-group", tmp_path)
    watched.interrupt()
    assert failed(pending)
    assert "held the worker up for " in capfd.readouterr().err + caplog.text


def test_a_callback_is_ended_and_its_loop_goes_on(watched: Watched, tmp_path: Path) -> None:
    pending = watched.begin("spin-in-a-callback", tmp_path)
    watched.interrupt()
    answer = pending.result()
    assert not isinstance(answer, Exception)
    assert answer.text == "the callback ended"


def test_the_servers_own_code_is_not_interrupted(
    watched: Watched,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    for number in range(10):
        pending = watched.begin("hammer", tmp_path, function="send", name=f"begun-{number}")
        wait = time.monotonic() + 30
        # It may not be found in the application's code within the time that is taken for it.
        heartbeat = watched.heartbeat
        while heartbeat == watched.heartbeat and time.monotonic() < wait:
            watched.line.interrupt(heartbeat)
            time.sleep(0.05)
        assert isinstance(pending.result(), Exception)  # cut short
        log = capfd.readouterr().err + caplog.text
        caplog.clear()
        place = log[: log.index("WorkerInterrupted: ")].rpartition('File "')[2]
        # At the very entrance nothing of a function is done yet.
        assert "in app\n" in place or "    async def send(" in place, place


def test_a_log_handler_is_not_interrupted(watched: Watched, tmp_path: Path) -> None:
    # It is called in the middle of the server's code, which would be left half done.
    pending = watched.begin("spin-in-a-log-handler", tmp_path, function="emit")
    heartbeat = watched.heartbeat
    watched.interrupt()
    watched.flush_watchdog()
    assert watched.heartbeat == heartbeat
    (tmp_path / "begun.over").touch()
    assert failed(pending)


def test_the_loops_own_code_is_not_interrupted(watched: Watched, tmp_path: Path) -> None:
    pending = watched.begin("spin-in-the-loops-log-handler", tmp_path, function="emit")
    heartbeat = watched.heartbeat
    watched.interrupt()
    watched.flush_watchdog()
    assert watched.heartbeat == heartbeat
    (tmp_path / "begun.over").touch()
    assert not failed(pending)


# --- in C code


def test_c_code_is_told_of_and_interrupted_when_it_returns(
    watched: Watched, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "begun.fifo")
    pending = watched.begin("block", tmp_path, function="block")
    heartbeat = watched.heartbeat
    watched.interrupt()
    watched.flush_watchdog()
    watched.interrupt()  # once more makes no difference
    watched.flush_watchdog()
    assert watched.heartbeat == heartbeat
    (tmp_path / "begun.fifo").write_bytes(b"x")
    assert failed(pending)
    for _ in range(20):
        assert get(watched.url).text == "ok"


def test_only_what_held_the_worker_up_is_interrupted(watched: Watched, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "begun.fifo")
    pending = watched.begin("block-then-more", tmp_path, function="block")
    others = [Pending(watched.url, "/") for _ in range(5)]
    watched.interrupt()
    watched.flush_watchdog()
    (tmp_path / "begun.fifo").write_bytes(b"x")
    answer = pending.result()
    assert not isinstance(answer, Exception)
    assert answer.text == "went on"  # it had caught the exception
    for other in others:
        answer = other.result()
        assert not isinstance(answer, Exception)
        assert answer.text == "ok"


# --- a worker that is well


def test_what_is_asked_of_an_older_heartbeat_is_void(watched: Watched) -> None:
    assert get(watched.url).text == "ok"
    wait_until(lambda: not watched.heartbeat, "the loop to sleep")
    for heartbeat in (0, 1, time.monotonic_ns()):
        watched.line.report(heartbeat)
        watched.line.interrupt(heartbeat)
    for _ in range(20):
        assert get(watched.url).text == "ok"
    assert "stuck" not in watched.collect()


STRESS = """
import http.client, sys, threading, time
sys.path.insert(0, {root!r})
from tests.integration.worker.test_watchdog import Watched

worker = Watched("tests.integration.apps.stuck:busy", threads=sys.argv[1] == "thread")
worker.wait_for("serving")
counts = {{}}
over = False
# With heartbeats of the past nothing may happen; with that of the moment a request may be hit
# although it is not stuck, but nothing else may: its answer is cut short.
stale = sys.argv[2] == "stale"

def requests(number):
    connection = http.client.HTTPConnection(*worker.address, timeout=20)
    while not over:
        connection.request("GET", "/")
        try:
            response = connection.getresponse()
            outcome = "whole" if response.read().endswith(b"end") else "?"
        except http.client.IncompleteRead:
            outcome = "cut short"
            connection.close()
        if response.status == 500:
            outcome = "cut short"
        counts[number, outcome] = counts.get((number, outcome), 0) + 1

clients = [threading.Thread(target=requests, args=(n,)) for n in range(3)]
for client in clients:
    client.start()
end = time.monotonic() + {seconds}
asked = 0
while time.monotonic() < end:
    heartbeat = worker.heartbeat
    if not heartbeat:
        continue
    if stale:
        while worker.heartbeat == heartbeat:
            pass
    if asked % 3 == 0:
        worker.line.report(heartbeat)
    worker.line.interrupt(heartbeat)
    asked += 1
    time.sleep(0.001 if stale else 0.03)
    worker.collect()
over = True
for client in clients:
    client.join(30)
    assert not client.is_alive(), "a request got no answer"
totals = {{"whole": 0, "cut short": 0}}
for (_, outcome), count in counts.items():
    totals[outcome] += count
assert asked > 0, asked
assert totals["whole"] > 0, totals
assert set(worker.collect()) <= {{"started", "serving", "stuck"}}
print(asked, totals, worker.collect().count("stuck"), file=sys.stderr)
print(totals["cut short"])
worker.commands.put_nowait(("shutdown",))
assert worker.finish()[-1] == "stopped"
"""


@pytest.mark.parametrize("mode", ["interpreter", "thread"])
@pytest.mark.parametrize("asked", ["stale", "current"])
def test_under_load_nothing_but_the_application_is_hit(
    mode: str, asked: str, tmp_path: Path
) -> None:
    source = STRESS.format(root=str(ROOT), seconds=1)
    done = run_script(tmp_path, source, mode, asked)
    assert done.returncode == 0, done.stderr
    assert "internal error" not in done.stderr
    # Each request that failed has been explained; tasks and callbacks may be hit beyond that.
    assert done.stderr.count("held the worker up") == int(done.stdout), done.stderr
    if asked == "stale":
        assert done.stdout == "0\n"
        assert "WorkerInterrupted" not in done.stderr


# --- all ways in which a worker can end


@pytest.mark.parametrize("threads", [False, True])
def test_an_application_that_can_not_be_imported(threads: bool) -> None:
    worker = Watched("no_such_module:app", threads=threads)
    assert worker.finish() == ["started", "failure", "error"]


@pytest.mark.parametrize("threads", [False, True])
def test_a_lifespan_that_fails(threads: bool) -> None:
    worker = Watched(f"{APPS}:fails_at_startup", threads=threads, lifespan="on")
    assert worker.finish() == ["started", "failure", "error"]


@pytest.mark.parametrize("factory", ["spinning_factory", "factory_that_imports_a_debugger"])
@pytest.mark.parametrize("threads", [False, True])
def test_a_factory_that_never_returns(threads: bool, factory: str) -> None:
    worker = Watched(f"{APPS}:{factory}()", threads=threads)
    wait_until(lambda: "in spin\n" in worker.report(), "the factory to be called")
    worker.interrupt()
    assert worker.finish()[-1] == "error"
    assert "WorkerInterrupted" in worker.statuses[-1][1]


@pytest.mark.parametrize("threads", [False, True])
@pytest.mark.parametrize("lifespan", ["auto", "on"])
def test_a_startup_that_never_returns(threads: bool, lifespan: str) -> None:
    worker = Watched(f"{APPS}:spins_at_startup", threads=threads, lifespan=lifespan)
    wait_until(lambda: "in spin\n" in worker.report(), "the startup to be called")
    worker.interrupt()
    assert worker.finish()[-1] == "error"
    assert "LifespanError" in worker.statuses[-1][1]
    assert "WorkerInterrupted" in worker.statuses[-1][1]


def test_a_shutdown_that_never_returns() -> None:
    worker = Watched(f"{APPS}:spins_at_shutdown", lifespan="on")
    worker.wait_for("serving")
    worker.commands.put_nowait(("shutdown",))
    worker.wait_for("draining")
    wait_until(lambda: "in spin\n" in worker.report(), "the shutdown to begin")
    worker.interrupt()
    assert worker.finish()[-1] == "error"
    assert "WorkerInterrupted" in worker.statuses[-1][1]


def test_a_forced_end(tmp_path: Path) -> None:
    worker = Watched("tests.integration.apps.lifecycle:app")
    worker.wait_for("serving")
    pending = Pending(worker.url, f"/for-ever{tmp_path}/x")
    wait_until((tmp_path / "x.begun").exists)
    worker.commands.put_nowait(("shutdown",))
    worker.commands.put_nowait(("shutdown",))
    assert worker.finish()[-1] == "stopped"
    pending.result()
