"""How a worker ends in which libraries have left something: threads, exit callbacks, a lifespan.

The command's ``--shutdown-timeout`` is an hour here: what ends within the test ends by itself.
"""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest

from subinterp_asgi import Supervisor
from subinterp_asgi.control import interpreters
from subinterp_asgi.supervisor import kept
from subinterp_asgi.supervisor.events import WorkerAbandoned

from ...support import get, run_script, wait_until
from ..command import APPS, Command
from ..supervising import Heard

PATIENT = ("--port", "0", "--workers", "2", "--shutdown-timeout", "3600")


def test_exit_callbacks_end_the_threads_of_libraries(tmp_path: Path) -> None:
    """What they had queued is exported."""
    exported = tmp_path / "exported"
    environment = {"EXPORTED": str(exported)}
    with Command("exports:app", *PATIENT, environment=environment) as command:
        assert get(command.url).status == 200
        command.send(signal.SIGTERM)
        assert command.wait() == 0
        assert "still runs" not in command.stderr
    lines = exported.read_text().split()
    assert sorted(lines) == ["flushed"] * 2 + ["queued"] * 2


def test_daemon_threads_that_never_end_don_t_hold_the_command_up() -> None:
    with Command("endless_daemon:app", *PATIENT) as command:
        assert get(command.url).status == 200
        command.send(signal.SIGTERM)
        assert command.wait() == 0
        warnings = [line for line in command.lines if "still runs" in line]
        assert len(warnings) == 2  # each worker names them once
        assert all("thread endless (a daemon) still runs" in line for line in warnings)
    assert command.stdout.count("not lost\n") == 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_shortens_the_lifespan_s_shutdown(number: signal.Signals) -> None:
    with Command("hangs_at_shutdown:app", *PATIENT) as command:
        assert get(command.url).status == 200
        command.send(number)
        command.wait_for(f"{number.name}: stopping")
        assert command.running(1.0)
        assert command.press_until_ended(number) == 0
        assert command.stderr.count("its lifespan's shutdown is broken off") == 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_at_the_very_end_changes_nothing(number: signal.Signals) -> None:
    with Command("plain:app", *PATIENT) as command:
        assert get(command.url).status == 200
        while command.running(0.001):
            command.send(number)
        assert command.wait(0) == 0


STUBBORN = """
import asyncio
from plain import app as answer

async def stay():
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            pass

async def app(scope, receive, send):
    global task
    task = asyncio.create_task(stay(), name="stubborn")
    await answer(scope, receive, send)
"""


def test_a_task_that_does_not_end_is_named_once(tmp_path: Path) -> None:
    """Not by asyncio, too, which can't format it when the interpreter is closed."""
    (tmp_path / "stubborn.py").write_text(STUBBORN)
    path = f"{APPS}:{Path(__file__).parents[3]}"
    with Command(
        "stubborn:app",
        *("--port", "0", "--shutdown-timeout", "0.2", "--lifespan", "off"),
        *("--app-dir", str(tmp_path)),
        environment={"PYTHONPATH": path},
    ) as command:
        assert get(command.url).status == 200
        command.send(signal.SIGTERM)
        assert command.wait() == 0
        warning = "WARNING: worker 0: task stubborn did not end"
        lines = [line for line in command.lines if not line.startswith("INFO")]
        after = lines[lines.index(warning) + 1 :]
    assert after == ["Stopped"], lines


def test_exit_callbacks_that_fail_are_logged(tmp_path: Path) -> None:
    (tmp_path / "failing.py").write_text(
        "import atexit\nfrom plain import app\n\n"
        "def fail():\n    raise LookupError('no such luck')\n\natexit.register(fail)\n"
    )
    with Command(
        "failing:app",
        *PATIENT,
        "--app-dir",
        str(tmp_path),
        cwd=APPS,
        environment={"PYTHONPATH": f"{APPS}:{Path(__file__).parents[3]}"},
    ) as command:
        assert get(command.url).status == 200
        command.send(signal.SIGTERM)
        assert command.wait() == 0
        assert command.stderr.count("an atexit callback failed") == 2
        assert command.stderr.count("LookupError: no such luck") == 2


def test_reloads_leave_neither_threads_nor_interpreters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EXPORTED", str(tmp_path / "exported"))
    monkeypatch.syspath_prepend(str(APPS))
    with Supervisor("exports:app", port=0, shutdown_timeout=3600.0, access_log=False) as server:
        assert get(server.url).status == 200
        before, others = threading.active_count(), interpreters.alive()
        for _ in range(3):
            server.reload()
        wait_until(lambda: interpreters.alive() == others)
        wait_until(lambda: threading.active_count() == before)
        assert get(server.url).status == 200
    assert not kept.any_left()
    assert (tmp_path / "exported").read_text().count("flushed") == 4


HOST = """
    import sys, threading, time
    from subinterp_asgi import Supervisor, errors
    from subinterp_asgi.supervisor import events, kept

    seen = []
    server = Supervisor("served:app", port=0, workers=2, access_log=False, shutdown_timeout=0.3,
                        on_event=seen.append)
    server.start()
    began = time.monotonic()
    server.reload()  # it does not wait for what can't come
    try:
        server.stop()
        print("stopped")
    except errors.ShutdownIncompleteError as exc:
        print("incomplete", sorted(exc.workers))
    print(time.monotonic() - began < 20, sum(isinstance(x, events.WorkerAbandoned) for x in seen))
    print(kept.any_left(), flush=True)
"""
THREAD = """
    import threading, time
    from plain import app
    threading.Thread(target=time.sleep, args=(3600,), name="endless", daemon={}).start()
"""


@pytest.mark.parametrize(
    ("daemon", "told"),
    [
        (True, "stopped"),
        (False, "incomplete ['asgi-worker-0', 'asgi-worker-0', 'asgi-worker-1', 'asgi-worker-1']"),
    ],
)
def test_a_worker_whose_interpreter_is_kept_has_ended(
    tmp_path: Path, daemon: bool, told: str
) -> None:
    done = run_script(
        tmp_path,
        HOST,
        files={"served.py": THREAD.format(daemon), "plain.py": (APPS / "plain.py").read_text()},
    )
    assert done.stdout.splitlines() == [told, "True 4", "True"], done.stderr
    assert done.returncode == 70  # the process can't be finalized under these threads


def test_an_interpreter_is_closed_when_its_threads_have_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = tmp_path / "go"
    os.mkfifo(go)
    monkeypatch.setenv("GO", str(go))
    (tmp_path / "waits.py").write_text(
        "import os, threading, time\nfrom plain import app\n\n"
        "def wait():\n    open(os.environ['GO']).close()  # which waits for somebody who writes\n\n"
        "threading.Thread(target=wait, daemon=True).start()\n"
    )
    monkeypatch.syspath_prepend(str(APPS))
    monkeypatch.syspath_prepend(str(tmp_path))
    wait_until(lambda: not interpreters.alive(), "those of other tests to be closed")
    heard, others = Heard(), 0
    with Supervisor("waits:app", port=0, access_log=False, on_event=heard) as server:
        assert get(server.url).status == 200
    assert len(heard.of(WorkerAbandoned)) == 1
    assert kept.any_left()
    assert interpreters.alive() > others
    os.close(os.open(go, os.O_WRONLY))
    wait_until(lambda: not kept.any_left())
    assert interpreters.alive() == others
