"""A system that has no thread left: what is asked for fails, and the server goes on.

As an ordinary user, for the limit is not root's.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from subinterp_asgi import Supervisor
from subinterp_asgi.errors import ReloadError, StartupError
from subinterp_asgi.supervisor.states import SupervisorState

from ...support import Pending, get, nothing_left, wait_until
from ..command import Command

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it needs prlimit()")

_ORDINARY_USER = (
    *("setpriv", "--reuid=65534", "--clear-groups"),
    # It may still read where this Python and its packages are.
    *(f"--{kind}-caps=-all,+dac_override,+dac_read_search" for kind in ("inh", "ambient")),
)
_LIMIT = """
import os, resource, sys
pid, limit, *command = sys.argv[1:]
before, hard = resource.prlimit(int(pid), resource.RLIMIT_NPROC)
resource.prlimit(int(pid), resource.RLIMIT_NPROC, (hard if limit == "no" else 0, hard))
if command:
    os.execv(command[0], command)
"""
REFUSED = "can't start new thread"


class Limited(Command):
    """The command as an ordinary user."""

    def __init__(self, *arguments: str, app: str = "tellsitself:app", **options: Any) -> None:
        self._user: tuple[str, ...] = ()
        if os.geteuid() == 0:
            if shutil.which("setpriv") is None:
                pytest.skip("there is no setpriv to become an ordinary user")
            self._user = _ORDINARY_USER
        prefix = (*self._user, *options.pop("prefix", ()))
        super().__init__(app, "--port=0", "--no-access-log", *arguments, prefix=prefix, **options)

    def allow_threads(self, allowed: bool) -> None:
        """Let the system have threads for it, or none."""
        limit = "no" if allowed else "yes"
        command = [*self._user, sys.executable, "-c", _LIMIT, str(self.pid), limit]
        subprocess.run(command, check=True)


def test_signals() -> None:
    with Limited("--workers=2") as server:
        url = server.url
        assert get(url, "/thread").status == 200  # an executor, which is to be ended
        server.allow_threads(False)
        server.send(signal.SIGHUP)
        server.wait_for(
            "Error: generation 2 does not serve, generation 1 goes on: "
            f"worker 0 could not be started: {REFUSED}"
        )
        server.send(signal.SIGTTIN)
        server.wait_for(f"Error: worker 2 could not be started: {REFUSED}")
        server.send(signal.SIGTTOU)
        server.wait_for("SIGTTOU: 1 worker instead of 2")
        server.allow_threads(True)
        server.send(signal.SIGHUP)
        server.wait_for("Generation 3 serves")
        assert get(url, "/thread").status == 200
        server.allow_threads(False)
        assert get(url, "/new-thread").status == 200
        server.send(signal.SIGUSR2)
        server.wait_for(
            r"Error: .* could not be started: \[Errno 11\] .*; what bounds processes and"
        )
        server.send(signal.SIGQUIT)
        server.wait_for(r"--- asgi-worker-0 \(serving, generation 3\)")
        server.send(signal.SIGTERM)
        assert server.wait(20) == 0
    assert "Traceback" not in server.stderr
    assert "did not end" not in server.stderr


def test_jobs_wait_for_the_threads_that_there_are() -> None:
    with Limited() as server:
        url = server.url
        assert get(url, "/thread").status == 200
        server.allow_threads(False)
        pending = [Pending(url, "/slow-thread") for _ in range(4)]
        for each in pending:
            answer = each.result()
            assert not isinstance(answer, Exception)
            assert answer.status == 200
        server.send(signal.SIGTERM)
        assert server.wait(20) == 0


def test_a_second_signal(tmp_path: Path) -> None:
    with Limited(app="plain:app") as server:
        pending = Pending(server.url, f"/gate?directory={tmp_path}")
        wait_until((tmp_path / "waiting").exists)
        server.allow_threads(False)
        server.send(signal.SIGTERM)
        server.wait_for("SIGTERM: stopping")
        assert server.press_until_ended(signal.SIGTERM) == 0
        answer = pending.result()
        assert not isinstance(answer, Exception)
        assert answer.status == 500


def test_a_dead_worker_is_replaced_once_there_is_a_thread() -> None:
    """However long that takes: it is no death that there is none."""
    with Limited("--restart-limit=1", "--restart-delay=0.05", app="plain:app") as server:
        url = server.url
        server.allow_threads(False)
        get(url, "/die")
        server.wait_for_count(f"worker 0 could not be started: {REFUSED}", 3)
        server.allow_threads(True)
        assert get(url).status == 200
        server.send(signal.SIGTERM)
        assert server.wait(20) == 0


def test_too_many_deaths() -> None:
    with Limited("--restart-limit=0", app="plain:app") as server:
        url = server.url
        server.allow_threads(False)
        get(url, "/die")
        assert server.wait(20) == 1
        server.wait_for("Error: worker 0 died: ")


def test_the_start() -> None:
    with Limited(prefix=(sys.executable, "-c", _LIMIT, "0", "yes")) as server:
        assert server.wait(20) == 3
    cure = "what bounds threads is ulimit -u, TasksMax= of systemd, or a container's limit of pids"
    assert server.lines == [f"Error: {REFUSED}; {cure}"]


# --- in a host's process; there the threads are refused by name


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch) -> Iterator[set[str]]:
    names: set[str] = set()
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name in names:
            raise RuntimeError(REFUSED)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with nothing_left():
        yield names


def make(**options: Any) -> Supervisor:
    app = "tests.integration.apps.lifecycle:app"
    return Supervisor(app, port=0, isolation="thread", access_log=False, **options)


def test_a_start_can_be_tried_again(refused: set[str]) -> None:
    refused.add("asgi-events")
    server = make(on_event=lambda event: None)
    with pytest.raises(StartupError, match=f"needs a thread that the system refuses: {REFUSED}"):
        server.start()
    assert server.state is SupervisorState.NEW
    refused.clear()
    with server:
        assert get(server.url).status == 200


def test_a_worker_without_a_watchdog(refused: set[str], caplog: pytest.LogCaptureFixture) -> None:
    refused.add("asgi-watchdog")
    with make() as server:
        assert get(server.url).status == 200
    assert re.search(f"worker 0 has no watchdog.*{REFUSED}", caplog.text)


def test_changes(refused: set[str]) -> None:
    with make() as server:
        refused.update(("asgi-worker-0", "asgi-worker-1"))
        with pytest.raises(ReloadError, match=f"worker 0 could not be started: {REFUSED}"):
            server.reload()
        with pytest.raises(StartupError, match=f"worker 1 could not be started: {REFUSED}"):
            server.scale(2)
        assert [worker.id for worker in server.workers] == [0]
        assert get(server.url).status == 200


def test_a_host_with_a_loop(refused: set[str]) -> None:
    refused.add("asgi-supervisor-call")

    async def serve() -> None:
        async with make() as server:
            assert await asyncio.to_thread(get, server.url)
        assert server.state is SupervisorState.STOPPED

    asyncio.run(serve())


def test_the_end_after_too_many_deaths_is_tried_again(refused: set[str]) -> None:
    """By the supervisor itself; nobody has to call anything."""
    from ..supervisor.killing import kill

    refused.add("asgi-supervisor-end")
    server = make(restart_limit=0)
    server.start()
    with server.events() as events:
        kill(server)
        wait_until(lambda: server.state is SupervisorState.STOPPING)
        refused.clear()
        wait_until(lambda: server.state is SupervisorState.FAILED)
        assert list(events)
    server.stop()
