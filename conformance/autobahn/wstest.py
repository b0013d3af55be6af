"""Finds and runs `wstest`, the fuzzing client of the Autobahn test suite for WebSockets.

The suite runs on Python 2.7 only, so that it is a program to be started, never a module to be
imported.  What it found it writes into a folder, which `report` reads.
"""

import json
import os
import re
import shutil
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

HOW_TO_GET = """\
wstest, of the Autobahn test suite, was not found: it is looked for as $WSTEST, on PATH, and as
~/.cache/wstest/bin/wstest. It needs Python 2.7 and the package autobahntestsuite:
    python2.7 -m pip install 'virtualenv<20.22'
    python2.7 -m virtualenv ~/.cache/wstest
    ~/.cache/wstest/bin/pip install autobahntestsuite"""

_CACHED = ".cache/wstest/bin/wstest"
_CASE_ID = re.compile(r"\d+(?:\.\d+)+")
_RUNNING = re.compile(rf"Running test case ID ({_CASE_ID.pattern}) ")
_LINES_KEPT = 30  # of wstest's output, for an error's message


class Missing(Exception):
    """There is no wstest; the message says how to get it."""


class Failed(Exception):
    """wstest did not run to its end."""


@dataclass(frozen=True, slots=True)
class Job:
    """What wstest is to do.

    Attributes:
        url: The server, `ws://` or `wss://`.
        agent: What the report calls the server.
        cases: Patterns of the cases to run; `1.*` is all of group 1.
        exclude: Patterns of cases to leave out of these.
    """

    url: str
    agent: str
    cases: Sequence[str] = ("*",)
    exclude: Sequence[str] = ()


def find(environment: Mapping[str, str] = os.environ) -> str:
    """The path of wstest; `Missing` if there is none."""
    if named := environment.get("WSTEST"):
        if found := shutil.which(named, path=environment.get("PATH", "")):
            return found
        raise Missing(f"WSTEST={named}: there is no such program\n{HOW_TO_GET}")
    if found := shutil.which("wstest", path=environment.get("PATH", "")):
        return found
    home = environment.get("HOME")
    if home and (found := shutil.which(Path(home, _CACHED))):
        return str(found)
    raise Missing(HOW_TO_GET)


def run(
    program: str,
    job: Job,
    report: Path,
    limit: float,
    progress: Callable[[str], None] = lambda case: None,
) -> list[str]:
    """Run the fuzzing client and let it write its report.

    Args:
        program: Path of wstest.
        job: What to run against which server.
        report: The folder for the report; what it holds of an earlier one is overwritten.
        limit: Seconds that all of it may take.
        progress: Called with each case's id when it begins.

    Returns:
        The ids of the cases that were to be run.  wstest ends happily when the server is gone
        halfway: only the report tells which of them were.
    """
    report.mkdir(parents=True, exist_ok=True)
    for old in ("index.json", "index.html"):  # or a run that wrote none would show the last one's
        (report / old).unlink(missing_ok=True)
    specification = report / "fuzzingclient.json"
    specification.write_text(
        json.dumps(
            {
                "outdir": str(report.absolute()),
                "servers": [{"agent": job.agent, "url": job.url}],
                "cases": list(job.cases),
                "exclude-cases": list(job.exclude),
                "exclude-agent-cases": {},
            },
            indent=1,
        ),
        encoding="utf-8",
    )
    command = [program, "--mode", "fuzzingclient", "--spec", str(specification.absolute())]
    try:
        process = subprocess.Popen(
            command,
            cwd=report,
            env=_environment(os.environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
        )
    except OSError as error:
        raise Failed(f"{program} can't be started: {error}") from None
    with process:
        watch = _Watch(process, limit)
        try:
            cases = _follow(process, watch, progress)
        finally:
            watch.cancel()
            process.kill()  # unless it has ended: an interrupted run must leave nothing behind
    return cases


def _environment(own: Mapping[str, str]) -> dict[str, str]:
    """Without what is meant for this Python, such as PYTHONPATH; and with lines as they come."""
    kept = {name: value for name, value in own.items() if not name.startswith("PYTHON")}
    return kept | {"PYTHONUNBUFFERED": "1"}


class _Watch:
    """Kills a process that takes too long."""

    def __init__(self, process: subprocess.Popen[str], limit: float) -> None:
        self.expired = False
        self.limit = limit
        self._process = process
        self._timer = threading.Timer(limit, self._expire)
        self._timer.daemon = True
        self._timer.start()

    def _expire(self) -> None:
        self.expired = True
        self._process.kill()

    def cancel(self) -> None:
        self._timer.cancel()
        self._timer.join()


def _follow(
    process: subprocess.Popen[str], watch: _Watch, progress: Callable[[str], None]
) -> list[str]:
    """Read what wstest says until it ends; return the cases that it was going to run."""
    assert process.stdout is not None
    last: deque[str] = deque(maxlen=_LINES_KEPT)
    cases: list[str] | None = None
    for line in process.stdout:
        last.append(line)
        if cases is None and line.startswith("Cases = "):
            cases = _CASE_ID.findall(line)
            if not cases:  # it would wait for ever
                raise Failed("no case of the Autobahn test suite matches")
        elif running := _RUNNING.match(line):
            progress(running[1])
    code = process.wait()
    said = "".join(last).rstrip()
    if watch.expired:
        raise Failed(f"wstest did not end within {watch.limit:g} s; it said:\n{said}")
    if code:
        raise Failed(f"wstest ended with exit code {code}; it said:\n{said}")
    if cases is None:
        raise Failed(f"wstest did not run; it said:\n{said or '(nothing)'}")
    return cases
