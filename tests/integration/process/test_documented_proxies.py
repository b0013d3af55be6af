"""The settings of proxies that ``docs/operating/`` shows, with the real ones."""

from __future__ import annotations

import contextlib
import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import wait_until

from ..rawclient import TIMEOUT
from ..serving import read_body, respond, serving
from ..wsclient import WSClient, handshake
from .proxies import DOCUMENTED, behind, haproxy_statistics

pytestmark = pytest.mark.once

CLIENT = "127.0.0.2"  # another one than the proxy, which is believed


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"]})
    elif scope["path"] == "/refuse":
        await respond(send, b"no", 401)
    elif scope["path"] == "/events":
        fields = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": fields})
        await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass
    else:
        seen = {
            "client": scope["client"][0],
            "scheme": scope["scheme"],
            "host": dict(scope["headers"])[b"host"].decode(),
            "path": scope["raw_path"].decode(),
            "size": len(await read_body(receive)),
        }
        await respond(send, json.dumps(seen).encode())


@pytest.fixture(scope="module", params=DOCUMENTED.values(), ids=lambda proxy: proxy.program)
def front(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[int]:
    """The port of a proxy as it is documented."""
    folder = tmp_path_factory.mktemp("proxy")
    with (
        serving(app, health_path="/health") as served,
        behind(request.param, folder, served.address[1]) as port,
    ):
        yield port


@contextlib.contextmanager
def asked(
    port: int, path: str, body: bytes = b"", **fields: str
) -> Iterator[http.client.HTTPResponse]:
    client = http.client.HTTPConnection(
        "127.0.0.1", port, timeout=TIMEOUT, source_address=(CLIENT, 0)
    )
    with contextlib.closing(client):
        named = {name.replace("_", "-"): value for name, value in fields.items()}
        client.request("POST" if body else "GET", path, body or None, named)
        with client.getresponse() as response:
            yield response


def test_who_asks_for_what(front: int) -> None:
    """Also if the client says otherwise."""
    forged = {"X_Forwarded_For": "192.0.2.6", "X_Forwarded_Proto": "https"}
    with asked(front, "/a%2Fb?c=d", b"body", Host="shop.example", **forged) as response:
        assert json.loads(response.read()) == {
            "client": CLIENT,
            "scheme": "http",
            "host": "shop.example",
            "path": "/a%2Fb",
            "size": 4,
        }


def test_websockets(front: int) -> None:
    with WSClient(("127.0.0.1", front)) as client:
        client.send(handshake())
        assert client.head().status == 101
        client.assert_echoes("first")
        client.assert_echoes("second")


def test_events_come_at_once(front: int) -> None:
    with asked(front, "/events") as response:
        assert response.readline() == b"data: 1\n"  # of a stream that does not end


def test_refused_uploads(front: int, request: pytest.FixtureRequest) -> None:
    if any(name in request.node.name for name in ("caddy", "squid")):
        pytest.skip("it answers and closes, which a client that only sends never reads")
    for _ in range(5):
        with asked(front, "/refuse", bytes(8 << 20)) as response:
            assert response.status == 401


def test_haproxy_finds_it_healthy(tmp_path: Path) -> None:
    with (
        serving(app, health_path="/health") as served,
        behind(DOCUMENTED["haproxy"], tmp_path, served.address[1]),
    ):
        wait_until(lambda: "L7OK" in haproxy_statistics(tmp_path), "the check has passed")
