"""What the command says, and with which status it ends, if the application's shutdown fails."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.support import get

from ..command import APPS, Command

APP = """
async def app(scope, receive, send):
    assert scope["type"] == "lifespan"
    await receive()
    await send({{"type": "lifespan.startup.complete"}})
    await receive()
    {end}
"""
FAILED = 'await send({"type": "lifespan.shutdown.failed", "message": "not all was saved"})'


@pytest.mark.parametrize("isolation", ["interpreter", "thread"])
@pytest.mark.parametrize(
    "end",
    [FAILED, "raise LookupError('not all was saved')", "raise SystemExit('not all was saved')"],
)
def test_the_status_tells(end: str, isolation: str, tmp_path: Path) -> None:
    (tmp_path / "failing.py").write_text(APP.format(end=end))
    with Command("failing:app", "--port", "0", "--isolation", isolation, cwd=tmp_path) as command:
        assert get(command.url).status == 500
        command.send(signal.SIGTERM)
        assert command.wait() == 1
    assert command.stderr.count("worker 0 did not end well: ") == 1
    assert "not all was saved" in command.stderr


THREAD = """
import threading, time
from plain import app

threading.Thread(target=time.sleep, args=(3600,), name="endless").start()
"""


def test_the_status_tells_of_a_thread_that_does_not_end(tmp_path: Path) -> None:
    (tmp_path / "held.py").write_text(THREAD)
    (tmp_path / "plain.py").write_text((APPS / "plain.py").read_text())
    arguments = ("held:app", "--port", "0", "--shutdown-timeout", "0.3")
    with Command(*arguments, cwd=tmp_path) as command:
        assert get(command.url).status == 200
        command.send(signal.SIGTERM)
        assert command.wait() == 70
    assert "thread endless still runs" in command.stderr


# What Python waits for when a process ends, in the interpreter where workers in threads run.
ENDLESS = {
    "threading.Thread(target=wait, name='endless', daemon=False).start()": "endless",
    "ThreadPoolExecutor(1, 'pool').submit(wait)": "pool_0",
    "atexit.register(wait)": "an exit callback",
}
IN_THREADS = """
import atexit, threading, time
from concurrent.futures import ThreadPoolExecutor
from plain import app

def wait():
    time.sleep({seconds})
    print("all was saved", flush=True)

{way}
{more}
"""


def _in_threads(folder: Path, seconds: float, way: str, more: str = "") -> Command:
    (folder / "held.py").write_text(IN_THREADS.format(seconds=seconds, way=way, more=more))
    (folder / "plain.py").write_text((APPS / "plain.py").read_text())
    timeout = "0.3" if seconds > 1 else "30"
    arguments = ("held:app", "--port", "0", "--shutdown-timeout", timeout, "--isolation", "thread")
    return Command(*arguments, cwd=folder)


@pytest.mark.parametrize(("way", "name"), ENDLESS.items())
def test_nothing_of_a_worker_in_a_thread_holds_up_the_end(
    way: str, name: str, tmp_path: Path
) -> None:
    with _in_threads(tmp_path, 3600, way) as command:
        assert get(command.url).status == 200
        command.send(signal.SIGTERM)
        assert command.wait() == 70
    assert f"Error: still running after shutdown_timeout=0.3 s: {name}\n" in command.stderr + "\n"


@pytest.mark.parametrize("way", ENDLESS)
def test_nor_does_it_hold_up_the_end_of_a_start_that_failed(way: str, tmp_path: Path) -> None:
    with _in_threads(tmp_path, 3600, way, "raise LookupError('nothing to serve')") as command:
        assert command.wait() == 3
    assert "nothing to serve" in command.stderr


@pytest.mark.parametrize("way", ENDLESS)
def test_what_ends_in_time_is_waited_for(way: str, tmp_path: Path) -> None:
    with _in_threads(tmp_path, 1, way) as command:
        assert get(command.url).status == 200
        command.send(signal.SIGTERM)
        assert command.wait() == 0
    assert "still running" not in command.stderr
    assert "all was saved" in command.stdout
