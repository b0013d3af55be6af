"""The end of ``drain_delay``: who has connected by then is answered, and later nobody connects."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from subinterp_asgi import Supervisor
from tests.support import wait_until

from ...rawclient import request
from ...supervising import Servers, both, connect
from ...worker.health import HEALTH, LONG

POST = request(b"POST", b"/upload", b"Content-Length: 4", b"Connection: close") + b"body"
STOPS = 3
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nearly nobody is lost")


class Connecting:
    """Clients that connect, post and leave, until nobody listens any more.

    Attributes:
        answered: How many posts were answered.
        lost: What became of others, although they had connected.
    """

    def __init__(self, server: Supervisor, count: int) -> None:
        self._server = server
        self.answered = 0
        self.lost: list[str] = []
        self._threads = [
            threading.Thread(target=self._run, name="test-client", daemon=True)
            for _ in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def _run(self) -> None:
        while True:
            try:
                client = connect(self._server)
            except OSError:
                return
            with client:
                try:
                    client.send(POST)
                    assert client.response().body == b"4"
                    self.answered += 1
                except Exception as exc:
                    self.lost.append(repr(exc))

    def join(self) -> None:
        for thread in self._threads:
            thread.join(30)
            assert not thread.is_alive(), "a client hangs"


@both
@pytest.mark.parametrize("where", ["tcp", "unix"])
def test_who_connects_while_it_ends(
    servers: Servers, tmp_path: Path, isolation: str, where: str
) -> None:
    options: dict[str, Any] = {"uds": f"{tmp_path}/socket"} if where == "unix" else {}
    options |= {"workers": 3, "drain_delay": 0.2, "timeout_linger": LONG, **HEALTH}
    for _ in range(STOPS):
        stop_under_load(servers.start(isolation=isolation, **options))


def stop_under_load(server: Supervisor) -> None:
    clients = Connecting(server, 6)
    wait_until(lambda: clients.answered)
    server.stop()
    clients.join()
    assert clients.lost == []
