"""A command that is replaced by another process, again and again, and still is one service."""

from __future__ import annotations

import contextlib
import os
import re
import signal
from pathlib import Path
from typing import Any

from tests.support import wait_until

from ..command import Command

REPLACED = r"Process (\d+) serves; this one ends$"


class Service(Command):
    """Knows which process is the main one, and ends that with its block."""

    upgrades = 0

    @property
    def main(self) -> int:
        """Number of the process that serves."""
        found = [re.match(REPLACED, line) for line in tuple(self.lines)]
        return next((int(match[1]) for match in reversed(found) if match), self.pid)

    def upgrade(self, number: signal.Signals = signal.SIGUSR2) -> None:
        """Have it replaced, and wait until the old process has ended."""
        old = self.main
        os.kill(old, number)
        self.upgrades += 1
        self.wait_for_count(REPLACED, self.upgrades)
        self.wait_for_end(old)

    def wait_for_end(self, pid: int) -> None:
        """Wait until a process is gone. (Only the first is a child of this one.)"""
        if pid == self.pid:
            assert self._process.wait(30) == 0, self.stderr
        else:
            wait_until(lambda: not is_running(pid), f"process {pid} ends", timeout=30)

    def stop(self) -> None:
        """End the main process, and wait until all have closed standard error."""
        main = self.main
        os.kill(main, signal.SIGTERM)
        self.wait_for_end(main)
        for reader in self._readers:
            reader.join(30)
            assert not reader.is_alive(), "a process is left"

    def __exit__(self, *exc_info: Any) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.main, signal.SIGKILL)
        super().__exit__(*exc_info)


def is_running(pid: int) -> bool:
    """Whether there is such a process, which is more than what nobody has waited for."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"
