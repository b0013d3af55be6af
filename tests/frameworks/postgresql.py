"""A PostgreSQL of the test's own: Debian's programs, run by an ordinary user, on a Unix socket."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ..support import wait_until


def programs() -> Path:
    """Return the folder of its programs; skip the test if there is none (in CI, fail)."""
    for folder in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True):
        if (folder / "initdb").exists():
            return folder
    reason = "no PostgreSQL in /usr/lib/postgresql (apt-get install postgresql)"
    if os.environ.get("REQUIRE_POSTGRESQL"):
        pytest.fail(reason)
    pytest.skip(reason)


def ordinary_user(folder: Path) -> dict[str, Any]:
    """Give a folder to a user who is not root, and return how to be that one."""
    if os.getuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    os.chown(folder, nobody.pw_uid, nobody.pw_gid)
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


class PostgreSQL:
    """A server that runs."""

    def __init__(self, folder: Path, bin: Path, user: dict[str, Any]) -> None:
        self.folder = folder
        self._psql = [bin / "psql", "-h", folder, "-U", "owner", "-d", "postgres", "-tA", "-c"]
        self._user = user

    def url(self, driver: str) -> str:
        return f"postgresql+{driver}://owner@/postgres?host={self.folder}"

    def ask(self, statement: str) -> str:
        done = subprocess.run(
            [*self._psql, statement], capture_output=True, text=True, check=False, timeout=30
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def connections(self) -> int:
        """How many others are connected."""
        statement = "select count(*) from pg_stat_activity where client_port = -1"
        return int(self.ask(statement)) - 1

    def clear(self) -> None:
        self.ask("drop table if exists entry, account, note")


@contextlib.contextmanager
def running() -> Iterator[PostgreSQL]:
    """Run a server while the block lasts."""
    bin = programs()
    folder = Path(tempfile.mkdtemp(prefix="pg-"))  # whose path is short enough for a socket
    user = ordinary_user(folder)
    data, log = folder / "data", folder / "log"
    run: dict[str, Any] = {"cwd": folder, "stdin": subprocess.DEVNULL, **user}
    process = None
    try:
        with log.open("w") as output:
            run |= {"stdout": output, "stderr": subprocess.STDOUT}
            initdb = [bin / "initdb", "-D", data, "-U", "owner", "-A", "trust", "-E", "UTF8", "-N"]
            made = subprocess.run(initdb, check=False, timeout=100, **run)
            assert made.returncode == 0, log.read_text()
            server = [bin / "postgres", "-D", data, "-k", folder, "-h", "", "-F"]
            process = subprocess.Popen(server, **run)
        ready = [bin / "pg_isready", "-q", "-h", folder]

        def answers() -> bool:
            assert process.poll() is None, log.read_text()
            return subprocess.run(ready, check=False).returncode == 0

        wait_until(answers, "PostgreSQL to answer", 60)
        yield PostgreSQL(folder, bin, user)
    finally:
        if process is not None:
            process.send_signal(2)  # disconnects all
            process.wait(30)
        shutil.rmtree(folder, ignore_errors=True)
