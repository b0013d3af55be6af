"""``http.response.early_hint``, on the wire and as the application sees it."""

from __future__ import annotations

import time
from typing import Any

import pytest

from subinterp_asgi.errors import ASGIProtocolError

from ....support import wait_until
from ...serving import Gate, respond
from .scripts import Message, Script, asking, assert_next, body, start


def hint(*links: Any) -> Message:
    return {"type": "http.response.early_hint", "links": links}


LINKS = (b"</style.css>; rel=preload; as=style", b"</app.js>; rel=preload; as=script")


@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
def test_early_hints(method: bytes) -> None:
    """Before the start or after it, as long as the head has not been sent."""
    app = Script(hint(*LINKS), hint(), start(), hint(b"</late>"), body(b"body"))
    with asking(app, early_hints=True, method=method) as (_, client):
        for links in (LINKS, (), (b"</late>",)):
            interim = client.head()
            assert interim.status == 103
            assert interim.fields == [(b"link", link) for link in links]
        assert client.response(method).status == 200
        assert_next(client)
    assert set(app.raised) == {None}


def test_an_early_hint_leaves_at_once() -> None:
    gate = Gate()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(hint(*LINKS))
        await gate.wait()
        await respond(send, b"body")

    with asking(app, early_hints=True) as (_, client):
        assert client.head().status == 103
        gate.open()
        assert client.response().body == b"body"


def test_no_early_hints_with_http_1_0() -> None:
    app = Script(hint(*LINKS), start(), hint(*LINKS), body(b"body"))
    with asking(app, early_hints=True, version=b"1.0") as (_, client):
        assert client.response().body == b"body"
    assert set(app.raised) == {None}


def test_early_hints_that_are_too_late() -> None:
    late = hint(*LINKS)
    app = Script(start(), body(b"bo", more=True), late, body(b"dy"), late)
    with asking(app, early_hints=True) as (_, client):
        assert client.response().body == b"body"
        assert_next(client)
    assert app.raised == [None, None, ASGIProtocolError, None, ASGIProtocolError]


@pytest.mark.parametrize(
    "links",
    [
        [b"</a>\r\nx-injected: 1"],
        [b"</a>\n"],
        [b"</a>\r"],
        [b"</a>\0"],
        ["</a>"],
        [None],
        b"</a>",
        "</a>",
        5,
        None,
    ],
    ids=repr,
)
def test_links_that_can_not_be_sent(links: Any) -> None:
    app = Script(hint(b"</good>") | {"links": links}, start(), body(b"body"))
    with asking(app, early_hints=True) as (_, client):
        assert client.response().body == b"body"
        assert_next(client)
    assert app.raised == [ASGIProtocolError, None, None]


def test_without_the_option_there_are_none() -> None:
    app = Script(hint(*LINKS), start(), body(b"body"))
    with asking(app) as (_, client):
        assert client.response().body == b"body"
        assert_next(client)
    assert app.raised == [ASGIProtocolError, None, None]
    assert "early_hints" in str(app.outcomes[0])


def test_early_hints_wait_for_the_client() -> None:
    """However many there are, they don't pile up in memory."""
    sent = 0
    many = 200_000

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal sent
        for _ in range(many):
            await send(hint(b"x" * 400))
            sent += 1

    with asking(app, early_hints=True, client={"receive_buffer": 4096}) as (server, client):
        wait_until(lambda: sent, "something was sent")
        before = 0
        while before != sent:  # until it stands still
            before = sent
            time.sleep(0.1)
        assert sent < many
        client.reset()
        server.wait_for_connections(0)
