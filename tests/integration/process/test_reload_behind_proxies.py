"""WebSockets through proxies that keep connections to us open, while we reload under load."""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from subinterp_asgi import Supervisor

from ..load import Load
from ..wsclient import WSClient, handshake
from .proxies import DOCUMENTED, behind

pytestmark = pytest.mark.once

APP = "tests.integration.apps.pool:App"
RELOADS = 8


def open_and_echo(port: int) -> str:
    """Open a WebSocket and exchange one message; say what came of it."""
    try:
        with WSClient(("127.0.0.1", port)) as client:
            client.send(handshake())
            assert client.head().status == 101
            client.assert_echoes("first")
    except (AssertionError, OSError) as exc:
        return f"{type(exc).__name__}: {exc}"
    return "echoed"


class Openers:
    """Open WebSockets in some threads, one after the other, while the block lasts."""

    def __init__(self, port: int, threads: int) -> None:
        self.outcomes: Counter[str] = Counter()
        self._port = port
        self._ending = threading.Event()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(threads)]

    def _run(self) -> None:
        while not self._ending.is_set():
            self.outcomes[open_and_echo(self._port)] += 1

    def __enter__(self) -> Openers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._ending.set()
        for thread in self._threads:
            thread.join(30)
            assert not thread.is_alive(), "a client hangs"


@pytest.mark.parametrize("proxy", ["nginx", "apache2"])
def test_no_websocket_is_closed_before_its_first_message(proxy: str, tmp_path: Path) -> None:
    options: dict[str, Any] = {"port": 0, "workers": 2, "factory": True, "access_log": False}
    with (
        Supervisor(APP, **options) as server,
        behind(DOCUMENTED[proxy], tmp_path, server.addresses[0][1] or 0) as port,
        Load(("127.0.0.1", port), keep_alive=4) as load,
        Openers(port, 4) as openers,
    ):
        for _ in range(RELOADS):
            load.wait_for(100)
            server.reload(wait=False)
    assert set(openers.outcomes) == {"echoed"}, openers.outcomes
    assert load.failures == []
