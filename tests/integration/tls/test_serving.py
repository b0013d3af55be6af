"""HTTPS, from two workers in interpreters of their own, to clients that know what TLS is."""

from __future__ import annotations

import contextlib
import hashlib
import json
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from subinterp_asgi import Supervisor

from ...support import nothing_left, open_descriptors, wait_until
from ..apps.tls import pattern
from ..pki import Pki, TLSClient
from ..rawclient import TIMEOUT, RawClient, post, request
from ..serving import Gate, Notes, respond, serving

APP = "tests.integration.apps.tls:app"
LARGE = 20_000_000


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="module")
def trusting(pki: Pki) -> ssl.SSLContext:
    """The context of a client that trusts the server."""
    return pki.client()


@pytest.fixture(scope="module")
def server(pki: Pki) -> Iterator[Supervisor]:
    options: dict[str, Any] = {"ssl_certfile": pki.server, "access_log": False}
    with nothing_left(), Supervisor(APP, workers=2, port=0, **options) as server:
        yield server


@pytest.fixture
def client(server: Supervisor, trusting: ssl.SSLContext) -> Iterator[TLSClient]:
    with TLSClient(server.addresses[0], trusting) as client:
        yield client


def in_thread(function: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=function, name="test-client")
    thread.start()
    return thread


# --- what HTTP needs


def test_both_workers_serve_a_real_client(server: Supervisor, trusting: ssl.SSLContext) -> None:
    assert server.url == f"https://127.0.0.1:{server.addresses[0][1]}"

    def all_have_served() -> bool:
        with httpx.Client(base_url=server.url, verify=trusting, trust_env=False) as client:
            assert client.get("/").text == "hello"
            assert client.post("/echo", content=b"payload").content == b"payload"
        return all(worker.requests for worker in server.workers)

    wait_until(all_have_served, "each worker has served a request")


def test_a_client_with_another_authority_is_not_fooled(server: Supervisor) -> None:
    context = ssl.create_default_context()
    with pytest.raises(ssl.SSLCertVerificationError):
        TLSClient(server.addresses[0], context)


def test_keep_alive(client: TLSClient) -> None:
    for number in range(20):
        body = b"%d" % number
        client.send(post(b"/echo", body))
        assert client.response().body == body


def test_pipelining(client: TLSClient) -> None:
    targets = [b"/whole/%d" % (number * 997) for number in range(40)]
    client.send(b"".join(request(b"GET", target) for target in targets))
    for number in range(40):
        assert client.response().body == pattern(0, number * 997)
    client.assert_open()


def test_octets_one_by_one(server: Supervisor, trusting: ssl.SSLContext) -> None:
    """Each octet of handshake and request is a segment of its own."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = trusting.wrap_bio(incoming, outgoing, server_hostname="localhost")
    with RawClient(server.addresses[0]) as raw:

        def step[T](act: Callable[[], T]) -> T:
            while True:
                try:
                    return act()
                except ssl.SSLWantReadError:
                    for octet in outgoing.read():
                        raw.send(bytes((octet,)))
                    incoming.write(raw.receive())

        step(tls.do_handshake)
        tls.write(request(b"GET", b"/"))
        answer = b""
        while not answer.endswith(b"hello"):
            answer += step(tls.read)
        assert answer.startswith(b"HTTP/1.1 200 ")


def test_a_request_in_many_records(client: TLSClient) -> None:
    for octet in post(b"/echo", b"in many records"):
        client.send(bytes((octet,)))
    assert client.response().body == b"in many records"


# --- large transfers


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


# --- how it ends


def test_close_notify_after_the_last_response(client: TLSClient) -> None:
    response = client.get(b"/", b"Connection: close")
    assert response.body == b"hello"
    client.assert_closed()  # a ragged end would raise


def test_close_notify_tells_the_end_of_a_body_without_length(client: TLSClient) -> None:
    response = client.get(b"/pieces/300000/1000", version=b"1.0")
    assert response.get(b"content-length") is None
    assert response.body == pattern(0, 300_000)


def test_close_notify_after_a_refusal(client: TLSClient) -> None:
    client.send(b"GET / HTTP/1.1\r\n\r\n")
    assert client.response().status == 400
    client.assert_closed()


def test_close_notify_on_an_idle_connection(pki: Pki, trusting: ssl.SSLContext) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await respond(send, b"hello")

    options: dict[str, Any] = {"ssl_certfile": pki.server, "timeout_keep_alive": 0.1}
    with (
        serving(app, **options) as server,
        TLSClient(server.address, trusting) as client,
    ):
        client.assert_open()
        client.assert_closed()


def test_close_notify_when_the_server_stops(pki: Pki, trusting: ssl.SSLContext) -> None:
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(Supervisor(APP, workers=2, port=0, ssl_certfile=pki.server))
        client = stack.enter_context(TLSClient(server.addresses[0], trusting))
        client.assert_open()
        stopping = in_thread(server.stop)
        client.assert_closed()
        stopping.join(TIMEOUT)


def test_an_aborted_response_has_no_close_notify(pki: Pki, trusting: ssl.SSLContext) -> None:
    """A client of a body without length must see that it was cut off."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"begun", "more_body": True})
        raise RuntimeError("on purpose")

    with (
        serving(app, ssl_certfile=pki.server) as server,
        TLSClient(server.address, trusting) as client,
    ):
        client.send(request(b"GET", b"/", version=b"1.0"))
        with pytest.raises((ssl.SSLEOFError, ConnectionResetError)):
            client.response()


def test_a_clients_close_notify_is_a_disconnect(pki: Pki, trusting: ssl.SSLContext) -> None:
    heard = threading.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        heard.set()

    with (
        serving(app, ssl_certfile=pki.server) as server,
        TLSClient(server.address, trusting) as client,
    ):
        client.send(request(b"GET", b"/"))
        client.sock.settimeout(0)
        with contextlib.suppress(ssl.SSLWantReadError):  # nor does it wait for the server's
            client.tls.unwrap()
        assert heard.wait(TIMEOUT)


# --- clients that are none


def greeting(context: ssl.SSLContext) -> bytes:
    """The octets that a handshake begins with."""
    outgoing = ssl.MemoryBIO()
    tls = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


def serves(server: Supervisor, context: ssl.SSLContext) -> None:
    """Check that each worker still does: one connection after the other, until all have."""
    before = {worker.id: worker.requests for worker in server.workers}

    def all_have_served() -> bool:
        with TLSClient(server.addresses[0], context) as client:
            client.assert_open()
        return all(worker.requests > before[worker.id] for worker in server.workers)

    wait_until(all_have_served, "each worker has served a request")


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


def test_too_many_connections(pki: Pki, trusting: ssl.SSLContext) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await respond(send, b"hello")

    options: dict[str, Any] = {"ssl_certfile": pki.server, "limit_connections": 1}
    with serving(app, **options) as server, TLSClient(server.address, trusting) as first:
        first.assert_open()
        with TLSClient(server.address, trusting) as second:
            response = second.response()
            assert (response.status, response.closes) == (503, True)
            second.assert_closed()
        first.assert_open()
    assert server.records.messages == []


def test_nobody_keeps_the_worker_busy(
    pki: Pki, trusting: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clients in every state in which nothing can be done: then nothing is."""
    monkeypatch.setattr("subinterp_asgi.worker.net.handshake.LINGER_TIME", 600.0)
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


# --- the end of the server


def test_stop_does_not_wait_for_handshakes(pki: Pki, trusting: ssl.SSLContext) -> None:
    options: dict[str, Any] = {
        "ssl_certfile": pki.server,
        "timeout_tls_handshake": 600.0,
        "timeout_graceful_shutdown": 600.0,
        "timeout_keep_alive": 600.0,
    }
    with (
        nothing_left(),
        contextlib.ExitStack() as stack,
        Supervisor(APP, workers=2, port=0, **options) as server,
    ):
        pending = [stack.enter_context(RawClient(server.addresses[0])) for _ in range(20)]
        for client in pending[10:]:
            client.send(greeting(trusting)[:100])
        stopping = in_thread(server.stop)
        stopping.join(TIMEOUT)
        assert not stopping.is_alive()
        for client in pending:
            client.wait_for_end()
        stack.close()


def test_no_descriptor_is_lost(pki: Pki, trusting: ssl.SSLContext) -> None:
    with Supervisor(APP, workers=2, port=0, ssl_certfile=pki.server) as server:
        serves(server, trusting)  # whatever is opened once is open now
        address = server.addresses[0]

        def none_but_ours() -> bool:
            return len(open_descriptors()) <= before

        before = len(open_descriptors())
        for _ in range(10):
            with TLSClient(address, trusting) as client:
                client.get(b"/pieces/200000/100000")
            with RawClient(address) as client:
                client.get(b"/")
            with RawClient(address) as client:
                client.send(greeting(trusting)[:50])
            with pytest.raises(ssl.SSLCertVerificationError):
                TLSClient(address, ssl.create_default_context())
            client = TLSClient(address, trusting)
            client.send(request(b"GET", b"/whole/5000000"))
            client.reset()
        wait_until(none_but_ours, "all descriptors are closed")
        serves(server, trusting)


# --- what applications are told


def test_scope(server: Supervisor, pki: Pki, client: TLSClient) -> None:
    scheme, extensions = json.loads(client.get(b"/show").body)
    assert scheme == "https"
    cipher = client.tls.cipher()
    assert cipher is not None
    assert extensions["tls"] == {
        "server_cert": Path(pki.certificate).read_text().partition("\n-----BEGIN")[0].rstrip("\n")
        + "\n",
        "client_cert_chain": [],
        "client_cert_name": None,
        "client_cert_error": None,
        "tls_version": 0x0304,
        "cipher_suite": {"TLS_AES_256_GCM_SHA384": 0x1302, "TLS_AES_128_GCM_SHA256": 0x1301}[
            cipher[0]
        ],
    }
    assert {"http.response.pathsend", "http.response.trailers"} < set(extensions)


def test_scope_with_tls_1_2(server: Supervisor, pki: Pki) -> None:
    context = pki.client()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("ECDHE-ECDSA-CHACHA20-POLY1305")
    with TLSClient(server.addresses[0], context) as client:
        _, extensions = json.loads(client.get(b"/show").body)
        assert extensions["tls"]["tls_version"] == 0x0303
        assert extensions["tls"]["cipher_suite"] == 0xCCA9  # RFC 7905


def test_the_extension_is_absent_without_tls() -> None:
    with Supervisor(APP, workers=1, port=0) as server, RawClient(server.addresses[0]) as client:
        scheme, extensions = json.loads(client.get(b"/show").body)
        assert scheme == "http"
        assert "tls" not in extensions


def test_alpn(server: Supervisor, pki: Pki) -> None:
    for offered, chosen in ((["h2", "http/1.1"], "http/1.1"), (["http/1.1"], "http/1.1")):
        context = pki.client()
        context.set_alpn_protocols(offered)
        with TLSClient(server.addresses[0], context) as client:
            assert client.tls.selected_alpn_protocol() == chosen
            client.assert_open()


def test_a_unix_socket(pki: Pki, trusting: ssl.SSLContext, tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with (
        Supervisor(APP, workers=2, uds=path, ssl_certfile=pki.server) as server,
        TLSClient(path, trusting) as client,
    ):
        assert server.url.startswith("https+unix:")
        client.assert_open()


def test_an_ipv6_address(pki: Pki, trusting: ssl.SSLContext) -> None:
    with socket.socket(socket.AF_INET6) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError:
            pytest.skip("no IPv6 on this machine")
    with (
        Supervisor(APP, workers=1, host="::1", port=0, ssl_certfile=pki.server) as server,
        TLSClient(server.addresses[0], trusting) as client,
    ):
        client.assert_open()
