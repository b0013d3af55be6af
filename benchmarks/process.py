"""A server that runs: started, waited for, looked at, stopped."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import ssl
import subprocess
import time
from pathlib import Path

from benchmarks.measure import Cores
from benchmarks.servers import Files, Peer, Setup
from benchmarks.startup import ROOT, free_port

_STARTUP_TIMEOUT = 30.0
_STOP_TIMEOUT = 10.0
_LOG_TIMEOUT = 3.0
# What would change a server's options behind our back.
_OPTION_PREFIXES = ("WEB_CONCURRENCY", "FORWARDED_", "GUNICORN_", "GRANIAN_", "UVICORN_", "POUNCE_")


class Unfit(Exception):
    """A server can't be measured, and why."""


class Server:
    """A process that serves a setup, on a port of its own and with its output in a file.

    Attributes:
        peer: What runs.
        setup: What it was asked for.
        port: Where it listens.
        pid: Its process; workers may be children of it.
        log: Its output.
        bytes_per_idle: What each idle connection of the setup costs in memory.
    """

    def __init__(self, peer: Peer, setup: Setup, cores: Cores, files: Files) -> None:
        self.peer = peer
        self.setup = setup
        self.port = free_port()
        self.bytes_per_idle: float | None = None
        self.log = files.folder / f"{peer.name}-{self.port}.log"
        self._idle: list[socket.socket] = []
        environment = {
            name: value
            for name, value in os.environ.items()
            if name != "PYTHONDONTWRITEBYTECODE" and not name.startswith(_OPTION_PREFIXES)
        }
        environment["PYTHONPATH"] = str(ROOT)  # applications; behind the folder it is started in
        with (
            open(self.log, "wb") as output,
            cores.used(cores.servers if setup.pinned else cores.all),
        ):
            self._process = subprocess.Popen(
                peer.command(setup, self.port, files),
                cwd=peer.folder or ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self.pid = self._process.pid

    def wait(self) -> None:
        """Wait until it accepts connections.

        Raises:
            Unfit: It ended, or took too long.
        """
        deadline = time.monotonic() + _STARTUP_TIMEOUT
        while time.monotonic() < deadline:
            self.check_alive()
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                time.sleep(0.02)
            else:
                return
        raise Unfit(f"did not listen within {_STARTUP_TIMEOUT:g} s{self._last_words()}")

    def check_alive(self, within: float = 0.0) -> None:
        """Raise ``Unfit`` if the process has ended, or ends within so many seconds."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = self._process.wait(within)
            raise Unfit(f"exited with status {code}{self._last_words()}")

    def _last_words(self) -> str:
        lines = self.log.read_text(errors="replace").split("\n")
        return next((f": {line.strip()[:120]}" for line in reversed(lines) if line.strip()), "")

    def await_log(self, size: int) -> bool:
        """Wait a little until there is more output than that."""
        deadline = time.monotonic() + _LOG_TIMEOUT
        while (more := self.log.stat().st_size > size) is False and time.monotonic() < deadline:
            time.sleep(0.02)
        return more

    def connect(self, timeout: float = 10.0) -> http.client.HTTPConnection:
        """Return a client's connection, not connected yet."""
        if not self.setup.tls:
            return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return http.client.HTTPSConnection("127.0.0.1", self.port, timeout=timeout, context=context)

    def open_idle(self) -> None:
        """Open the setup's idle connections, with a request on each, and keep them.

        Raises:
            Unfit: It refuses one of them.
        """
        for number in range(self.setup.idle_connections):
            try:
                sock = socket.create_connection(("127.0.0.1", self.port), timeout=10)
            except OSError as exc:
                raise Unfit(f"refuses idle connection {number}: {type(exc).__name__}") from None
            self._idle.append(sock)
            self._refresh(sock)

    def refresh_idle(self) -> None:
        """Send a request on each idle connection: not all servers let them idle for a minute.

        Raises:
            Unfit: It has closed one of them.
        """
        for sock in self._idle:
            self._refresh(sock)

    def _refresh(self, sock: socket.socket) -> None:
        data = b""
        try:
            sock.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            while not data.endswith(b"world!"):
                piece = sock.recv(4096)
                if not piece:
                    raise Unfit("closes idle connections")
                data += piece
        except OSError as exc:
            raise Unfit(f"answers no idle connection: {type(exc).__name__}") from None

    def terminate(self) -> None:
        """Ask it to end, and not wait."""
        for idle in self._idle:
            idle.close()
        self._process.terminate()

    def stop(self) -> None:
        """End it, politely first."""
        self.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_STOP_TIMEOUT)
        # Its session is its own: what is left of it are workers that a dead parent forgot.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()


def make_certificate(folder: Path) -> Files:
    """Make a certificate for 127.0.0.1 that nobody needs to trust."""
    # Only here: the tests of this package do without.
    import trustme
    from cryptography.hazmat.primitives import serialization

    certificate = trustme.CA().issue_cert("127.0.0.1")
    files = Files(folder / "certificate.pem", folder / "key.pem", folder)
    for blob in certificate.cert_chain_pems:
        with open(files.certificate, "ab") as file:
            file.write(blob.bytes())
    key = serialization.load_pem_private_key(certificate.private_key_pem.bytes(), password=None)
    files.key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,  # the one format that all of them read
            serialization.NoEncryption(),
        )
    )
    return files
