"""A MariaDB of the test's own: Debian's programs, run by an ordinary user, on a Unix socket."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ..support import wait_until
from .postgresql import ordinary_user


def program(name: str) -> str:
    """Return the path of one of its programs; skip the test if it is not there (in CI, fail)."""
    if (found := shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin")) is not None:
        return found
    reason = f"no MariaDB: {name} is missing (apt-get install mariadb-server)"
    if os.environ.get("REQUIRE_MARIADB"):
        pytest.fail(reason)
    pytest.skip(reason)


class MariaDB:
    """A server that runs, with an empty database ``bank``."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self._client = [program("mariadb"), "--no-defaults", f"--socket={socket}", "-uroot", "-NBe"]

    def url(self, driver: str) -> str:
        return f"mysql+{driver}://root@localhost/bank?unix_socket={self._socket}"

    def ask(self, statement: str) -> str:
        done = subprocess.run(
            [*self._client, statement], capture_output=True, text=True, check=False, timeout=30
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def connections(self) -> int:
        """How many others are connected."""
        return int(
            self.ask("select count(*) from information_schema.processlist where db = 'bank'")
        )

    def clear(self) -> None:
        self.ask("create or replace database bank character set utf8mb4")


@contextlib.contextmanager
def running() -> Iterator[MariaDB]:
    """Run a server while the block lasts."""
    server, install = program("mariadbd"), program("mariadb-install-db")
    folder = Path(tempfile.mkdtemp(prefix="db-"))  # whose path is short enough for a socket
    run: dict[str, Any] = {"cwd": folder, "stdin": subprocess.DEVNULL, **ordinary_user(folder)}
    log, data = folder / "log", f"--datadir={folder / 'data'}"
    process = None
    try:
        with log.open("w") as output:
            run |= {"stdout": output, "stderr": subprocess.STDOUT}
            by_name = ["--auth-root-authentication-method=normal", "--skip-test-db"]
            made = subprocess.run(
                [install, "--no-defaults", data, *by_name], check=False, timeout=100, **run
            )
            assert made.returncode == 0, log.read_text()
            settings = ["--skip-networking", "--innodb-flush-log-at-trx-commit=0"]
            settings += ["--innodb-buffer-pool-size=32M", f"--socket={folder / 'socket'}"]
            process = subprocess.Popen([server, "--no-defaults", data, *settings], **run)
        database = MariaDB(folder / "socket")

        def answers() -> bool:
            assert process.poll() is None, log.read_text()
            try:
                database.clear()
            except AssertionError:
                return False
            return True

        wait_until(answers, "MariaDB to answer", 60)
        yield database
    finally:
        if process is not None:
            process.terminate()
            process.wait(60)
        shutil.rmtree(folder, ignore_errors=True)
