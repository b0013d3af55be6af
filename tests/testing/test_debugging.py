"""Debuggers in workers, at a terminal that pytest keeps from everybody, or leaves alone."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support import wait_until

from .suites import PLUGIN, Suite

pytestmark = pytest.mark.timeout(300)  # for several runs of pytest, on a loaded machine

APP = """
import pdb

async def app(scope, receive, send):
    if scope["path"] == "/raise":
        value = 7 * 6
        raise ValueError("of the application")
    answer = 41
    if scope["path"] == "/debug":
        breakpoint()
        answer += 1
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(answer).encode()})
"""
TEST = """
import pathlib, threading, time

import pytest

@pytest.mark.asgi(options={"lifespan": "off", "timeout_worker_healthcheck": 1})
def test_debug(fresh_asgi_server):
    server = fresh_asgi_server
    events = server.supervisor.events()

    def watch():  # until the worker would have been stuck, were it not for the debugger
        while not server.supervisor._pool.handles[0].debugged_at:
            time.sleep(0.01)
        pathlib.Path("seen").touch()

    threading.Thread(target=watch).start()
    assert server.request("GET", "/debug", timeout=60).text == "42"
    server.flush()
    server.stop()
    assert [event for event in events if type(event).__name__ == "WorkerStuck"] == []

@pytest.mark.asgi(options={"lifespan": "off"})
def test_raise(fresh_asgi_server):
    assert fresh_asgi_server.get("/raise").status == 200
"""


class Terminal:
    """A terminal, and pytest at it."""

    def __init__(self, suite: Suite, *arguments: str) -> None:
        self.master, terminal = pty.openpty()
        self.text = ""
        environment = suite.environment()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pytest", "-W", "error", "-p", PLUGIN, *arguments],
            cwd=suite.folder,
            env={**environment, "TERM": "dumb", "NO_COLOR": "1"},
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
        )
        os.close(terminal)

    def expect(self, text: str) -> None:
        """Read until a text comes."""
        deadline = time.monotonic() + 60
        while text not in self.text:
            if not select.select([self.master], [], [], max(0, deadline - time.monotonic()))[0]:
                self.process.kill()
                pytest.fail(f"{text!r} does not come:\n{self.text}")
            try:
                self.text += os.read(self.master, 65536).decode(errors="replace")
            except OSError:
                pytest.fail(f"{text!r} does not come:\n{self.text}")
        self.text = self.text.partition(text)[2]

    def type(self, line: str) -> None:
        """Type a line."""
        os.write(self.master, f"{line}\n".encode())

    def end(self) -> int:
        """Wait for the end of the process."""
        try:
            return self.process.wait(60)
        finally:
            os.close(self.master)


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    ini = "[pytest]\nasgi_app = app:app\n"
    return Suite(tmp_path, {"pytest.ini": ini, "app.py": APP, "test_it.py": TEST})


@pytest.mark.parametrize(
    ("isolation", "capture"),
    [
        ("interpreter", "-s"),
        ("interpreter", "--capture=fd"),
        ("interpreter", "--capture=sys"),
        ("thread", "--capture=fd"),
    ],
)
def test_breakpoint(suite: Suite, capture: str, isolation: str) -> None:
    """The worker is neither stuck meanwhile nor interrupted."""
    isolated = f"asgi_isolation={isolation}"
    terminal = Terminal(suite, capture, "-k", "test_debug", "-o", isolated)
    terminal.expect("(Pdb) ")
    terminal.type("p answer")
    terminal.expect("41")
    wait_until((suite.folder / "seen").exists, timeout=60)
    terminal.type("c")
    terminal.expect("1 passed")
    assert terminal.end() == 0


@pytest.mark.parametrize("isolation", ["interpreter", "thread"])
def test_post_mortem(suite: Suite, isolation: str) -> None:
    """With ``--pdb``, of the application's frame and then of the test's."""
    isolated = f"asgi_isolation={isolation}"
    terminal = Terminal(suite, "--pdb", "-k", "test_raise", "-o", isolated)
    terminal.expect("ValueError: of the application")
    terminal.expect("(Pdb) ")
    terminal.type("p 'value', value")
    terminal.expect("('value', 42)")
    terminal.type("q")
    terminal.expect("assert 500 == 200")
    terminal.expect("(Pdb) ")
    terminal.type("p fresh_asgi_server.port > 0")
    terminal.expect("True")
    terminal.type("q")
    terminal.expect("1 failed")
    assert terminal.end() == 2
