"""Large transfers over TLS, and who waits for whom."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import select
import ssl
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from ...support import wait_until
from ..apps.tls import pattern
from ..pki import Pki, TLSClient
from ..rawclient import TIMEOUT, post, request
from ..serving import Gate, respond, serving
from .clients import LARGE


def test_upload(client: TLSClient) -> None:
    body = pattern(0, LARGE)
    client.send(post(b"/digest", body))
    expected = f"{LARGE} {hashlib.sha256(body).hexdigest()}"
    assert client.response().body.decode() == expected


@pytest.mark.parametrize("target", [b"/pieces/%d/100003", b"/pieces/%d/1000000", b"/whole/%d"])
def test_download(client: TLSClient, target: bytes) -> None:
    assert client.get(target % LARGE).body == pattern(0, LARGE)
    client.assert_open()


def test_both_ways_at_once(client: TLSClient) -> None:
    """The application echoes while the client still sends: neither may wait for the other."""
    body = pattern(0, LARGE)
    unsent, received = memoryview(post(b"/echo", body)), bytearray()
    # In one thread: an SSLSocket must not be read and written by two at once.
    client.tls.setblocking(False)
    while not received.endswith(b"\r\n0\r\n\r\n"):
        idle, blocked = True, False
        with contextlib.suppress(ssl.SSLWantReadError):
            received += client.tls.recv(65536)
            idle = False
        if unsent:
            try:
                unsent = unsent[client.tls.send(unsent[:16384]) :]
                idle = False
            except ssl.SSLWantWriteError:
                blocked = True
        if idle:
            writers = [client.tls] if blocked else []
            readable, writable, _ = select.select([client.tls], writers, [], TIMEOUT)
            assert readable or writable, f"nothing goes on, {len(unsent)} octets unsent"
    client.buffer = bytes(received)
    assert client.response().body == body


@pytest.mark.parametrize("size", [0, 1, 65536, LARGE])
def test_pathsend(client: TLSClient, tmp_path: Path, size: int) -> None:
    file = tmp_path / "file"
    file.write_bytes(pattern(0, size))
    assert client.get(b"/file" + bytes(file)).body == pattern(0, size)
    client.assert_open()


def test_writing_waits_for_the_client(pki: Pki, trusting: ssl.SSLContext) -> None:
    sent = 0
    gate = Gate()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal sent
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while sent < LARGE:
            body = pattern(sent, 250_000)
            await send({"type": "http.response.body", "body": body, "more_body": True})
            sent += len(body)
        await send({"type": "http.response.body"})
        await gate.wait()

    with serving(app, ssl_certfile=pki.server) as server:
        options: dict[str, Any] = {"receive_buffer": 65536}
        with TLSClient(server.address, trusting, **options) as client:
            client.send(request(b"GET", b"/"))
            assert client.head().status == 200
            wait_until(lambda: sent, "something was sent")
            before = 0
            while before != sent:  # until it stands still
                before = sent
                time.sleep(0.1)
            assert sent < LARGE
            client.buffer = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + client.buffer
            assert client.response().body == pattern(0, LARGE)
            gate.open()


def test_reading_waits_for_the_application(pki: Pki, trusting: ssl.SSLContext) -> None:
    gate = Gate()
    received = bytearray()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await gate.wait()
        more = True
        while more:
            message = await receive()
            received.extend(message["body"])
            more = message["more_body"]
        await respond(send, b"done")

    with (
        serving(app, ssl_certfile=pki.server) as server,
        TLSClient(server.address, trusting) as client,
    ):
        body = pattern(0, LARGE)
        client.send(post(b"/", body[:1000])[:-1000].replace(b"1000", b"%d" % LARGE))
        client.sock.settimeout(0.3)
        sent = 0
        with contextlib.suppress(TimeoutError):
            while sent < LARGE:
                # (One record at a time: what a timeout interrupts must be sent again as it was.)
                client.sock.sendall(body[sent : sent + 16384])
                sent += 16384
        assert sent < LARGE
        gate.open()
        client.sock.settimeout(TIMEOUT)
        client.send(body[sent : sent + 16384], body[sent + 16384 :])
        assert client.response().body == b"done"
        assert received == body


def test_a_slow_client_of_one_large_piece_is_not_cut_off(
    pki: Pki, trusting: ssl.SSLContext
) -> None:
    """timeout_write is about a client that reads nothing, not about one that reads slowly."""
    size = 30_000_000

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await respond(send, pattern(0, size))

    options: dict[str, Any] = {"ssl_certfile": pki.server, "timeout_write": 1.0}
    with (
        serving(app, **options) as server,
        TLSClient(server.address, trusting, receive_buffer=65536) as client,
    ):
        client.send(request(b"GET", b"/"))
        slowly_until = time.monotonic() + 1.5
        while time.monotonic() < slowly_until:
            client.buffer += client.sock.recv(65536)
            time.sleep(0.01)
        assert len(client.buffer) < size
        assert client.response().body == pattern(0, size)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what is not taken yet")
def test_a_client_so_slow_that_the_kernel_has_no_room_for_long(
    pki: Pki, trusting: ssl.SSLContext
) -> None:
    size = 16_000_000

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await respond(send, pattern(0, size))

    options: dict[str, Any] = {"ssl_certfile": pki.server, "timeout_write": 1.0}
    with (
        serving(app, **options) as server,
        TLSClient(server.address, trusting, receive_buffer=16384) as client,
    ):
        client.send(request(b"GET", b"/"))
        slowly_until = time.monotonic() + 3.0
        while time.monotonic() < slowly_until:
            client.buffer += client.sock.recv(4096)
            time.sleep(0.02)
        assert client.response().body == pattern(0, size)


def test_refusals_reach_clients_that_read_nothing_before_all_is_sent(
    pki: Pki, trusting: ssl.SSLContext
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await respond(send, b"no", 401)

    body = bytes(8 << 20)
    statuses = []
    with serving(app, ssl_certfile=pki.server) as server:
        for _ in range(25):
            client = http.client.HTTPSConnection(
                "localhost", server.address[1], timeout=TIMEOUT, context=trusting
            )
            client.request("POST", "/", body)
            with contextlib.closing(client), client.getresponse() as response:
                statuses.append(response.status)
                response.read()
    assert statuses == [401] * 25
