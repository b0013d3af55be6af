"""What clients see through proxies as they come: of early refusals, and of streams of events."""

from __future__ import annotations

import contextlib
import http.client
import socket
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from ..rawclient import TIMEOUT
from ..serving import Gate, read_body, respond, serving
from .proxies import APACHE, DOCUMENTED, HAPROXY, NGINX, VARNISH, Proxy, behind

pytestmark = pytest.mark.once

UPLOADS = 25

every_proxy = pytest.mark.parametrize(
    "proxy", [NGINX, HAPROXY, APACHE, VARNISH], ids=lambda proxy: proxy.program
)


# --- uploads that are refused before the proxy has sent them


async def refuse(scope: Any, receive: Any, send: Any) -> None:
    """Refuse with the status in the path, or read all where there is none."""
    if scope["path"] == "/":
        await respond(send, b"%d" % len(await read_body(receive)))
    else:
        await respond(send, b"no", int(scope["path"][1:]))


def upload(port: int, path: str, body: bytes, seconds: float = 0.0) -> int:
    """Upload as many clients do: send all, then read; return the status of the response."""

    def pieces(number: int = 16) -> Iterator[bytes]:
        size = len(body) // number
        for start in range(0, len(body), size):
            yield body[start : start + size]
            time.sleep(seconds / number)

    client = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
    with contextlib.closing(client):
        fields = {"content-length": str(len(body))}
        client.request("POST", path, pieces() if seconds else body, fields)
        with client.getresponse() as response:
            response.read()
            return response.status


@pytest.mark.parametrize(
    ("path", "limit", "status"), [("/401", None, 401), ("/", 1000, 413), ("/503", None, 503)]
)
@every_proxy
def test_early_refusals_reach_clients_behind_a_proxy(
    proxy: Proxy, path: str, limit: int | None, status: int, tmp_path: Path
) -> None:
    with (
        serving(refuse, limit_body_size=limit) as served,
        behind(proxy, tmp_path, served.address[1]) as port,
    ):
        assert upload(port, "/", b"small") == 200
        for megabytes in (8, 32):
            body = bytes(megabytes << 20)
            statuses = Counter(upload(port, path, body) for _ in range(UPLOADS))
            assert statuses == {status: UPLOADS}


@every_proxy
def test_early_refusals_of_uploads_that_take_their_time(proxy: Proxy, tmp_path: Path) -> None:
    """A proxy that still sends when the server has long answered, and closed, says 502 or 503."""
    body = bytes(1 << 20)
    folders = [tmp_path / "application", tmp_path / "limit"]
    for folder in folders:
        folder.mkdir()
    with (
        serving(refuse) as served,
        serving(refuse, limit_body_size=1000) as limited,
        behind(proxy, folders[0], served.address[1]) as port,
        behind(proxy, folders[1], limited.address[1]) as limited_port,
        ThreadPoolExecutor(2 * UPLOADS) as pool,
    ):
        ways = [(port, "/401"), (limited_port, "/")] * UPLOADS
        statuses = Counter(pool.map(lambda way: upload(*way, body, 4.0), ways))
    assert statuses == {401: UPLOADS, 413: UPLOADS}


# --- what the log says of proxies that are set up wrong


def status(port: int) -> int:
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
    with contextlib.closing(client):
        client.request("GET", "/401")
        with client.getresponse() as response:
            response.read()
            return response.status


@pytest.mark.parametrize("sends", [True, False])
def test_the_proxy_protocol(sends: bool, tmp_path: Path) -> None:
    with serving(refuse, proxy_protocol=True) as served:
        target = f"127.0.0.1:{served.address[1]} {'send-proxy-v2' if sends else ''}"
        with behind(HAPROXY, tmp_path, target) as port:
            assert {status(port) for _ in range(3)} == {401 if sends else 502}
            found = [line for line in served.records.messages if "sent no PROXY" in line]
            assert len(found) == (not sends)


@pytest.mark.parametrize("believed", [True, False])
def test_a_unix_socket(believed: bool, tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    options = {"forwarded_allow_ips": "unix"} if believed else {}
    with (
        serving(refuse, family=socket.AF_UNIX, path=path, **options) as served,
        behind(DOCUMENTED["nginx"], tmp_path, f"unix:{path}") as port,
    ):
        assert {status(port) for _ in range(3)} == {401}
        found = [line for line in served.records.messages if "not believed" in line]
        assert len(found) == (not believed)


# --- streams


@every_proxy
def test_the_first_event_does_not_wait_for_the_second(proxy: Proxy, tmp_path: Path) -> None:
    gate = Gate()

    async def stream(scope: Any, receive: Any, send: Any) -> None:
        fields = [(b"Content-Type", b"text/event-stream; charset=utf-8")]
        await send({"type": "http.response.start", "status": 200, "headers": fields})
        await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
        await gate.wait()
        await send({"type": "http.response.body", "body": b"data: 2\n\n"})

    with serving(stream) as served, behind(proxy, tmp_path, served.address[1]) as port:
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
        with contextlib.closing(client):
            client.request("GET", "/")
            with client.getresponse() as response:
                assert response.readline() == b"data: 1\n"
                gate.open()
                assert response.read() == b"\ndata: 2\n\n"
