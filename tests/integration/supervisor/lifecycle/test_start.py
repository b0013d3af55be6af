"""How a start goes, what may go wrong in it, and the states in turn."""

from __future__ import annotations

import errno
import json
import re
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from subinterp_asgi import Supervisor
from subinterp_asgi.errors import BindError, StartupError, StateError, WorkerDiedError
from subinterp_asgi.supervisor.policy import rollout
from subinterp_asgi.supervisor.states import SupervisorState, WorkerState
from tests.integration.apps import lifecycle
from tests.support import get, run_script, wait_until

from .making import APP, APPS, LIFESPAN, both, in_background, make

# --- workers


def all_workers(server: Supervisor, path: str = "/count") -> dict[str, int]:
    """Send requests until each worker has answered one; return token: last count."""
    counts: dict[str, int] = {}

    def ask() -> bool:
        answer = json.loads(get(server.url, path).body)
        counts[answer["token"]] = answer["counter"]
        return len(counts) == server.config.workers

    wait_until(ask, "each worker to serve a request")
    return counts


def test_each_interpreter_has_globals_of_its_own_and_all_serve() -> None:
    with make(isolation="interpreter", workers=2) as server:
        counts = all_workers(server)
        for _ in range(10):
            answer = json.loads(get(server.url, "/count").body)
            counts[answer["token"]] += 1  # each counts its own requests only
            assert answer["counter"] == counts[answer["token"]]
        assert lifecycle.TOKEN not in counts
        wait_until(  # (a worker counts once it has nothing left to do)
            lambda: sorted(worker.requests for worker in server.workers) == sorted(counts.values())
        )


def test_threads_share_the_hosts_globals() -> None:
    with make(workers=2) as server:
        before = lifecycle.counter
        for _ in range(4):
            answer = json.loads(get(server.url, "/count").body)
            assert answer["token"] == lifecycle.TOKEN
        assert lifecycle.counter == before + 4


@both
def test_what_is_known_of_the_workers(isolation: str) -> None:
    with make(isolation=isolation, workers=2) as server:
        infos = server.workers
        assert [info.id for info in infos] == [0, 1]
        assert [info.generation for info in infos] == [1, 1]
        assert [info.state for info in infos] == [WorkerState.SERVING] * 2
        assert [info.requests for info in infos] == [0, 0]
        names = {thread.name for thread in threading.enumerate()}
        assert {info.thread_name for info in infos} <= names
        assert len({info.thread_name for info in infos}) == 2
        for count in range(1, 4):
            get(server.url)  # (a worker counts once it has nothing left to do)
            wait_until(lambda count=count: sum(x.requests for x in server.workers) == count)
    assert [info.state for info in server.workers] == [WorkerState.STOPPED] * 2
    assert sum(info.requests for info in server.workers) == 3


def test_the_threads_of_workers_carry_their_name() -> None:
    with make() as server:
        assert get(server.url, "/thread").text == server.workers[0].thread_name


@both
def test_workers_start_in_parallel(isolation: str, tmp_path: Path) -> None:
    """Each lifespan waits for the other one to have begun."""
    state = {"startup.meet": [str(tmp_path), 2]}
    with make(LIFESPAN, isolation, workers=2, lifespan="on", state=state, startup_timeout=30):
        pass


# --- starts that fail


@both
def test_the_workers_own_traceback_is_in_the_message(isolation: str, tmp_path: Path) -> None:
    (tmp_path / f"broken_{isolation}.py").write_text("def inner():\n    1 / 0\n\ninner()\n")
    sys.path.insert(0, str(tmp_path))
    try:
        with pytest.raises(StartupError) as caught:
            make(f"broken_{isolation}:app", isolation, workers=2).start()
    finally:
        sys.path.remove(str(tmp_path))
    message = str(caught.value)
    assert re.match(r"worker [01] could not start: AppModuleFailedError: ", message)
    assert "ZeroDivisionError: division by zero" in message
    assert f'broken_{isolation}.py", line 2, in inner' in message
    assert caught.value.worker_id in (0, 1)


@both
@pytest.mark.parametrize(
    ("app", "words"),
    [
        ("nonsense", "Invalid app path 'nonsense'"),
        ("no_such_module_at_all:app", "no module named 'no_such_module_at_all'"),
        (f"{APPS}:ap", "did you mean app"),
        (f"{APPS}:not_callable", "is not an ASGI application"),
        (f"{APPS}:not_callable()", "is not a factory"),
    ],
)
def test_an_application_that_is_not_there(isolation: str, app: str, words: str) -> None:
    server = make(app, isolation)
    with pytest.raises(StartupError) as caught:
        server.start()
    assert words in str(caught.value)
    assert server.state is SupervisorState.FAILED
    assert not server.has_running_workers


@both
def test_one_worker_that_fails_takes_the_others_down(isolation: str, tmp_path: Path) -> None:
    state = {"startup.one_fails": str(tmp_path / "first"), "log": str(tmp_path / "log")}
    server = make(LIFESPAN, isolation, workers=3, lifespan="on", state=state)
    with pytest.raises(StartupError, match="one of them fails"):
        server.start()
    assert all(info.state in (WorkerState.STOPPED, WorkerState.FAILED) for info in server.workers)
    # Those that had started, if there are any, were shut down properly.
    (tmp_path / "log").touch()
    events = [line.split()[1] for line in (tmp_path / "log").read_text().splitlines()]
    assert events.count("startup") == events.count("shutdown")


@both
def test_a_start_whose_other_worker_hangs_fails_at_once(isolation: str, tmp_path: Path) -> None:
    """The hanging lifespan is cancelled; nobody waits for the timeouts, which are a minute."""
    state = {"startup.one_fails": str(tmp_path / "first"), "startup.hang": True}
    server = make(LIFESPAN, isolation, workers=2, lifespan="on", state=state)
    began = time.monotonic()
    with pytest.raises(StartupError, match="one of them fails"):
        server.start()
    assert time.monotonic() - began < server.config.startup_timeout / 2


@both
def test_a_lifespan_that_takes_too_long(isolation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rollout, "START_MARGIN", 30.0)  # however busy the machine is
    server = make(
        LIFESPAN, isolation, lifespan="on", state={"startup.hang": True}, startup_timeout=0.2
    )
    with pytest.raises(StartupError, match=r"more than startup_timeout=0\.2 s"):
        server.start()


def test_a_port_that_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        server = make(port=port)
        with pytest.raises(BindError) as caught:
            server.start()
    assert caught.value.errno == errno.EADDRINUSE
    assert f"127.0.0.1:{port}" in str(caught.value)
    assert server.state is SupervisorState.FAILED
    server.stop()


def test_after_a_failed_start_nothing_can_be_started_again_and_all_can_be_stopped() -> None:
    server = make("nonsense")
    with pytest.raises(StartupError):
        server.start()
    with pytest.raises(StateError, match="can't start: the supervisor is failed"):
        server.start()
    server.stop()
    with pytest.raises(WorkerDiedError, match="Invalid app path"):
        server.wait()


def test_a_system_that_has_no_thread_left(monkeypatch: pytest.MonkeyPatch) -> None:
    for refused in ("asgi-supervisor", "asgi-worker-0", "asgi-worker-1"):
        start = threading.Thread.start

        def refuse(self: threading.Thread, name: str = refused, start: Any = start) -> None:
            if self.name == name:
                raise RuntimeError("can't start new thread")
            start(self)

        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            server = make(workers=2)
            with pytest.raises(StartupError, match="can't start new thread"):
                server.start()
        assert server.state is SupervisorState.FAILED
        assert not server.has_running_workers
        server.stop()


def test_a_system_that_has_no_descriptor_left(tmp_path: Path) -> None:
    """With each number of descriptors too few, the start fails and leaves nothing."""
    done = run_script(
        tmp_path,
        f"""
        import gc, os, resource, sys, threading
        from subinterp_asgi import Supervisor; from subinterp_asgi.control import interpreters
        kind = sys.argv[1]
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]

        def left():
            gc.collect()  # asyncio leaves half of a loop, when it can't make a whole one
            descriptors = sorted(os.listdir("/proc/self/fd"))
            return descriptors, threading.active_count(), interpreters.alive()

        with Supervisor("{APP}", port=0, isolation=kind, workers=2):
            pass  # what is imported or opened once and kept is so now
        before = left()
        failed = 0
        for more in range(100):
            resource.setrlimit(resource.RLIMIT_NOFILE, (len(before[0]) - 1 + more, hard))
            server = Supervisor("{APP}", port=0, isolation=kind, workers=2, access_log=False)
            try:
                server.start()
            except Exception as exc:
                outcome = exc
            else:
                outcome = None
                server.stop()
            resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))
            assert left() == before, (more, outcome, left(), before)
            if outcome is None:
                break
            failed += 1
        else:
            raise outcome
        assert failed > 8, failed
        """,
        "thread",
    )
    assert done.returncode == 0, done.stderr


# --- states


@both
def test_the_states_in_turn(isolation: str, tmp_path: Path) -> None:
    gates = {"startup.gate": str(tmp_path / "in"), "shutdown.gate": str(tmp_path / "out")}
    server = make(LIFESPAN, isolation, lifespan="on", state=gates)
    assert server.state is SupervisorState.NEW
    starter, started = in_background(server.start)
    wait_until((tmp_path / "in.reached").exists, "startup")
    assert server.state is SupervisorState.STARTING
    assert server.workers[0].state is WorkerState.STARTING
    (tmp_path / "in").touch()
    starter.join(20)
    assert started == [None]
    assert server.state is SupervisorState.SERVING
    stopper, stopped = in_background(server.stop)
    wait_until((tmp_path / "out.reached").exists, "shutdown")
    assert server.state is SupervisorState.STOPPING
    (tmp_path / "out").touch()
    stopper.join(20)
    assert stopped == [None]
    assert server.state is SupervisorState.STOPPED


def test_it_starts_once() -> None:
    with (
        make() as server,
        pytest.raises(StateError, match="can't start: the supervisor is serving"),
    ):
        server.start()
    with pytest.raises(StateError, match="can't start: the supervisor is stopped"):
        server.start()


def test_of_two_threads_that_start_it_one_does() -> None:
    server = make()
    outcomes: list[Any] = []
    callers = [in_background(server.start) for _ in range(2)]
    for thread, outcome in callers:
        thread.join(20)
        outcomes += outcome
    assert outcomes.count(None) == 1
    assert sum(isinstance(outcome, StateError) for outcome in outcomes) == 1
    server.stop()


SLOW = """
import os, time

try:
    os.mkdir("{folder}/first")
except FileExistsError:
    while not os.path.exists("{folder}/go"):
        time.sleep(0.01)

async def app(scope, receive, send):
    await send({{"type": "http.response.start", "status": 200, "headers": []}})
    await send({{"type": "http.response.body", "body": b""}})
"""


def test_one_that_serves_accepts_for_those_that_still_import(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "slow_app.py").write_text(SLOW.format(folder=tmp_path))
    server = Supervisor("slow_app:app", workers=2, port=0, access_log=False, lifespan="off")
    starting = threading.Thread(target=server.start)
    starting.start()
    try:
        wait_until(lambda: bool(server.addresses), "a listener")
        for _ in range(12):  # of which the kernel gives some to the other one
            assert get(server.url).status == 200
        assert server.state is SupervisorState.STARTING
    finally:
        (tmp_path / "go").touch()
        starting.join()
        server.stop()


CLOSES_ALL = """
    import os

    def close_all(now):
        if now == "{when}":
            os.closerange(3, 1024)

    close_all("import")
    async def app(scope, receive, send):
        assert scope["type"] == "lifespan"
        await receive()
        close_all("lifespan")
        await send({"type": "lifespan.startup.complete"})
        await receive()
"""


@both
@pytest.mark.parametrize("when", ["import", "lifespan"])
@pytest.mark.parametrize("options", ["", "log_forwarding=True, metrics_bind='127.0.0.1:0'"])
def test_an_application_that_closes_all_descriptors(
    tmp_path: Path, isolation: str, when: str, options: str
) -> None:
    script = f"""
        import sys
        from subinterp_asgi import Supervisor
        from subinterp_asgi.errors import StartupError
        from subinterp_asgi.supervisor.log_receiver import LogReceiver

        LogReceiver.close.__defaults__ = (0.1,)  # for a thread whose descriptors are gone, too
        server = Supervisor(
            "closes_all:app", port=0, workers=2, isolation="{isolation}", lifespan="on", {options}
        )
        try:
            server.start()
        except StartupError as exc:
            print(exc, exc.cause, sep="\\n")
        server.stop()
        print(server.state.value)
    """
    app = CLOSES_ALL.replace("{when}", when)
    done = run_script(tmp_path, script, files={"closes_all.py": app})
    assert "Error: the application has closed descriptors that it had not opened" in done.stdout
    assert done.stdout.endswith("failed\n"), done.stdout + done.stderr
    assert done.returncode == 0, done.stderr
