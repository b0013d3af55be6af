"""Addresses have one name each, in whatever tells of them, and all are served."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path
from urllib.parse import quote

import pytest

from subinterp_asgi import Supervisor
from tests.support import get, has_ipv6

from ..command import Command

APP = "tests.integration.apps.http:app"


def tells_server(url: str) -> object:
    """What ``scope["server"]`` is for who connects there."""
    return json.loads(get(url, "/scope").body)["server"]


@pytest.mark.skipif(not has_ipv6(), reason="no IPv6 on this machine")
@pytest.mark.parametrize("isolation", ["interpreter", "thread"])
def test_localhost(isolation: str) -> None:
    """Both addresses, at one port, whatever becomes of the workers."""
    options = {"host": "localhost", "port": 0, "workers": 2, "lifespan": "off", "access_log": False}
    with Supervisor(APP, isolation=isolation, **options) as server:
        (first, port), (second, same) = server.addresses
        assert (first, second) == ("127.0.0.1", "::1")
        assert port == same
        assert server.url == f"http://127.0.0.1:{port}"

        def check() -> None:
            for _ in range(4):
                for host in ("127.0.0.1", "::1"):
                    where = f"[{host}]" if ":" in host else host
                    assert tells_server(f"http://{where}:{port}") == [host, port]

        check()
        server.scale(4)
        check()
        if isolation == "interpreter":
            server.reload()
            check()
        server.scale(1)
        check()


@pytest.mark.skipif(not has_ipv6(), reason="no IPv6 on this machine")
def test_localhost_by_command() -> None:
    with Command("plain:app", "--host", "localhost", "--port", "0") as command:
        command.wait_for("1 worker ")
        found = re.findall(r"^Listening on (http://(.+):(\d+))$", command.stderr, re.MULTILINE)
        assert [host for _, host, _ in found] == ["127.0.0.1", "[::1]"]
        assert len({port for _, _, port in found}) == 1
        for url, _, _ in found:
            assert get(url).status == 200
        command.send(signal.SIGTERM)
        assert command.wait() == 0


@pytest.mark.parametrize("first", ["@", "\0"])
@pytest.mark.parametrize("isolation", ["interpreter", "thread"])
def test_an_abstract_unix_socket(isolation: str, first: str, tmp_path: Path) -> None:
    name = f"@{tmp_path}/socket"
    options = {"uds": first + name[1:], "workers": 2, "lifespan": "off", "access_log": False}
    with Supervisor(APP, isolation=isolation, **options) as server:
        assert server.addresses == ((name, None),)
        assert server.url == f"http+unix://{quote(name, safe='')}"
        assert tells_server(server.url) == [name, None]


def test_an_abstract_unix_socket_by_command(tmp_path: Path) -> None:
    name = f"@{tmp_path}/socket"
    with Command("plain:app", "--uds", name) as command:
        command.wait_for(re.escape(f"Listening on unix:{name}") + "$")
        assert get(f"http+unix://{quote(name, safe='')}").status == 200
        with Command("plain:app", "--uds", name) as second:
            assert second.wait() == 3
            assert f"cannot listen on unix:{name}: " in second.stderr
        command.send(signal.SIGTERM)
        assert command.wait() == 0
