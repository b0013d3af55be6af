"""Runs the blocks of documents, each in a process of its own, from a folder with applications."""

from __future__ import annotations

import ast
import contextlib
import os
import random
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.command import Command
from tests.support import ROOT, wait_until

from .blocks import Block, Step, pattern, steps

TIMEOUT = 100.0
LINE_TIMEOUT = 60.0
"""How long a server may take to print a line."""
MAKE_TARGETS = set(re.findall(r"^([a-z]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))

# What applications are called in documents that don't show them.
APP = (ROOT / "examples" / "bare.py").read_text()
APPS = {
    "package/module.py": APP,
    "pkg/mod.py": APP,
    "shop/prices.py": "apple = 3\n",
    "shop/web.py": f"{APP}\nimport shop.prices\n",
}

# What needs a network or a desktop; what is none of these has to be marked.
NOT_FOR_TESTS = {"pip", "xdg-open"}
PROGRAMS = {"curl", "python", "subinterp-asgi"}
COMPILED = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT  # ``async with`` stands for itself in fragments


class Folder:
    """Where the blocks of one document are run.

    Port 8000 and others that documents name become ports that are free.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._ports: dict[str, str] = {}
        for name, text in APPS.items():
            self.write(name, text)

    def write(self, name: str, text: str) -> None:
        file = self.path / name
        assert file.resolve().is_relative_to(self.path.resolve())
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, "utf-8")

    def run(self, block: Block) -> None:
        """Do with a block what its language and its mark ask for."""
        match block.language, block.mark:
            case _, "not run":
                assert block.of, "say why"
            case _, "file":
                self.write(block.of, self._freed(block.text))
            case "python", "fragment":
                compile(block.text, f"line {block.line}", "exec", COMPILED)
            case "python", mark:
                self._python(block, serves=mark == "serves")
            case "console", mark:
                self._console(block, edited=block.of if mark == "edit" else None)
            case language, _:
                pytest.fail(f"line {block.line}: {language} can't be run")

    def _freed(self, text: str) -> str:
        """Put free ports in the place of those that are named."""

        def free(found: re.Match[str]) -> str:
            before, port = found.groups()
            if port not in self._ports:
                self._ports[port] = _free_port()
            return before + self._ports[port]

        return re.sub(r"(127\.0\.0\.1:|--port[ =]|PORT=|port=)([1-9]\d{3,4})\b", free, text)

    def _command(self, *arguments: str, module: str) -> Command:
        path = os.pathsep.join((str(self.path), str(ROOT)))
        return Command(*arguments, cwd=self.path, module=module, environment={"PYTHONPATH": path})

    def _python(self, block: Block, *, serves: bool) -> None:
        name = f"block_{block.line}"
        self.write(f"{name}.py", self._freed(block.text))
        with self._command(module=name) as command:
            if serves:
                wait_until(self._is_served, "it listens", TIMEOUT)
                command.send(signal.SIGINT)
            assert command.wait(TIMEOUT) == 0, command.stderr

    def _is_served(self) -> bool:
        for port in self._ports.values():
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", int(port))):
                return True
        return False

    # --- console

    def _console(self, block: Block, *, edited: str | None) -> None:
        with contextlib.ExitStack() as ends:
            server: Command | None = None
            for step in steps(block):
                words = shlex.split(self._freed(step.command), comments=True)
                if words[:3] == ["python", "-m", "subinterp_asgi"]:
                    words[:3] = ["subinterp-asgi"]
                if words[0] == "subinterp-asgi" and _serves(words):
                    server = ends.enter_context(self._serve(words[1:]))
                    server.wait_for(r".*Ctrl\+C stops", LINE_TIMEOUT)
                    if edited is not None:
                        self.write(edited, (self.path / edited).read_text() + "# edited\n")
                    for line in step.output:
                        server.wait_for(f"{pattern(line)}$", LINE_TIMEOUT)
                else:
                    self._run(words, step)
            if server is not None:
                server.send(signal.SIGINT)
                assert server.wait(TIMEOUT) == 0, server.stderr

    def _serve(self, arguments: list[str]) -> Command:
        where = {"--port", "--bind", "-b", "--uds", "--fd"}
        if not where & {argument.partition("=")[0] for argument in arguments}:
            arguments = [*arguments, *self._freed("--port 8000").split()]
        return self._command(*arguments, module="subinterp_asgi")

    def _run(self, words: list[str], step: Step) -> None:
        """Run a command that ends by itself, if tests can."""
        if words[0] == "make":
            assert words[1] in MAKE_TARGETS, f"no target {words[1]}"
            return
        if words[0] in NOT_FOR_TESTS:
            return
        assert words[0] in PROGRAMS, f"{words[0]}: tests don't know whether to run it"
        if words[0] == "subinterp-asgi":
            words = [sys.executable, "-m", "subinterp_asgi", *words[1:]]
        elif words[0] == "python":
            words[0] = sys.executable
        elif shutil.which(words[0]) is None:
            pytest.skip(f"{words[0]} is not installed")
        ran = subprocess.run(
            words,
            cwd=self.path,
            env={**os.environ, "PYTHONPATH": os.pathsep.join((str(self.path), str(ROOT)))},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=TIMEOUT,
        )
        assert "Traceback" not in ran.stdout
        _compare(step, ran.stdout)
        assert step.output or ran.returncode == 0, ran.stdout


def _free_port() -> str:
    """Return a port that nobody gets who asks the system for one, as other tests do."""
    while True:
        port = random.randrange(20_000, 32_000)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return str(port)


def _serves(words: list[str]) -> bool:
    return words[1] != "doctor" and not {"--help", "--version"} & set(words)


def _compare(step: Step, printed: str) -> None:
    """Check that all is printed that is said to be, and nothing else."""
    if step.output:
        wanted = "\n".join(map(pattern, step.output))
        assert re.fullmatch(wanted, printed.rstrip()), f"{step.command}: printed\n{printed}"
