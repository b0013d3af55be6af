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
