"""What finds and runs Autobahn's suite, but without the suite.

Stand-ins for `wstest` do what it was seen to do.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conformance import websocket_echo
from conformance.autobahn import cli as autobahn
from conformance.autobahn import report as autobahn_report
from conformance.autobahn import wstest
from conformance.autobahn.report import Unusable

from ..support import ROOT
from .reports import AGENT, BAD, Verdicts, write_report

URL = "ws://127.0.0.1:1"  # stand-ins don't connect


# --- finding wstest


def program(path: Path, source: str, interpreter: str = sys.executable) -> Path:
    """An executable script."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!{interpreter}\n{textwrap.dedent(source)}")
    path.chmod(0o755)
    return path


def test_find(tmp_path: Path) -> None:
    named = program(tmp_path / "named", "")
    on_path = program(tmp_path / "bin" / "wstest", "")
    cached = program(tmp_path / "home/.cache/wstest/bin/wstest", "")
    environment = {"HOME": str(tmp_path / "home"), "PATH": str(tmp_path / "bin")}
    assert wstest.find(environment | {"WSTEST": str(named)}) == str(named)
    assert wstest.find(environment | {"WSTEST": "wstest"}) == str(on_path)
    assert wstest.find(environment) == str(on_path)
    assert wstest.find(environment | {"PATH": ""}) == str(cached)
    cached.chmod(0o644)
    for nothing in ({"PATH": ""}, {"PATH": "", "HOME": str(tmp_path)}, {}):
        with pytest.raises(wstest.Missing, match=r"Python 2\.7"):
            wstest.find(nothing)
    with pytest.raises(wstest.Missing, match=r"Python 2\.7"):
        wstest.find(environment | {"PATH": ""})


def test_a_named_wstest_that_is_not_there_is_not_replaced(tmp_path: Path) -> None:
    program(tmp_path / "wstest", "")
    with pytest.raises(wstest.Missing, match="WSTEST=/nowhere/wstest"):
        wstest.find({"WSTEST": "/nowhere/wstest", "PATH": str(tmp_path)})


# --- running it


# What wstest says and does: it announces the cases, runs them, and writes its report in the end.
STAND_IN = """
import json, os, pathlib, sys

spec = json.loads(pathlib.Path(sys.argv[sys.argv.index("--spec") + 1]).read_text())
assert sys.argv[1:3] == ["--mode", "fuzzingclient"], sys.argv
verdicts = {verdicts!r}
print("Autobahn Fuzzing WebSocket Client")
print("Ok, will run", len(verdicts), "test cases against 1 servers")
print("Cases =", [case for case in verdicts])
agent = spec["servers"][0]["agent"]
index = {{}}
for case, (behavior, closing) in verdicts.items():
    print(f"Running test case ID {{case}} for agent {{agent}} from peer 127.0.0.1:1")
    index[case] = {{
        "behavior": behavior,
        "behaviorClose": closing,
        "duration": 1,
        "remoteCloseCode": 1000,
        "reportfile": "none.json",
    }}
out = pathlib.Path(spec["outdir"])
(out / "index.json").write_text(json.dumps({{agent: index}}))
(out / "environment.json").write_text(json.dumps(dict(os.environ)))
"""


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Makes a stand-in, which is found as wstest, from verdicts or from source."""

    def make(verdicts: Verdicts | None = None, source: str = STAND_IN) -> Path:
        if source is STAND_IN:
            source = source.format(verdicts=verdicts)
        path = program(tmp_path / "stand-in", source)
        monkeypatch.setenv("WSTEST", str(path))
        return path

    return make


type Make = Callable[..., Path]


def run(path: Path, report: Path, limit: float = 60.0) -> list[str]:
    return wstest.run(str(path), wstest.Job(URL, AGENT), report, limit)


def test_run(tmp_path: Path, stand_in: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/of/another/python")
    monkeypatch.chdir(tmp_path)
    path = stand_in({"1.1.1": ("OK", "OK"), "9.1.1": ("FAILED", "OK")})
    begun: list[str] = []
    job = wstest.Job("ws://host:1", "name", ["1.*", "9.*"], ["9.2.*"])
    report = Path("report", "deep")  # relative, as a user may give it
    cases = wstest.run(str(path), job, report, 60, begun.append)
    assert cases == begun == ["1.1.1", "9.1.1"]
    specification = json.loads((report / "fuzzingclient.json").read_text())
    assert specification["servers"] == [{"agent": "name", "url": "ws://host:1"}]
    assert specification["cases"] == ["1.*", "9.*"]
    assert specification["exclude-cases"] == ["9.2.*"]
    environment = json.loads((report / "environment.json").read_text())
    assert "PYTHONPATH" not in environment
    assert [result.verdict for result in autobahn_report.read(report, "name", cases)] == [
        "OK",
        "FAILED",
    ]


def test_wstest_that_can_not_be_started(tmp_path: Path) -> None:
    """Its Python may have been removed."""
    path = program(tmp_path / "wstest", "", interpreter="/nowhere/python2.7")
    with pytest.raises(wstest.Failed, match="can't be started"):
        run(path, tmp_path / "report")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import no_such_module_as_this", "no_such_module_as_this"),
        ("print('usage'); raise SystemExit(1)", r"(?s)exit code 1.*usage"),
        ("import os; os.abort()", r"exit code -6"),
        ("print('hello')", r"(?s)did not run.*hello"),
        ("", "did not run"),
    ],
)
def test_wstest_that_fails(tmp_path: Path, source: str, message: str) -> None:
    with pytest.raises(wstest.Failed, match=message):
        run(program(tmp_path / "wstest", source), tmp_path / "report")


WAITS = 'print("Cases = %s", flush=True); import time; time.sleep(100)'


def test_no_case_matches(tmp_path: Path) -> None:
    """wstest would wait for ever."""
    with pytest.raises(wstest.Failed, match="no case"):
        run(program(tmp_path / "wstest", WAITS % "[]"), tmp_path / "report")


def test_wstest_that_does_not_end(tmp_path: Path) -> None:
    with pytest.raises(wstest.Failed, match=r"within 0\.3 s"):
        run(program(tmp_path / "wstest", WAITS % "['1.1.1']"), tmp_path / "report", 0.3)


def test_an_earlier_report_is_not_taken_for_this_one(tmp_path: Path) -> None:
    write_report(tmp_path, {"1.1.1": ("OK", "OK")})
    cases = run(program(tmp_path / "wstest", "print(\"Cases = ['1.1.1']\")"), tmp_path)
    with pytest.raises(Unusable, match="wrote no report"):
        autobahn_report.read(tmp_path, AGENT, cases)


# --- the command


GOOD: Verdicts = {"1.1.1": ("OK", "OK"), "7.1.6": ("INFORMATIONAL", "INFORMATIONAL")}


def test_main(
    tmp_path: Path, stand_in: Make, capfd: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    stand_in(GOOD)
    report, file = tmp_path / "report", tmp_path / "results.json"
    arguments = ["--url", URL, "--cases", "1.*, 7.*", "--report", str(report), "--json", str(file)]
    assert autobahn.main([*arguments, "--quick"]) == 0
    said = capfd.readouterr()
    assert "| all | 2 | 1 | 1 | 0 |" in said.out
    assert said.err.split() == ["groups:", "1", "7"]
    specification = json.loads((report / "fuzzingclient.json").read_text())
    assert specification["cases"] == ["1.*", "7.*"]
    assert specification["exclude-cases"] == list(autobahn.LARGE)
    document = json.loads(file.read_text())
    assert document["target"] == URL
    assert document["totals"] == {"OK": 1, "INFORMATIONAL": 1}
    assert [case["id"] for case in document["cases"]] == ["1.1.1", "7.1.6"]
    assert autobahn.main(arguments) == 0
    specification = json.loads((report / "fuzzingclient.json").read_text())
    assert specification["exclude-cases"] == []


@pytest.mark.parametrize("word", BAD)
def test_main_with_a_case_that_fails(
    stand_in: Make, capfd: pytest.CaptureFixture[str], word: str
) -> None:
    stand_in(GOOD | {"6.4.1": ("OK", word)})
    assert autobahn.main(["--url", URL]) == 1
    said = capfd.readouterr().out
    assert "FAIL 6.4.1" in said
    assert f"1 {word}" in said


@pytest.mark.parametrize("source", ["raise SystemExit(1)", "print(\"Cases = ['1.1.1']\")", ""])
def test_main_with_a_run_that_breaks_off(
    stand_in: Make, capfd: pytest.CaptureFixture[str], source: str
) -> None:
    stand_in(source=source)
    assert autobahn.main(["--url", URL]) == 2
    assert capfd.readouterr().err.startswith("autobahn: ")


def test_main_without_wstest(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WSTEST", "/nowhere/wstest")
    assert autobahn.main([]) == autobahn.NOT_INSTALLED == 3
    said = capfd.readouterr().err
    assert "SKIPPED" in said
    assert "autobahntestsuite" in said
    assert autobahn.main(["--optional"]) == 0
    assert "SKIPPED" in capfd.readouterr().err


@pytest.mark.parametrize("arguments", [["--cases", " , "], ["--limit", "soon"], ["extra"]])
def test_main_with_wrong_usage(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        autobahn.main(arguments)
    assert caught.value.code == 2


def test_own_server(tmp_path: Path, stand_in: Make) -> None:
    """Two workers serve WebSockets where wstest is sent to."""
    shakes_hands = """
        import socket
        from urllib.parse import urlsplit

        url = urlsplit(spec["servers"][0]["url"])
        assert url.scheme == "ws", url
        with socket.create_connection((url.hostname, url.port), timeout=30) as connection:
            connection.sendall(
                b"GET / HTTP/1.1\\r\\nHost: test\\r\\nUpgrade: websocket\\r\\n"
                b"Connection: Upgrade\\r\\nSec-WebSocket-Version: 13\\r\\n"
                b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\\r\\n\\r\\n"
            )
            assert connection.recv(4096).startswith(b"HTTP/1.1 101 ")
    """
    stand_in(source=STAND_IN.format(verdicts=GOOD) + textwrap.dedent(shakes_hands))
    done = subprocess.run(
        [sys.executable, "-m", "conformance.autobahn"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] in {
        f"WebSockets served by each of 2 workers: {served}" for served in ([0, 1], [1, 0])
    }


def test_what_quick_leaves_out() -> None:
    """Half of groups 12 and 13, less of group 9, nothing else."""
    assert len(set(autobahn.LARGE)) == len(autobahn.LARGE)
    groups = [case.partition(".")[0] for case in autobahn.LARGE]
    assert {group: groups.count(group) for group in groups} == {
        "9": 22,
        "12": 90 // 2,
        "13": 126 // 2,
    }


# --- the application


@pytest.mark.parametrize(
    ("message", "answer"),
    [
        ({"text": "é"}, {"text": "é"}),
        ({"text": ""}, {"text": ""}),
        ({"bytes": b""}, {"bytes": b""}),
        ({"bytes": b"\xff", "text": None}, {"bytes": b"\xff"}),
        ({"bytes": None, "text": "x"}, {"text": "x"}),
    ],
)
def test_echo(message: dict[str, Any], answer: dict[str, Any]) -> None:
    come = [
        {"type": "websocket.connect"},
        {"type": "websocket.receive"} | message,
        {"type": "websocket.disconnect", "code": 1000},
    ]
    gone: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return come.pop(0)

    async def send(message: dict[str, Any]) -> None:
        gone.append(message)

    asyncio.run(websocket_echo.app({"type": "websocket"}, receive, send))
    assert gone == [{"type": "websocket.accept"}, {"type": "websocket.send"} | answer]


def test_echo_serves_nothing_else() -> None:
    async def never(*_: Any) -> Any:
        raise AssertionError

    with pytest.raises(ValueError, match="http"):
        asyncio.run(websocket_echo.app({"type": "http"}, never, never))
