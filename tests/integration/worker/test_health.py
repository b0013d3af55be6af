"""Health is answered by the worker, in between the application's requests."""

from __future__ import annotations

from typing import Any

import pytest

from subinterp_asgi.worker.asgi.http import DISCARD_SIZE
from tests.support import wait_until

from ..rawclient import chunked, post, request
from ..serving import Gate, access_log, respond, serving
from .health import HEALTH, app, check_health

# --- without the application


def test_health_is_not_the_applications_business() -> None:
    with serving(app, **HEALTH) as served, served.connect() as client:
        response = client.get(b"/health")
        assert response.status == 200
        assert response.body == b"OK\n"
        assert response.get(b"content-type") == b"text/plain; charset=utf-8"
        assert response.get(b"cache-control") == b"no-store"
        assert response.get(b"date")
        assert not response.closes
        assert client.get(b"/health/").body == b"app:/health/"


def test_without_the_option_it_is() -> None:
    async def echo(scope: Any, receive: Any, send: Any) -> None:
        await respond(send, scope["path"].encode())

    with serving(echo) as served, served.connect() as client:
        assert client.get(b"/health").body == b"/health"
        assert client.get(b"/metrics").body == b"/metrics"
        assert served.worker._server_state.endpoints is None
        assert not served.worker._server_state.timed


def test_head() -> None:
    with serving(app, **HEALTH) as served, served.connect() as client:
        client.send(request(b"HEAD", b"/health"), request(b"GET", b"/next"))
        response = client.response(b"HEAD")
        assert response.status == 200
        assert response.get(b"content-length") == b"3"
        assert client.response().body == b"app:/next"


def test_other_methods() -> None:
    with serving(app, **HEALTH) as served, served.connect() as client:
        client.send(post(b"/health", b"some data"))
        response = client.response()
        assert response.status == 405
        assert response.get(b"allow") == b"GET, HEAD, OPTIONS"
        check_health(client)


def test_options() -> None:
    with serving(app, **HEALTH) as served, served.connect() as client:
        client.send(request(b"OPTIONS", b"/health"), request(b"GET", b"/next"))
        response = client.response()
        assert (response.status, response.body) == (200, b"OK\n")
        assert response.get(b"allow") == b"GET, HEAD, OPTIONS"
        assert client.response().body == b"app:/next"


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"OPTIONS"])
def test_a_probe_without_a_host(method: bytes) -> None:
    with serving(app, **HEALTH) as served, served.connect() as client:
        client.send(method + b" /health HTTP/1.0\r\n\r\n")
        response = client.response(method)
        assert response.status == 200
        assert response.body == (b"" if method == b"HEAD" else b"OK\n")
        client.assert_closed()


def test_the_root_path_is_not_part_of_it() -> None:
    with serving(app, **HEALTH, root_path="/mounted") as served, served.connect() as client:
        check_health(client)
        assert client.get(b"/a").body == b"app:/mounted/a"


def test_in_a_pipeline() -> None:
    paths = [b"/a", b"/health", b"/b", b"/health", b"/health", b"/c"] * 10
    with serving(app, **HEALTH) as served, served.connect() as client:
        client.send(b"".join(request(b"GET", path) for path in paths))
        for path in paths:
            response = client.response()
            assert response.body == (b"OK\n" if path == b"/health" else b"app:" + path)
        check_health(client)


def test_behind_a_request_that_takes_its_time() -> None:
    gate = Gate()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await gate.wait()
        await respond(send, b"slow")

    with serving(slow, **HEALTH) as served, served.connect() as client:
        client.send(request(b"GET", b"/slow") + request(b"GET", b"/health"))
        gate.wait_reached()
        with served.connect() as other:
            check_health(other)
        gate.open()
        assert client.response().body == b"slow"
        assert client.response().body == b"OK\n"


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("coding", ["length", "chunked"])
def test_a_body_is_passed_over(coding: str, whole: bool) -> None:
    body = b"GET /evil HTTP/1.1\r\nHost: a\r\n\r\n" * 50
    data = (
        request(b"GET", b"/health", b"Content-Length: %d" % len(body)) + body
        if coding == "length"
        else request(b"GET", b"/health", b"Transfer-Encoding: chunked") + chunked(body)
    )
    with serving(app, **HEALTH) as served, served.connect() as client:
        end = len(data) if whole else len(data) - 20
        client.send(data[:end])
        assert client.response().body == b"OK\n"
        client.send(data[end:] + request(b"GET", b"/next"))
        assert client.response().body == b"app:/next"


def test_a_body_too_long_to_be_passed_over_ends_the_connection() -> None:
    size = DISCARD_SIZE + 1
    with serving(app, **HEALTH) as served, served.connect() as client:
        client.send(request(b"GET", b"/health", b"Content-Length: %d" % size))
        response = client.response()
        assert (response.status, response.closes) == (200, True)
        client.assert_closed()


def test_a_client_that_waits_to_send_its_body_need_not() -> None:
    lines = (b"Content-Length: 5", b"Expect: 100-continue")
    with serving(app, **HEALTH) as served, served.connect() as client:
        response = client.get(b"/health", *lines)
        assert (response.status, response.closes) == (200, True)
        client.assert_closed()


def test_close_on_request() -> None:
    with serving(app, **HEALTH) as served, served.connect() as client:
        assert client.get(b"/health", b"Connection: close").closes
        client.assert_closed()


def test_http_1_0() -> None:
    with serving(app, **HEALTH) as served:
        with served.connect() as client:
            assert client.get(b"/health", version=b"1.0").body == b"OK\n"
            client.assert_closed()
        with served.connect() as client:
            for _ in range(2):
                kept = client.get(b"/health", b"Connection: keep-alive", version=b"1.0")
                assert kept.get(b"connection") == b"keep-alive"


def test_a_client_that_has_closed_its_sending_half() -> None:
    with serving(app, **HEALTH) as served, served.connect() as client:
        client.send(request(b"GET", b"/health") * 2)
        client.half_close()
        assert client.response().status == client.response().status == 200
        client.assert_closed()


def test_an_upgrade_is_not_taken_up() -> None:
    lines = (
        b"Connection: Upgrade",
        b"Upgrade: websocket",
        b"Sec-WebSocket-Version: 13",
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    )
    with serving(app, **HEALTH) as served, served.connect() as client:
        assert client.get(b"/health", *lines).body == b"OK\n"
        check_health(client)


# --- beside the counts


def test_it_is_neither_counted_nor_logged() -> None:
    with (
        access_log() as lines,
        serving(app, **HEALTH, access_log=True) as served,
        served.connect() as client,
    ):
        client.get(b"/a")
        for _ in range(3):
            check_health(client)
        client.send(post(b"/health", b"x"))
        assert client.response().status == 405
        client.get(b"/b")
        wait_until(lambda: len(lines) == 2)  # which is after a response was sent
        counters = served.worker._counters
        assert counters.requests == 2
        assert counters.statuses == [0, 0, 2, 0, 0, 0]


def test_it_is_answered_where_requests_are_turned_away() -> None:
    gate = Gate()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await gate.wait()
        await respond(send, b"slow")

    with serving(slow, **HEALTH, limit_concurrency=1) as served, served.connect() as client:
        client.send(request(b"GET", b"/"))
        gate.wait_reached()
        with served.connect() as other:
            check_health(other)
            check_health(other)
            assert other.get(b"/").status == 503
        gate.open()
        assert client.response().body == b"slow"
