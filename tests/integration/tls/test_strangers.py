"""Clients that are none: plain HTTP, garbage, handshakes that stall or never end."""

from __future__ import annotations

import contextlib
import ssl
import threading
import time
from typing import Any

import pytest

from subinterp_asgi import Supervisor

from ..pki import Pki, TLSClient
from ..rawclient import TIMEOUT, RawClient, post, request
from ..serving import Gate, Notes, respond, serving
from .clients import LARGE, greeting, in_thread, serves


@pytest.mark.parametrize(
    "sent",
    [
        request(b"GET", b"/"),
        request(b"OPTIONS", b"*"),
        request(b"DELETE", b"/x"),
        request(b"CONNECT", b"localhost:443"),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        post(b"/upload", b"x" * 1_000_000),
    ],
    ids=lambda sent: sent.split()[0].decode() + str(len(sent)),
)
def test_plain_http_is_told_what_is_wrong(
    server: Supervisor, trusting: ssl.SSLContext, sent: bytes
) -> None:
    with RawClient(server.addresses[0]) as client:
        client.try_send(sent)
        response = client.response()
        assert response.status == 400
        assert response.closes
        assert b"HTTPS" in response.body
        for _ in range(2):  # a client may send on: that must not cost it the answer
            client.send(b"more of the same")
        client.half_close()
        client.assert_closed()
    serves(server, trusting)


@pytest.mark.parametrize("sent", [b"\0" * 64, b"\x16\x03\x01\xff\xff", b"\x16\x03\x01\0\x05hello"])
def test_garbage_ends_the_connection(
    server: Supervisor, trusting: ssl.SSLContext, sent: bytes
) -> None:
    with RawClient(server.addresses[0]) as client:
        client.send(sent)
        client.half_close()
        client.wait_for_end()
    serves(server, trusting)


@pytest.mark.parametrize("octets", [0, 1, 100])
def test_a_stalled_handshake_is_dropped(pki: Pki, trusting: ssl.SSLContext, octets: int) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await respond(send, b"hello")

    options: dict[str, Any] = {"ssl_certfile": pki.server, "timeout_tls_handshake": 0.2}
    with serving(app, **options) as server, TLSClient(server.address, trusting) as quick:
        with server.connect() as stalled:
            stalled.send(greeting(trusting)[:octets])
            stalled.assert_closed()
        quick.assert_open()  # what is through is not held to it
        server.wait_for_connections(1)


def test_a_handshake_that_never_ends_is_dropped(pki: Pki, trusting: ssl.SSLContext) -> None:
    """One octet now and then does not gain it time."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("nobody asked anything")

    options: dict[str, Any] = {"ssl_certfile": pki.server, "timeout_tls_handshake": 0.3}
    with serving(app, **options) as server, server.connect() as dripping:

        def drip() -> None:
            with contextlib.suppress(OSError):
                for octet in greeting(trusting)[:-1]:
                    dripping.send(bytes((octet,)))
                    time.sleep(0.05)

        thread = in_thread(drip)
        dripping.wait_for_end()
        server.wait_for_connections(0)
        dripping.sock.close()
        thread.join(TIMEOUT)


@pytest.mark.parametrize("octets", [0, 1, 100, None])
def test_a_reset_in_the_handshake(pki: Pki, trusting: ssl.SSLContext, octets: int | None) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await respond(send, b"hello")

    with serving(app, ssl_certfile=pki.server) as server:
        for _ in range(10):
            client = server.connect()
            client.send(greeting(trusting)[:octets])
            server.wait_for_connections(1)
            client.reset()
            server.wait_for_connections(0)
        with TLSClient(server.address, trusting) as client:
            client.assert_open()


@pytest.mark.parametrize("octets", [0, 100])
def test_a_reset_before_the_server_looks(pki: Pki, trusting: ssl.SSLContext, octets: int) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await respond(send, b"hello")

    with serving(app, ssl_certfile=pki.server) as server:
        asleep, wake = threading.Event(), threading.Event()
        server.loop.call_soon_threadsafe(lambda: (asleep.set(), wake.wait(TIMEOUT)))
        assert asleep.wait(TIMEOUT)
        for _ in range(5):
            client = server.connect()
            client.send(greeting(trusting)[:octets])
            client.reset()
        wake.set()
        with TLSClient(server.address, trusting) as good:
            good.assert_open()
            server.wait_for_connections(1)
    assert server.records.messages == []


@pytest.mark.parametrize("limit", ["limit_connections", "limit_connections_total"])
def test_too_many_connections(pki: Pki, trusting: ssl.SSLContext, limit: str) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await respond(send, b"hello")

    options: dict[str, Any] = {"ssl_certfile": pki.server, limit: 1}
    with serving(app, **options) as server, TLSClient(server.address, trusting) as first:
        first.assert_open()
        with TLSClient(server.address, trusting) as second:
            response = second.response()
            assert (response.status, response.closes) == (503, True)
            second.assert_closed()
        first.assert_open()
    assert server.records.messages == []


def test_handshakes_that_are_late_because_the_worker_was(
    pki: Pki, trusting: ssl.SSLContext
) -> None:
    """What has come is looked at before their time is over, and an answer has a moment."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await respond(send, b"hello")

    options: dict[str, Any] = {"ssl_certfile": pki.server, "timeout_tls_handshake": 600.0}
    with serving(app, **options) as server, server.connect() as client:
        server.wait_for_connections(1)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = trusting.wrap_bio(incoming, outgoing, server_hostname="localhost")

        def hold_up() -> bool:
            """Let the client say hello while nobody looks, until its time is over."""
            with pytest.raises(ssl.SSLWantReadError):
                tls.do_handshake()
            client.send(outgoing.read())
            (handshake,) = server.worker._connections
            handshake.deadline = time.monotonic()
            handshake.check_deadlines(time.monotonic())
            return not handshake.closed

        assert server.call(hold_up)
        done = False
        while not done:
            incoming.write(client.receive())
            with contextlib.suppress(ssl.SSLWantReadError):
                tls.do_handshake()
                done = True
            client.send(outgoing.read())
        tls.write(request(b"GET", b"/"))
        client.send(outgoing.read())
        found = b""
        while not found.endswith(b"hello"):
            incoming.write(client.receive())
            with contextlib.suppress(ssl.SSLWantReadError):
                found += tls.read(65536)


def test_a_handshake_has_its_moment_only_once(pki: Pki, trusting: ssl.SSLContext) -> None:
    hello = greeting(trusting)

    async def app(scope: Any, receive: Any, send: Any) -> None: ...

    with serving(app, ssl_certfile=pki.server) as server, server.connect() as client:
        server.wait_for_connections(1)

        def late(octet: bytes) -> bool:
            client.send(octet)
            (handshake,) = server.worker._connections
            handshake.deadline = time.monotonic()
            handshake.check_deadlines(time.monotonic())
            return handshake.closed

        assert not server.call(lambda: late(hello[:1]))
        assert server.call(lambda: late(hello[1:2]))
        client.wait_for_end()


def test_nobody_keeps_the_worker_busy(
    pki: Pki, trusting: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clients in every state in which nothing can be done: then nothing is."""
    monkeypatch.setattr("subinterp_asgi.worker.net.connection.LINGER_TIME", 600.0)
    monkeypatch.setattr("subinterp_asgi.worker.net.connection.LINGER_SILENCE", 600.0)
    gate, waiting = Gate(), Notes()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/large":
            await respond(send, bytes(LARGE))
        elif scope["path"] == "/wait":
            waiting(scope["method"])
            await gate.wait()
        await respond(send, b"hello")

    options: dict[str, Any] = {"ssl_certfile": pki.server, "timeout_graceful_shutdown": 0.0}
    options |= dict.fromkeys(
        ("timeout_keep_alive", "timeout_header", "timeout_write", "timeout_tls_handshake"), 600.0
    )
    with serving(app, **options) as server, contextlib.ExitStack() as stack:

        def tls() -> TLSClient:
            return stack.enter_context(TLSClient(server.address, trusting))

        def raw(data: bytes) -> RawClient:
            client = stack.enter_context(server.connect())
            client.send(data)
            return client

        tls()  # has said nothing
        tls().assert_open()  # has been served
        tls().send(b"GET / HTTP/1.1\r\n")  # half a request
        tls().send(request(b"GET", b"/large"))  # does not read
        tls().send(post(b"/wait", bytes(LARGE))[:500_000])  # sends what nobody reads
        for end in ("close_notify", "half-close"):
            client = tls()
            client.send(request(b"GET", b"/wait"))
            if end == "half-close":
                client.half_close()
            else:
                client.tls.setblocking(False)
                with pytest.raises(ssl.SSLWantReadError):
                    client.tls.unwrap()
        raw(b"")
        raw(greeting(trusting)[:100])  # half a handshake
        refused = raw(request(b"GET", b"/"))
        assert refused.response().status == 400
        waiting.wait(3)
        before = time.process_time()
        time.sleep(1.0)
        assert time.process_time() - before < 0.4  # a loop that spins would use all of it
        assert server.connections == 10
        gate.open()
