"""``SIGUSR2``: a new process takes the place of the old one, and nobody notices."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from subinterp_asgi import Supervisor
from subinterp_asgi.errors import StateError, UpgradeError
from subinterp_asgi.supervisor.process import upgrade

from ...support import ROOT, get, wait_until
from ..load import Load
from ..pki import Pki, TLSClient
from ..rawclient import RawClient
from ..wsclient import WSClient, handshake
from .test_reload_behind_proxies import Openers
from .upgrading import Service

APP = ("tests.integration.apps.pool:App", "--factory", "--no-access-log")
UPGRADES = 20 if os.environ.get("FIELD") else 3
MIXED = {"keep_alive": 4, "fresh": 2, "upload": 1, "stream": 1}


def serve(*arguments: str) -> Service:
    return Service(*APP, *arguments, cwd=ROOT)


def port_of(service: Service) -> int:
    return int(service.url.rpartition(":")[2])


def test_under_load() -> None:
    """No request is lost, and no WebSocket is closed before its first message."""
    with serve("--port", "0", "--workers", "2") as service:
        port = port_of(service)
        with Load(("127.0.0.1", port), **MIXED) as load, Openers(port, 2) as openers:
            for _ in range(UPGRADES):
                load.wait_for(100)
                service.upgrade()
            load.wait_for(100)
        service.stop()
    assert load.failures == []
    assert set(openers.outcomes) == {"echoed"}, openers.outcomes


def test_unix_socket_under_load(tmp_path: Path) -> None:
    """Its file stays, and is removed by the last process."""
    path = tmp_path / "socket"
    with serve("--uds", str(path)) as service:
        service.wait_for("Listening on unix:")
        wait_until(path.exists)
        inode = path.stat().st_ino
        service.wait_for(r"1 worker ")
        with Load(str(path), **MIXED) as load:
            for _ in range(UPGRADES):
                load.wait_for(100)
                service.upgrade()
            load.wait_for(100)
        assert path.stat().st_ino == inode
        service.stop()
    assert load.failures == []
    assert not path.exists()


def test_tls_under_load(tmp_path: Path) -> None:
    """The new process reads certificates anew."""
    pki = Pki(tmp_path)
    with serve("--port", "0", "--ssl-certfile", pki.server) as service:
        service.wait_for(r"1 worker ")
        port = int(service.wait_for(r"Listening on https://127.0.0.1:(\d+)")[1])
        connect: Callable[[], RawClient] = partial(TLSClient, ("127.0.0.1", port), pki.client())
        with Load("", connect, keep_alive=3, fresh=1) as load:
            for _ in range(UPGRADES):
                load.wait_for(50)
                os.replace(pki.issue("renewed.pem"), pki.server)
                service.upgrade()
            load.wait_for(50)
        service.stop()
    assert load.failures == []


def test_peers_of_websockets_are_told_1012() -> None:
    with serve("--port", "0") as service, WSClient(("127.0.0.1", port_of(service))) as client:
        client.send(handshake())
        assert client.head().status == 101
        client.assert_echoes("before")
        os.kill(service.main, signal.SIGUSR2)
        client.expect_close(1012)
        service.upgrades += 1
        service.wait_for_end(service.pid)
        service.stop()


@pytest.mark.parametrize("change", [signal.SIGTTIN, signal.SIGTTOU], ids=lambda x: x.name)
def test_another_number_of_workers(change: signal.Signals) -> None:
    """What is queued on sockets of workers that the new process does not have is served, too."""
    with serve("--port", "0", "--workers", "2") as service:
        port = port_of(service)
        os.kill(service.main, change)
        service.wait_for(rf"{change.name}: . workers? instead of 2")
        with Load(("127.0.0.1", port), fresh=4) as load:
            for _ in range(2):
                load.wait_for(100)
                service.upgrade()
            load.wait_for(100)
        service.stop()
    assert load.failures == []


def test_a_new_process_that_can_not_start(tmp_path: Path) -> None:
    """The old one goes on as if nothing had been."""
    app = tmp_path / "upgraded.py"
    app.write_text("from tests.integration.apps.pool import App\n")
    arguments = ("upgraded:App", "--factory", "--no-access-log", "--port", "0")
    with Service(*arguments, cwd=tmp_path) as service:
        port = port_of(service)
        with Load(("127.0.0.1", port), keep_alive=2, fresh=2) as load:
            for number in range(1, 3):
                app.write_text("raise SystemError('not today')\n")
                os.kill(service.main, signal.SIGUSR2)
                service.wait_for_count("Error: the new process ended with status 3", number)
                load.wait_for(50)
            app.write_text("from tests.integration.apps.pool import App\n")
            service.upgrade()
            load.wait_for(50)
        service.stop()
    assert load.failures == []


def test_told_to_end_meanwhile(tmp_path: Path) -> None:
    """Both do, however far the new one is."""
    gate = tmp_path / "gate"
    app = tmp_path / "waits.py"
    app.write_text("from tests.integration.apps.pool import App\n")
    with Service("waits:App", "--factory", "--port", "0", cwd=tmp_path) as service:
        url = service.url
        app.write_text(f"import os, time\nopen({str(gate)!r}, 'w').close()\ntime.sleep(60)\n")
        os.kill(service.main, signal.SIGUSR2)
        wait_until(gate.exists)
        service.stop()
        assert service.main == service.pid
    with pytest.raises(ConnectionRefusedError):
        get(url)


def test_what_it_is_told_meanwhile_is_done_by_the_new_one(tmp_path: Path) -> None:
    begun, gate = tmp_path / "begun", tmp_path / "gate"
    app = tmp_path / "gated.py"
    app.write_text("from tests.integration.apps.pool import App\n")
    with Service("gated:App", "--factory", "--port", "0", cwd=tmp_path) as service:
        assert get(service.url).status == 200
        app.write_text(
            "import os, time\n"
            f"open({str(begun)!r}, 'w').close()\n"
            f"while not os.path.exists({str(gate)!r}): time.sleep(0.01)\n"
            "from tests.integration.apps.pool import App\n"
        )
        os.kill(service.main, signal.SIGUSR2)
        wait_until(begun.exists)
        os.kill(service.main, signal.SIGHUP)
        gate.touch()
        service.wait_for("Generation 2 serves")
        service.upgrades += 1
        service.wait_for_end(service.pid)
        service.stop()
        assert "this one ends" in service.stderr.partition("SIGHUP: reloading")[0]


def test_a_link_that_was_switched(tmp_path: Path) -> None:
    """The new process starts where the link leads by then, as with other servers."""
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "released.py").write_text(
            f"from tests.integration.apps.pool import App as Pool\nApp = lambda: Pool({name!r})\n"
        )
    link = tmp_path / "current"
    link.symlink_to("old")
    with Service(
        *("released:App", "--factory", "--port", "0"), cwd=link, environment={"PWD": str(link)}
    ) as service:
        url = service.url
        assert get(url).headers["worker"] == "old"
        (tmp_path / "next").symlink_to("new")
        (tmp_path / "next").rename(link)
        service.upgrade()
        assert get(url).headers["worker"] == "new"
        service.stop()


def test_hup_upgrades_if_it_shall() -> None:
    with serve("--port", "0", "--reload-strategy", "process") as service:
        url = service.url
        service.upgrade(signal.SIGHUP)
        assert get(url).status == 200
        service.stop()


def test_process_1(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getpid", lambda: 1)
    with pytest.raises(UpgradeError, match="its container ends"):
        upgrade.Successor("[]", (), {}, ".")


def test_a_program_that_is_gone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(upgrade.sys, "executable", str(tmp_path / "python"))  # type: ignore[attr-defined]
    with pytest.raises(UpgradeError, match="could not be started"):
        upgrade.Successor("[]", (), {}, ".")


def test_a_host_does_it_by_calls() -> None:
    """Within one process, which knows both supervisors."""
    app = "tests.integration.apps.pool:App"
    options = {"factory": True, "isolation": "interpreter", "access_log": False}
    old = Supervisor(app, port=0, workers=2, **options)
    with pytest.raises(StateError):
        old.hand_over_listeners()
    old.start()
    told, descriptors = old.hand_over_listeners()
    assert len(descriptors) == 2
    handed = json.loads(told)
    for listener in handed[0]:
        listener[0] = os.dup(listener[0])  # as another process has descriptors of its own
    told = json.dumps(handed)
    with Supervisor(app, inherited=told, **options) as new, Load(new.addresses[0], fresh=2) as load:
        assert new.addresses == old.addresses
        load.wait_for(20)
        new.take_over()
        old.hand_over()
        load.wait_for(20)
    assert load.failures == []
