"""What runs Autobahn's suite and reads its report, but without the suite.

Reports are made up, and stand-ins for `wstest` do what it was seen to do.
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
from conformance.autobahn.report import Result, Unusable

from ..support import ROOT

AGENT = autobahn.AGENT
URL = "ws://127.0.0.1:1"  # stand-ins don't connect

type Verdicts = dict[str, tuple[str, str]]


def entry(case: str, behavior: str = "OK", closing: str = "OK", **other: Any) -> dict[str, Any]:
    """What wstest's index says of a case."""
    file = f"server_case_{case.replace('.', '_')}.json"
    return {
        "behavior": behavior,
        "behaviorClose": closing,
        "duration": 1500,
        "remoteCloseCode": 1000,
        "reportfile": file,
    } | other


def write_report(folder: Path, verdicts: Verdicts) -> None:
    index = {case: entry(case, *words) for case, words in verdicts.items()}
    (folder / "index.json").write_text(json.dumps({AGENT: index}))


def results_of(folder: Path, verdicts: Verdicts) -> list[Result]:
    write_report(folder, verdicts)
    return autobahn_report.read(folder, AGENT, list(verdicts))


# --- reading a report


def test_report_in_the_order_of_cases(tmp_path: Path) -> None:
    good = ("OK", "OK")
    results = results_of(tmp_path, {"10.1.1": good, "9.1.10": good, "9.1.2": good, "1.1.1": good})
    assert [result.id for result in results] == ["1.1.1", "9.1.2", "9.1.10", "10.1.1"]
    assert [result.group for result in results] == ["1", "9", "9", "10"]
    assert results[0].seconds == 1.5
    assert results[0].close_code == 1000


@pytest.mark.parametrize("words", [("OK", "OK"), ("INFORMATIONAL", "OK"), ("OK", "INFORMATIONAL")])
def test_what_passes(tmp_path: Path, words: tuple[str, str]) -> None:
    [result] = results_of(tmp_path, {"7.1.6": words})
    assert result.passed
    assert result.verdict == ("INFORMATIONAL" if "INFORMATIONAL" in words else "OK")
    assert autobahn_report.failures([result]) == ""


BAD = [
    "NON-STRICT",
    "FAILED",
    "UNCLEAN",
    "WRONG CODE",
    "FAILED BY CLIENT",
    "UNIMPLEMENTED",
    "NO_CLOSE",
    "a word of its future",
]


@pytest.mark.parametrize("other", ["OK", "INFORMATIONAL"])
@pytest.mark.parametrize("word", BAD)
def test_what_does_not_pass(tmp_path: Path, word: str, other: str) -> None:
    results = results_of(tmp_path, {"1.1.1": (word, other), "1.1.2": (other, word)})
    assert [result.passed for result in results] == [False, False]
    assert [result.verdict for result in results] == [word, word]
    text = autobahn_report.failures(results)
    assert f"FAIL 1.1.1  behavior {word}, closing {other}, close code 1000" in text
    assert f"FAIL 1.1.2  behavior {other}, closing {word}, close code 1000" in text


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "{",
        "[]",
        "{}",
        '{"server": {}}',
        '{"server": []}',
        '{"another": {"1.1.1": {}}}',
        '{"server": {"1.1.1": {}}}',
        '{"server": {"1.1.1": null}}',
        json.dumps({AGENT: {"1.1.1": entry("1.1.1", duration=None)}}),
    ],
)
def test_report_that_is_none(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "index.json").write_text(text)
    with pytest.raises(Unusable):
        autobahn_report.read(tmp_path, AGENT, ["1.1.1"])


def test_cases_that_were_not_run(tmp_path: Path) -> None:
    """wstest does not mind a server that is gone halfway: it reports what it has."""
    write_report(tmp_path, {"1.1.1": ("OK", "OK")})
    with pytest.raises(Unusable, match=r"^2 of 3 cases were not run: 1\.1\.2, 1\.1\.3$"):
        autobahn_report.read(tmp_path, AGENT, ["1.1.1", "1.1.2", "1.1.3"])
    with pytest.raises(Unusable, match=r"^20 of 21 .*, \.\.\.$"):
        autobahn_report.read(tmp_path, AGENT, [f"1.1.{n}" for n in range(1, 22)])


# --- showing it


def test_a_failure_tells_what_was_expected_and_got(tmp_path: Path) -> None:
    [result] = results_of(tmp_path, {"3.2": ("NON-STRICT", "UNCLEAN")})
    result.file.write_text(
        json.dumps(
            {
                "description": "Send a <b>frame</b><br>and wait.",
                "expectation": "Fails  at once.",
                "result": "Something else.",
                "received": [["message", "x" * 10_000, False]],
                "resultClose": "Not clean.",
                "wasNotCleanReason": None,
            }
        )
    )
    text = autobahn_report.failures([result])
    for line in (
        "    case:     Send a frame and wait.",
        "    expected: Fails at once.",
        "    got:      Something else.",
        "    closing:  Not clean.",
    ):
        assert line in text.splitlines()
    assert "None" not in text
    assert len(text) < 2000


def test_a_failure_without_details(tmp_path: Path) -> None:
    write_report(tmp_path, {})
    index = {AGENT: {"3.2": entry("3.2", "FAILED", "FAILED", remoteCloseCode=None)}}
    (tmp_path / "index.json").write_text(json.dumps(index))
    results = autobahn_report.read(tmp_path, AGENT, ["3.2"])
    assert autobahn_report.failures(results) == (
        "FAIL 3.2  behavior FAILED, closing FAILED, no close code"
    )


def test_table(tmp_path: Path) -> None:
    results = results_of(
        tmp_path,
        {
            "1.1.1": ("OK", "OK"),
            "1.1.2": ("OK", "OK"),
            "6.4.1": ("NON-STRICT", "OK"),
            "6.4.2": ("OK", "UNCLEAN"),
            "6.4.3": ("NON-STRICT", "OK"),
            "7.1.6": ("INFORMATIONAL", "INFORMATIONAL"),
            "99.1": ("OK", "OK"),
        },
    )
    assert autobahn_report.table(results).splitlines() == [
        "| group | cases | OK | informational | other | seconds |",
        "|---|---|---|---|---|---|",
        "| 1 Framing | 2 | 2 | 0 | 0 | 3 |",
        "| 6 UTF-8 | 3 | 0 | 0 | 2 NON-STRICT, 1 UNCLEAN | 4 |",
        "| 7 Closing | 1 | 0 | 1 | 0 | 2 |",
        "| 99 | 1 | 1 | 0 | 0 | 2 |",
        "| all | 7 | 3 | 1 | 2 NON-STRICT, 1 UNCLEAN | 10 |",
    ]
    line = autobahn_report.verdict_line(results, 12.3)
    assert line == "7 Autobahn cases in 12 s: 3 OK, 2 NON-STRICT, 1 UNCLEAN, 1 INFORMATIONAL"


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
