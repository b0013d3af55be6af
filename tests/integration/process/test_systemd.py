"""Sockets and notifications of systemd: its own program that passes sockets, and a socket of ours
for what its manager is told."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from subinterp_asgi.errors import ConfigError
from subinterp_asgi.supervisor.process import systemd
from tests.control.test_prometheus import parse

from ...support import ROOT, free_port, get, wait_until
from ..command import Command
from .upgrading import Service

APP = ("tests.integration.apps.pool:App", "--factory", "--no-access-log")
ACTIVATE = shutil.which("systemd-socket-activate")
REQUIRED = bool(os.environ.get("REQUIRE_SYSTEMD"))
needs_systemd = pytest.mark.skipif(
    ACTIVATE is None and not REQUIRED, reason="apt-get install systemd"
)


class Manager:
    """A notify socket; keeps what it is told."""

    def __init__(self, path: Path | str) -> None:
        self.told: list[dict[str, str]] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        name = str(path)
        self._socket.bind(name.replace("@", "\0", 1) if name.startswith("@") else name)
        self.environment = {"NOTIFY_SOCKET": name}
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while data := self._socket.recv(4096):
            lines = data.decode().split("\n")
            self.told.append(dict(line.split("=", 1) for line in lines))

    def wait_for(self, name: str, value: str = "1", count: int = 1) -> dict[str, str]:
        def found() -> list[dict[str, str]]:
            return [told for told in self.told if told.get(name) == value]

        wait_until(lambda: len(found()) >= count, f"{name}={value}; {self.told}")
        return found()[count - 1]

    def names(self) -> list[str]:
        """What was told, each by its first name."""
        return [next(iter(told)) for told in self.told]

    def close(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"", self._socket.getsockname())
        self._thread.join()
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def manager(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Manager]:
    name = tmp_path / "notify" if request.param == "path" else f"@test-notify-{os.getpid()}"
    manager = Manager(name)
    yield manager
    manager.close()


def activated(*arguments: str, names: str = "", listen: tuple[str, ...]) -> Command:
    """Start ``systemd-socket-activate``, which becomes the command at the first connection."""
    assert ACTIVATE is not None, "systemd-socket-activate is missing"
    options = [part for address in listen for part in ("--listen", address)]
    if names:
        options.append(f"--fdname={names}")
    passed = [f"--setenv={name}={os.environ[name]}" for name in ("PATH",)]
    passed += ["--setenv=PYTHONUNBUFFERED=1", f"--setenv=PYTHONPATH={ROOT}"]
    return Command(*APP, *arguments, cwd=ROOT, prefix=(ACTIVATE, *options, *passed))


@needs_systemd
def test_units_of_the_examples() -> None:
    units = sorted(map(str, (ROOT / "examples/deploy/systemd").iterdir()))
    assert len(units) == 2
    verified = subprocess.run(
        ["systemd-analyze", "verify", *units], capture_output=True, text=True, check=False
    )
    assert (verified.returncode, verified.stderr) == (0, "")


@needs_systemd
def test_sockets_are_served(tmp_path: Path) -> None:
    """TCP and Unix; connections that came before the start are answered."""
    port, path = free_port(), tmp_path / "socket"
    with activated("--workers", "2", listen=(f"127.0.0.1:{port}", str(path))) as command:
        command.wait_for(r"Listening on .*socket as 4")
        assert get(f"http://127.0.0.1:{port}").status == 200
        command.wait_for(r"2 workers ")
        assert get(f"http+unix://{str(path).replace('/', '%2F')}").status == 200
        command.send(signal.SIGTERM)
        assert command.wait() == 0
        assert path.exists()  # it is systemd's
    assert f"Listening on http://127.0.0.1:{port}" in command.stderr
    assert f"Listening on unix:{path}" in command.stderr


@needs_systemd
def test_sockets_by_name() -> None:
    web, metrics = free_port(), free_port()
    listen = (f"127.0.0.1:{web}", f"127.0.0.1:{metrics}")
    with activated(names="web:metrics", listen=listen) as command:
        command.wait_for(r"Listening on .* as 4")
        assert get(f"http://127.0.0.1:{web}", "/metrics").text == "ok"
        assert parse(get(f"http://127.0.0.1:{metrics}", "/metrics").body)["requests_total", ()] == 1
        command.send(signal.SIGTERM)
        assert command.wait() == 0


@needs_systemd
def test_an_upgrade_keeps_the_sockets() -> None:
    port = free_port()
    assert ACTIVATE is not None
    prefix = (ACTIVATE, "--listen", f"127.0.0.1:{port}", f"--setenv=PYTHONPATH={ROOT}")
    with Service(*APP, cwd=ROOT, prefix=prefix) as service:
        service.wait_for(r"Listening on .* as 3")
        assert get(f"http://127.0.0.1:{port}").status == 200
        service.wait_for(r"1 worker ")
        service.upgrade()
        assert get(f"http://127.0.0.1:{port}").status == 200
        service.stop()


def test_what_the_manager_is_told(manager: Manager) -> None:
    with Command(
        *APP, "--port", "0", "--workers", "2", cwd=ROOT, environment=manager.environment
    ) as command:
        assert manager.wait_for("READY")["STATUS"] == "2 workers of generation 1 serve"
        command.send(signal.SIGHUP)
        reloading = manager.wait_for("RELOADING")
        assert int(reloading["MONOTONIC_USEC"]) > 0
        assert manager.wait_for("READY", count=2)["STATUS"] == "2 workers of generation 2 serve"
        command.send(signal.SIGTTIN)
        assert manager.wait_for("READY", count=3)["STATUS"] == "3 workers of generation 2 serve"
        command.send(signal.SIGTERM)
        manager.wait_for("STOPPING")
        assert command.wait() == 0
    assert manager.names() == ["READY", "RELOADING", "READY", "READY", "STOPPING"]


def test_a_reload_that_fails_is_over_too(tmp_path: Path, manager: Manager) -> None:
    """Or else systemd would kill the service for it."""
    app = tmp_path / "reloaded.py"
    app.write_text("from tests.integration.apps.pool import App\n")
    arguments = ("reloaded:App", "--factory", "--port", "0")
    with Command(*arguments, cwd=tmp_path, environment=manager.environment) as command:
        manager.wait_for("READY")
        app.write_text("raise SystemError\n")
        command.send(signal.SIGHUP)
        manager.wait_for("READY", count=2)
        command.send(signal.SIGTERM)
        assert command.wait() == 0


def test_the_main_process_after_an_upgrade(manager: Manager) -> None:
    with Service(*APP, "--port", "0", cwd=ROOT, environment=manager.environment) as service:
        manager.wait_for("READY")
        service.upgrade()
        manager.wait_for("MAINPID", str(service.main))
        manager.wait_for("READY", count=2)
        assert "STOPPING" not in manager.names()  # the service goes on
        service.stop()
        manager.wait_for("STOPPING")


def test_signs_of_life(tmp_path: Path, manager: Manager) -> None:
    """Only as long as a worker comes round."""
    gate = tmp_path / "gate"
    environment = manager.environment | {"WATCHDOG_USEC": "600000"}
    with Command(*APP, "--port", "0", cwd=ROOT, environment=environment) as command:
        url = command.url
        manager.wait_for("WATCHDOG", count=3)
        thread = threading.Thread(target=get, args=(url, f"/freeze{gate}"))
        thread.start()
        wait_until(Path(f"{gate}.begun").exists)
        seen, silent = -1, 0

        def has_ceased() -> bool:
            nonlocal seen, silent
            now = manager.names().count("WATCHDOG")
            seen, silent = now, silent + 1 if now == seen else 0
            return silent > 200  # looks, one in 5 ms: a second

        wait_until(has_ceased, "no more signs of life")
        gate.touch()
        thread.join()
        manager.wait_for("WATCHDOG", count=seen + 2)
        command.send(signal.SIGTERM)
        assert command.wait() == 0


def test_a_manager_that_is_gone(tmp_path: Path) -> None:
    environment = {"NOTIFY_SOCKET": str(tmp_path / "nothing"), "WATCHDOG_USEC": "100000"}
    with Command(*APP, "--port", "0", cwd=ROOT, environment=environment) as command:
        assert get(command.url).status == 200
        command.send(signal.SIGTERM)
        assert command.wait() == 0


def test_variables_are_taken_out(tmp_path: Path) -> None:
    """What is meant for this process is not for those that the application starts."""
    environment = {
        "NOTIFY_SOCKET": str(tmp_path / "n"),
        "WATCHDOG_USEC": "1",
        "WATCHDOG_PID": "1",
        "LISTEN_FDS": "1",
        "LISTEN_PID": "1",
        "LISTEN_FDNAMES": "a",
        "HOME": "/",
    }
    notifier = systemd.Notifier(environment)
    assert systemd.passed_sockets(environment) == {}  # they are another process'
    assert notifier.watchdog_interval is None
    assert environment == {"HOME": "/"}
    notifier.close()


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({}, {"bind": ("fd://3", "fd://5"), "metrics_bind": "fd://4"}),
        ({"port": 80}, {"metrics_bind": "fd://4"}),
        ({"bind": "fd://web", "metrics_bind": ":9"}, {"bind": ("fd://3",), "metrics_bind": ":9"}),
        ({"bind": ("fd://5", "fd://web", "[::1]:80")}, {"bind": ("fd://5", "fd://3", "[::1]:80")}),
    ],
)
def test_what_is_listened_on(options: dict[str, object], found: dict[str, object]) -> None:
    passed = {3: "web", 4: "metrics", 5: "unknown"}
    assert {"metrics_bind": "fd://4"} | systemd.listen_options(passed, options) == {
        "metrics_bind": "fd://4"
    } | found


def test_a_name_that_was_not_passed() -> None:
    with pytest.raises(ConfigError, match="no socket called 'web' was passed; there are admin"):
        systemd.listen_options({3: "admin"}, {"bind": ("fd://web",)})


def test_a_number_that_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="LISTEN_FDS must be a number"):
        systemd.passed_sockets({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "many"})


def test_sockets_that_are_not_there() -> None:
    with pytest.raises(ConfigError, match=r"LISTEN_FDS=99999 says that descriptor \d+ was passed"):
        systemd.passed_sockets({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "99999"})
