"""``async with Supervisor`` on trio's loop."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
import trio

from subinterp_asgi.errors import StartupError
from subinterp_asgi.supervisor.states import SupervisorState
from tests.support import get

from .making import LIFESPAN, both, make


@pytest.fixture(autouse=True)
def impatient_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trio keeps a thread for ten seconds after its last job, for which each test would wait."""
    monkeypatch.setattr("trio._core._thread_cache.IDLE_TIMEOUT", 0.05)


@both
def test_async_with(isolation: str) -> None:
    async def main() -> None:
        async with make(isolation=isolation, workers=2) as server:
            assert server.state is SupervisorState.SERVING
            answer = await trio.to_thread.run_sync(get, server.url)
            assert answer.text == "ok"
        assert server.state is SupervisorState.STOPPED
        assert "asgi-supervisor-call" not in {thread.name for thread in threading.enumerate()}

    trio.run(main)


def test_it_does_not_block_the_callers_loop(tmp_path: Path) -> None:
    """The lifespan waits for what only the caller's loop does, at both ends."""
    gates = {"startup.gate": str(tmp_path / "in"), "shutdown.gate": str(tmp_path / "out")}

    async def open_gates() -> None:
        for gate in gates.values():
            while not os.path.exists(f"{gate}.reached"):  # noqa: ASYNC110
                await trio.sleep(0.001)
            Path(gate).touch()

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(open_gates)
            async with make(LIFESPAN, lifespan="on", state=gates):
                pass

    trio.run(main)


def test_a_start_that_fails() -> None:
    async def main() -> None:
        with pytest.raises(StartupError, match="no database"):
            async with make(LIFESPAN, lifespan="on", state={"startup.failed": "no database"}):
                pass

    trio.run(main)


@both
def test_a_cancelled_start_leaves_nothing(isolation: str) -> None:
    server = make(LIFESPAN, isolation, lifespan="on", state={"startup.hang": True})

    async def main() -> None:
        with trio.move_on_after(0.05) as scope:
            async with server:
                pytest.fail("it can't have started")
        assert scope.cancelled_caught
        # (STOPPED: its thread had not even begun.)
        assert server.state in (SupervisorState.FAILED, SupervisorState.STOPPED)

    trio.run(main)


def test_a_cancelled_block_stops_the_server_before_it_is_left() -> None:
    async def main() -> None:
        with trio.CancelScope() as scope:
            async with make() as server:
                scope.cancel()
                await trio.sleep_forever()
        assert scope.cancelled_caught
        assert server.state is SupervisorState.STOPPED

    trio.run(main)
