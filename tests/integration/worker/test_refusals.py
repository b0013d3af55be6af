"""How it is told that an extension module was refused, wherever that comes to light."""

from __future__ import annotations

import importlib.machinery
import os
import shutil
import sys
import textwrap
from pathlib import Path

import pytest

from subinterp_asgi import Supervisor
from subinterp_asgi.errors import StartupError

from ...support import get, nothing_left, run_module, wait_until

SUFFIX = importlib.machinery.EXTENSION_SUFFIXES[0]
STDLIB = Path(os.__file__).parent / "lib-dynload"
REFUSED = "_testsinglephase"  # of CPython's own tests
LINE = f"the extension module '{REFUSED}' does not support subinterpreters: "

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or not (STDLIB / f"{REFUSED}{SUFFIX}").exists(),
    reason="needs an extension module of CPython's own tests, on Linux",
)

WRAPPING = f"""
try:
    import {REFUSED}
except ImportError as exc:
    raise ImportError("IMPORTANT: please read this to solve the issue\\n\\n") from exc
"""
"""Libraries tell of their installation instead; numpy does it like that."""

HTTP = """
async def app(scope, receive, send):
    assert scope["type"] == "http", scope["type"]
    import wares
"""
FACTORY = """
def app():
    import wares
"""
LIFESPAN = """
async def app(scope, receive, send):
    await receive()
    import wares
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(tmp_path)
    shutil.copy(STDLIB / f"{REFUSED}{SUFFIX}", tmp_path)
    (tmp_path / "wares.py").write_text(WRAPPING)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "source", "app"),
    [
        ("shop_imports", "import wares", "app"),
        ("shop_factory", FACTORY, "app()"),
        ("shop_lifespan", LIFESPAN, "app"),
    ],
)
def test_an_error_at_the_start_begins_with_it(
    folder: Path, name: str, source: str, app: str
) -> None:
    (folder / f"{name}.py").write_text(source)
    with nothing_left(), pytest.raises(StartupError) as caught:
        Supervisor(f"{name}:{app}", port=0, lifespan="on").start()
    assert caught.value.kind == "refused_module"
    line = str(caught.value).splitlines()[0]
    assert LINE in line
    assert f"imported by {name} → wares → {REFUSED};" in line
    assert "extensions='private' loads it from a copy" in line
    assert "isolation='thread'" in line


def test_the_command_speaks_in_flags(folder: Path) -> None:
    (folder / "shop.py").write_text("import wares")
    done = run_module("subinterp_asgi", "shop:app", "--port", "0", "--app-dir", str(folder))
    assert done.returncode == 3
    (line,) = (line for line in done.stderr.splitlines() if line.startswith("Error: "))
    assert LINE in line
    assert "--extensions private loads it from a copy" in line
    assert "--isolation thread" in line
    assert "subinterp-asgi doctor shop" in line
    assert "='private'" not in done.stderr


@pytest.mark.parametrize("grouped", [False, True])
def test_the_record_of_a_request_that_failed_has_it(
    folder: Path, caplog: pytest.LogCaptureFixture, grouped: bool
) -> None:
    source = textwrap.dedent(HTTP)
    if grouped:
        source = source.replace(
            "    import wares\n",
            "    try:\n"
            "        import wares\n"
            "    except ImportError as exc:\n"
            "        raise ExceptionGroup('some', [ValueError(), exc])\n",
        )
    name = f"shop_late_{grouped}"
    (folder / f"{name}.py").write_text(source)
    with (
        nothing_left(),
        Supervisor(f"{name}:app", port=0, lifespan="off", log_forwarding=True) as server,
    ):
        for _ in range(2):  # the second one too, when it is no news
            assert get(server.url, "/order").status == 500
        wait_until(lambda: len(failures(caplog)) == 2, "the records")
    for said in failures(caplog):
        assert said.startswith(f"exception in the ASGI application: GET /order; {LINE}")
        assert f"imported by {name} → wares → {REFUSED};" in said
        assert "extensions='private'" in said


def failures(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if "exception in the ASGI" in r.getMessage()]
