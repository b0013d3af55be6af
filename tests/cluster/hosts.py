"""Three hosts and what is before them: network namespaces, joined by links of their own.

Nothing is added to the namespace of whoever calls. All is gone with the block, or its process.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Self

import pytest

from tests.control.test_prometheus import parse
from tests.integration.command import Command
from tests.integration.process.proxies import HAPROXY, NGINX, PATHS, documented
from tests.integration.rawclient import RawClient
from tests.support import ROOT, require_namespaces, wait_until

FRONT = "front"
_BEFORE = {
    "haproxy": replace(HAPROXY, config=documented("haproxy-hosts.cfg", "DOCUMENTED")),
    "nginx": replace(
        NGINX,
        config=documented(
            "nginx-hosts.conf", NGINX.config.partition("server {{")[0] + "DOCUMENTED }}"
        ),
    ),
}
DRAINING = ("--drain-delay=4s", "--timeout-linger=2s")
"""As the pages on several hosts have it."""


class Namespaces:
    """``front``, and hosts 1 to 3, which it reaches at 10.0.1.2, 10.0.2.2 and 10.0.3.2.

    They have no names: each is there as long as a process is in it, first of all one that waits for
    its standard input to end, as it does with us, whatever we end by.
    """

    def __init__(self) -> None:
        self._keepers: dict[str, subprocess.Popen[bytes]] = {}
        self._running = contextlib.ExitStack()

    def __enter__(self) -> Self:
        require_namespaces("--net", "ip", "link")  # (Debian: iproute2)
        with contextlib.ExitStack() as self._running:
            self._make(FRONT)
            for host in (1, 2, 3):
                there, link = str(host), f"host{host}"
                self._make(there)
                peer = ("peer", "name", "eth0", "netns", str(self._keepers[there].pid))
                self._ip(FRONT, "link", "add", link, "type", "veth", *peer)
                self._ip(FRONT, "address", "add", f"10.0.{host}.1/24", "dev", link)
                self._ip(FRONT, "link", "set", link, "up")
                self._ip(there, "address", "add", f"10.0.{host}.2/24", "dev", "eth0")
                self._ip(there, "link", "set", "eth0", "up")
            self._running = self._running.pop_all()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._running.close()

    def _file(self, which: str) -> str:
        return f"/proc/{self._keepers[which].pid}/ns/net"

    def enter(self, which: str) -> tuple[str, ...]:
        """What a command begins with that is to run in one, and not longer than this thread."""
        return ("setpriv", "--pdeathsig", "KILL", "nsenter", f"--net={self._file(which)}")

    def connect(self, address: tuple[str, int] = ("127.0.0.1", 80)) -> RawClient:
        """Connect from ``front``; the thread is there for as long as that takes."""
        before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        there = os.open(self._file(FRONT), os.O_RDONLY)
        try:
            os.setns(there, os.CLONE_NEWNET)
            try:
                return RawClient(address)
            finally:
                os.setns(before, os.CLONE_NEWNET)
        finally:
            os.close(there)
            os.close(before)

    def cut(self, host: int, state: str) -> None:
        """Pull the cable of a host out (``"down"``), or plug it in again (``"up"``)."""
        self._ip(str(host), "link", "set", "eth0", state)

    def _make(self, which: str) -> None:
        keeper = self._running.enter_context(
            subprocess.Popen(
                ["unshare", "--net", "sh", "-c", "echo made && exec cat"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
        )
        assert keeper.stdout is not None
        assert keeper.stdout.readline() == b"made\n"
        self._keepers[which] = keeper
        self._ip(which, "link", "set", "lo", "up")

    def _ip(self, which: str, *arguments: str) -> None:
        subprocess.run([*self.enter(which), "ip", *arguments], check=True)


class Host:
    """One of them, with the command on port 8000."""

    def __init__(self, namespaces: Namespaces, number: int) -> None:
        self._namespaces = namespaces
        self.number = number
        self._start()

    def _start(self) -> None:
        self._command = Command(
            "tests.integration.apps.pool:App",
            "--factory",
            "--host=0.0.0.0",
            "--port=8000",
            "--workers=2",
            "--health-path=/health",
            "--metrics-path=/metrics",
            "--no-access-log",
            *DRAINING,
            cwd=ROOT,
            prefix=self._namespaces.enter(str(self.number)),
        )

    def wait(self) -> Self:
        """Wait until all workers serve."""
        self._command.wait_for(r"2 workers .*in \d+ ms")
        return self

    @property
    def requests(self) -> int:
        """Requests that it was sent since its start."""
        with contextlib.closing(
            self._namespaces.connect((f"10.0.{self.number}.2", 8000))
        ) as client:
            samples = parse(client.get(b"/metrics").body)
        return int(samples["requests_total", ()])

    def deploy(self) -> None:
        """Stop it, start it anew, and wait until the proxy asks it again."""
        self._command.send(signal.SIGTERM)
        assert self._command.wait(60) == 0
        self.start()

    def lose(self) -> None:
        """Have it end without a word."""
        self._command.send(signal.SIGKILL)
        self._command.wait()

    def start(self) -> None:
        """Start it anew, and wait until the proxy asks it again."""
        self.close()
        self._start()
        self.wait()
        wait_until(lambda: self.requests > 0, f"host {self.number} is asked", timeout=30)

    def close(self) -> None:
        self._command.__exit__(None, None, None)


@contextlib.contextmanager
def cluster(program: str, folder: Path) -> Iterator[tuple[Namespaces, list[Host]]]:
    """Run three hosts, and a proxy before them as the file in ``examples/deploy/`` has it."""
    found = shutil.which(program, path=PATHS)
    if found is None:
        pytest.skip(f"{program} is not installed")
    with Namespaces() as namespaces, contextlib.ExitStack() as running:
        hosts = []
        for number in (1, 2, 3):
            hosts.append(Host(namespaces, number))
            running.callback(hosts[-1].close)
        for host in hosts:
            host.wait()
        proxy = _BEFORE[program]
        (folder / "config").write_text(proxy.config.format(folder=folder))
        arguments = (argument.format(folder=folder) for argument in proxy.arguments)
        with (folder / "output").open("wb") as output:
            command = [*namespaces.enter(FRONT), found, *arguments]
            process = subprocess.Popen(command, stdout=output, stderr=output)
        running.callback(process.wait)
        running.callback(process.kill)

        def serves() -> bool:
            assert process.poll() is None, (folder / "output").read_text()
            try:
                with contextlib.closing(namespaces.connect()) as client:
                    return client.get(b"/").status == 200
            except OSError:
                return False

        wait_until(serves, f"{program} serves; {folder}/output")
        yield namespaces, hosts
