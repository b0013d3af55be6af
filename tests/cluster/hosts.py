"""Three hosts and what is before them: network namespaces, joined by links of their own.

Nothing is added to the namespace of whoever calls. All is gone with the block.
"""

from __future__ import annotations

import contextlib
import itertools
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
from tests.support import ROOT, wait_until

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
_numbers = itertools.count()


class Namespaces:
    """``front``, and hosts 1 to 3, which it reaches at 10.0.1.2, 10.0.2.2 and 10.0.3.2."""

    def __init__(self) -> None:
        self._prefix = f"asgi-{os.getpid()}-{next(_numbers)}"
        self._made: list[str] = []

    def __enter__(self) -> Self:
        if shutil.which("ip", path=PATHS) is None:
            pytest.skip("iproute2 is not installed")
        try:
            self._make(FRONT)
        except subprocess.CalledProcessError as exc:
            pytest.skip(f"no network namespaces here: {exc.stderr.decode().strip()}")
        try:
            for host in (1, 2, 3):
                self._make(str(host))
                here, there = self.name(FRONT), self.name(str(host))
                link = ["link", "add", f"host{host}", "type", "veth"]
                _ip("-n", here, *link, "peer", "name", "eth0", "netns", there)
                _ip("-n", here, "address", "add", f"10.0.{host}.1/24", "dev", f"host{host}")
                _ip("-n", here, "link", "set", f"host{host}", "up")
                _ip("-n", there, "address", "add", f"10.0.{host}.2/24", "dev", "eth0")
                _ip("-n", there, "link", "set", "eth0", "up")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        for name in self._made:
            subprocess.run(["ip", "netns", "delete", name], check=True)

    def name(self, which: str) -> str:
        return f"{self._prefix}-{which}"

    def enter(self, which: str) -> tuple[str, ...]:
        """What a command begins with that is to run in one."""
        return ("ip", "netns", "exec", self.name(which))

    def connect(self, address: tuple[str, int] = ("127.0.0.1", 80)) -> RawClient:
        """Connect from ``front``; the thread is there for as long as that takes."""
        before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        there = os.open(f"/run/netns/{self.name(FRONT)}", os.O_RDONLY)
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
        _ip("-n", self.name(str(host)), "link", "set", "eth0", state)

    def _make(self, which: str) -> None:
        _ip("netns", "add", self.name(which))
        self._made.append(self.name(which))
        _ip("-n", self.name(which), "link", "set", "lo", "up")


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


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
