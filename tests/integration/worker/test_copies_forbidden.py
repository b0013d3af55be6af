"""Private copies on a system that lets neither memory nor temporary files be executed."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from ...support import require_namespaces, run_script
from .test_extensions import SINGLE, STDLIB, SUFFIX

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or not (STDLIB / f"{SINGLE}{SUFFIX}").exists(),
    reason="needs the extension modules of CPython's own tests, on Linux",
)

FORBID = "mount -t tmpfs -o noexec,mode=1777 none {folder}"
NAMESPACE = ["--map-root-user", "--mount"]

APP = f"""
    import os
    def memfd_create(name, flags):  # as a filter of system calls has it
        raise PermissionError(1, "Operation not permitted")
    os.memfd_create = memfd_create
    import {SINGLE}
    async def app(scope, receive, send): ...
"""

SERVE = f"""
    import os, subprocess, sys
    if "inside" not in sys.argv:
        command = {FORBID!r}.format(folder=sys.argv[1]) + ' && exec "$@"'
        inside = [sys.executable, *sys.argv, "inside"]
        os.execvp("unshare", ["unshare", *{NAMESPACE!r}, "sh", "-c", command, "sh", *inside])
    os.environ["TMPDIR"] = sys.argv[2]
    from subinterp_asgi import Supervisor
    from subinterp_asgi.errors import StartupError
    try:
        with Supervisor("shop:app", port=0, lifespan="off", extensions="private"):
            print("serves")
    except StartupError as exc:
        print(str(exc).splitlines()[0])
"""


@pytest.fixture(scope="module", autouse=True)
def _namespace() -> None:
    require_namespaces(*NAMESPACE, "sh", "-c", FORBID.format(folder="/mnt"))


def serve(tmp_path: Path, temporary: str) -> str:
    shutil.copy(STDLIB / f"{SINGLE}{SUFFIX}", tmp_path)
    (tmp_path / "forbidden").mkdir()
    (tmp_path / "allowed").mkdir()
    folders = (str(tmp_path / "forbidden"), str(tmp_path / temporary))
    done = run_script(tmp_path, SERVE, *folders, files={"shop.py": APP})
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_error_names_the_cure(tmp_path: Path) -> None:
    line = serve(tmp_path, "forbidden")
    assert f"the extension module '{SINGLE}' does not support subinterpreters" in line
    assert f"nor a file in {tmp_path}/forbidden may be executed here" in line
    assert f"imported by shop → {SINGLE}; TMPDIR can name a folder that is not mounted" in line


def test_another_folder_for_temporary_files_is_the_cure(tmp_path: Path) -> None:
    assert serve(tmp_path, "allowed") == "serves"
