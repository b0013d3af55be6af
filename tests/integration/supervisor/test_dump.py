"""What all workers are doing, told without stopping anything."""

from __future__ import annotations

from typing import Any

import pytest

from subinterp_asgi import Supervisor
from subinterp_asgi.testing.faults import freeze_worker
from tests.support import Pending, get, nothing_left, wait_until

APP = "tests.integration.apps.dumped:app"


def parts_of(text: str) -> dict[str, str]:
    """Cut a dump by workers."""
    found = (part.partition(" (") for part in text.split("--- ")[1:])
    return {name: rest for name, _, rest in found}


@pytest.mark.parametrize("isolation", ["interpreter", "thread"])
def test_each_worker_and_spare(isolation: str) -> None:
    options: dict[str, Any] = {"port": 0, "access_log": False, "isolation": isolation}
    with (
        nothing_left(),
        Supervisor(APP, spares=1, **options) as server,
    ):
        pending = Pending(server.url, "/wait")
        wait_until(lambda: server.stats().in_flight == 1)
        wait_until(lambda: "asgi-spare" in server.dump())
        text = server.dump()
        parts = parts_of(text)
        assert set(parts) == {"asgi-worker-0", "asgi-spare"}
        assert all("its thread:" in part for part in parts.values())
        assert "wait_for_command" in parts["asgi-spare"]
        assert "(serving, generation 1)" in text
        # The task of the request, down to where it waits; and what its thread does.
        waiting = parts["asgi-worker-0"]
        assert "task of /wait" in waiting
        assert "in deeper" in waiting
        assert ("thread of-the-application" in waiting) == (isolation == "interpreter")
        # Nothing of the server's own.
        assert "run_with_bridge" not in waiting.partition("task of /wait")[2]
        get(server.url, "/go-on")
        assert not isinstance(pending.result(), Exception)


def test_one_that_is_held_up() -> None:
    with Supervisor(APP, port=0, access_log=False) as server:
        freeze_worker(server, 3, interruptible=False)
        wait_until(lambda: "_freeze_in_c" in server.dump())


def test_without_watchdogs() -> None:
    options: dict[str, Any] = {"port": 0, "access_log": False}
    with Supervisor(APP, timeout_worker_healthcheck=0, **options) as server:
        assert "(it has no watchdog: timeout_worker_healthcheck is 0)" in server.dump()
    assert server.dump() == ""
