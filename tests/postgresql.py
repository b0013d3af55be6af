"""A PostgreSQL that a test starts, on a Unix socket."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

USER = "nobody"
"""Who runs it where root runs the tests, for it refuses to be run by root."""


def programs() -> Path:
    """Return the folder of PostgreSQL's programs, which Debian does not put on the PATH."""
    on_path = shutil.which("initdb")
    found = [*Path("/usr/lib/postgresql").glob("*/bin/initdb"), *([on_path] if on_path else [])]
    if not found:
        pytest.skip("PostgreSQL is not installed (Debian: postgresql)")
    return Path(found[-1]).parent


@contextlib.contextmanager
def running() -> Iterator[Path]:
    """Run one in which everybody is the user ``shop``; yields the folder of its socket."""
    bin = programs()
    with tempfile.TemporaryDirectory(prefix="pg-") as name:  # (a socket's path must be short)
        home = Path(name)
        as_user: list[str] = []
        if os.geteuid() == 0:
            shutil.chown(home, USER)
            as_user = ["setpriv", f"--reuid={USER}", f"--regid={gid(home)}", "--clear-groups"]

        def run(program: str, *arguments: str) -> None:
            done = subprocess.run(
                [*as_user, str(bin / program), *arguments],
                cwd=home,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                text=True,
                timeout=60,
                check=False,
            )
            assert done.returncode == 0, done.stdout

        data, log = str(home / "data"), str(home / "log")
        run("initdb", "-D", data, "-U", "shop", "--auth=trust", "--no-sync", "-E", "UTF8")
        settings = f"-k {home} -c listen_addresses= -c fsync=off -c max_connections=40"
        run("pg_ctl", "-D", data, "-l", log, "-w", "-o", settings, "start")
        try:
            yield home
        finally:
            with contextlib.suppress(subprocess.TimeoutExpired):
                run("pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")


def gid(path: Path) -> int:
    import pwd

    return pwd.getpwuid(path.stat().st_uid).pw_gid
