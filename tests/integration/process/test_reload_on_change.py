"""``--reload``: what the command says of edits, and a first start that fails."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from ...support import get, wait_until
from ..command import Command

APP = """
TEXT = "{text}"

async def app(scope, receive, send):
    await send({{"type": "http.response.start", "status": 200, "headers": []}})
    await send({{"type": "http.response.body", "body": TEXT.encode()}})
"""


@pytest.fixture
def app(tmp_path: Path) -> Path:
    path = tmp_path / "edited.py"
    path.write_text(APP.format(text="first"))
    return path


@pytest.fixture
def command(app: Path) -> Iterator[Command]:
    """One whose application lies in its directory. (It warns of 3.13's memory.)"""
    options = ("--port", "0", "--reload", "--lifespan", "off", "--no-access-log")
    with Command("edited:app", *options, cwd=app.parent) as command:
        yield command


def end(command: Command) -> None:
    command.send(signal.SIGTERM)
    assert command.wait() == 0


def test_what_is_said(app: Path, command: Command) -> None:
    url = command.url
    app.write_text(APP.format(text="second"))
    wait_until(lambda: get(url).text == "second")
    command.wait_for(r"edited\.py: reloading")
    command.wait_for(r"Generation \d+ serves; that took \d+ ms")
    app.write_text("TEXT = 'no end\n")
    command.wait_for(r"SyntaxError: unterminated string literal")
    assert get(url).text == "second"
    app.write_text(APP.format(text="third"))
    wait_until(lambda: get(url).text == "third")
    end(command)
    said = re.sub(r"[\w ]*generation \d+ does not serve, ", "\nFAILED: ", command.stderr)
    assert said.count("    TEXT = 'no end") == said.count("\nFAILED: ") >= 1


def test_a_start_that_fails(app: Path) -> None:
    app.write_text("import nothing_of_this_name\n")
    with Command("edited:app", "--port", "0", "--reload", cwd=app.parent) as command:
        command.wait_for("Waiting for a file to change")
        app.write_text("TEXT = 'no end\n")
        command.wait_for("SyntaxError: unterminated string literal")
        app.write_text(APP.format(text="mended"))
        assert get(command.url).text == "mended"
        end(command)


FAILS_LATER = """
import os, time
open("waiting", "w").close()
while not os.path.exists("open"):
    time.sleep(0.005)
import nothing_of_this_name
"""


def test_an_edit_while_a_start_fails(app: Path) -> None:
    """It mends the next one at once."""
    app.write_text(FAILS_LATER)
    with Command("edited:app", "--port", "0", "--reload", cwd=app.parent) as command:
        wait_until((app.parent / "waiting").exists)
        app.write_text(APP.format(text="mended"))
        (app.parent / "open").touch()
        assert get(command.url).text == "mended"
        end(command)


def test_the_end_of_one_that_waits(app: Path) -> None:
    app.write_text("import nothing_of_this_name\n")
    with Command("edited:app", "--port", "0", "--reload", cwd=app.parent) as command:
        command.wait_for("Waiting for a file to change")
        end(command)
