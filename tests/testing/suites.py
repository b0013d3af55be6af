"""Suites of users: written into a folder and run by a pytest of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.support import ROOT

TIMEOUT = 250.0
PLUGIN = "subinterp_asgi.testing.plugin"


class Suite:
    """A folder with a suite in it.

    Args:
        folder: The folder.
        files: What is in it, by name.
    """

    def __init__(self, folder: Path, files: Mapping[str, str]) -> None:
        self.folder = folder
        for name, content in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(textwrap.dedent(content))

    def run(
        self,
        *arguments: str,
        plugins: tuple[str, ...] = (),
        status: int = 0,
        environment: Mapping[str, str] | None = None,
        stdin: str = "",
    ) -> str:
        """Run pytest, warnings being errors, and return what it printed.

        Args:
            plugins: Libraries that are to be loaded beside this package's plugin.
            status: The exit status that it must have.
        """
        named = [argument for name in (PLUGIN, *plugins) for argument in ("-p", name)]
        return self.python(
            "-m", "pytest", "-W", "error", *named, *arguments,
            status=status, environment=environment, stdin=stdin,
        )  # fmt: skip

    def python(
        self,
        *arguments: str,
        status: int = 0,
        environment: Mapping[str, str] | None = None,
        stdin: str = "",
    ) -> str:
        """Run Python in the folder, and return what it printed."""
        process = self.start(*arguments, environment=environment)
        try:
            text, _ = process.communicate(stdin, timeout=TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            pytest.fail(f"still running after {TIMEOUT:g} s\n{process.communicate()[0]}")
        assert process.returncode == status, text
        return text

    def start(
        self, *arguments: str, environment: Mapping[str, str] | None = None
    ) -> subprocess.Popen[str]:
        """Start Python in the folder."""
        return subprocess.Popen(
            [sys.executable, *arguments],
            cwd=self.folder,
            env={**self.environment(), **(environment or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def environment(self) -> dict[str, str]:
        """What a process in the folder finds: this package, and no plugins that load themselves."""
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")
        }
        return {
            **inherited,
            "PYTHONPATH": f"{ROOT}{os.pathsep}{self.folder}",
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "COLUMNS": "200",
        }
