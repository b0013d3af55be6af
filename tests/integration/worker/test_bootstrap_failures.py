"""What ``bootstrap`` reports when it can't serve, and how."""

from __future__ import annotations

import json
import os
import queue
from pathlib import Path
from typing import Any

import pytest

from subinterp_asgi import Config
from subinterp_asgi.worker.run import report_error
from tests.support import get

from .driving import Drive, FakeQueue

pytestmark = pytest.mark.usefixtures("leaves_nothing")


# --- failures


@pytest.mark.parametrize(
    ("app", "words"),
    [
        ("nonsense", "AppPathError: Invalid app path 'nonsense'"),
        ("no_such_module_at_all:app", "AppModuleNotFoundError: no module named"),
        ("tests.integration.apps.lifecycle:ap", "did you mean app"),
        ("tests.integration.apps.lifecycle:not_callable", "AppTypeError: "),
    ],
)
def test_an_application_that_is_not_there(app: str, words: str) -> None:
    drive = Drive(app=app)
    text = drive.error()
    assert words in text.splitlines()[0]
    assert "Traceback" not in text  # which would show our own frames only
    assert drive.collect() == ["started", "failure", "error"]


class Nasty:
    """Sources of modules that fail in ways which have crashed CPython on the way out."""

    str_raises = (
        "class Nasty(Exception):\n"
        "    def __str__(self): raise ValueError('no words')\n"
        "raise Nasty\n"
    )
    str_is_none = "class Nasty(Exception):\n    def __str__(self): return None\nraise Nasty\n"
    surrogate = "raise LookupError('half a character: \\ud800')"
    nul = "raise LookupError('before\\0after')"
    memory = "raise MemoryError"
    exit = "raise SystemExit(3)"
    interrupt = "raise KeyboardInterrupt"
    base = "class Nasty(BaseException): pass\nraise Nasty('base')"
    group = "raise BaseExceptionGroup('several', [KeyError('a'), SystemExit(1)])"
    recursion = "def f(): f()\nf()"
    long = "raise LookupError('x' * 1_000_000)"


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("import no_such_dependency", "imports 'no_such_dependency', which is not installed"),
        ("def broken(:", "SyntaxError"),
        (Nasty.str_raises, "Nasty"),
        (Nasty.str_is_none, "Nasty"),
        (Nasty.surrogate, r"half a character: \ud800"),
        (Nasty.nul, r"before\0after"),
        (Nasty.memory, "MemoryError"),
        (Nasty.exit, "SystemExit: 3"),
        (Nasty.interrupt, "KeyboardInterrupt"),
        (Nasty.base, "Nasty: base"),
        (Nasty.group, "several"),
        (Nasty.recursion, "RecursionError"),
        (Nasty.long, "LookupError: xxx"),
    ],
)
def test_a_module_that_fails(tmp_path: Path, source: str, words: str) -> None:
    (tmp_path / "failing_app.py").write_text(source)
    drive = Drive(app="failing_app:app", path=(str(tmp_path),))
    text = drive.error()
    assert words in text
    assert "failing_app" in text
    assert len(text) < 30_000
    assert drive.collect() == ["started", "failure", "error"]


def test_the_traceback_is_the_workers_own(tmp_path: Path) -> None:
    (tmp_path / "failing_app.py").write_text("def inner():\n    1 / 0\n\ninner()\n")
    text = Drive(app="failing_app:app", path=(str(tmp_path),)).error()
    assert f'File "{tmp_path}/failing_app.py", line 2, in inner' in text


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"startup.failed": "no database"}, "lifespan startup failed: no database"),
        ({"startup.raise": "no table"}, "no table"),
        ({"startup.hang": True}, "lifespan startup took more than startup_timeout=0.1 s"),
    ],
)
def test_a_lifespan_that_fails_to_start(state: dict[str, Any], words: str) -> None:
    drive = Drive(
        app="tests.integration.apps.lifecycle:with_lifespan",
        config=Config(lifespan="on", startup_timeout=0.1, shutdown_timeout=0.1),
        state=json.dumps(state),
    )
    assert words in drive.error()
    assert drive.collect() == ["started", "failure", "error"]


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"shutdown.failed": "not saved"}, "lifespan shutdown failed: not saved"),
        ({"shutdown.raise": "no table"}, "no table"),
        ({"shutdown.hang": True}, "lifespan shutdown took more than shutdown_timeout=0.1 s"),
    ],
)
def test_a_lifespan_that_fails_to_end(state: dict[str, Any], words: str) -> None:
    drive = Drive(
        app="tests.integration.apps.lifecycle:with_lifespan",
        config=Config(lifespan="on", startup_timeout=20, shutdown_timeout=0.1),
        state=json.dumps(state),
    )
    drive.wait_for("serving")
    drive.tell("shutdown")
    assert words in drive.error()
    assert drive.collect() == [
        "started",
        "serving",
        "draining",
        "shutdown_failed",
        "failure",
        "error",
    ]


@pytest.mark.parametrize(
    ("config_json", "words"),
    [
        ("", "config_json: not JSON"),
        ("[]", "config_json: must be a JSON object"),
        ('{"prot": 1}', "prot: no such option; did you mean port"),
        ('{"port": "eighty"}', "port: must be an integer"),
        ('{"runtime": {}}', "KeyError"),
        (
            '{"runtime": {"listeners": [1], "command_wakeup": null, "status_wakeup": null}}',
            "TypeError",
        ),
    ],
)
def test_options_that_cannot_be_understood(config_json: str, words: str) -> None:
    assert words in Drive(config_json=config_json).error()


def test_a_state_that_is_not_json() -> None:
    assert "JSONDecodeError" in Drive(state="{").error()


@pytest.mark.parametrize(
    ("sock_fd", "words"),
    [
        (999_999, "Bad file descriptor"),
        (-1, "ValueError: negative file descriptor"),
        ("three", "TypeError"),
        (None, ""),
    ],
)
def test_a_descriptor_that_is_none(sock_fd: Any, words: str) -> None:
    if sock_fd is None:  # a file: it is open, owned and closed all the same
        sock_fd = os.open(os.devnull, os.O_RDONLY)
        drive = Drive(sock_fd=sock_fd)
        assert "Socket operation on non-socket" in drive.error()
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(sock_fd)
    else:
        assert words in Drive(sock_fd=sock_fd).error()


def test_a_worker_that_dies_while_it_serves() -> None:
    drive = Drive()
    drive.wait_for("serving")
    get(drive.url, "/die")
    assert "SystemExit: the worker is told to die" in drive.error()
    assert drive.collect() == ["started", "serving", "failure", "error"]


# --- reporting


def test_an_error_that_cannot_be_reported_does_not_escape() -> None:
    class Full:
        def put(self, item: Any) -> None:
            raise queue.Full

    report_error(Full(), ValueError("lost"))


def test_an_error_whose_traceback_cannot_be_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise MemoryError

    monkeypatch.setattr("traceback.TracebackException.format", fail)
    statuses = FakeQueue()
    report_error(statuses, ValueError("words"))
    assert statuses.items[-1] == ("error", "ValueError: words\n(its traceback can't be shown)")
