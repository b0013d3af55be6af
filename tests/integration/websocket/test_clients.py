"""Clients that others have written, and a Starlette application in two interpreters."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import httpx_ws
import pytest
import websockets.asyncio.client
import websockets.exceptions
import websockets.sync.client

from subinterp_asgi import Supervisor

from ...support import nothing_left, wait_until
from ..pki import Pki

pytest.importorskip("starlette")

APP = "tests.integration.apps.chat:app"
MEGABYTE = os.urandom(1 << 20)
TEXT = "grüße, 世界 😀 " * 60_000  # more than a megabyte
MESSAGES: list[str | bytes] = ["hello", "", b"", "grüße 😀", bytes(range(256)), MEGABYTE, TEXT]
OPTIONS: dict[str, Any] = {"workers": 2, "port": 0, "access_log": False, "log_level": "critical"}


@pytest.fixture(scope="module")
def server() -> Iterator[Supervisor]:
    with nothing_left(), Supervisor(APP, **OPTIONS) as server:
        yield server


@pytest.fixture
def url(server: Supervisor) -> str:
    return server.url.replace("http://", "ws://")


class Journal:
    """How WebSockets ended, as the application saw it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._path.touch()
        self.target = f"/talk?journal={path}"

    def wait(self) -> str:
        wait_until(self._path.read_text)
        return self._path.read_text().rstrip("\n")


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal")


# --- websockets


@pytest.mark.parametrize("compression", ["deflate", None])
def test_websockets_sync(url: str, journal: Journal, compression: str | None) -> None:
    with websockets.sync.client.connect(
        url + journal.target,
        subprotocols=[websockets.Subprotocol("talk"), websockets.Subprotocol("chat")],
        compression=compression,
        max_size=None,
        proxy=None,
    ) as client:
        assert client.subprotocol == "chat"
        assert bool(client.protocol.extensions) == (compression is not None)
        for message in MESSAGES:
            client.send(message)
            assert client.recv(20) == message
        client.send([TEXT[:7], "", TEXT[7:100_000], TEXT[100_000:]])  # in fragments
        assert client.recv(20) == TEXT
        assert client.ping(b"there?").wait(20)
        client.close(4000, "we are done")
        assert client.close_code == 4000
        assert client.close_reason == ""
    assert journal.wait() == "4000 we are done"


def test_websockets_is_told_why(url: str, journal: Journal) -> None:
    with websockets.sync.client.connect(url + journal.target, proxy=None) as client:
        client.send("close 4321 grüße")
        with pytest.raises(websockets.exceptions.ConnectionClosedError) as caught:
            client.recv(20)
        assert caught.value.rcvd is not None
        assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (4321, "grüße")
        assert caught.value.rcvd_then_sent
    assert journal.wait() == "4321 grüße"  # which this client repeats
    with websockets.sync.client.connect(url + "/talk", proxy=None) as client:
        client.send("raise")
        with pytest.raises(websockets.exceptions.ConnectionClosedError) as caught:
            client.recv(20)
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1011


def test_websockets_is_denied(url: str) -> None:
    for path, status, body in ("/deny", 403, None), ("/refuse", 401, b'{"error":"no ticket"}'):
        with pytest.raises(websockets.exceptions.InvalidStatus) as caught:
            websockets.sync.client.connect(url + path, proxy=None)
        assert caught.value.response.status_code == status
        assert body in (None, caught.value.response.body)


def test_websockets_from_many_tasks(url: str) -> None:
    """Both workers have their share, and nobody gets what is another's."""

    async def talk(number: int) -> bytes:
        async with websockets.asyncio.client.connect(
            url + "/talk", proxy=None, max_size=None, ping_interval=0.05
        ) as client:
            for count in range(20):
                await client.send(f"{number} {count} " * (count * 50))
            for count in range(20):
                assert await client.recv() == f"{number} {count} " * (count * 50)
            await client.send(MEGABYTE)
            assert await client.recv() == MEGABYTE
            assert client.response is not None
            return client.response.headers["x-interpreter"].encode()

    async def main() -> set[bytes]:
        async with asyncio.timeout(60):
            return set(await asyncio.gather(*map(talk, range(16))))

    assert len(asyncio.run(main())) == 2


def test_websockets_over_tls(tmp_path: Path) -> None:
    """(Not with threads: they read and write at once, which TLS of CPython 3.13.0 can't take.)"""
    pki = Pki(tmp_path)

    async def talk(url: str) -> None:
        async with (
            asyncio.timeout(60),
            websockets.asyncio.client.connect(
                url.replace("https://", "wss://") + "/talk",
                ssl=pki.client(),
                max_size=None,
                proxy=None,
            ) as client,
        ):
            for message in MESSAGES:
                await client.send(message)
                assert await client.recv() == message

    with nothing_left(), Supervisor(APP, ssl_certfile=pki.server, **OPTIONS) as server:
        asyncio.run(talk(server.url))


# --- aiohttp


@pytest.mark.parametrize("compress", [15, 0])
def test_aiohttp(server: Supervisor, journal: Journal, compress: int) -> None:
    async def main() -> None:
        async with (
            asyncio.timeout(60),
            aiohttp.ClientSession(server.url) as session,
            session.ws_connect(
                journal.target, protocols=["chat"], compress=compress, max_msg_size=0
            ) as client,
        ):
            assert client.protocol == "chat"
            assert bool(client.compress) == bool(compress)
            for message in MESSAGES:
                if isinstance(message, str):
                    await client.send_str(message)
                    assert await client.receive_str() == message
                else:
                    await client.send_bytes(message)
                    assert await client.receive_bytes() == message
            await client.ping(b"there?")
            await client.send_str("close 4002 your turn")
            end = await client.receive()
            assert (end.type, end.data, end.extra) == (
                aiohttp.WSMsgType.CLOSE,
                4002,
                "your turn",
            )

    asyncio.run(main())
    assert journal.wait() == "4002 your turn"  # though aiohttp answers 1000


def test_aiohttp_closes_and_is_denied(server: Supervisor, journal: Journal) -> None:
    async def main() -> None:
        async with asyncio.timeout(60), aiohttp.ClientSession(server.url) as session:
            async with session.ws_connect(journal.target) as client:
                await client.close(code=4003, message="grüße".encode())
                assert client.close_code == 4003
            with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
                await session.ws_connect("/deny")
            assert caught.value.status == 403
            # A session goes on over the same pool of connections.
            async with session.get("/where") as answer:
                assert (await answer.json())["interpreter"] > 0

    asyncio.run(main())
    assert journal.wait() == "4003 grüße"


# --- httpx-ws, which speaks by way of wsproto


@pytest.fixture
def client(server: Supervisor) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, verify=False, trust_env=False, timeout=20) as client:
        yield client


def test_httpx_ws(client: httpx.Client, journal: Journal) -> None:
    with httpx_ws.connect_ws(
        journal.target, client, subprotocols=["chat"], max_message_size_bytes=1 << 24
    ) as session:
        assert session.subprotocol == "chat"
        for message in MESSAGES:
            if isinstance(message, str):
                session.send_text(message)
                assert session.receive_text(20) == message
            else:
                session.send_bytes(message)
                assert session.receive_bytes(20) == message
        assert session.ping(b"there?").wait(20)
        session.close(4004, "we are done")
    assert journal.wait() == "4004 we are done"


def test_httpx_ws_is_told_why(client: httpx.Client) -> None:
    with httpx_ws.connect_ws("/talk", client) as session:
        session.send_text("close 4321 grüße")
        with pytest.raises(httpx_ws.WebSocketDisconnect) as caught:
            session.receive_text(20)
    assert (caught.value.code, caught.value.reason) == (4321, "grüße")
    with (
        pytest.raises(httpx_ws.WebSocketUpgradeError) as refused,
        httpx_ws.connect_ws("/refuse", client),
    ):
        pass
    assert refused.value.response.status_code == 401
