"""Workers that die again and again: there is an end to replacing them."""

from __future__ import annotations

import time
from itertools import pairwise
from pathlib import Path

import pytest

from subinterp_asgi.errors import StateError, WorkerDiedError
from subinterp_asgi.supervisor.events import SupervisorChanged, WorkerChanged, WorkerDied
from subinterp_asgi.supervisor.policy import reconciler
from subinterp_asgi.supervisor.states import SupervisorState, WorkerState
from tests.support import nothing_left, wait_until

from ..apps.pool import App
from ..rawclient import RawClient, request
from ..supervising import Background, Heard, Servers, all_names, both, in_turn, who
from .killing import CAUSES, SOON, heard_now, kill, kill_another


def test_the_back_off_grows(servers: Servers) -> None:
    heard = Heard()
    server = servers.start(on_event=heard, restart_delay=0.5)  # long beside what it serves for
    for number in range(1, 4):
        kill(server)
        heard.wait_for(WorkerDied, count=number)
        heard.wait_for(WorkerChanged, state=WorkerState.SERVING, count=number + 1)
    delays = [event.restart_in for event in heard.of(WorkerDied)]
    for number, delay in enumerate(delays):
        assert delay is not None
        assert 0.75 <= delay / (0.5 * 2**number) <= 1.25
    assert all(a < b for a, b in pairwise(delays))  # type: ignore[operator]
    serving = [event.at for event in heard.of(WorkerChanged) if event.state is WorkerState.SERVING]
    for died, back in zip(heard.of(WorkerDied), serving[1:], strict=True):
        assert back - died.at >= died.restart_in  # type: ignore[operator]


def test_one_that_has_served_is_replaced_at_once(servers: Servers) -> None:
    heard = Heard()
    server = servers.start(on_event=heard, restart_delay=0.01)
    time.sleep(0.1)  # what is measured is that it has served for ten times as long
    kill(server)
    (died,) = heard.wait_for(WorkerDied)
    assert died.restart_in == 0
    heard.wait_for(WorkerChanged, state=WorkerState.SERVING, count=2)


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
    gate = tmp_path / "gate"

    def make(number: int) -> App:
        if number == 2:
            wait_until(gate.exists)
        return App()

    heard = Heard()
    server = servers.start(in_turn(make), startup_timeout=30, on_event=heard, **SOON)
    with monkeypatch.context() as hurried:
        hurried.setattr(reconciler, "START_MARGIN", -29.0)  # for this one alone
        name = kill(server)
        died = heard.wait_for(WorkerDied, count=2)[1]
    assert died.error == "it did not start within startup_timeout=30 s"
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
    server = servers.start(restart_delay=0.01, restart_limit=1, on_event=heard)
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
