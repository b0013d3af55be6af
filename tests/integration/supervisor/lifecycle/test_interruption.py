"""Signals in the middle of a run, of a start and of a stop."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from subinterp_asgi.supervisor.policy.shutdown import Shutdown
from subinterp_asgi.supervisor.states import SupervisorState
from tests.support import run_script

from .making import APP, both, in_background, make

INTERRUPTED = f"""
    import os, signal, sys, threading, time
    from pathlib import Path
    from subinterp_asgi import Supervisor
    from tests.support import Pending, wait_until
    server = Supervisor("{APP}", port=0, workers=2, isolation=sys.argv[1], access_log=False,
                        lifespan="off", timeout_graceful_shutdown=3600)

    def interrupt():
        wait_until(lambda: server.state.value == "serving")
        Pending(server.url, "/for-ever" + os.getcwd() + "/x")
        wait_until(Path("x.begun").exists)
        os.kill(os.getpid(), signal.SIGINT)
        if sys.argv[2] == "twice":
            wait_until(lambda: server.state.value == "stopping")
            time.sleep(0.05)
            os.kill(os.getpid(), signal.SIGINT)
        else:
            server.stop(0)

    threading.Thread(target=interrupt).start()
    try:
        server.run()
    except KeyboardInterrupt:
        print("interrupted", flush=True)
        if sys.argv[2] == "twice":
            raise
    print(server.state.value)
"""


@both
def test_an_interrupted_run_stops_the_workers_and_goes_on(isolation: str, tmp_path: Path) -> None:
    done = run_script(tmp_path, INTERRUPTED, isolation, "once")
    assert (done.returncode, done.stdout) == (0, "interrupted\nstopped\n"), done.stderr
    assert done.stderr == "" or "broken off" in done.stderr


@both
def test_an_interrupted_stop_is_completed_when_the_process_ends(
    isolation: str, tmp_path: Path
) -> None:
    """It must not be waited for by anybody for ever, least of all at exit."""
    done = run_script(tmp_path, INTERRUPTED, isolation, "twice")
    assert done.stdout == "interrupted\n", done.stderr
    # By SIGINT, as Python ends a program that did not catch it. (1 on 3.13, which forgets what the
    # reason was when code is executed in another interpreter afterwards.)
    assert done.returncode in ((-2,) if sys.version_info >= (3, 14) else (-2, 1))
    assert "KeyboardInterrupt" in done.stderr


def test_a_stop_that_was_interrupted_can_be_called_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = make(workers=2)
    server.start()
    run = Shutdown.run
    interruptions = iter([KeyboardInterrupt, KeyboardInterrupt])

    def interrupted(self: Shutdown, listeners: Any) -> None:
        for interruption in interruptions:
            raise interruption
        run(self, listeners)

    monkeypatch.setattr(Shutdown, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        server.stop()
    waiter, waited = in_background(server.wait)
    with pytest.raises(KeyboardInterrupt):
        server.stop()
    server.stop()
    assert server.state is SupervisorState.STOPPED
    waiter.join(20)
    assert waited == [True]


def test_a_start_whose_cleaning_up_was_interrupted_can_be_stopped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = make("nonsense")
    run = Shutdown.run
    interruptions = iter([KeyboardInterrupt])

    def interrupted(self: Shutdown, listeners: Any) -> None:
        for interruption in interruptions:
            raise interruption
        run(self, listeners)

    monkeypatch.setattr(Shutdown, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        server.start()
    server.stop()
    assert not server.has_running_workers
