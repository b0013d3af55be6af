"""A live server: where it is, how it is spoken to, how it begins and ends."""

from __future__ import annotations

import asyncio
import http.client
import os
import socket
import sys
import threading
from typing import Any

import httpx
import pytest
import trio
from websockets.exceptions import InvalidHandshake

from subinterp_asgi import Supervisor
from subinterp_asgi.errors import (
    BindError,
    ConfigError,
    MissingLibraryError,
    StartupError,
    StateError,
)
from subinterp_asgi.testing import LiveServer, serve

APP = "tests.testing.observed:app"

pytestmark = pytest.mark.usefixtures("leaves_nothing")


def test_it_is_where_it_says() -> None:
    with LiveServer(APP) as server:
        assert server.url == f"http://{server.host}:{server.port}"
        assert server.ws_url == f"ws://{server.host}:{server.port}"
        assert server.host == "127.0.0.1"
        assert server.supervisor.url == server.url


def test_a_server_that_does_not_run_is_nowhere() -> None:
    server = LiveServer(APP)
    with pytest.raises(StateError, match="not started"):
        server.url  # noqa: B018
    with server, pytest.raises(StateError, match="started already"):
        server.start()
    with pytest.raises(StateError, match="not started"):
        server.get("/")
    server.stop()


def test_requests_by_the_standard_library() -> None:
    with serve(APP) as server:
        response = server.get("/", headers={"X-Test": "1"})
        assert (response.status, response.json()["requests"]) == (200, 1)
        assert response.headers["Server"]
        assert server.post("/body", b"12345").text == "5"
        assert server.request("PUT", "/body?query", json={"a": 1}).json() == len('{"a": 1}')
        last = server.received()[-1]
        assert (last.method, last.query, last.json()) == ("PUT", "query", {"a": 1})
        assert last.header("Content-Type") == "application/json"


def test_clients_of_httpx() -> None:
    with serve(APP) as server:
        with server.client(headers={"a": "b"}) as client:
            assert client.get("/").json()["requests"] == 1
        assert server.received()[0].header("A") == "b"

        async def main() -> int:
            async with server.async_client() as client:
                return (await client.get("/")).json()["requests"]

        assert asyncio.run(main()) == 2


def test_websockets_by_the_library() -> None:
    with serve(APP) as server:
        with server.websocket("/chat") as connection:
            connection.send("one")
            assert connection.recv() == "one"

        async def main() -> str | bytes:
            async with server.async_websocket("/chat") as connection:
                await connection.send("two")
                return await connection.recv()

        assert asyncio.run(main()) == "two"
        assert [(each.type, each.status) for each in server.received()] == [("websocket", 101)] * 2


@pytest.mark.parametrize(
    ("name", "method"),
    [("httpx", "client"), ("httpx", "async_client"), ("websockets", "websocket")],
)
def test_a_library_that_is_missing_is_named(
    name: str, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serve(APP) as server:
        for module in [each for each in sys.modules if each.partition(".")[0] == name]:
            monkeypatch.setitem(sys.modules, module, None)  # type: ignore[arg-type]
        with pytest.raises(MissingLibraryError, match=f"pip install {name}"):
            getattr(server, method)()


def test_under_asyncio() -> None:
    async def main() -> int:
        async with serve(APP) as server, server.async_client() as client:
            return (await client.get("/")).status_code

    assert asyncio.run(main()) == 200


def test_under_trio() -> None:
    async def main() -> int:
        async with serve(APP) as server, server.async_client() as client:
            return (await client.get("/")).status_code

    assert trio.run(main) == 200


def test_a_server_that_is_cancelled_while_it_starts_has_ended_under_trio() -> None:
    async def main() -> bool:
        with trio.CancelScope() as scope:
            scope.cancel()
            async with serve(APP):
                pass
        return scope.cancelled_caught

    assert trio.run(main)


def test_a_server_that_is_cancelled_before_its_start_has_begun(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its start goes on in a thread, and must not come to serve."""
    server = serve(APP)
    begun, may_go_on, make = threading.Event(), threading.Event(), server._make_supervisor

    def make_late() -> Supervisor:
        begun.set()
        may_go_on.wait(10)
        return make()

    monkeypatch.setattr(server, "_make_supervisor", make_late)

    async def main() -> None:
        entering = asyncio.create_task(server.__aenter__())
        await asyncio.to_thread(begun.wait, 10)
        entering.cancel()
        with pytest.raises(asyncio.CancelledError):
            await entering

    asyncio.run(main())
    may_go_on.set()  # (that nothing is left the fixture finds)


def test_a_server_in_a_scope_that_is_cancelled_ends_under_trio() -> None:
    async def main() -> str:
        with trio.CancelScope() as scope:
            async with serve(APP) as server:
                url = server.url
                scope.cancel()
                await trio.sleep_forever()
        return url

    url = trio.run(main)
    with pytest.raises(httpx.ConnectError):
        httpx.get(url)


def test_an_application_object_is_served_in_threads() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        seen.append(scope["path"])
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})

    seen: list[str] = []
    with serve(app, isolation="thread", lifespan="off") as server:
        assert server.get("/here").status == 204
        assert [each.path for each in server.received()] == ["/here"] == seen
    with pytest.raises(ConfigError, match="import path"):
        LiveServer(app)


def test_environment_and_state_are_the_servers_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OBSERVED", "of the process")
    with serve(APP) as server:
        assert server.get("/").json()["env"] == "of the process"
    with serve(APP, env={"OBSERVED": "of the server"}, state={"a": [1]}) as server:
        answer = server.get("/").json()
        assert (answer["env"], answer["state"]) == ("of the server", {"a": [1]})
        assert os.environ["OBSERVED"] == "of the process"
        with serve(APP, env={"OBSERVED": None}) as other:
            assert other.get("/").json()["env"] is None


def test_the_environment_of_threads_is_that_of_the_process_and_given_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OBSERVED", "before")
    env = {"OBSERVED": None, "OBSERVED_TOO": "x"}
    with serve(APP, isolation="thread", env=env) as server:
        assert server.get("/").json()["env"] is None
        assert os.environ["OBSERVED_TOO"] == "x"
    assert os.environ["OBSERVED"] == "before"
    assert "OBSERVED_TOO" not in os.environ


def test_an_application_that_does_not_start_is_an_error_that_names_it() -> None:
    with pytest.raises(StartupError, match=r"no module named 'tests\.testing\.missing'"):
        LiveServer("tests.testing.missing:app").start()


def test_a_port_that_is_taken_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(BindError, match=str(port)):
            LiveServer(APP, port=port).start()


def test_several_workers_share_the_port() -> None:
    with serve(APP, workers=2) as server:
        assert len(server.supervisor.workers) == 2
        assert server.call("tests.testing.observed:add", 1, worker="all") == [1, 1]
        assert server.get("/").status == 200


def test_where_to_listen_may_be_said_as_for_any_server(tmp_path: Any) -> None:
    with serve(APP, uds=str(tmp_path / "socket")) as server:
        assert server.host == str(tmp_path / "socket")
        with pytest.raises(StateError, match="no port"):
            server.port  # noqa: B018
        server.fresh()
        assert server.host == str(tmp_path / "socket")


def test_requests_after_the_end_are_refused() -> None:
    with serve(APP) as server:
        port = server.port
    with pytest.raises(ConnectionRefusedError):
        http.client.HTTPConnection("127.0.0.1", port).connect()


def test_a_websocket_that_is_refused() -> None:
    with serve("examples.bare:app", allow_errors=True) as server:
        with pytest.raises(InvalidHandshake):
            server.websocket("/")
        assert [each.status for each in server.received()] == [None]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"env": ["A"]}, r"env: must be a dict, not \['A'\]"),
        ({"env": {"A": 1}}, "env: 'A' must be a string or None, not 1"),
        ({"state": "a"}, "state: must be a dict, not 'a'"),
        ({"fresh": "module"}, "fresh: must be 'interpreter' or 'modules', not 'module'"),
        ({"allow_errors": 5}, "allow_errors: must be classes of exceptions, or their names, not 5"),
        ({"allow_errors": [ValueError("x")]}, "allow_errors: must be classes of exceptions, or th"),
    ],
)
def test_arguments_that_can_not_be_meant(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        LiveServer(APP, **arguments)
