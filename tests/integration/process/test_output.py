"""Standard error that nobody reads, that is full, closed, or on a full disk: the server goes on."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import termios
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from ...support import ROOT, get, wait_until
from ..command import APPS

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are signals needed")

type Kind = Callable[[], contextlib.AbstractContextManager[int]]


class Server:
    """The command with descriptors of a test's; how it fares is seen by its answers.

    Args:
        stdout, stderr: What it writes to.
        before: Run in the shell that becomes the command.
    """

    def __init__(
        self,
        directory: Path,
        *arguments: str,
        stdout: int | None = None,
        stderr: int | None = None,
        before: str = ":",
    ) -> None:
        path = directory / "socket"
        self.url = f"http+unix://{quote(str(path), safe='')}"
        command = [sys.executable, "-m", "subinterp_asgi", "tellsitself:app", "--uds", str(path)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": ""}
        self.process = subprocess.Popen(
            ["sh", "-c", f'{before}; exec "$@"', "sh", *command, "--metrics-path=/m", *arguments],
            cwd=APPS,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
        )

    def __enter__(self) -> Server:
        wait_until(self.answers, "the first answer", 60)
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def answers(self) -> bool:
        assert self.process.poll() is None, f"it has ended: {self.process.returncode}"
        with contextlib.suppress(OSError):
            return get(self.url).status == 200
        return False

    def name(self) -> str:
        return get(self.url).text

    def count(self, metric: str) -> int:
        found = re.search(
            rf"^subinterp_asgi_{metric} (\d+)$", get(self.url, "/m").text, re.MULTILINE
        )
        assert found is not None, metric
        return int(found[1])

    def workers(self, number: int) -> None:
        wait_until(lambda: self.count("workers") == number, f"{number} workers", 60)

    def goes_through_it_all(self) -> None:
        """Serve, reload, grow, shrink and end."""
        for _ in range(20):
            for path in ("/", "/log", "/print"):
                assert get(self.url, path).status == 200
        assert get(self.url, "/raise").status == 500
        before = self.name()
        self.process.send_signal(signal.SIGHUP)
        wait_until(lambda: self.name() != before, "another generation", 60)
        self.workers(1)
        self.process.send_signal(signal.SIGTTIN)
        self.workers(2)
        self.process.send_signal(signal.SIGTTOU)
        self.workers(1)
        assert get(self.url, "/raise").status == 500
        self.ends()

    def ends(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(20) == 0


# --- what it may be


@contextlib.contextmanager
def full_pipe() -> Iterator[int]:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writer, b"x" * 4096)
    os.set_blocking(writer, True)
    try:
        yield writer
        assert os.get_blocking(writer), "the flags are those of all who have it"
    finally:
        os.close(reader)
        os.close(writer)


@contextlib.contextmanager
def pipe_that_fills() -> Iterator[int]:
    with small_pipe() as (_, writer):
        yield writer
        assert os.get_blocking(writer)


@contextlib.contextmanager
def no_reader() -> Iterator[int]:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        yield writer
    finally:
        os.close(writer)


@contextlib.contextmanager
def full_disk() -> Iterator[int]:
    fd = os.open("/dev/full", os.O_WRONLY)
    try:
        yield fd
    finally:
        os.close(fd)


@contextlib.contextmanager
def full_socket() -> Iterator[int]:
    """As a service manager gives: a stream to its journal, which hangs."""
    ours, its = socket.socketpair()
    with ours, its:
        its.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                its.send(b"x" * 4096)
        its.setblocking(True)
        yield its.fileno()
        assert its.getblocking()


@contextlib.contextmanager
def stopped_terminal() -> Iterator[int]:
    """Somebody has pressed Ctrl+S."""
    ours, its = pty.openpty()
    try:
        termios.tcflow(its, termios.TCOOFF)
        yield its
        assert os.get_blocking(its)
    finally:
        os.close(ours)
        os.close(its)


@contextlib.contextmanager
def unread_terminal() -> Iterator[int]:
    """Its window hangs: it fills up."""
    ours, its = pty.openpty()
    os.set_blocking(its, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(its, b"x" * 100)
    os.set_blocking(its, True)
    try:
        yield its
        assert os.get_blocking(its)
    finally:
        os.close(ours)
        os.close(its)


KINDS = [
    full_pipe,
    pipe_that_fills,
    no_reader,
    full_socket,
    stopped_terminal,
    unread_terminal,
    *([full_disk] if os.path.exists("/dev/full") else []),
]


@pytest.mark.parametrize("isolation", ["interpreter", "thread"])
@pytest.mark.parametrize("kind", KINDS)
def test_standard_error(kind: Kind, isolation: str, tmp_path: Path) -> None:
    with kind() as stderr, Server(tmp_path, f"--isolation={isolation}", stderr=stderr) as server:
        if isolation == "thread":
            for path in ("/", "/log", "/print"):
                assert get(server.url, path).status == 200
            server.ends()
        else:
            server.goes_through_it_all()


def test_forwarded_logs(tmp_path: Path) -> None:
    with full_pipe() as stderr, Server(tmp_path, "--log-forwarding", stderr=stderr) as server:
        server.goes_through_it_all()


def test_a_host_that_has_not_configured_logging(tmp_path: Path) -> None:
    """Its workers die, which the supervisor would tell if it could."""
    script = """
    from subinterp_asgi import Supervisor
    from tests.integration.supervisor.killing import kill
    from tests.support import get, wait_until

    app = "tests.integration.apps.pool:App"
    with Supervisor(app, port=0, restart_delay=0.01, factory=True) as server:
        name = kill(server)
        wait_until(lambda: get(server.url, "/who").text != name)
    print("ended")
    """
    program = [sys.executable, "-c", textwrap.dedent(script)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with full_pipe() as full:
        done = subprocess.run(
            program, stdout=subprocess.PIPE, stderr=full, env=environment, timeout=60, check=True
        )
    assert done.stdout == b"ended\n"


def test_a_host_without_standard_error(tmp_path: Path) -> None:
    """Its number is that of a file of the host's, which the workers leave alone."""
    script = """
    import sys
    host_file = open(sys.argv[1], "w")
    from subinterp_asgi import Supervisor
    from tests.support import get

    assert host_file.fileno() == 2
    app = "tests.integration.apps.pool:App"
    with Supervisor(app, port=0, workers=2, factory=True) as server:
        for _ in range(10):
            get(server.url, "/who")
    """
    program = [sys.executable, "-c", textwrap.dedent(script), str(tmp_path / "file")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = ["sh", "-c", 'exec "$@" 2>&-', "sh", *program]
    assert subprocess.run(command, env=environment, timeout=60, check=False).returncode == 0
    assert (tmp_path / "file").read_text() == ""


@pytest.mark.parametrize("streams", ["2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_from_the_beginning(streams: str, tmp_path: Path) -> None:
    """Or else sockets get these numbers, and what is logged goes into responses."""
    with Server(tmp_path, before=f"exec {streams}") as server:
        assert get(server.url, "/stdout").status == 200
        for number in (0, 1, 2):
            assert os.readlink(f"/proc/{server.process.pid}/fd/{number}").startswith("/")
        server.goes_through_it_all()


@pytest.mark.parametrize("isolation", ["interpreter", "thread"])
@pytest.mark.parametrize("kind", [full_pipe, no_reader, full_disk])
def test_what_is_left_of_standard_output(kind: Kind, isolation: str, tmp_path: Path) -> None:
    """What an application has printed waits in a buffer, which is to be flushed at the end."""
    with (
        kind() as full,
        Server(tmp_path, f"--isolation={isolation}", stdout=full, stderr=full) as server,
    ):
        assert get(server.url, "/stdout").status == 200
        server.ends()


def test_nothing_is_lost_if_it_is_read_in_time(tmp_path: Path) -> None:
    with small_pipe() as (reader, writer), Server(tmp_path, stderr=writer) as server:
        for number in range(200):
            get(server.url, f"/{number}/{'x' * 100}")
        text = drain(reader, lambda text: "/199/" in text)
        assert re.findall(r'"GET /(\d+)/x', text) == [str(number) for number in range(200)]
        assert server.count("log_records_dropped_total") == 0
        server.ends()


def test_what_is_lost_is_counted_and_told(tmp_path: Path) -> None:
    with small_pipe() as (reader, writer), Server(tmp_path, stderr=writer) as server:
        while not server.count("log_records_dropped_total"):
            for _ in range(50):
                get(server.url, f"/{'x' * 8000}")
        text = drain(reader, lambda text: "missing here" in text)
        dropped = re.search(r"^WARNING: (\d+) line\(s\) are missing here$", text, re.MULTILINE)
        assert dropped is not None
        assert int(dropped[1]) == server.count("log_records_dropped_total")
        get(server.url, "/afterwards")
        assert "missing" not in drain(reader, lambda text: "/afterwards" in text)
        server.ends()


@contextlib.contextmanager
def small_pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    if sys.platform == "linux":
        fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    try:
        yield reader, writer
    finally:
        os.close(reader)
        os.close(writer)


def drain(reader: int, enough: Callable[[str], bool]) -> str:
    """Read until it is enough."""
    octets = b""
    while not enough(octets.decode()):
        assert select.select([reader], [], [], 30)[0], octets[-500:]
        octets += os.read(reader, 65536)
    return octets.decode()
