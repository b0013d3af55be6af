"""Coverage: of code in interpreters the same is measured as of code in threads."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from subinterp_asgi import Supervisor
from tests.support import get

from .suites import Suite

coverage = pytest.importorskip("coverage", reason="coverage is not installed")
pytest.importorskip("pytest_cov", reason="pytest-cov is not installed")

pytestmark = pytest.mark.timeout(300)  # for several runs of pytest, on a loaded machine

APP = """
import threading

import helper

async def app(scope, receive, send):
    path = scope["path"]
    if path == "/first":
        body = b"first"
    else:
        body = b"other"
    if len(path) > 100:
        body = b"never"
    thread = threading.Thread(target=helper.in_thread, args=(path,))
    thread.start()
    thread.join()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})
"""
HELPER = """
def in_thread(path):
    total = 0
    for character in path:
        if character == "x":
            total += 100
        total += 1
    return total
"""
TEST = """
import os
import urllib.request

from subinterp_asgi import Supervisor

OPTIONS = {"port": 0, "lifespan": "off", "access_log": False, "workers": 2}

def test_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with Supervisor("app:app", isolation=os.environ["ISOLATION"], **OPTIONS) as server:
        server.reload()
        with urllib.request.urlopen(server.url + "/first") as response:
            assert response.read() == b"first"
"""


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    return Suite(tmp_path, {"app.py": APP, "helper.py": HELPER, "test_it.py": TEST})


def measured(suite: Suite, isolation: str, *arguments: str, core: str = "") -> dict[str, Any]:
    """Run the suite under pytest-cov; return what was measured of the application's files."""
    suite.run(
        *("--cov=.", "--cov-report=json", *arguments),
        plugins=("pytest_cov",),
        environment={"ISOLATION": isolation, "COVERAGE_CORE": core},
    )
    left = [path.name for path in suite.folder.rglob(".coverage.*")]
    assert left == []
    return files_of(suite.folder / "coverage.json")


def files_of(report: Path) -> dict[str, Any]:
    kinds = ("executed_lines", "missing_lines", "executed_branches", "missing_branches")
    files = json.loads(report.read_text())["files"]
    return {
        name: {kind: sorted(files[name].get(kind, ())) for kind in kinds}
        for name in ("app.py", "helper.py")
    }


def test_lines_and_branches_with_each_core(suite: Suite) -> None:
    """Also where the test has changed the directory, and of a generation that was replaced."""
    expected = measured(suite, "thread", "--cov-branch")
    assert expected["app.py"]["missing_lines"] == [11, 13]
    assert expected["helper.py"]["missing_branches"]
    # By default, that is by sys.monitoring on 3.14 and later; and by the tracer in C, or rather, in
    # interpreters, which can't load that, by the one in Python.
    for core in ("", "ctrace"):
        assert measured(suite, "interpreter", "--cov-branch", core=core) == expected, core


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="it is the default, and measures branches")
def test_lines_by_monitoring(suite: Suite) -> None:
    measured_there = measured(suite, "interpreter", core="sysmon")
    assert measured_there["app.py"]["missing_lines"] == [11, 13]


def test_where_coverage_starts_itself_in_each_interpreter(suite: Suite) -> None:
    (suite.folder / ".coveragerc").write_text("[run]\npatch = subprocess\nbranch = true\n")
    files = measured(suite, "interpreter")
    assert files["app.py"]["missing_lines"] == [11, 13]
    assert files["helper.py"]["missing_branches"]


def test_across_processes(suite: Suite) -> None:
    pytest.importorskip("xdist")
    lines = measured(suite, "interpreter", "-n1", "-p", "xdist")["app.py"]["missing_lines"]
    assert lines == [11, 13]


def test_the_command(suite: Suite) -> None:
    """``coverage run``, as ``docs/testing.md`` has it."""
    command = suite.start(
        *("-m", "coverage", "run", "-p", "--source=.", "-m", "subinterp_asgi", "app:app"),
        *("--port=0", "--lifespan=off", "--workers=2"),
    )
    assert command.stdout is not None
    line = next(line for line in command.stdout if "http://" in line)
    url = line[line.index("http://") :].split()[0]
    assert get(url, "/first").text == "first"
    command.terminate()
    text, _ = command.communicate(timeout=60)
    assert command.returncode == 0, text
    suite.python("-m", "coverage", "combine")
    suite.python("-m", "coverage", "json")
    assert files_of(suite.folder / "coverage.json")["app.py"]["missing_lines"] == [11, 13]


def test_no_worker_imports_it_unasked() -> None:
    """It is imported here, but measures nothing."""
    with Supervisor(
        "tests.testing.apps:modules", port=0, access_log=False, lifespan="off"
    ) as server:
        assert "coverage" not in get(server.url).text.split()
