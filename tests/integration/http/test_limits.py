"""Limits on the wire, and clients that mean no good: they are refused and nobody else notices."""

from __future__ import annotations

import random
from typing import Any

import pytest

from tests.support import open_descriptors, wait_until

from ..rawclient import RawClient, chunked, post, request
from ..serving import Gate, Notes, read_body, respond, serving


async def echo(scope: Any, receive: Any, send: Any) -> None:
    await respond(send, await read_body(receive))


def assert_refused(client: RawClient, status: int) -> None:
    """Check for an answer that a client gets to read even if it was still sending."""
    response = client.response()
    assert response.status == status
    assert response.closes
    client.assert_closed()


# --- heads


@pytest.mark.parametrize("size", [65_536, 65_537, 100_000, 1_000_000])
def test_head_larger_than_the_limit(size: int) -> None:
    """Sent at once: the limit is as large as what is read at once."""
    with serving(echo) as served, served.connect() as client:
        lines = [b"A: " + b"x" * 8000] * (size // 8005 + 1)
        client.try_send(request(b"GET", b"/", *lines))
        assert_refused(client, 431)


@pytest.mark.parametrize("size", [65_535, 65_536, 200_000, 900_000])
def test_large_heads_are_possible_by_option(size: int) -> None:
    """Though larger than what is read at once, or held while a request is in flight."""
    options = {"limit_header_size": 1_000_000, "limit_request_field_size": 1_000_000}
    head = request(b"GET", b"/", b"A: %s")
    head %= b"x" * (size - len(head) + 2)
    assert len(head) == size
    with serving(echo, **options) as served, served.connect() as client:
        for _ in range(3):
            client.send(head)
            assert client.response().status == 200
        client.send(head[: size // 2], head[size // 2 :])
        assert client.response().status == 200


def test_options_for_heads() -> None:
    options = {
        "limit_request_line": 50,
        "limit_request_fields": 3,
        "limit_request_field_size": 40,
        "limit_header_size": 120,
    }
    with serving(echo, **options) as served:
        for data, status in (
            (request(b"GET", b"/" + b"x" * 36), 200),
            (request(b"GET", b"/" + b"x" * 37), 414),
            (request(b"GET", b"/", b"A: b", b"C: d"), 200),
            (request(b"GET", b"/", b"A: b", b"C: d", b"E: f"), 431),
            (request(b"GET", b"/", b"A: " + b"x" * 37), 200),
            (request(b"GET", b"/", b"A: " + b"x" * 38), 431),
            (request(b"GET", b"/" + b"x" * 30, b"A: " + b"x" * 30, b"B: " + b"x" * 30), 431),
        ):
            with served.connect() as client:
                client.send(data)
                assert client.response().status == status


# --- bodies


def test_option_for_bodies() -> None:
    notes = Notes()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while True:
            message = await receive()
            notes(message.get("body", message["type"]))
            if not message.get("more_body"):
                break
        if message["type"] == "http.request":
            await respond(send)

    with serving(app, limit_body_size=5) as served:
        with served.connect() as client:
            client.send(post(b"/", b"12345"))
            assert client.response().status == 200
        with served.connect() as client:
            client.send(request(b"POST", b"/", b"Content-Length: 6"))
            assert_refused(client, 413)
        assert notes.wait(1) == [b"12345"]  # nothing of the second
        with served.connect() as client:
            client.send(request(b"POST", b"/", b"Transfer-Encoding: chunked"))
            client.send(chunked(b"123", last=False))
            notes.wait(2)
            client.send(chunked(b"456"))
            assert_refused(client, 413)
        assert notes.wait(3)[1:] == [b"123", "http.disconnect"]
        with served.connect() as client:  # Expect: refused instead of asked for
            client.send(request(b"POST", b"/", b"Content-Length: 6", b"Expect: 100-continue"))
            assert_refused(client, 413)


# --- too many


def test_option_for_connections() -> None:
    with serving(echo, limit_connections=2) as served:
        with served.connect() as one, served.connect() as two:
            assert one.get().status == 200
            assert two.get().status == 200
            with served.connect() as three:
                response = three.response()
                assert response.status == 503
                assert response.get(b"retry-after") is not None
                three.assert_closed()
            assert one.get().status == 200
        served.wait_for_connections(0)
        with served.connect() as client:
            assert client.get().status == 200


def test_option_for_concurrency() -> None:
    gate = Gate()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/wait":
            await gate.wait()
        await respond(send)

    with (
        serving(app, limit_concurrency=1) as served,
        served.connect() as one,
        served.connect() as two,
    ):
        one.send(request(b"GET", b"/wait"))
        gate.wait_reached()
        two.send(request(b"GET", b"/"))
        response = two.response()
        assert response.status == 503
        assert response.get(b"retry-after") is not None
        two.assert_closed()
        gate.open()
        assert one.response().status == 200
        assert one.get().status == 200


# --- clients that mean no good


def test_many_stalled_clients_hold_up_nobody() -> None:
    stalls = [b"", b"G", request(b"GET", b"/")[:-2], post(b"/", b"abc")[:-1]]
    with serving(echo) as served:
        clients = [served.connect() for _ in range(60)]
        for number, client in enumerate(clients):
            client.send(stalls[number % len(stalls)])
        with served.connect() as other:
            for _ in range(10):
                assert other.get().status == 200
        for client in clients:
            client.close()
        served.wait_for_connections(0)


def open_sockets() -> int:
    return sum(kind.startswith("socket:") for kind in open_descriptors().values())


def test_many_resets_leave_nothing() -> None:
    data = [b"", b"GET", request(b"GET", b"/"), post(b"/", b"abc")[:-1], b"\0\0", b"x\n"]
    with serving(echo) as served:
        with served.connect() as client:
            client.get()
        served.wait_for_connections(0)
        before = open_sockets()
        for number in range(120):
            client = served.connect()
            client.send(data[number % len(data)])
            if number % 2:
                client.reset()
            else:
                client.close()
        # (The last may not even have been accepted yet.)
        wait_until(lambda: served.connections == 0 and open_sockets() <= before)
        served.wait_until_idle()
        with served.connect() as client:
            assert client.get().status == 200
    assert served.records.messages == []


def test_random_octets() -> None:
    """Whatever comes is refused or waited for; the worker lives on."""
    source = random.Random(9112)
    with serving(echo) as served:
        for number in range(60):
            with served.connect() as client:
                if number % 2:
                    client.try_send(source.randbytes(source.randrange(1, 5000)))
                else:
                    damaged = bytearray(post(b"/", b"some body", b"A: b"))
                    for _ in range(3):
                        damaged[source.randrange(len(damaged))] = source.randrange(256)
                    client.try_send(bytes(damaged))
                client.half_close()
                client.wait_for_end()
        served.wait_for_connections(0)
        with served.connect() as client:
            assert client.get().status == 200
    assert served.records.messages == []


def test_one_octet_at_a_time() -> None:
    with serving(echo) as served, served.connect() as client:
        data = post(b"/", b"body") + request(b"GET", b"/")
        client.send(*(data[i : i + 1] for i in range(len(data))))
        assert client.response().body == b"body"
        assert client.response().body == b""


def test_reset_while_nothing_is_read() -> None:
    """Reading has been paused, and the application does not send: the reset is noticed anyway."""
    notes = Notes()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        notes("waiting")
        notes((await receive())["type"])

    with serving(app) as served, served.connect() as client:
        client.send(request(b"GET", b"/") + request(b"GET", b"/") * 5000)
        notes.wait(1)
        connection = served.call(lambda: next(iter(served.worker._connections)))
        wait_until(lambda: connection._paused)  # type: ignore[union-attr]
        client.reset()
        assert notes.wait(2)[1] == "http.disconnect"
        served.wait_for_connections(0)
