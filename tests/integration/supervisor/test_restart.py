"""Workers that die: they are replaced, the others go on, and there is an end to it."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from subinterp_asgi.errors import ReloadError, StateError, WorkerDiedError
from subinterp_asgi.supervisor.events import SupervisorChanged, WorkerChanged, WorkerDied
from subinterp_asgi.supervisor.policy import reconciler
from subinterp_asgi.supervisor.policy.budget import RestartBudget
from subinterp_asgi.supervisor.pool import pool
from subinterp_asgi.supervisor.states import SupervisorState, WorkerState
from subinterp_asgi.testing import faults
from tests.support import get, nothing_left, run_script, wait_until

from ..apps.pool import App
from ..load import Load
from ..rawclient import RawClient, request
from ..supervising import (
    Background,
    Heard,
    Servers,
    all_names,
    both,
    generations,
    in_flight,
    in_turn,
    status_of,
    who,
)

SOON: dict[str, Any] = {"restart_delay": 0.01}
CAUSES = {
    "exit": "SystemExit: told to die",
    "interrupt": "KeyboardInterrupt: told to die",
    "stop": "RuntimeError: Event loop stopped before Future completed",
    "lifespan": "SystemExit: the lifespan had enough",
}


def kill(server: Any, how: str = "exit") -> str:
    """Have a worker die; return its name."""
    with RawClient(server.addresses[0]) as client:
        name = client.get(b"/who").body.decode()
        client.get(b"/die/" + how.encode())
        return name


# --- it is replaced


@pytest.mark.parametrize("how", CAUSES)
@both
def test_a_worker_that_dies_is_replaced(servers: Servers, isolation: str, how: str) -> None:
    heard = Heard()
    server = servers.start(isolation=isolation, workers=2, on_event=heard, **SOON)
    before = all_names(server, 2)
    dead = kill(server, how)
    (died,) = heard.wait_for(WorkerDied)
    assert died.error.startswith(CAUSES[how])
    assert "Traceback" in died.error
    assert died.restart_in is not None
    heard.wait_for(WorkerChanged, worker_id=died.worker_id, state=WorkerState.SERVING, count=2)
    after = all_names(server, 2)
    assert dead not in after
    assert len(after & before) == 1
    assert [info.id for info in server.workers] == [0, 1]
    assert generations(server) == [1, 1]
    assert server.state is SupervisorState.SERVING


def test_the_others_go_on_all_the_while(servers: Servers) -> None:
    """Only who was connected to the one that died may notice."""
    heard = Heard()
    server = servers.start(isolation="interpreter", workers=2, on_event=heard, **SOON)
    with Load(server.addresses[0], keep_alive=6, slow=2, stream=2) as load:
        dead = []
        for number in range(4):
            load.wait_for(50)
            dead.append(kill(server))
            heard.wait_for(WorkerChanged, state=WorkerState.SERVING, count=number + 3)
        load.wait_for(50)
    explained = [failure for failure in load.failures if failure.worker in dead]
    # (Who had no answer yet can't say whom it was connected to.)
    assert [f for f in load.failures if f.worker and f not in explained] == []
    assert len(load.failures) <= 10 * len(dead)
    assert len(set(dead)) == 4
    server.stop()
    stats = server.stats()
    own = 2 * len(dead)  # the requests of kill()
    assert load.requests + own <= stats.requests <= load.requests + own + len(load.failures)


def test_a_single_worker_that_dies_leaves_the_port_open(servers: Servers, tmp_path: Path) -> None:
    """Who connects while there is nobody is served as soon as there is."""
    gate = tmp_path / "gate"
    gate.touch()
    heard = Heard()
    server = servers.start(state={"gate": str(gate)}, on_event=heard, **SOON)
    gate.unlink()
    kill(server)
    heard.wait_for(WorkerDied)
    clients = [RawClient(server.addresses[0]) for _ in range(10)]
    for client in clients:
        client.send(request(b"GET", b"/"))
    gate.touch()
    for client in clients:
        assert client.response().status == 200
        client.close()


def test_a_request_in_flight_elsewhere_is_not_disturbed(servers: Servers, tmp_path: Path) -> None:
    heard = Heard()
    server = servers.start(workers=2, on_event=heard, **SOON)
    path = tmp_path / "file"
    with RawClient(server.addresses[0]) as client:
        name = client.get(b"/who").body.decode()
        client.send(request(b"GET", b"/until" + bytes(path)))
        while (dead := kill_another(server, name)) is None:
            pass
        heard.wait_for(WorkerDied)
        path.touch()
        assert client.response().body == b"done"
    assert dead != name


def kill_another(server: Any, name: str) -> str | None:
    """Have a worker die, but not this one."""
    with RawClient(server.addresses[0]) as client:
        found: str = client.get(b"/who").body.decode()
        if found == name:
            return None
        client.get(b"/die")
        return found


def test_a_worker_may_die_while_it_retires(servers: Servers, tmp_path: Path) -> None:
    """Which is told, and costs nothing: nobody needs it any more."""
    heard = Heard()
    server = servers.start(on_event=heard, restart_limit=0, timeout_linger=30.0)
    with RawClient(server.addresses[0]) as client:
        client.get(b"/")
        pending = in_flight(server, tmp_path / "file")
        reloading = Background(server.reload)
        heard.wait_for(WorkerChanged, generation=1, state=WorkerState.DRAINING)
        client.get(b"/die")
        (died,) = heard.wait_for(WorkerDied)
        assert died.restart_in is None
        assert reloading.outcome() == 2
        assert isinstance(pending.result(), Exception)
    assert get(server.url).status == 200


# --- the budget


def test_the_back_off_grows(servers: Servers) -> None:
    heard = Heard()
    server = servers.start(on_event=heard, restart_delay=0.02)
    for number in range(1, 5):
        kill(server)
        heard.wait_for(WorkerDied, count=number)
        heard.wait_for(WorkerChanged, state=WorkerState.SERVING, count=number + 1)
    delays = [event.restart_in for event in heard.of(WorkerDied)]
    for number, delay in enumerate(delays):
        assert delay is not None
        assert 0.75 <= delay / (0.02 * 2**number) <= 1.25
    assert all(a < b for a, b in pairwise(delays))  # type: ignore[operator]
    serving = [event.at for event in heard.of(WorkerChanged) if event.state is WorkerState.SERVING]
    for died, back in zip(heard.of(WorkerDied), serving[1:], strict=True):
        assert back - died.at >= died.restart_in  # type: ignore[operator]


@both
def test_a_budget_that_is_spent(servers: Servers, isolation: str) -> None:
    """It is one for all, and outlives those that spend it."""
    with nothing_left():
        heard = Heard()
        server = servers.start(
            isolation=isolation, workers=2, restart_limit=2, on_event=heard, **SOON
        )
        for number, how in enumerate(["exit", "interrupt", "stop"], 1):
            kill(server, how)
            heard.wait_for(WorkerDied, count=number)
        with pytest.raises(WorkerDiedError) as caught:
            server.wait(30)
        assert CAUSES["stop"] in str(caught.value)  # the last one's, with its traceback
        assert "Traceback" in str(caught.value)
        assert server.state is SupervisorState.FAILED
        assert heard.of(WorkerDied)[-1].restart_in is None
        heard.wait_for(SupervisorChanged, state=SupervisorState.FAILED)
        server.stop()
    assert not server.has_running_workers
    with pytest.raises(StateError):
        server.reload()


def test_requests_in_flight_are_finished_although_it_fails(
    servers: Servers, tmp_path: Path
) -> None:
    server = servers.start(workers=2, restart_limit=0)
    path = tmp_path / "file"
    with RawClient(server.addresses[0]) as client:
        name = client.get(b"/who").body.decode()
        client.send(request(b"GET", b"/until" + bytes(path)))
        while kill_another(server, name) is None:
            pass
        waiting = Background(lambda: server.wait(30))
        wait_until(lambda: all(x.state is not WorkerState.SERVING for x in server.workers))
        assert waiting.running
        assert server.state is SupervisorState.STOPPING
        for change in (server.reload, lambda: server.scale(3)):
            with pytest.raises(StateError, match="the supervisor is stopping"):
                change()
        path.touch()
        response = client.response()
        assert (response.body, response.closes) == (b"done", True)
    assert isinstance(waiting.outcome(), WorkerDiedError)


def test_run_raises_the_last_cause(servers: Servers) -> None:
    server = servers.make(restart_limit=1, **SOON)
    running = Background(server.run)
    wait_until(lambda: server.state is SupervisorState.SERVING)
    name = kill(server)
    wait_until(lambda: who(server) != name)
    kill(server, "lifespan")
    failure = running.outcome()
    assert isinstance(failure, WorkerDiedError)
    assert CAUSES["lifespan"] in str(failure)


def test_a_limit_of_0(servers: Servers) -> None:
    server = servers.start(restart_limit=0, workers=2)
    kill(server)
    with pytest.raises(WorkerDiedError, match=r"worker [01] died: SystemExit: told to die"):
        server.wait(30)


def test_what_is_older_than_the_window_is_forgiven(servers: Servers) -> None:
    heard = Heard()
    server = servers.start(restart_limit=1, restart_window=0.2, on_event=heard, **SOON)
    for number in range(1, 4):
        if number > 1:
            spent = heard.of(WorkerDied)[-1].at
            wait_until(lambda spent=spent: heard_now() - spent > 0.2)
        kill(server)
        heard.wait_for(WorkerDied, count=number)
        heard.wait_for(WorkerChanged, state=WorkerState.SERVING, count=number + 1)
    assert server.state is SupervisorState.SERVING


def heard_now() -> float:
    from time import monotonic

    return monotonic()


def test_replacements_that_can_not_start_count_too(servers: Servers) -> None:
    def make(number: int) -> App:
        if number > 2:
            raise LookupError(f"no configuration {number}")
        return App()

    heard = Heard()
    server = servers.start(in_turn(make), workers=2, restart_limit=3, on_event=heard, **SOON)
    other = (all_names(server, 2) - {kill(server)}).pop()
    assert who(server) == other
    with pytest.raises(WorkerDiedError, match="LookupError: no configuration 5"):
        server.wait(30)
    errors = [event.error.splitlines()[0] for event in heard.of(WorkerDied)]
    assert errors[0] == "SystemExit: told to die"
    assert [error.rpartition(" ")[2] for error in errors[1:]] == ["3", "4", "5"]


def test_a_replacement_that_hangs_is_replaced(
    servers: Servers, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(reconciler, "START_MARGIN", 0.0)
    gate = tmp_path / "gate"

    def make(number: int) -> App:
        if number == 2:
            wait_until(gate.exists)
        return App()

    heard = Heard()
    server = servers.start(in_turn(make), startup_timeout=0.2, on_event=heard, **SOON)
    name = kill(server)
    died = heard.wait_for(WorkerDied, count=2)[1]
    assert died.error == "it did not start within startup_timeout=0.2 s"
    assert who(server) != name
    gate.touch()
    wait_until(lambda: len(server.workers) == 1, "the late one to be gone")
    assert server.state is SupervisorState.SERVING


def test_the_system_has_no_thread_for_it_at_first(
    servers: Servers, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import threading

    start = threading.Thread.start
    refusals = iter([RuntimeError, RuntimeError])
    heard = Heard()
    server = servers.start(restart_delay=0.01, restart_limit=3, on_event=heard)
    name = who(server)

    def refuse(thread: threading.Thread) -> None:
        if thread.name.startswith("asgi-worker"):
            for refusal in refusals:
                raise refusal("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    kill(server)
    assert who(server) != name
    assert caplog.text.count("worker 0 could not be started: can't start new thread") == 2
    assert [event.error.splitlines()[0] for event in heard.of(WorkerDied)] == [
        "SystemExit: told to die",
        "RuntimeError: can't start new thread",
        "RuntimeError: can't start new thread",
    ]


# --- it is stuck

# So that one that freezes stays frozen.
STUCK: dict[str, Any] = {"timeout_worker_healthcheck": 0.3, "worker_interrupt": False}


def test_a_defect_of_ours_does_not_end_the_supervision(
    servers: Servers, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    server = servers.start(restart_delay=0.01)
    start, calls = pool.Pool.start, iter([LookupError("who would have thought of that?")])

    def failing_once(*arguments: Any) -> Any:
        for exc in calls:
            raise exc
        return start(*arguments)

    monkeypatch.setattr(pool.Pool, "start", failing_once)
    faults.crash_worker(server)
    wait_until(lambda: "who would have thought of that?" in caplog.text)
    wait_until(lambda: [w.state for w in server.workers] == [WorkerState.SERVING])
    assert get(server.url).status == 200


def serving_and_stuck(server: Any) -> tuple[int, int]:
    states = [info.state for info in server.workers]
    return states.count(WorkerState.SERVING), states.count(WorkerState.STUCK)


@pytest.mark.parametrize("change", ["scale", "reload"])
def test_one_that_is_stuck_meanwhile_is_replaced_afterwards(
    servers: Servers, tmp_path: Path, change: str
) -> None:
    gate, path = tmp_path / "gate", tmp_path / "file"
    gate.touch()
    heard = Heard()
    server = servers.start(workers=2, state={"gate": str(gate)}, on_event=heard, **STUCK)
    gate.unlink()
    Path(f"{gate}.reached").unlink()
    faults.fail_next_reload(server)
    changing = Background(server.reload if change == "reload" else lambda: server.scale(3))
    wait_until(Path(f"{gate}.reached").exists)
    pending = in_flight(server, path, "freeze")
    heard.wait_for(WorkerChanged, state=WorkerState.STUCK)
    gate.touch()
    if change == "reload":
        assert isinstance(changing.outcome(), ReloadError)
        wait_until(lambda: serving_and_stuck(server) == (2, 1))
    else:
        assert changing.outcome() is None
        wait_until(lambda: serving_and_stuck(server) == (3, 1))
    path.touch()
    assert status_of(pending) == 200


def test_one_that_is_stuck_is_replaced_once_the_budget_allows_it(
    servers: Servers, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    heard = Heard()
    server = servers.start(
        workers=2, restart_limit=1, restart_window=1.0, on_event=heard, **SOON, **STUCK
    )
    kill(server)
    heard.wait_for(WorkerChanged, state=WorkerState.SERVING, count=3)
    path = tmp_path / "file"
    pending = in_flight(server, path, "freeze")
    wait_until(lambda: serving_and_stuck(server) == (2, 1))
    assert caplog.text.count("restart_limit forbids another") <= 1  # it is said once
    path.touch()
    assert status_of(pending) == 200


# Arguments: when the import hangs, startup_timeout.
HANGING = """
    import ctypes  # libffi opens a descriptor, once, when it is first loaded
    import sys
    from pathlib import Path
    from subinterp_asgi import Supervisor, errors
    from subinterp_asgi.supervisor.policy import rollout
    from tests.support import nothing_left, wait_until

    when, timeout = sys.argv[1:]
    rollout.START_MARGIN = 0.0
    server = Supervisor("served:app", port=0, startup_timeout=float(timeout), lifespan="off",
                        timeout_worker_healthcheck=0.2)
    hanging = "while True:\\n    pass\\n"
    with nothing_left():
        if when == "start":
            Path("served.py").write_text(hanging)
            try:
                server.start()
            except errors.StartupError as exc:
                print(exc)
        else:
            Path("served.py").write_text("async def app(scope, receive, send):\\n    pass\\n")
            server.start()
            Path("served.py").write_text(hanging)
            try:
                server.reload()
            except errors.ReloadError as exc:
                print(exc)
            wait_until(lambda: len(server.workers) == 1)
            server.stop()
"""


@pytest.mark.parametrize(("when", "timeout"), [("start", "0.3"), ("reload", "2")])
def test_one_that_hangs_in_its_import_is_interrupted(
    tmp_path: Path, when: str, timeout: str
) -> None:
    done = run_script(tmp_path, HANGING, when, timeout)
    assert done.returncode == 0, done.stderr
    assert f"worker 0 did not start within startup_timeout={timeout} s" in done.stdout


# --- and stopping


def test_a_stop_does_not_wait_for_the_back_off(servers: Servers) -> None:
    heard = Heard()
    server = servers.start(workers=2, restart_delay=30.0, on_event=heard)
    kill(server)
    heard.wait_for(WorkerDied)
    assert Background(server.stop).outcome(15) is None
    assert RestartBudget.LONGEST_DELAY >= 30


def test_a_reload_fills_the_place_of_a_dead_one(servers: Servers) -> None:
    """And nobody comes later to fill it again."""
    heard = Heard()
    server = servers.start(workers=2, restart_delay=0.5, on_event=heard)
    kill(server)
    (died,) = heard.wait_for(WorkerDied)
    assert server.reload() == 2
    assert generations(server) == [2, 2]
    names = all_names(server, 2)
    wait_until(lambda: heard_now() > died.at + 1.0)
    assert all_names(server, 2) == names


def test_requests_in_the_dead_ones_queue(servers: Servers, tmp_path: Path) -> None:
    """Of a single worker; ``test_sharing`` has those of several."""
    heard = Heard()
    server = servers.start(on_event=heard, **SOON)
    path = tmp_path / "file"
    freezing = in_flight(server, path, "freeze")
    clients = [RawClient(server.addresses[0]) for _ in range(5)]
    for client in clients:
        client.send(request(b"GET", b"/"))
    path.touch()
    assert status_of(freezing) == 200
    for client in clients:
        assert client.response().status == 200
        client.close()
