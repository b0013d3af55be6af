"""Replacements while a worker is stuck, or in place of one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from subinterp_asgi.errors import ReloadError
from subinterp_asgi.supervisor.events import WorkerChanged
from subinterp_asgi.supervisor.pool import pool
from subinterp_asgi.supervisor.states import WorkerState
from subinterp_asgi.testing import faults
from tests.support import get, run_script, wait_until

from ..supervising import Background, Heard, Servers, in_flight, status_of
from .killing import SOON, kill

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
    server = Supervisor("served:app", port=0, startup_timeout=float(timeout), lifespan="off",
                        timeout_worker_healthcheck=0.2)
    hanging = "while True:\\n    pass\\n"
    with nothing_left():
        if when == "start":
            rollout.START_MARGIN = 0.0
            Path("served.py").write_text(hanging)
            try:
                server.start()
            except errors.StartupError as exc:
                print(exc)
        else:
            Path("served.py").write_text("async def app(scope, receive, send):\\n    pass\\n")
            server.start()
            rollout.START_MARGIN = 0.3 - float(timeout)  # less than a busy machine needs
            Path("served.py").write_text(hanging)
            try:
                server.reload()
            except errors.ReloadError as exc:
                print(exc)
            wait_until(lambda: len(server.workers) == 1)
            server.stop()
"""


@pytest.mark.parametrize(("when", "timeout"), [("start", "0.3"), ("reload", "30")])
def test_one_that_hangs_in_its_import_is_interrupted(
    tmp_path: Path, when: str, timeout: str
) -> None:
    done = run_script(tmp_path, HANGING, when, timeout)
    assert done.returncode == 0, done.stderr
    assert f"worker 0 did not start within startup_timeout={timeout} s" in done.stdout
