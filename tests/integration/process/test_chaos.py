"""A few seconds of ``make soak``, and that it would find something."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.soak.clients import Attempt, Link, Records
from tests.soak.journal import Journal, Totals, judge
from tests.support import run_module


def run(*arguments: str, source: str = "") -> subprocess.CompletedProcess[str]:
    """Run it, after some other code if there is any, as a process that may not hang."""
    return run_module("tests.soak", *arguments, source=source)


@pytest.mark.parametrize("kind", ["interpreter", "thread", "command"])
def test_a_few_seconds(kind: str) -> None:
    done = run("--seconds", "4", "--kind", kind)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 requests" not in done.stdout


def test_a_few_seconds_of_private_copies() -> None:
    for name in ("fastapi", "pydantic_settings", "sqlmodel", "orjson", "jwt", "cryptography"):
        pytest.importorskip(name)
    done = run("copies", "--seconds", "3", "--count", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 reloads of 4 workers" in done.stdout


BREAK_AND_RUN = """
import sys
from subinterp_asgi.supervisor.pool import pool
from subinterp_asgi.worker.asgi.state import ServerState
from subinterp_asgi.worker.net.acceptor import Acceptor
from subinterp_asgi.worker.net.connections import Connections
from tests.soak.__main__ import main

def replace(owner, name, make):
    setattr(owner, name, make(getattr(owner, name)))

def miscount(counters):
    if not counters.requests % 50:
        counters.statuses[2] -= 1
        counters.statuses[4] += 1

{defect}
sys.exit(main())
"""
DEFECTS = {
    "requests are broken off by a drain": (
        "replace(Connections, 'drain', lambda old: Connections.abort)",
        "is broken: ",
    ),
    "responses are counted as others now and then": (
        "replace(ServerState, 'request_ended', lambda old: lambda self, *told:"
        " (old(self, *told), miscount(self.counters)))",
        "classes: the server counted ",
    ),
    "some connections are closed at once": (
        "replace(Acceptor, '_begin', lambda old: lambda self, sock, *rest, **more:"
        " old(self, sock, *rest, **more) if self._counters.accepted % 50 else sock.close())",
        "is broken: ",
    ),
    "workers leave a descriptor behind": (
        "replace(pool.Pool, 'release', lambda old: lambda self, handle:"
        " (__import__('os').dup(1), old(self, handle)))",
        "AssertionError",
    ),
}


@pytest.mark.once
@pytest.mark.parametrize("defect", DEFECTS)
def test_it_finds(defect: str) -> None:
    source, words = DEFECTS[defect]
    # The seed has a reload, and a scaling down, among the first things that happen.
    arguments = ("--seconds", "2", "--kind", "thread", "--seed", "2")
    done = run(*arguments, source=BREAK_AND_RUN.format(defect=source))
    assert done.returncode == 1, done.stdout + done.stderr
    assert words in done.stdout + done.stderr


# --- who is to blame


class Case:
    """A run in which worker 7 has answered one request, and all say the same."""

    def __init__(self) -> None:
        self.records = Records()
        self.link = Link(port=4000, workers={"7"})
        self.records.links.append(self.link)
        self.attempt = Attempt(1, "hello", self.link, begun=100, ended=200, status=200)
        self.link.attempts.append(self.attempt)
        self.records.attempts.append(self.attempt)
        self.journal = ["7 90 took 4000"]
        self.totals = Totals(
            accepted=1,
            requests=1,
            errors=0,
            responses={1: 0, 2: 1, 3: 0, 4: 0, 5: 0},
            logs_dropped=0,
            access=['127.0.0.1:4000 - "GET /hello/1/- HTTP/1.1" 200 OK 1.0ms'],
        )

    def judge(self, directory: Path) -> list[str]:
        path = directory / "journal"
        path.write_text("".join(f"{line}\n" for line in self.journal))
        return judge(self.records, Journal(path), self.totals).problems

    def break_off(self) -> None:
        self.attempt.status, self.attempt.error = None, "ConnectionResetError"
        self.totals.responses = {1: 0, 2: 0, 3: 0, 4: 1, 5: 0}
        self.totals.access = ['127.0.0.1:4000 - "GET /hello/1/- HTTP/1.1" 499 - 1.0ms']

    def fail(self) -> None:
        self.attempt.status = 500
        self.totals.responses = {1: 0, 2: 0, 3: 0, 4: 0, 5: 1}
        self.totals.errors = 1
        self.totals.access = ['127.0.0.1:4000 - "GET /hello/1/- HTTP/1.1" 500 - 1.0ms']


def test_nothing_is_wrong(tmp_path: Path) -> None:
    assert Case().judge(tmp_path) == []


def test_a_broken_request_is_explained_by_a_crash_of_its_worker_only(tmp_path: Path) -> None:
    case = Case()
    case.break_off()
    assert len(case.judge(tmp_path)) == 1
    case.journal = ["7 90 took 4000", "8 150 crash -"]
    assert len(case.judge(tmp_path)) == 1
    case.journal = ["7 90 took 4000", "7 201 crash -"]  # too late
    assert len(case.judge(tmp_path)) == 1
    case.journal = ["7 90 took 4000", "7 150 crash -"]
    assert case.judge(tmp_path) == []


def test_a_connection_that_is_closed_without_a_word(tmp_path: Path) -> None:
    case = Case()
    case.link.dropped = 300
    assert len(case.judge(tmp_path)) == 1
    case.journal.append("7 250 crash -")
    assert case.judge(tmp_path) == []


def test_an_error_is_explained_by_an_interruption_only(tmp_path: Path) -> None:
    case = Case()
    case.fail()
    assert any("had status 500" in problem for problem in case.judge(tmp_path))
    case.journal.append("7 150 interrupted 1")
    assert case.judge(tmp_path) == []


def test_a_refused_connection_is_explained_by_nothing(tmp_path: Path) -> None:
    case = Case()
    case.records.refused.append("100 Connection refused")
    assert case.judge(tmp_path) == ["refused: 100 Connection refused"]


def test_a_connection_that_a_retiring_worker_left_to_another(tmp_path: Path) -> None:
    case = Case()
    case.journal = ["3 80 took 4000", "7 90 took 4000", "3 91 left 4000"]
    assert case.judge(tmp_path) == []
    case.link.workers.add("3")  # before it left it
    assert case.judge(tmp_path) == []
    case.journal.pop()
    assert case.judge(tmp_path)


def test_a_response_of_another_worker(tmp_path: Path) -> None:
    case = Case()
    case.link.workers.add("8")
    assert len(case.judge(tmp_path)) == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda case: case.journal.clear(),
        lambda case: case.journal.append("8 95 took 4000"),
        lambda case: case.journal.append("8 95 took 4001"),
        lambda case: setattr(case.totals, "accepted", 2),
        lambda case: setattr(case.totals, "requests", 2),
        lambda case: setattr(case.totals, "errors", 1),
        lambda case: case.totals.responses.update({2: 2}),
        lambda case: case.totals.responses.update({2: 0, 3: 1}),
        lambda case: case.totals.access.clear(),
        lambda case: case.totals.access.append(case.totals.access[0]),
        lambda case: case.totals.access.append("what is this?"),
    ],
)
def test_counts_that_differ(change: object, tmp_path: Path) -> None:
    case = Case()
    assert callable(change)
    change(case)
    assert case.judge(tmp_path)


def test_a_port_that_was_used_twice(tmp_path: Path) -> None:
    """The first connection is the one that was taken first."""
    case = Case()
    case.break_off()
    later = Link(port=4000)
    case.records.links.append(later)
    case.totals.accepted = 2
    case.journal = ["7 90 took 4000", "8 500 took 4000", "8 150 crash -"]
    assert len(case.judge(tmp_path)) == 1
    case.journal[2] = "7 150 crash -"
    assert case.judge(tmp_path) == []
