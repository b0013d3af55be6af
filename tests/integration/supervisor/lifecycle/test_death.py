"""Workers that die, when nothing replaces them."""

from __future__ import annotations

from typing import Any

import pytest

from subinterp_asgi import Supervisor
from subinterp_asgi.errors import StateError, WorkerDiedError
from subinterp_asgi.supervisor.states import SupervisorState
from tests.support import get, wait_until

from .making import both, in_background, make


def die(server: Supervisor) -> None:
    get(server.url, "/die")


@both
def test_all_workers_dying_ends_the_wait(isolation: str, caplog: pytest.LogCaptureFixture) -> None:
    server = make(isolation=isolation, workers=1, restart_limit=0)
    server.start()
    die(server)
    with pytest.raises(WorkerDiedError) as caught:
        server.wait(20)
    assert "worker 0 died: SystemExit: the worker is told to die" in str(caught.value)
    assert "Traceback" in str(caught.value)
    assert server.state is SupervisorState.FAILED
    assert "worker 0 died" in caplog.text  # the host's logging hears of it
    server.stop()
    with pytest.raises(StateError):
        server.start()


@both
def test_the_others_go_on_serving(isolation: str) -> None:
    server = make(isolation=isolation, workers=2, restart_delay=60)
    server.start()
    die(server)
    wait_until(lambda: len(server.workers) == 1, "one worker to be dead")
    assert server.state is SupervisorState.SERVING
    for _ in range(10):
        assert get(server.url).text == "ok"
    assert server.wait(0) is False
    server.stop()


def test_run_raises_when_workers_die() -> None:
    server = make(restart_limit=0)
    thread, outcome = in_background(server.run)
    wait_until(lambda: server.state is SupervisorState.SERVING, "serving")
    die(server)
    thread.join(20)
    assert isinstance(outcome[0], WorkerDiedError)


@both
def test_a_worker_that_died_does_not_hinder_a_stop(isolation: str) -> None:
    with make(isolation=isolation, workers=2) as server:
        die(server)
    assert server.state is SupervisorState.STOPPED


def test_a_worker_that_dies_as_the_start_completes_is_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its ring was heard before the supervisor served; nothing else would ring again."""
    settled = Supervisor._wait_for_start

    def wait_and_die(self: Supervisor, rollout: Any) -> None:
        settled(self, rollout)
        die(self)
        wait_until(lambda: self._handles()[0].exited, "the worker to be dead")
        wait_until(lambda: not select_readable(self._wakeup), "the monitor to have heard")

    monkeypatch.setattr(Supervisor, "_wait_for_start", wait_and_die)
    server = make(restart_limit=0)
    server.start()
    with pytest.raises(WorkerDiedError):
        server.wait(20)
    server.stop()


def select_readable(bell: Any) -> bool:
    import select

    return bool(select.select([bell], [], [], 0)[0])
