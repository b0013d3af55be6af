"""``bootstrap`` driven by hand, as a framework may do it: no supervisor is involved anywhere."""

from __future__ import annotations

import json
import os
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from subinterp_asgi import Config
from subinterp_asgi.control.launch import Runtime
from subinterp_asgi.control.wakeup import Wakeup
from tests.support import get, wait_until

from .driving import APP, CALL, Drive, OwnBackend, in_flight, refuses

pytestmark = pytest.mark.usefixtures("leaves_nothing")


CALL_BY_THE_PACKAGES_NAME = CALL.replace("subinterp_asgi.bootstrap", "subinterp_asgi")


class PlainBackend:
    """The standard library's module and nothing else: what a framework would write."""

    @staticmethod
    def create_queue(size: int) -> Any:
        from concurrent import interpreters as stdlib

        return stdlib.create_queue(size)

    def __init__(self, names: dict[str, Any]) -> None:
        from concurrent import interpreters as stdlib

        self._interpreter = stdlib.create()
        self._interpreter.prepare_main(names)

    def run(self, source: str) -> None:
        self._interpreter.exec(source)

    def close(self) -> None:
        self._interpreter.close()


BACKENDS = [
    OwnBackend,
    pytest.param(
        PlainBackend,
        marks=pytest.mark.skipif(sys.version_info < (3, 14), reason="concurrent.interpreters"),
    ),
]


# --- a whole life


@pytest.mark.parametrize("backend", BACKENDS)
def test_serve_and_shut_down(backend: Any) -> None:
    drive = Drive(backend)
    drive.wait_for("serving")
    assert drive.collect() == ["started", "serving"]
    assert get(drive.url).text == "ok"
    drive.tell("shutdown")
    assert drive.finish() == ["started", "serving", "draining", "stopped"]


@pytest.mark.parametrize("backend", BACKENDS)
def test_drain_then_shut_down(backend: Any) -> None:
    drive = Drive(backend)
    drive.wait_for("serving")
    drive.tell("drain")
    drive.wait_for("idle")
    drive.tell("shutdown")
    assert drive.finish() == ["started", "serving", "draining", "idle", "stopped"]


def test_drain_while_a_request_is_in_flight(tmp_path: Path) -> None:
    drive = Drive()
    drive.wait_for("serving")
    pending = in_flight(drive, "until", tmp_path)
    drive.tell("drain")
    drive.wait_for("draining")
    wait_until(lambda: refuses(drive.url), "the listener to be left alone")
    assert drive.collect() == ["started", "serving", "draining"]
    (tmp_path / "go").touch()
    answer = pending.result()
    assert not isinstance(answer, Exception)
    assert answer.text == "done"
    assert answer.headers["connection"] == "close"
    drive.wait_for("idle")
    drive.tell("shutdown")
    assert drive.finish() == ["started", "serving", "draining", "idle", "stopped"]


def test_a_drain_that_comes_before_it_serves_is_not_forgotten() -> None:
    drive = Drive()
    drive.tell("drain")  # most likely before the worker has even begun
    drive.wait_for("serving")
    drive.wait_for("idle")
    wait_until(lambda: refuses(drive.url), "the listener to be left alone")
    drive.tell("shutdown")
    assert drive.finish()[-1] == "stopped"


def test_shutdown_waits_for_what_is_in_flight(tmp_path: Path) -> None:
    drive = Drive()
    drive.wait_for("serving")
    pending = in_flight(drive, "until", tmp_path)
    drive.tell("shutdown")
    drive.wait_for("draining")
    (tmp_path / "go").touch()
    answer = pending.result()
    assert not isinstance(answer, Exception)
    assert answer.text == "done"
    assert drive.finish() == ["started", "serving", "draining", "stopped"]


def test_a_second_shutdown_breaks_off_what_is_in_flight(tmp_path: Path) -> None:
    drive = Drive()
    drive.wait_for("serving")
    pending = in_flight(drive, "for-ever", tmp_path)
    drive.tell("shutdown")
    drive.wait_for("draining")
    drive.tell("shutdown")
    assert drive.finish()[-1] == "stopped"
    answer = pending.result()
    assert isinstance(answer, Exception) or answer.status in (500, 503)


def test_shutdown_before_it_serves() -> None:
    drive = Drive()
    drive.tell("shutdown")
    statuses = drive.finish()
    assert statuses[0] == "started"
    assert statuses[-1] == "stopped"


def test_unknown_commands_are_passed_over() -> None:
    drive = Drive()
    drive.wait_for("serving")
    drive.tell("dance")
    assert get(drive.url).text == "ok"
    drive.tell("shutdown")
    assert drive.finish()[-1] == "stopped"


def test_by_the_name_that_the_package_exports() -> None:
    drive = Drive(source=CALL_BY_THE_PACKAGES_NAME)
    drive.wait_for("serving")
    drive.tell("shutdown")
    assert drive.finish()[-1] == "stopped"


def test_a_unix_socket(tmp_path: Path) -> None:
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(tmp_path / "socket"))
    sock.listen()
    drive = Drive(sock=sock)
    drive.wait_for("serving")
    assert get(drive.url).text == "ok"
    drive.tell("shutdown")
    assert drive.finish()[-1] == "stopped"


def test_an_ipv6_socket() -> None:
    try:
        sock = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        pytest.skip("no IPv6 on this machine")
    drive = Drive(sock=sock)
    drive.wait_for("serving")
    assert get(drive.url).text == "ok"
    drive.tell("shutdown")
    assert drive.finish()[-1] == "stopped"


def test_the_state_reaches_requests() -> None:
    drive = Drive(state='{"colour": "blue"}')
    drive.wait_for("serving")
    assert json.loads(get(drive.url, "/state").body) == {"colour": "blue"}
    drive.tell("shutdown")
    drive.finish()


def test_a_factory_by_option_and_by_parentheses() -> None:
    factory_path = APP.replace(":app", ":create_app")
    for app, factory in ((factory_path, True), (f"{factory_path}()", False)):
        drive = Drive(app=app, config=Config(factory=factory, access_log=False))
        drive.wait_for("serving")
        assert get(drive.url).text == "ok"
        drive.tell("shutdown")
        assert drive.finish()[-1] == "stopped"


# --- what travels within config_json


def test_further_listeners_are_served_and_owned_too() -> None:
    second = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{second.getsockname()[1]}"
    fd = second.detach()
    kind = os.readlink(f"/proc/self/fd/{fd}")
    runtime = Runtime(listeners=((fd, int(socket.AF_INET)),))
    drive = Drive(config_json=runtime.join(Config(access_log=False)))
    drive.sockets.add(kind)
    drive.wait_for("serving")
    assert get(drive.url).text == get(url).text == "ok"
    drive.tell("shutdown")
    assert drive.finish()[-1] == "stopped"


def test_further_listeners_are_closed_if_the_options_are_bad() -> None:
    second = socket.create_server(("127.0.0.1", 0))
    fd = second.detach()
    kind = os.readlink(f"/proc/self/fd/{fd}")
    values = json.loads(Runtime(listeners=((fd, int(socket.AF_INET)),)).join(Config()))
    values["port"] = "eighty"
    drive = Drive(config_json=json.dumps(values))
    drive.sockets.add(kind)
    assert "port: must be an integer" in drive.error()


def test_doorbells_of_a_frameworks_own() -> None:
    commands, statuses = Wakeup(), Wakeup()
    runtime = Runtime(command_wakeup=commands.numbers, status_wakeup=statuses.numbers)
    drive = Drive(config_json=runtime.join(Config(access_log=False)))
    seen: list[str] = []
    while seen[-1:] != ["serving"]:
        statuses.wait()
        statuses.clear()
        seen = drive.collect()
    drive.tell("shutdown")
    commands.set()
    assert drive.finish()[-1] == "stopped"
    for bell in (commands, statuses):
        os.fstat(bell.fileno())  # they were borrowed, and are open
        bell.close()
