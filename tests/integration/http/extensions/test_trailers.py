"""``http.response.trailers``, on the wire and as the application sees them."""

from __future__ import annotations

from typing import Any

import pytest

from subinterp_asgi.errors import ASGIProtocolError

from ...rawclient import request
from ...serving import Gate
from .scripts import TE, Message, Script, asking, assert_broken, assert_next, body, start, trailers

WHOLE = [body(b"body")]
STREAMED = [body(b"bo", more=True), body(b"dy", more=True), body()]
BODIES = pytest.mark.parametrize("bodies", [WHOLE, STREAMED], ids=["whole", "streamed"])


@BODIES
@pytest.mark.parametrize("te", [TE, b"te: gzip;q=0.5, Trailers", b"TE: deflate\r\nTE: trailers"])
def test_trailers(bodies: list[Message], te: bytes) -> None:
    app = Script(start(trailers=True), *bodies, trailers((b"x-sum", b"42"), (b"X-Other", b"")))
    with asking(app, te) as (_, client):
        response = client.response()
        assert response.get(b"transfer-encoding") == b"chunked"
        assert response.body == b"body"
        assert response.trailers == [(b"x-sum", b"42"), (b"X-Other", b"")]
        assert_next(client)
    assert app.raised == [None] * (len(bodies) + 2)


@BODIES
@pytest.mark.parametrize("te", [b"", b"TE: gzip", b"TE: trailers-not"])
def test_trailers_nobody_asked_for(bodies: list[Message], te: bytes) -> None:
    """The application need not know; the response is whole without them."""
    parts = [trailers((b"x-sum", b"42"), more=True), trailers((b"x-sum", b"43"))]
    app = Script(start(trailers=True), *bodies, *parts)
    with asking(app, te) as (_, client):
        response = client.response()
        assert response.body == b"body"
        assert response.trailers == []
        assert_next(client)
    assert set(app.raised) == {None}


@BODIES
def test_trailers_after_a_length(bodies: list[Message]) -> None:
    head = start((b"content-length", b"4"), trailers=True)
    app = Script(head, *bodies, trailers((b"x-sum", b"42")))
    with asking(app, TE) as (_, client):
        response = client.response()
        assert response.get(b"content-length") == b"4"
        assert response.body == b"body"
        assert_next(client)
    assert set(app.raised) == {None}


@BODIES
def test_trailers_with_http_1_0(bodies: list[Message]) -> None:
    app = Script(start(trailers=True), *bodies, trailers((b"x-sum", b"42")))
    with asking(app, TE, version=b"1.0") as (_, client):
        response = client.response()
        assert response.get(b"transfer-encoding") is None
        assert response.body == b"body"
        client.assert_closed()
    assert set(app.raised) == {None}


@BODIES
@pytest.mark.parametrize(("method", "status"), [(b"HEAD", 200), (b"GET", 204), (b"GET", 304)])
def test_trailers_without_a_body(bodies: list[Message], method: bytes, status: int) -> None:
    head = start(status=status, trailers=True)
    app = Script(head, *bodies, trailers((b"x-sum", b"42")))
    with asking(app, TE, method=method) as (_, client):
        assert client.response(method).status == status
        assert_next(client)
    assert set(app.raised) == {None}


def test_trailers_in_several_messages() -> None:
    parts = [
        trailers((b"x-a", b"1"), more=True),
        trailers(more=True),
        trailers((b"x-b", b"2"), (b"x-a", b"3"), more=True),
        trailers(),
    ]
    app = Script(start(trailers=True), body(b"body"), *parts)
    with asking(app, TE) as (_, client):
        response = client.response()
        assert response.trailers == [(b"x-a", b"1"), (b"x-b", b"2"), (b"x-a", b"3")]
        assert_next(client)


FORBIDDEN = [
    b"Content-Length",
    b"transfer-encoding",
    b"Connection",
    b"keep-alive",
    b"trailer",
    b"TE",
    b"upgrade",
    b"Host",
    b"content-type",
    b"Content-Encoding",
    b"content-range",
    b"Set-Cookie",
    b"www-authenticate",
]


@pytest.mark.parametrize(
    "bad",
    [
        *((name, b"1") for name in FORBIDDEN),
        (b"x-sum", b"1\r\nx-injected: 1"),
        (b"x-sum", b"1\nx-injected: 1"),
        (b"x-sum", b"1\0"),
        (b"x sum", b"1"),
        (b"x-sum\r\n", b"1"),
        (b"", b"1"),
        ("x-sum", b"1"),
        (b"x-sum", "1"),
        (b"x-sum",),
        None,
    ],
    ids=repr,
)
def test_trailers_that_can_not_be_sent(bad: Any) -> None:
    """The application is told, and nothing of the message is sent."""
    app = Script(
        start(trailers=True),
        body(b"body"),
        trailers((b"x-before", b"1"), bad),
        trailers((b"x-good", b"1")),
    )
    with asking(app, TE) as (_, client):
        response = client.response()
        assert response.body == b"body"
        assert response.trailers == [(b"x-good", b"1")]
        assert_next(client)
    assert app.raised == [None, None, ASGIProtocolError, None]


def test_trailers_out_of_turn() -> None:
    good = trailers((b"x-sum", b"42"))
    app = Script(good, start(trailers=True), good, body(b"bo", more=True), good, body(b"dy"), good)
    app._messages += (good, body(b"more"), start())
    with asking(app, TE) as (_, client):
        response = client.response()
        assert response.body == b"body"
        assert response.trailers == [(b"x-sum", b"42")]
        assert_next(client)
    wrong = ASGIProtocolError
    assert app.raised == [wrong, None, wrong, None, wrong, None, None, wrong, wrong, wrong]


def test_trailers_that_were_not_announced() -> None:
    app = Script(start(), body(b"body"), trailers((b"x-sum", b"42")))
    with asking(app, TE) as (_, client):
        response = client.response()
        assert response.body == b"body"
        assert response.trailers == []
        assert_next(client)
    assert app.raised == [None, None, ASGIProtocolError]


def test_trailers_that_never_come() -> None:
    app = Script(start(trailers=True), body(b"body"))
    with asking(app, TE) as (server, client):
        assert_broken(client)
    assert ["without completing" in text for text in server.records.messages] == [True]


def test_the_next_request_waits_for_the_trailers() -> None:
    gate, paths = Gate(), []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        paths.append(scope["path"])
        await send(start(trailers=True))
        await send(body(b"body"))
        if scope["path"] == "/":
            await gate.wait()
        await send(trailers((b"x-path", scope["path"].encode())))

    with asking(app, TE) as (_, client):
        client.send(request(b"GET", b"/second", TE))
        client.read_until(b"body\r\n0\r\n")
        gate.wait_reached()
        assert paths == ["/"]
        gate.open()
        assert client.read_until(b"\r\n\r\n") == b"x-path: /\r\n\r\n"
        assert client.response().trailers == [(b"x-path", b"/second")]
