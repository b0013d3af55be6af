"""What the tests of all parts share: waiting, plain HTTP, scripts run as processes, leak checks."""

from __future__ import annotations

import contextlib
import http.client
import os
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import subinterp_asgi
from subinterp_asgi.control import interpreters

# Where the package under test is imported from; scripts get it first on their path.
ROOT = Path(subinterp_asgi.__file__).parents[1]


def wait_until(condition: Callable[[], object], message: str = "", timeout: float = 20.0) -> None:
    """Wait until the condition holds; fail the test if that never happens."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"never came true within {timeout:g} s: {message or condition}")
        time.sleep(0.005)


def require_namespaces(*arguments: str) -> None:
    """Skip a test if ``unshare`` can't do this, as where it is forbidden; in CI, fail it.

    Args:
        arguments: Which namespaces, and a program to run there.
    """
    try:
        command = ["unshare", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        reason = "there is no unshare (Debian: util-linux)"
    else:
        if not done.returncode:
            return
        reason = f"{' '.join(command)}: {done.stderr.strip()}"
    if os.environ.get("REQUIRE_NAMESPACES"):
        pytest.fail(reason)
    pytest.skip(reason)


def has_ipv6() -> bool:
    """Whether this machine has an IPv6 loopback address."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


def free_port() -> int:
    """Return a TCP port of IPv4's loopback that nobody uses at the moment."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


# --- HTTP


@dataclass(frozen=True)
class Answer:
    """A response that was read to its end."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        abstract = self._path.startswith("@")
        self.sock.connect(self._path.replace("@", "\0", 1) if abstract else self._path)


def connect(url: str, timeout: float = 20.0) -> http.client.HTTPConnection:
    """Return a connection, not connected yet, to a ``Supervisor.url``."""
    parts = urlsplit(url)
    if parts.scheme == "http+unix":
        return _UnixConnection(unquote(parts.netloc), timeout)
    assert parts.hostname is not None
    return http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout)


def get(
    url: str, path: str = "/", timeout: float = 20.0, headers: Mapping[str, str] | None = None
) -> Answer:
    """Send a GET request over a connection of its own."""
    with contextlib.closing(connect(url, timeout)) as connection:
        connection.request("GET", path, headers={"connection": "close", **(headers or {})})
        response = connection.getresponse()
        return Answer(
            response.status,
            {name.lower(): value for name, value in response.getheaders()},
            response.read(),
        )


class Pending:
    """A GET request in flight, in a thread."""

    def __init__(self, url: str, path: str) -> None:
        self._outcome: Answer | Exception | None = None
        self._thread = threading.Thread(
            target=self._run, args=(url, path), name="test-client", daemon=True
        )
        self._thread.start()

    def _run(self, url: str, path: str) -> None:
        try:
            self._outcome = get(url, path)
        except Exception as exc:
            self._outcome = exc

    def result(self) -> Answer | Exception:
        """Return the answer, or the exception in place of one."""
        self._thread.join(30)
        assert self._outcome is not None, "the request did not end"
        return self._outcome


# --- scripts


def run_script(
    directory: Path,
    source: str,
    *arguments: str,
    files: Mapping[str, str] | None = None,
    flags: tuple[str, ...] = (),
    environment: Mapping[str, str] | None = None,
    timeout: float = 60.0,
) -> subprocess.CompletedProcess[str]:
    """Run a script as a process of its own; fail the test if it does not end in time.

    Args:
        directory: Where the script is written, and its directory to run in.
        source: The script.
        arguments: Command-line arguments.
        files: Further files to write beside it, such as modules that it names.
        flags: Options for the interpreter.
        environment: Additions to the environment.
        timeout: Seconds.
    """
    for name, content in (files or {}).items():
        (directory / name).write_text(textwrap.dedent(content))
    (directory / "script.py").write_text(textwrap.dedent(source))
    process = subprocess.Popen(
        [sys.executable, *flags, "script.py", *arguments],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        stdout, stderr = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        stdout, stderr = process.communicate()
        pytest.fail(f"still running after {timeout:g} s\n--- stdout\n{stdout}--- stderr\n{stderr}")
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)


def run_module(
    module: str, *arguments: str, source: str = "", timeout: float = 110.0
) -> subprocess.CompletedProcess[str]:
    """Run a module as a process that may not hang.

    Args:
        module: Its name.
        arguments: Command-line arguments.
        source: Code to run in its place, such as one that spoils something first.
        timeout: Seconds.
    """
    return subprocess.run(
        [sys.executable, *(["-c", source] if source else ["-m", module]), *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


# --- leaks


def open_descriptors() -> dict[int, str]:
    """Return what this process has open: number to kind."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # the one that lists the directory is gone by now
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
    return found


def running_threads() -> set[threading.Thread]:
    """Return the threads that are alive."""
    return {thread for thread in threading.enumerate() if thread.is_alive()}


@contextlib.contextmanager
def nothing_left() -> Iterator[None]:
    """Check that the block leaves no descriptor, thread or interpreter that was not there before.

    A thread that has only to return may take a moment; nothing else is forgiven.
    """
    descriptors, threads, others = open_descriptors(), running_threads(), interpreters.alive()
    yield
    wait_until(lambda: running_threads() <= threads, f"threads: {running_threads() - threads}")
    left = {n: kind for n, kind in open_descriptors().items() if n not in descriptors}
    assert left == {}
    assert interpreters.alive() == others
