"""``doctor --run``: another process imports what a worker would, and that is compared."""

from __future__ import annotations

import importlib.machinery
import json
import os
import shutil
import sys
import tempfile
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from subinterp_asgi import doctor
from subinterp_asgi.extensions import rehearsal
from subinterp_asgi.extensions.findings import Report
from tests.support import run_module

SUFFIX = importlib.machinery.EXTENSION_SUFFIXES[0]
STDLIB = Path(os.__file__).parent / "lib-dynload"
REFUSED = "_testsinglephase"  # of CPython's own tests

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or not (STDLIB / f"{REFUSED}{SUFFIX}").exists(),
    reason="needs an extension module of CPython's own tests, on Linux",
)

type Run = Callable[..., Report]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copy(STDLIB / f"{REFUSED}{SUFFIX}", tmp_path)
    return tmp_path


@pytest.fixture
def run(folder: Path) -> Run:
    def run(source: str, app: str = "shop:app", **options: Any) -> Report:
        (folder / "shop.py").write_text(textwrap.dedent(source))
        return doctor(app, path=[str(folder)], run=True, **options)

    return run


APP = "\nasync def app(scope, receive, send): ..."
BY_NAME = f"import importlib\nimportlib.import_module('{REFUSED}'.strip()){APP}"


def test_nothing_is_run_unless_that_is_asked_for(folder: Path) -> None:
    (folder / "shop.py").write_text("open('ran', 'w')")
    assert doctor("shop:app", path=[str(folder)]).run is None


def test_it_comes_as_foreseen(run: Run) -> None:
    report = run(f"import {REFUSED}{APP}", extensions="private")
    assert report.run == "imported"
    assert [(found.module, found.outcome) for found in report.findings] == [
        (REFUSED, "private copy")
    ]
    assert not report.refused
    assert REFUSED not in sys.modules
    assert "shop" not in sys.modules


def test_source_is_taken_as_foreseen(run: Run, folder: Path) -> None:
    (folder / f"{REFUSED}.py").touch()
    report = run(f"import {REFUSED}{APP}")
    assert [found.outcome for found in report.findings] == ["pure twin"]


def test_a_refusal_is_the_failure_of_the_import(run: Run) -> None:
    report = run(f"import {REFUSED}{APP}")
    assert report.run == "failed"
    assert [found.outcome for found in report.findings] == ["import failed", "refused"]
    assert f"the extension module '{REFUSED}'" in report.findings[0].reason
    assert "subinterp-asgi doctor" not in report.findings[0].reason
    assert report.refused


def test_what_source_does_not_show(run: Run) -> None:
    report = run(BY_NAME, extensions="private")
    (found,) = report.findings
    assert (found.module, found.outcome) == (REFUSED, "foreseen otherwise")
    assert found.reason == "foreseen was: nothing; when it was run: private copy"
    assert not report.refused
    outcomes = [found.outcome for found in run(BY_NAME).findings]
    assert outcomes == ["import failed", "foreseen otherwise"]


def test_a_refusal_that_is_handled_where_that_does_not_show(run: Run) -> None:
    report = run(
        f"""
        import contextlib
        class Handled(contextlib.ExitStack):
            def __exit__(self, *exc):
                return True
        with Handled():
            import {REFUSED}
        {APP}
    """.replace("        \nasync", "        async")
    )
    assert report.run == "imported"
    (found,) = report.findings
    assert (found.outcome, found.cures) == ("speed-up lost", ())
    assert "imported all the same" in found.reason
    assert not report.refused


def test_a_module_that_is_not_come_to(run: Run) -> None:
    report = run(f"if len('a') == 2:\n    import {REFUSED}{APP}")
    assert [found.outcome for found in report.findings] == ["foreseen otherwise", "speed-up lost"]
    assert report.findings[0].reason.endswith("it was not imported")


def test_a_crash_costs_nothing(run: Run) -> None:
    source = f"import {REFUSED}, ctypes\nctypes.string_at(0)"
    report = run(source, extensions="private")
    assert report.run == "crashed"
    assert report.refused
    found = report.findings[0]
    assert (found.module, found.outcome) == ("shop", "crashed")
    assert f"(SIGSEGV); the last extension module it came to was '{REFUSED}'" in found.reason


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("raise ValueError('wrong')", "ValueError: wrong"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("import nowhere", "'nowhere', which is not installed"),
        ("app = 1", "can't be called"),
        ("", "has no attribute 'app'"),
    ],
)
def test_other_failures(run: Run, source: str, reason: str) -> None:
    report = run(source)
    (found,) = report.findings
    assert (report.run, found.outcome) == ("failed", "import failed")
    assert reason in found.reason


def test_the_end_of_the_process(run: Run) -> None:
    report = run("import os\nos._exit(7)")
    assert report.run == "crashed"
    assert report.findings[0].reason == "the process ended with status 7"


def test_an_import_that_does_not_end(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rehearsal, "MOST_SECONDS", 1.0)
    report = run("import threading\nthreading.Event().wait()")
    assert "did not end within 1 s" in report.findings[0].reason
    assert report.run == "failed"


def test_what_is_as_in_a_worker(run: Run) -> None:
    """Threads hold nothing up; a factory, a module alone, and hidden modules are taken."""
    source = f"""
        import sys, threading
        threading.Thread(target=threading.Event().wait, daemon=True).start()
        threading.Thread(target=threading.Event().wait).start()
        try:
            import {REFUSED}
        except ModuleNotFoundError:
            pass
        def make():
            return print
    """
    for app in ("shop:make()", "shop"):
        report = run(source, app, hide_modules=(REFUSED,))
        assert report.findings == ()
        assert report.run == "imported"


def test_the_command(folder: Path) -> None:
    (folder / "shop.py").write_text(f"print('printed'){APP}\nimport {REFUSED}")
    arguments = ("doctor", "shop:app", "--run", "--app-dir", str(folder))
    done = run_module("subinterp_asgi", *arguments, "--extensions", "private", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["run"], found["refused"]) == ("imported", False)
    assert "printed" in done.stderr
    done = run_module("subinterp_asgi", *arguments, "--extensions", "private")
    assert "It was imported in an interpreter, as foreseen." in done.stdout
    done = run_module("subinterp_asgi", *arguments)
    assert done.returncode == 1
    assert "import failed:" in done.stdout
    assert "--extensions private loads it from a copy" in done.stdout
    assert "extensions='private'" not in done.stdout


def test_it_needs_no_disk(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise FileNotFoundError("No usable temporary directory found")

    monkeypatch.setattr(tempfile, "_get_default_tempdir", refuse)
    monkeypatch.setattr(tempfile, "tempdir", None)
    assert run("print('not of the journal')" + APP).run == "imported"
