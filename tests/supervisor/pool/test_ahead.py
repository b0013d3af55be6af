"""Interpreters that the command makes ahead of time, and what becomes of them."""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from subinterp_asgi.control import interpreters
from subinterp_asgi.supervisor.pool import ahead

ROOT = Path(__file__).parents[3]
PATH = tuple(entry or os.getcwd() for entry in sys.path)


@pytest.fixture(autouse=True)
def ended(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(ahead, "_processors", 4)
    monkeypatch.setattr(ahead.atexit, "register", lambda function: None)
    yield
    ahead.end()
    assert interpreters.alive() == 0


@pytest.mark.parametrize(
    ("arguments", "environment", "number"),
    [
        (["app:app"], None, 1),
        (["app:app", "--workers", "2"], None, 2),
        (["--workers=2", "app:app"], "3", 2),
        (["app:app", "--workers", "64"], None, 3),
        (["app:app"], "2", 2),
        (["app:app", "-w", "2"], "3", 2),
        (["app:app", "--workers", "many"], None, 1),
        (["app:app", "--workers"], None, 1),
        ([], None, 0),
        (["doctor", "app:app"], None, 0),
        (["--help"], None, 0),
        (["--version"], None, 0),
        (["app:app", "--isolation", "thread"], None, 0),
        (["app:app", "--ssl-certfile=c.pem"], None, 0),
    ],
)
def test_there_are_as_many_as_will_be_needed(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], environment: str | None, number: int
) -> None:
    monkeypatch.delenv("WEB_CONCURRENCY", raising=False)
    if environment:
        monkeypatch.setenv("WEB_CONCURRENCY", environment)
    ahead.begin(arguments)
    assert len(ahead._begun) == number


def test_one_that_is_ready_is_taken_first() -> None:
    ahead.begin(["app:app"])
    (maker,) = ahead._begun
    taken = [ahead.take(PATH, tls=False) for _ in range(2)]
    assert taken[0] == (maker.interpreter, maker.turn)
    for each, turn in taken:
        turn.end()
        assert each.confirms("import sys", "'subinterp_asgi.bootstrap' in sys.modules")
        assert each.confirms("import gc", "gc.isenabled() and gc.get_freeze_count()")
        each.close()


def test_it_has_the_environment_of_when_it_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/socket")
    ahead.begin(["app:app"])
    ahead._begun[0].join()
    monkeypatch.delenv("NOTIFY_SOCKET")
    made, turn = ahead.take(PATH, tls=False)
    turn.end()
    assert made.confirms("import os", "'NOTIFY_SOCKET' not in os.environ and os.environ['PATH']")
    made.close()


def test_what_could_not_be_made_is_made_when_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as context:
        context.setattr(sys, "path", [])  # where nothing is found
        ahead.begin(["app:app"])
        ahead._begun[0].join()
    made, turn = ahead.take(PATH, tls=False)
    turn.end()
    assert made.confirms("import sys", "'subinterp_asgi.bootstrap' in sys.modules")
    made.close()


def test_no_more_than_there_are_processors_have_their_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ahead, "_turns", threading.BoundedSemaphore(2))
    monkeypatch.setattr(ahead, "_MOST_SECONDS", 60.0)
    begun: queue.SimpleQueue[ahead.Turn] = queue.SimpleQueue()

    def begin() -> None:
        turn = ahead.Turn()
        turn.begin()
        begun.put(turn)

    threads = [threading.Thread(target=begin) for _ in range(5)]
    for thread in threads:
        thread.start()
    for _ in threads:
        turn = begun.get(timeout=60)
        assert begun.qsize() <= 1
        turn.end()
        turn.end()  # which changes nothing
    for thread in threads:
        thread.join()


def test_nobody_waits_for_a_turn_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "_turns", threading.BoundedSemaphore(1))
    monkeypatch.setattr(ahead, "_MOST_SECONDS", 0.01)
    first, second = ahead.Turn(), ahead.Turn()
    first.begin()
    second.begin()
    second.end()  # it has had none
    first.end()
    assert ahead._turns.acquire(blocking=False)


def test_without_a_standard_stream_none_is_made() -> None:
    script = (
        "import os, sys; os.close(0); from subinterp_asgi.supervisor.pool import ahead\n"
        "ahead.begin(['app:app']); print(len(ahead._begun))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert (done.stdout, done.stderr, done.returncode) == ("0\n", "", 0)


@pytest.mark.parametrize("ends", ["", "sys.exit(3)", "raise KeyboardInterrupt"])
def test_a_process_that_needs_none_of_them_ends_as_ever(ends: str) -> None:
    script = (
        "import sys; from subinterp_asgi.supervisor.pool import ahead\n"
        f"ahead.begin(['app:app', '--workers=4'])\n{ends}"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    expected = {"": 0, "sys.exit(3)": 3}.get(ends)
    assert expected is None or (done.returncode, done.stderr) == (expected, "")
    assert expected is not None or done.stderr.endswith("KeyboardInterrupt\n")


def test_a_current_directory_that_was_removed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Python's own imports pass over it, and who has no need of it serves."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", "/elsewhere"])
    assert ahead.search_path() == (str(tmp_path), "/elsewhere")
    tmp_path.rmdir()
    assert ahead.search_path() == ("/elsewhere",)
