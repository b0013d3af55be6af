"""Logging of the application's, or the host's, that raises or hangs: requests and workers go on."""

from __future__ import annotations

import contextlib
import json
import logging
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from subinterp_asgi.supervisor import host_log

from ...support import get, nothing_left, wait_until
from ..command import Command
from ..rawclient import RawClient
from ..supervising import Servers
from ..supervisor.killing import SOON, kill
from .test_output import full_pipe

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are signals needed")

APP = """
import asyncio, contextvars, logging

request_id = contextvars.ContextVar("request_id")

class WithId(logging.Filter):
    def filter(self, record):
        record.request_id = request_id.get()  # which what is no request's has not
        return True

handler = logging.StreamHandler()
handler.addFilter(WithId())
logging.getLogger().addHandler(handler)
logging.getLogger().setLevel("INFO")

def fail():
    raise LookupError("of the application")

async def app(scope, receive, send):
    if scope["type"] != "http":
        raise NotImplementedError
    if scope["path"] == "/callback":
        asyncio.get_running_loop().call_soon(fail)
    if scope["path"] == "/fail":
        fail()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})
"""


@pytest.mark.parametrize("isolation", ["interpreter", "thread"])
def test_a_filter_that_raises(tmp_path: Path, isolation: str) -> None:
    (tmp_path / "filtered.py").write_text(APP)
    arguments = ("filtered:app", "--port=0", f"--isolation={isolation}", "--restart-limit=0")
    with Command(*arguments, cwd=tmp_path) as server:
        host, port = server.url.removeprefix("http://").split(":")
        for _ in range(2):
            with RawClient((host, int(port))) as client:
                for path, status in (("/", 200), ("/callback", 200), ("/", 200), ("/fail", 500)):
                    assert client.get(path.encode()).status == status
        server.wait_for("LookupError: <ContextVar name='request_id'")
        server.send(signal.SIGTERM)
        assert server.wait(20) == 0
    assert "died" not in server.stderr


class Hanging(logging.Handler):
    """Waits, as one does that writes to what nobody reads."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.gate = threading.Event()
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.gate.wait()
        self.messages.append(record.getMessage())


@pytest.fixture
def hanging(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hanging]:
    monkeypatch.setattr(host_log, "_PATIENCE", 0.1)
    handler = Hanging()
    logger = logging.getLogger("subinterp_asgi.error")
    logger.addHandler(handler)
    with nothing_left():
        yield handler
        handler.gate.set()
        logger.removeHandler(handler)


def test_a_handler_of_the_hosts_that_hangs(hanging: Hanging) -> None:
    """The supervisor replaces who has died, and ends; what it has to say comes in turn."""
    with contextlib.closing(Servers()) as servers:
        server = servers.start(isolation="interpreter", **SOON)
        for _ in range(3):
            name = kill(server)
            wait_until(lambda: get(server.url, "/who").text != name)  # noqa: B023
        server.stop()
        assert host_log.held_up()
        assert not hanging.messages
        hanging.gate.set()
        wait_until(lambda: not host_log.held_up())
        assert ["died" in message for message in hanging.messages] == [True] * 3


def test_standard_output_that_is_logged_to_and_full(tmp_path: Path) -> None:
    """What waits there can't be interrupted; but the end has bounds."""
    handler = {"class": "logging.StreamHandler", "stream": "ext://sys.stdout"}
    root = {"handlers": ["stdout"], "level": "INFO"}
    config = {"version": 1, "handlers": {"stdout": handler}, "root": root}
    (tmp_path / "log.json").write_text(json.dumps(config))
    with full_pipe() as full:
        arguments = (
            *("plain:app", "--port=0", f"--log-config={tmp_path / 'log.json'}"),
            *("--shutdown-timeout=0.1", "--timeout-graceful-shutdown=0.1"),
            "--timeout-worker-healthcheck=0.5",
        )
        program = (
            "import os, sys; os.dup2(int(sys.argv[1]), 1); os.execv(sys.argv[2], sys.argv[2:])"
        )
        prefix = (sys.executable, "-c", program, str(full))
        with Command(*arguments, prefix=prefix, pass_fds=(full,)) as server:
            server.wait_for("1 worker")
            with contextlib.suppress(OSError):
                get(server.url, timeout=1.0)
            server.send(signal.SIGTERM)
            assert server.wait(30) == 70
