"""New certificates for a server that serves: by ``reload_tls()``, or a reload by SIGHUP."""

from __future__ import annotations

import os
import queue
import re
import shutil
import signal
import ssl
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trustme

from subinterp_asgi import Supervisor
from subinterp_asgi.errors import ConfigError, ReloadError, StateError

from ...support import ROOT, nothing_left, wait_until
from ..apps.tls import pattern
from ..pki import Pki, TLSClient
from ..supervising import both
from .clients import APP, QUIET, ask, serial, serial_at, serial_in, wait_for_all


@pytest.fixture
def pki(tmp_path: Path) -> Pki:
    return Pki(tmp_path)


@pytest.fixture
def server(pki: Pki) -> Iterator[Supervisor]:
    with Supervisor(APP, **QUIET, workers=2, ssl_certfile=pki.server) as server:
        yield server


def renew(pki: Pki) -> None:
    """Replace the server's file as renewal tools do: at once."""
    os.replace(pki.issue("renewed.pem"), pki.server)


class Load:
    """Clients that connect anew again and again, until the block ends; no request may fail."""

    def __init__(self, server: Supervisor, context: ssl.SSLContext) -> None:
        self._server = server
        self._context = context
        self._over = threading.Event()
        self._failures: queue.SimpleQueue[BaseException] = queue.SimpleQueue()
        self.serials: set[int] = set()
        self.requests = 0

    def __enter__(self) -> Load:
        self._threads = [threading.Thread(target=self._run) for _ in range(4)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(30)
        if not self._failures.empty():
            raise self._failures.get()

    def _run(self) -> None:
        try:
            while not self._over.is_set():
                with TLSClient(self._server.addresses[0], self._context) as client:
                    assert client.get(b"/whole/100000").body == pattern(0, 100_000)
                    self.serials.add(client.serial)
                    self.requests += 1
        except BaseException as exc:
            self._failures.put(exc)

    def wait_for_requests(self) -> None:
        """Wait for more requests to be made."""
        before = self.requests
        wait_until(lambda: self.requests > before + 8, "the load goes on")


def test_renewed_under_load(pki: Pki, server: Supervisor) -> None:
    context = pki.client()
    first = serial(server, context)
    with (
        Load(server, context) as load,
        TLSClient(server.addresses[0], context) as old,
        TLSClient(server.addresses[0], context) as busy,
    ):
        load.wait_for_requests()
        # (half of a request, the other half of which follows after the change)
        busy.send(b"POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 8\r\n\r\nhalf")
        for _ in range(3):
            before = load.serials
            load.serials = set()
            renew(pki)
            server.reload_tls()
            wait_until(lambda before=before: load.serials - before, "a new certificate")
            old.assert_open()
        load.wait_for_requests()
        busy.send(b"half")
        assert busy.response().body == b"halfhalf"
        assert old.serial == busy.serial == first
    wait_for_all(server, context, serial_in(pki.server))


def test_a_file_that_is_bad_changes_nothing(pki: Pki, server: Supervisor) -> None:
    context = pki.client()
    first = serial(server, context)
    good = Path(pki.server).read_bytes()
    for bad in (b"", b"no PEM", good[: len(good) // 2]):
        Path(pki.server).write_bytes(bad)
        with pytest.raises(ConfigError, match=r"ssl_(cert|key)file: "):
            server.reload_tls()
        wait_for_all(server, context, first)
    Path(pki.server).unlink()
    with pytest.raises(ConfigError, match="ssl_certfile: can't read"):
        server.reload_tls()
    wait_for_all(server, context, first)
    os.replace(pki.issue("renewed.pem"), pki.server)
    server.reload_tls()  # and it is not lost for good
    wait_until(lambda: serial(server, context) != first, "the new certificate")


FLAKY_FACTORY = """
    import os

    def make(default):
        if os.path.exists(os.environ["TEST_FAIL"]):
            raise LookupError("no context today")
        return default()
"""


def test_a_factory_that_fails_changes_nothing(
    pki: Pki, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """It is called in the workers, which say so in the log."""
    (tmp_path / "flaky_factory.py").write_text(textwrap.dedent(FLAKY_FACTORY))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("TEST_FAIL", str(tmp_path / "fail"))
    context = pki.client()
    options = {"ssl_certfile": pki.server, "ssl_context_factory": "flaky_factory:make"}
    logged = ""

    def all_have_logged() -> bool:
        nonlocal logged
        logged += capfd.readouterr().err
        return all(f"worker {number}: TLS was not reloaded" in logged for number in (0, 1))

    with Supervisor(APP, **QUIET, workers=2, **options) as server:
        first = serial(server, context)
        (tmp_path / "fail").touch()
        renew(pki)
        server.reload_tls()
        wait_until(all_have_logged, "both workers have logged the failure")
        assert "no context today" in logged
        wait_for_all(server, context, first)
        (tmp_path / "fail").unlink()
        server.reload_tls()
        wait_until(lambda: serial(server, context) != first, "the new certificate")


def test_more_reloads_than_a_queue_holds(pki: Pki, server: Supervisor) -> None:
    context = pki.client()
    first = serial(server, context)
    renew(pki)
    for _ in range(200):
        server.reload_tls()
    wait_until(lambda: serial(server, context) != first, "the new certificate")
    server.stop()


def test_sessions_of_before(pki: Pki, server: Supervisor) -> None:
    """They are not resumed after the change, but who asks for it is served."""
    context = pki.client()
    with TLSClient(server.addresses[0], context) as client:
        client.assert_open()
        session, first = client.tls.session, client.serial
    renew(pki)
    server.reload_tls()
    wait_until(lambda: serial(server, context) != first, "the new certificate")
    wait_for_all(server, context, serial_in(pki.server))
    for _ in range(4):
        with TLSClient(server.addresses[0], context, session=session) as client:
            assert not client.tls.session_reused
            client.assert_open()


# --- a reload of everything


@both
def test_all_files_are_read_anew(pki: Pki, tmp_path: Path, isolation: str) -> None:
    """By all workers and for all listeners; what is wrong with a file keeps those that serve."""
    others, unix = trustme.CA(), f"unix:{tmp_path / 'socket'}"
    first = serial_in(pki.certificate)
    options: dict[str, Any] = {
        "isolation": isolation,
        "workers": 2,
        "bind": ("127.0.0.1:0", "127.0.0.1:0", unix),
        "ssl_certfile": pki.certificate,
        "ssl_keyfile": pki.key,
        "ssl_keyfile_password": pki.PASSWORD,
        "ssl_ca_certs": pki.ca_file,
        "ssl_cert_reqs": ssl.CERT_REQUIRED,
    }
    shutil.copy(pki.encrypted_key, pki.key)
    before, after = (pki.client(ca.issue_cert("ann@example.org")) for ca in (pki.ca, others))
    with Supervisor(APP, **QUIET, **options) as server:
        wait_for_all(server, before, first)
        pki.issue_pair(pki.directory)  # (its key is not encrypted)
        Path(pki.certificate).write_text("no PEM")
        with pytest.raises(ReloadError, match="ssl_certfile: there is no certificate") as raised:
            server.reload()
        assert raised.value.kind == "config"
        wait_for_all(server, before, first)
        pki.issue_pair(pki.directory, encrypted=True)
        others.cert_pem.write_to_path(pki.ca_file)
        server.reload()
        second = serial_in(pki.certificate)
        wait_for_all(server, after, second)
        for host, port in server.addresses:
            address = host if port is None else (host, port)
            with TLSClient(address, after) as client:
                client.assert_open()
                assert client.serial == second
            with pytest.raises(ssl.SSLError, match="UNKNOWN_CA"):
                ask(address, before)


@both
def test_a_key_with_another_password(pki: Pki, isolation: str) -> None:
    options: dict[str, Any] = {"isolation": isolation, "ssl_keyfile_password": "another"}
    options |= {"ssl_certfile": pki.certificate, "ssl_keyfile": pki.key}
    context, first = pki.client(), serial_in(pki.certificate)
    with Supervisor(APP, **QUIET, **options) as server:
        pki.issue_pair(pki.directory, encrypted=True)
        with pytest.raises(ReloadError, match="ssl_keyfile_password: does not decrypt"):
            server.reload()
        with pytest.raises(ConfigError, match="ssl_keyfile_password: does not decrypt"):
            server.reload_tls()
        assert serial(server, context) == first


# --- when there is nothing to reload


def test_without_tls() -> None:
    with (
        Supervisor(APP, **QUIET) as server,
        pytest.raises(StateError, match="can't reload TLS: it is not on"),
    ):
        server.reload_tls()


def test_before_the_start_and_after_the_end(pki: Pki) -> None:
    server = Supervisor(APP, **QUIET, ssl_certfile=pki.server)
    with pytest.raises(StateError, match="the supervisor is new"):
        server.reload_tls()
    with nothing_left(), server:
        server.reload_tls()
    # Its descriptors are closed, and their numbers may be others' by now: nothing may be written.
    others = [os.eventfd(0, os.EFD_NONBLOCK) for _ in range(64)]
    try:
        with pytest.raises(StateError, match="the supervisor is stopped"):
            server.reload_tls()
        for number in others:
            with pytest.raises(BlockingIOError):
                os.eventfd_read(number)
    finally:
        for number in others:
            os.close(number)


# --- from a shell


class Command:
    """The command line as a process."""

    def __init__(self, *options: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "subinterp_asgi", APP, "--port", "0", *options],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._process.stderr is not None
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, args=(self._process.stderr,))
        self._reader.start()

    def _read(self, stream: Any) -> None:
        for line in stream:
            self._lines.put(line)

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Wait for a line."""
        seen = ""
        try:
            while True:
                line = self._lines.get(timeout=20)
                seen += line
                if match := re.search(pattern, line):
                    return match
        except queue.Empty:
            pytest.fail(f"no line like {pattern!r} in:\n{seen}")

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def stop(self) -> int:
        """End it, and return its exit status."""
        self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(20)
        finally:
            self.kill()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join()
        assert self._process.stderr is not None
        self._process.stderr.close()


def test_sighup(pki: Pki) -> None:
    context = pki.client()
    command = Command("--workers", "2", "--ssl-certfile", pki.server)
    try:
        port = int(command.wait_for(r"Listening on https://127\.0\.0\.1:(\d+)")[1])
        command.wait_for("2 workers")
        now = partial(serial_at, ("127.0.0.1", port), context)
        first = now()
        old = TLSClient(("127.0.0.1", port), context)
        with old:
            old.assert_open()
            kept = shutil.copy(pki.server, pki.directory / "kept.pem")
            Path(pki.server).write_text("no PEM")
            command.signal(signal.SIGHUP)
            command.wait_for("Error: generation 2 does not serve.* ssl_certfile: there is no cert")
            old.assert_open()  # nothing has changed
            assert {now() for _ in range(10)} == {first}
            os.replace(kept, pki.server)
            renew(pki)
            command.signal(signal.SIGHUP)
            wait_until(lambda: now() != first, "the new certificate")
        assert command.stop() == 0
    finally:
        command.kill()
