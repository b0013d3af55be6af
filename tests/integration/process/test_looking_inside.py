"""What a live command tells of itself: stacks on a signal, slow handlers in debug mode."""

from __future__ import annotations

import re
import signal
import threading
from pathlib import Path

from ...support import get
from ..command import Command


def end(command: Command) -> None:
    command.send(signal.SIGTERM)
    assert command.wait() == 0, command.stderr


def test_stacks_on_sigquit(tmp_path: Path) -> None:
    """Of all workers, and it goes on."""
    options = ("--port", "0", "--workers", "2", "--no-access-log")
    with Command("plain:app", *options) as command:
        url = command.url
        request = threading.Thread(target=get, args=(url, f"/gate?directory={tmp_path}"))
        request.start()
        while not (tmp_path / "waiting").exists():
            get(url)
        command.send(signal.SIGQUIT)
        command.wait_for(r"--- asgi-worker-1 \(serving, generation 1\)")
        command.wait_for("task /gate:")  # (tasks are called by the path of their request)
        (tmp_path / "open").touch()
        request.join()
        assert get(url).status == 200
        end(command)
    assert "--- asgi-worker-0 (serving, generation 1)" in command.stderr


def test_a_handler_that_blocks_before_it_first_awaits(tmp_path: Path) -> None:
    app = tmp_path / "blocks.py"
    app.write_text(
        "import time\n\n"
        "async def app(scope, receive, send):\n"
        "    time.sleep(0.3)\n"
        "    await send({'type': 'http.response.start', 'status': 204, 'headers': []})\n"
        "    await send({'type': 'http.response.body'})\n"
    )
    options = ("--port", "0", "--lifespan", "off")
    with Command(
        "blocks:app", *options, cwd=tmp_path, environment={"PYTHONASYNCIODEBUG": "1"}
    ) as command:
        assert get(command.url).status == 204
        end(command)
    assert re.search(r"Executing <Handle .* took 0\.[3-9]", command.stderr), command.stderr
