"""``ssl_reload``: TLS files that change are used for new connections, without new workers."""

from __future__ import annotations

import os
import shutil
import signal
import ssl
import textwrap
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trustme

from subinterp_asgi import Supervisor
from subinterp_asgi.errors import ConfigError
from subinterp_asgi.supervisor import watch
from subinterp_asgi.supervisor.events import TLSReloaded, TLSReloadFailed
from subinterp_asgi.supervisor.watch import FilesWatcher

from ...support import ROOT, nothing_left, wait_until
from ..command import Command
from ..pki import Pki, TLSClient
from ..supervising import Heard, both
from ..wsclient import TEXT, WSClient
from .clients import APP, QUIET, ask, serial, serial_at, serial_in, serves, wait_for_all


class TLSWebSocket(WSClient, TLSClient):
    """A WebSocket over TLS."""

    def assert_talks(self) -> None:
        self.send_frame(TEXT, b"still there?")
        assert self.read_text() == "still there?"


class Volume:
    """Files as they are renewed in practice.

    Kubernetes has one link to a folder, through which all files are seen; certbot one for each
    file, set one after the other; others write the files anew, the key last.
    """

    def __init__(self, pki: Pki, folder: Path, kind: str) -> None:
        self._pki, self._folder, self._kind = pki, folder, kind
        self._version = 0
        folder.mkdir()
        self.files = [folder / name for name in ("certificate.pem", "key.pem")]
        self.renew()
        if kind == "folder":
            for file in self.files:
                file.symlink_to(Path("..data", file.name))

    @property
    def options(self) -> dict[str, Any]:
        certificate, key = map(str, self.files)
        return {"ssl_certfile": certificate, "ssl_keyfile": key, "ssl_reload": True}

    def renew(self) -> None:
        self._version += 1
        new = self._folder.with_name(f"{self._folder.name}.{self._version}")
        new.mkdir()
        self._pki.issue_pair(new)
        if self._kind == "folder":
            self._link(self._folder / "..data", new)
        for file in self.files:
            if self._kind == "links":
                self._link(file, new / file.name)
            elif self._kind == "written":
                file.write_bytes((new / file.name).read_bytes())

    def _link(self, name: Path, target: Path) -> None:
        new = name.with_name("..new")
        new.symlink_to(target)
        os.replace(new, name)

    @property
    def serial(self) -> int:
        return serial_in(str(self.files[0]))


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are looked at more often than each second; they must come to rest as ever."""
    monkeypatch.setattr(watch, "_FILES_INTERVAL", 0.1)


@pytest.fixture
def pki(tmp_path: Path) -> Pki:
    return Pki(tmp_path)


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def server(pki: Pki, heard: Heard) -> Iterator[Supervisor]:
    """One with certificate and key in files of their own."""
    options = {"ssl_certfile": pki.certificate, "ssl_keyfile": pki.key, "ssl_reload": True}
    with (
        nothing_left(),
        Supervisor(APP, **QUIET, workers=2, on_event=heard, **options) as server,
    ):
        yield server


@both
@pytest.mark.parametrize("kind", ["folder", "links", "written"])
def test_renewed(pki: Pki, tmp_path: Path, heard: Heard, isolation: str, kind: str) -> None:
    """New connections get it from all workers; those that are open go on, WebSockets too."""
    volume = Volume(pki, tmp_path / "volume", kind)
    context, first = pki.client(), volume.serial
    options = {**volume.options, "isolation": isolation, "on_event": heard}
    with nothing_left(), Supervisor(APP, **QUIET, workers=2, **options) as server:
        wait_for_all(server, context, first)
        with (
            TLSClient(server.addresses[0], context) as old,
            TLSWebSocket(server.addresses[0], context) as talking,
        ):
            old.assert_open()
            talking.open(target=b"/talk")
            for _ in range(2):
                volume.renew()
                wait_for_all(server, context, volume.serial)
                old.assert_open()
                talking.assert_talks()
            assert old.serial == talking.serial == first
        assert server.generation == 1
        assert all(worker.generation == 1 for worker in server.workers)
    assert {file for event in heard.of(TLSReloaded) for file in event.files} == {
        *map(str, volume.files)
    }


def test_half_of_a_pair(
    pki: Pki,
    server: Supervisor,
    heard: Heard,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Said once; the other half makes it whole."""
    caplog.set_level("INFO")
    context, first = pki.client(), serial_in(pki.certificate)
    renewed = tmp_path / "renewed"
    renewed.mkdir()
    pki.issue_pair(renewed)
    os.replace(renewed / "key.pem", pki.key)
    (failed,) = heard.wait_for(TLSReloadFailed)
    reason = f"ssl_keyfile: {pki.key!r} is not the key of the certificate"
    assert (failed.files, failed.reason) == ((pki.key,), reason)
    wait_for_all(server, context, first)
    os.replace(renewed / "certificate.pem", pki.certificate)
    wait_for_all(server, context, serial_in(pki.certificate))
    assert serial_in(pki.certificate) != first
    heard.wait_for(TLSReloaded)
    assert len(heard.of(TLSReloadFailed)) == len(heard.of(TLSReloaded)) == 1
    server.stop()
    assert [record.getMessage() for record in caplog.records] == [
        f"{reason}; new connections get the certificate of before",
        f"new connections use what is in {pki.certificate} now",
    ]


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda path: path.unlink(), "ssl_certfile: can't read "),
        (lambda path: path.write_text("no PEM"), "ssl_certfile: there is no certificate in PEM"),
    ],
    ids=["removed", "no PEM"],
)
def test_a_file_that_can_not_be_used(
    pki: Pki, server: Supervisor, heard: Heard, spoil: Callable[[Path], None], reason: str
) -> None:
    context, first = pki.client(), serial_in(pki.certificate)
    kept = pki.directory / "kept.pem"
    shutil.copy(pki.certificate, kept)
    spoil(Path(pki.certificate))
    assert heard.wait_for(TLSReloadFailed)[0].reason.startswith(reason)
    wait_for_all(server, context, first)
    os.replace(kept, pki.certificate)  # the very same, which is used all the same
    heard.wait_for(TLSReloaded)
    wait_for_all(server, context, first)


def test_other_authorities_for_clients(pki: Pki, heard: Heard) -> None:
    """Those of before are not trusted any longer."""
    others = trustme.CA()
    before, after = (pki.client(ca.issue_cert("ann@example.org")) for ca in (pki.ca, others))
    options: dict[str, Any] = {"ssl_certfile": pki.server, "ssl_ca_certs": pki.ca_file}
    options |= {"ssl_cert_reqs": ssl.CERT_REQUIRED, "ssl_reload": True, "on_event": heard}
    with Supervisor(APP, **QUIET, workers=2, **options) as server:
        serves(server, before)
        others.cert_pem.write_to_path(pki.ca_file)

        def refused() -> bool:
            try:
                ask(server.addresses[0], before)
            except ssl.SSLError as exc:
                return exc.reason == "TLSV1_ALERT_UNKNOWN_CA"
            return False

        wait_until(lambda: all(refused() for _ in range(8)), "no worker trusts the old one")
        serves(server, after)
        assert heard.wait_for(TLSReloaded)[0].files == (pki.ca_file,)


FACTORY = """
    import threading

    def make(default):
        context = default()
        context.set_alpn_protocols(["of-our-own"])
        return context
"""


def test_a_factory_is_called_anew(
    pki: Pki, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "makes_contexts.py").write_text(textwrap.dedent(FACTORY))
    monkeypatch.syspath_prepend(tmp_path)
    context = pki.client()
    context.set_alpn_protocols(["of-our-own"])
    options = {"ssl_certfile": pki.server, "ssl_context_factory": "makes_contexts:make"}
    with Supervisor(APP, **QUIET, workers=2, ssl_reload=True, **options) as server:
        first = serial(server, context)
        os.replace(pki.issue("renewed.pem"), pki.server)
        wait_for_all(server, context, serial_in(pki.server))
        assert serial_in(pki.server) != first
        with TLSClient(server.addresses[0], context) as client:
            assert client.tls.selected_alpn_protocol() == "of-our-own"


def test_a_factory_without_files() -> None:
    with pytest.raises(ConfigError, match="ssl_reload: knows no file to look at"):
        Supervisor(APP, ssl_context_factory="makes_contexts:make", ssl_reload=True)


def test_a_file_that_becomes_readable(tmp_path: Path) -> None:
    """Only its mode changes, and what is in it is another thing for who may read it now."""
    file = tmp_path / "key.pem"
    file.touch(0o000)
    watcher = FilesWatcher([str(file)])
    assert watcher._look() == set()
    file.chmod(0o600)
    assert watcher._look() == {str(file)}


def test_by_the_command(pki: Pki) -> None:
    """What it says; SIGHUP has new workers read the files as well."""
    context, options = pki.client(), ("--ssl-certfile", pki.server, "--ssl-reload")
    with Command(APP, "--port", "0", *options, cwd=ROOT, warnings="default") as command:
        port = int(command.wait_for(r"Listening on https://127\.0\.0\.1:(\d+)")[1])
        command.wait_for("1 worker ")
        now = partial(serial_at, ("127.0.0.1", port), context)
        first = now()
        os.replace(pki.issue("renewed.pem"), pki.server)
        command.wait_for(f"New connections use what is in {pki.server} now")
        wait_until(lambda: now() == serial_in(pki.server), "the new certificate")
        assert serial_in(pki.server) != first
        good = Path(pki.server).read_bytes()
        Path(pki.server).write_bytes(b"no PEM")
        command.wait_for("ssl_certfile: there is no certificate in PEM .*; new connections get")
        command.send(signal.SIGHUP)
        command.wait_for("Error: generation 2 does not serve, generation 1 goes on: .*ssl_certfile")
        Path(pki.server).write_bytes(good)
        command.send(signal.SIGHUP)
        command.wait_for("Generation 3 serves")
        assert now() == serial_in(pki.server)
        command.send(signal.SIGTERM)
        assert command.wait() == 0
