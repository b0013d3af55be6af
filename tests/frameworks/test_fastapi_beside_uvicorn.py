"""A FastAPI application with a bit of everything answers from interpreters as under uvicorn."""

from __future__ import annotations

import ctypes  # noqa: F401  (from its first use on, libffi keeps a descriptor)
import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import websockets.exceptions
import websockets.sync.client

from subinterp_asgi import Supervisor
from subinterp_asgi.supervisor.events import WorkerDied
from subinterp_asgi.supervisor.states import WorkerState
from subinterp_asgi.testing import faults

from ..support import nothing_left, wait_until
from .apps.fastapi_shop.exchanges import exchanges
from .beside_uvicorn import ask, client_of_each, new_client, uvicorn

for _name in ("fastapi", "pydantic_settings", "sqlmodel", "orjson", "jwt", "cryptography"):
    pytest.importorskip(_name)

APP = "tests.frameworks.apps.fastapi_shop.app:app"
SETTINGS = {"SHOP_TITLE": "Läden", "SHOP_LIMITS__WARES": "7", "SHOP_DEBUG_LEVEL": "2"}


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What uvicorn answers."""
    directory = tmp_path_factory.mktemp("uvicorn")
    environment = {**SETTINGS, "TEST_DATABASE": str(directory / "db.sqlite3")}
    with uvicorn(APP, directory, environment) as url, new_client(url, keep_alive=False) as client:
        return {"requests": ask(client, exchanges()), "websocket": talk(url)}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Supervisor]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TEST_DATABASE", str(tmp_path_factory.mktemp("served") / "db.sqlite3"))
        for name, value in SETTINGS.items():
            patch.setenv(name, value)
        supervisor = Supervisor(
            APP,
            workers=2,
            port=0,
            access_log=False,
            extensions="private",
            restart_delay=0.01,
            timeout_keep_alive=600,  # a client waits while all is asked by another
        )
        with nothing_left(), supervisor as server:
            yield server


def talk(url: str) -> list[Any]:
    """Return what a WebSocket of the application says, closed by it and denied."""
    said: list[Any] = []
    address = url.replace("http://", "ws://") + "/ws/3?token="
    with websockets.sync.client.connect(
        address + "open", subprotocols=[websockets.Subprotocol("chat")], proxy=None
    ) as client:
        assert client.response is not None
        said += [client.subprotocol, client.response.headers["x-room"]]
        for message in ({"a": ["grüezi", 1]}, "x" * 100_000, "close"):
            client.send(json.dumps(message))
            if message != "close":
                said += [client.recv(20), client.recv(20)]
        with pytest.raises(websockets.exceptions.ConnectionClosed) as closed:
            client.recv(20)
        said.append(closed.value.rcvd)
    for wrong in (address + "shut", address.replace("/3", "/three") + "open"):
        with pytest.raises(websockets.exceptions.InvalidStatus) as denied:
            websockets.sync.client.connect(wrong, proxy=None)
        said.append(denied.value.response.status_code)
    return said


def check(server: Supervisor, expected: dict[str, Any]) -> set[str]:
    """Ask each worker everything; return who they were."""
    with client_of_each(server.url, "/sync") as clients:
        for worker, client in clients.items():
            for found, wanted in zip(
                ask(client, exchanges(), worker), expected["requests"], strict=True
            ):
                assert found == wanted
    assert talk(server.url) == expected["websocket"]
    return {*clients}


def all_serve(server: Supervisor) -> bool:
    return [worker.state for worker in server.workers] == [WorkerState.SERVING] * 2


def test_the_requests_are_of_all_kinds(expected: dict[str, Any]) -> None:
    (document,) = (body for name, *_, body in expected["requests"] if name == "GET /openapi.json")
    operations = sum(map(len, document["paths"].values()))
    assert operations >= 40
    statuses = Counter(status for _, status, *_ in expected["requests"])
    assert {*statuses} >= {200, 201, 202, 204, 206, 302, 307, 400, 401, 403, 404, 405, 409, 410}
    assert {*statuses} >= {418, 422, 500}
    assert len(expected["requests"]) >= 90


def test_answers_through_a_reload_and_a_crash(server: Supervisor, expected: dict[str, Any]) -> None:
    seen = [check(server, expected)]
    assert "0" not in seen[0], "the main interpreter served"
    server.reload()
    seen.append(check(server, expected))
    happened = server.events()
    faults.crash_worker(server, 0)
    while not isinstance(happened.get(20), WorkerDied):
        pass
    happened.close()
    wait_until(lambda: all_serve(server), "the replacement to serve")
    seen.append(check(server, expected))
    assert len(seen[0] | seen[1]) == 4
    assert len(seen[2] & seen[1]) == 1, "the worker that did not crash went on"
