"""Faults that tests may inject: each does to a running server what it says, and nothing else."""

from __future__ import annotations

import contextlib
import ctypes  # noqa: F401  (libffi opens a descriptor, once, when it is first loaded)
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from subinterp_asgi import Supervisor, errors
from subinterp_asgi.supervisor import events
from subinterp_asgi.supervisor.states import SupervisorState, WorkerState
from subinterp_asgi.testing import faults
from tests.support import Pending, get, nothing_left, run_script, wait_until

APP = "tests.integration.apps.lifecycle:app"
LIFESPAN = "tests.integration.apps.lifecycle:with_lifespan"

both = pytest.mark.parametrize("isolation", ["interpreter", "thread"])


@pytest.fixture(autouse=True)
def leaves_nothing() -> Iterator[None]:
    with nothing_left():
        yield


def make(isolation: str, **options: Any) -> Supervisor:
    options = {"port": 0, "access_log": False, "restart_delay": 0.01, "workers": 2, **options}
    return Supervisor(APP, isolation=isolation, **options)


def next_event[E: events.Event](stream: events.EventStream, kind: type[E]) -> E:
    """Wait for the next event of a kind."""
    while True:
        event = stream.get(20)
        assert event is not None, f"the end came before {kind.__name__}"
        if isinstance(event, kind):
            return event


def all_serve(server: Supervisor) -> bool:
    states = [worker.state for worker in server.workers]
    return states == [WorkerState.SERVING] * server.config.workers


def begin(server: Supervisor, action: str, directory: Path) -> Pending:
    """Send a request and return once the application has begun with it."""
    pending = Pending(server.url, f"/{action}{directory}/{action}")
    wait_until((directory / f"{action}.begun").exists, "the request to be begun")
    return pending


# --- crash


@both
@pytest.mark.parametrize("worker_id", [None, 0, 1])
def test_a_crash(isolation: str, worker_id: int | None) -> None:
    with make(isolation) as server:
        stream = server.events()
        victim = faults.crash_worker(server, worker_id)
        assert victim.id == (worker_id or 0)
        assert victim.state is WorkerState.SERVING
        died = next_event(stream, events.WorkerDied)
        assert (died.worker_id, died.generation) == (victim.id, victim.generation)
        assert died.error.startswith("SystemExit: crashed by a test\n")
        assert died.restart_in is not None
        wait_until(lambda: all_serve(server), "the replacement to serve")
        assert get(server.url).text == "ok"


@both
def test_a_crash_breaks_off_what_is_in_flight(isolation: str, tmp_path: Path) -> None:
    with make(isolation, workers=1) as server:
        pending = begin(server, "for-ever", tmp_path)
        faults.crash_worker(server)
        assert isinstance(pending.result(), ConnectionError | OSError)
        assert get(server.url).text == "ok"  # by its replacement


@both
def test_a_replacement_does_not_wait_for_the_end_of_the_one_that_died(
    isolation: str, tmp_path: Path
) -> None:
    """The lifespan of the one that died takes its time to shut down."""
    died: list[events.Event] = []
    gate = tmp_path / "gate"
    options = {"lifespan": "on", "state": {"shutdown.gate": str(gate)}, "restart_delay": 0.01}
    server = Supervisor(
        LIFESPAN,
        port=0,
        isolation=isolation,
        on_event=lambda event: died.append(event) if isinstance(event, events.WorkerDied) else None,
        **options,
    )
    with server:
        faults.crash_worker(server)
        wait_until((tmp_path / "gate.reached").exists, "the shutdown of its lifespan")
        assert get(server.url).text == "ok"  # by the replacement
        assert len(server._pool.handles) == 2
        gate.touch()
        wait_until(lambda: len(server._pool.handles) == 1, "the end of the one that died")
        assert get(server.url).text == "ok"
    assert len(died) == 1


@both
def test_one_that_died_is_interrupted_too(isolation: str) -> None:
    """Two callbacks in one turn of the loop, the first of which ends it."""
    with make(isolation, workers=1, timeout_worker_healthcheck=0.3) as server:
        dead = server._pool.slots[0].current
        faults.freeze_worker(server, 0.2)
        wait_until(lambda: dead.busy_since, "the freeze")  # which lets the others come together
        faults.crash_worker(server)
        faults.freeze_worker(server, 3600)
        wait_until(lambda: dead.exited, "the one that died to end")
        wait_until(lambda: all_serve(server), "its replacement to serve alone")


@both
def test_crashes_beyond_the_limit(isolation: str) -> None:
    server = make(isolation, workers=1, restart_limit=0)
    server.start()
    faults.crash_worker(server)
    with pytest.raises(errors.WorkerDiedError, match="crashed by a test"):
        server.wait(20)
    with contextlib.suppress(errors.WorkerDiedError):
        server.stop()


# --- freeze


@both
@pytest.mark.parametrize("interruptible", [True, False])
def test_a_frozen_worker_goes_on_afterwards(
    isolation: str, interruptible: bool, tmp_path: Path
) -> None:
    """What it has in flight is complete in the end; others accept meanwhile."""
    with make(isolation) as server:
        pending = begin(server, "until", tmp_path)
        holder = next(w.id for w in server.workers if w.connections)
        frozen = faults.freeze_worker(server, 0.4, holder, interruptible=interruptible)
        assert frozen.id == holder
        wait_until(lambda: server._pool.slots[holder].current.busy_since, "the freeze")
        for _ in range(8):
            assert get(server.url).text == "ok"
        (tmp_path / "until").touch()
        answer = pending.result()
        assert not isinstance(answer, Exception)
        assert answer.text == "done"
        assert all_serve(server)
        assert [w.generation for w in server.workers] == [1, 1]


@both
def test_a_long_freeze_in_python_is_interrupted(isolation: str, tmp_path: Path) -> None:
    with make(isolation, workers=1, timeout_worker_healthcheck=0.2) as server:
        pending = begin(server, "until", tmp_path)
        stream = server.events()
        faults.freeze_worker(server, 3600)
        stuck = next_event(stream, events.WorkerStuck)
        assert "in _freeze\n" in stuck.stack
        (tmp_path / "until").touch()
        answer = pending.result()  # which the interruption does not concern
        assert not isinstance(answer, Exception)
        assert answer.text == "done"
        wait_until(lambda: all_serve(server), "its replacement to serve alone")


@both
def test_a_freeze_does_not_outlast_a_stop(isolation: str) -> None:
    with make(isolation, workers=1, timeout_worker_healthcheck=1.0) as server:
        frozen = server._pool.slots[0].current
        faults.freeze_worker(server, 3600)
        wait_until(lambda: frozen.busy_since, "the freeze")
        server.stop()  # before anybody could notice
        assert frozen.exited


@both
def test_of_two_freezes_in_one_turn_of_the_loop_both_are_interrupted(isolation: str) -> None:
    with make(isolation, workers=1, timeout_worker_healthcheck=1.5) as server:
        frozen = server._pool.slots[0].current
        faults.freeze_worker(server, 1.2)  # so long that the others come together
        wait_until(lambda: frozen.busy_since, "the freeze")
        for _ in range(2):
            faults.freeze_worker(server, 3600)
        wait_until(lambda: frozen.exited, "the one that was frozen to end")
        wait_until(lambda: all_serve(server), "its replacement to serve alone")


@both
def test_a_freeze_in_c_is_not_interrupted(isolation: str, tmp_path: Path) -> None:
    with make(isolation, workers=1, timeout_worker_healthcheck=0.2) as server:
        pending = begin(server, "until", tmp_path)
        stream = server.events()
        faults.freeze_worker(server, 2.5, interruptible=False)
        stuck = next_event(stream, events.WorkerStuck)
        assert "time.sleep(seconds)" in stuck.stack
        assert get(server.url).text == "ok"  # by the replacement
        (tmp_path / "until").touch()
        answer = pending.result()
        assert not isinstance(answer, Exception)
        assert answer.text == "done"
        wait_until(lambda: all_serve(server), "its replacement to serve alone")


# --- start


@both
def test_a_delayed_start(isolation: str) -> None:
    """Those that serve are not retired before the new ones do."""
    with make(isolation) as server:
        faults.delay_start(server, 3600)
        outcome: list[object] = []
        reloading = threading.Thread(target=lambda: outcome.append(attempt(server.reload)))
        reloading.start()
        wait_until(lambda: len(server.workers) == 4, "new workers to start")
        for _ in range(10):
            assert get(server.url).text == "ok"
        found = [(w.generation, w.state) for w in server.workers]
        assert sorted(found, key=lambda pair: pair[0]) == [
            (1, WorkerState.SERVING),
            (1, WorkerState.SERVING),
            (2, WorkerState.STARTING),
            (2, WorkerState.STARTING),
        ]
        server.stop(0)  # which nobody's delay holds up
        reloading.join(20)
        assert isinstance(outcome[0], errors.SubinterpASGIError)


def attempt(function: Any) -> object:
    try:
        return function()
    except Exception as exc:
        return exc


@both
def test_a_delay_that_is_over(isolation: str) -> None:
    with make(isolation, workers=1) as server:
        faults.delay_start(server, 0.01)
        assert server.reload() == 2
        faults.delay_start(server, 3600)
        faults.delay_start(server, 0)
        assert server.reload() == 3
        assert get(server.url).text == "ok"


@both
def test_a_delay_beyond_the_timeout_fails(isolation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with make(isolation, startup_timeout=30) as server:
        monkeypatch.setattr("subinterp_asgi.supervisor.policy.rollout.START_MARGIN", -29.8)
        faults.delay_start(server, 3600)
        with pytest.raises(errors.ReloadError, match="did not start within startup_timeout=30 s"):
            server.reload()
        assert get(server.url).text == "ok"


@both
@pytest.mark.parametrize("strategy", ["all", "rolling"])
def test_a_reload_that_fails_and_one_that_does_not(isolation: str, strategy: str) -> None:
    with make(isolation, reload_strategy=strategy) as server:
        stream = server.events()
        faults.fail_next_reload(server, "the database is on fire")
        with pytest.raises(errors.ReloadError, match="the database is on fire") as caught:
            server.reload()
        assert caught.value.generation == 2
        assert next_event(stream, events.ReloadFailed).generation == 2
        assert server.generation == 1
        assert get(server.url).text == "ok"
        faults.crash_worker(server)  # a replacement is none of the next generation
        wait_until(lambda: all_serve(server), "the replacement to serve")
        assert server.reload() == 3
        assert {w.generation for w in server.workers if w.state is WorkerState.SERVING} == {3}


def test_hooks_of_the_application_come_first(tmp_path: Path) -> None:
    app = "tests.integration.apps.lifecycle:with_hooks"
    log = tmp_path / "log"
    options = {"worker_hooks": True, "lifespan": "on", "state": {"log": str(log)}}
    with Supervisor(app, port=0, isolation="thread", **options) as server:
        faults.fail_next_reload(server)
        with pytest.raises(errors.ReloadError, match="InjectedFault: as a test wants it"):
            server.reload()
    names = [line.split()[1] for line in log.read_text().splitlines()]
    assert sorted(names) == sorted(
        ["startup", "subinterp_asgi.worker.startup"] * 2
        + ["subinterp_asgi.worker.shutdown", "shutdown"] * 2
    )


# --- refusals


def test_a_server_that_does_not_serve() -> None:
    server = make("thread")
    actions = (
        lambda: faults.crash_worker(server),
        lambda: faults.freeze_worker(server, 1),
        lambda: faults.delay_start(server, 1),
        lambda: faults.fail_next_reload(server),
    )
    for state in (SupervisorState.NEW, SupervisorState.STOPPED):
        assert server.state is state
        for action in actions:
            with pytest.raises(errors.StateError, match=f"the supervisor is {state.value}"):
                action()
        if state is SupervisorState.NEW:
            with server:
                pass


def test_a_worker_that_there_is_not() -> None:
    with make("thread") as server:
        with pytest.raises(errors.StateError, match="no worker 7 serves"):
            faults.crash_worker(server, 7)
        faults.freeze_worker(server, 0, 1)
        assert all_serve(server)


def test_nothing_of_it_is_imported_unless_it_is_used(tmp_path: Path) -> None:
    done = run_script(
        tmp_path,
        """
        import sys
        from subinterp_asgi import Supervisor
        from tests.support import get, wait_until

        module = "subinterp_asgi.testing"
        with Supervisor("app:app", port=0, access_log=False) as server:
            assert get(server.url).text == "False"
            server.reload()
            assert get(server.url).text == "False"
            assert module not in sys.modules
            from subinterp_asgi.testing import faults
            faults.freeze_worker(server, 0)
            wait_until(lambda: get(server.url).text == "True")
        """,
        files={
            "app.py": """
            import sys

            async def app(scope, receive, send):
                if scope["type"] == "http":
                    text = str("subinterp_asgi.worker.faults" in sys.modules).encode()
                    await send({"type": "http.response.start", "status": 200, "headers": []})
                    await send({"type": "http.response.body", "body": text})
                else:
                    raise NotImplementedError
            """
        },
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
