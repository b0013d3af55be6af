"""Programs run as processes of their own, whose every line on standard error can be waited for."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from ..support import ROOT

APPS = Path(__file__).with_name("cli_apps")
"""Where commands run by default: the modules in here are importable by their bare names."""

# What the environment says must not depend on who runs the tests.
_FOREIGN = ("WEB_CONCURRENCY", "FORWARDED_ALLOW_IPS", "PYTHONWARNINGS", "PYTHONDEVMODE")


class Command:
    """``python -m subinterp_asgi`` with some arguments; ends with its ``with`` block.

    Any warning, in whichever interpreter, is an error there by default. Standard error is not
    buffered, as is usual in containers: lines that are not written in one piece mix with those of
    workers.

    Args:
        arguments: The command's own.
        cwd: Directory to run in.
        environment: Additions to the environment.
        pass_fds: Descriptors to inherit.
        module: Another module to run instead.
        warnings: What warnings are, as ``-W`` has it.
        prefix: A program, with arguments, that becomes the command.
    """

    def __init__(
        self,
        *arguments: str,
        cwd: Path = APPS,
        environment: dict[str, str] | None = None,
        pass_fds: Sequence[int] = (),
        module: str = "subinterp_asgi",
        warnings: str = "error",
        prefix: Sequence[str] = (),
    ) -> None:
        inherited = {name: value for name, value in os.environ.items() if name not in _FOREIGN}
        self._process = subprocess.Popen(
            [*prefix, sys.executable, "-W", warnings, "-m", module, *arguments],
            cwd=cwd,
            env={
                **inherited,
                "PYTHONPATH": str(ROOT),
                "PYTHONUNBUFFERED": "1",
                **(environment or {}),
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=pass_fds,
            text=True,
        )
        self.lines: list[str] = []
        """Standard error so far."""
        self.stdout = ""
        """Standard output, once the process has ended."""
        self._changed = threading.Condition()
        self._reading = True
        self._readers = [
            threading.Thread(target=self._read_stderr, name="test-stderr"),
            threading.Thread(target=self._read_stdout, name="test-stdout"),
        ]
        for reader in self._readers:
            reader.start()

    def _read_stderr(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            with self._changed:
                self.lines.append(line.rstrip("\n"))
                self._changed.notify_all()
        with self._changed:
            self._reading = False
            self._changed.notify_all()

    def _read_stdout(self) -> None:
        assert self._process.stdout is not None
        self.stdout = self._process.stdout.read()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for reader in self._readers:
            reader.join()
        for stream in (self._process.stdout, self._process.stderr):
            assert stream is not None
            stream.close()
        if exc is not None:
            print(f"exit status {self._process.returncode}; standard error:\n{self.stderr}")

    @property
    def stderr(self) -> str:
        """Standard error so far, as one text."""
        with self._changed:
            return "\n".join(self.lines)

    @property
    def url(self) -> str:
        """The first address, once all workers serve."""
        self.wait_for(r"\d+ workers? .*in \d+ ms")
        return self.wait_for(r"Listening on (http://\S+)")[1]

    def wait_for(self, pattern: str, timeout: float = 30.0) -> re.Match[str]:
        """Wait for a line of standard error that the pattern matches from its beginning."""
        found: re.Match[str] | None = None

        def seen() -> bool:
            nonlocal found
            found = next(filter(None, (re.match(pattern, line) for line in self.lines)), None)
            return found is not None or not self._reading

        with self._changed:
            self._changed.wait_for(seen, timeout)
        if found is None:
            pytest.fail(f"no line {pattern!r} on standard error:\n{self.stderr}")
        return found

    def wait_for_count(self, pattern: str, count: int, timeout: float = 30.0) -> None:
        """Wait for so many lines of standard error that the pattern matches."""
        with self._changed:
            if not self._changed.wait_for(
                lambda: sum(bool(re.match(pattern, line)) for line in self.lines) >= count, timeout
            ):
                pytest.fail(f"not {count} lines {pattern!r} on standard error:\n{self.stderr}")

    @property
    def pid(self) -> int:
        """The process's number."""
        return self._process.pid

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    def running(self, timeout: float) -> bool:
        """Whether the process has not ended within the time."""
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            return True
        return False

    def wait(self, timeout: float = 30.0) -> int:
        """Wait for the process to end by itself and return its exit status."""
        if self.running(timeout):
            pytest.fail(f"still running after {timeout:g} s; standard error:\n{self.stderr}")
        for reader in self._readers:
            reader.join()
        return self._process.returncode

    def press_until_ended(self, number: signal.Signals, timeout: float = 30.0) -> int:
        """Send the signal again and again, like somebody in front of a terminal."""
        deadline = time.monotonic() + timeout
        while self.running(0.2) and time.monotonic() < deadline:
            self.send(number)
        return self.wait(0)
