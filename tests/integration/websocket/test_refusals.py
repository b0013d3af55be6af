"""What is no valid opening handshake, or none at all, or comes at a bad time."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support import wait_until
from tests.websocket.client import TEXT, frame

from ..rawclient import RawClient, request
from ..serving import respond, serving
from ..wsclient import WSClient, echo, handshake


async def both(scope: Any, receive: Any, send: Any) -> None:
    """WebSockets are echoed; requests are told that they are requests."""
    if scope["type"] == "http":
        await respond(send, b"http")
    else:
        await echo(scope, receive, send)


@pytest.mark.parametrize("version", [b"", b"8", b"14", b"13, 8", b"013"])
def test_another_version(version: bytes) -> None:
    with serving(echo) as served, WSClient(served.address) as client:
        client.send(handshake(version=version))
        response = client.response()
        assert response.status == 426
        assert response.get(b"sec-websocket-version") == b"13"
        assert response.closes
        client.assert_closed()
        assert served.worker.requests == 0


@pytest.mark.parametrize(
    "octets",
    [
        handshake(key=b""),
        handshake(key=b"short"),
        handshake(key=b"A" * 24),
        handshake(b"Sec-WebSocket-Key: " + b"A" * 22 + b"=="),
        handshake(method=b"POST"),
        handshake(method=b"HEAD"),
        handshake(b"Content-Length: 5") + b"hello",
        handshake(b"Transfer-Encoding: chunked") + b"0\r\n\r\n",
        handshake(b"Sec-WebSocket-Protocol: one two"),
    ],
    ids=lambda octets: None,
)
def test_malformed_handshakes(octets: bytes) -> None:
    with serving(echo) as served, WSClient(served.address) as client:
        client.send(octets + frame(TEXT, b"not a request"))
        response = client.response(octets.split(b" ")[0])
        assert response.status == 400
        assert response.closes
        client.assert_closed()
        assert served.worker.requests == 0


@pytest.mark.parametrize(
    "octets",
    [
        handshake(http_version=b"1.0"),
        request(b"GET", b"/", b"Upgrade: websocket", b"Sec-WebSocket-Version: 13"),
        request(b"GET", b"/", b"Upgrade: h2c", b"Connection: Upgrade"),
        request(b"GET", b"/", b"Connection: Upgrade"),
    ],
    ids=["HTTP/1.0", "no option in Connection", "another protocol", "no protocol"],
)
def test_plain_requests(octets: bytes) -> None:
    """An upgrade that is not asked for as it has to be is passed over (RFC 9110 section 7.8)."""
    with serving(both) as served, RawClient(served.address) as client:
        client.send(octets)
        response = client.response()
        assert (response.status, response.body) == (200, b"http")


def test_names_and_options_in_any_case_and_company() -> None:
    lines = [
        b"upgrade: h2c, WebSocket",
        b"CONNECTION: keep-alive, UPGRADE",
        b"sec-websocket-VERSION: 13",
        b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",
    ]
    with serving(both) as served, WSClient(served.address) as client:
        client.send(request(b"GET", b"/", *lines))
        client.opened()
        client.assert_echoes()


@pytest.mark.parametrize("limit", ["limit_concurrency", "limit_concurrency_total"])
def test_limit_concurrency(limit: str) -> None:
    """An open WebSocket counts as a request in flight."""
    with serving(both, **{limit: 1}) as served, WSClient(served.address) as first:
        first.open()
        for octets in (handshake(), request(b"GET", b"/")):
            with WSClient(served.address) as second:
                second.send(octets)
                response = second.response()
                assert response.status == 503
                assert response.get(b"retry-after") is not None
                second.assert_closed()
        first.assert_echoes()
        first.close_with(1000)
        wait_until(lambda: served.worker._server_state.counters.in_flight == 0)
        with WSClient(served.address) as third:
            third.open()
