"""The access log with a format: what applications send, well-formed or not, and WebSockets."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest

from subinterp_asgi.control.log_records import REQUEST_ID

from ..serving import serving
from ..wsclient import WSClient

START: dict[str, Any] = {"type": "http.response.start", "status": 200}
BODY: dict[str, Any] = {"type": "http.response.body", "body": b"four"}
FORM = "%(m)s %(U)s %(s)s %(B)s %({x-kind}o)s %(id)s"
OPTIONS: dict[str, Any] = {
    "access_log": True,
    "access_log_format": FORM,
    "request_id_header": "x-request-id",
}
REQUEST = b"GET /a HTTP/1.1\r\nhost: h\r\nx-request-id: abc-1\r\nconnection: close\r\n\r\n"


@pytest.fixture
def lines() -> Iterator[list[str]]:
    """The messages of the access log."""
    lines: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    logger, handler = logging.getLogger("subinterp_asgi.access"), Keep()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield lines
    logger.removeHandler(handler)
    logger.setLevel(level)


def serve(*messages: dict[str, Any], request: bytes = REQUEST) -> list[BaseException]:
    """Serve a request with these messages; return what ``send()`` has raised."""
    raised: list[BaseException] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            for message in messages:
                await send(message)
        except Exception as exc:
            raised.append(exc)

    with serving(app, **OPTIONS) as served, served.connect() as client:
        client.send(request)
        client.read_to_end()
        if raised or not messages:
            served.records.messages.clear()  # which say that nothing was sent
    return raised


@pytest.mark.parametrize(
    ("headers", "logged"),
    [
        ([(b"x-kind", b"one"), (b"X-Kind", b"two")], "one"),
        (((b"X-Kind", b"\xe9"),), r"\xE9"),
        (iter([(b"x-kind", b"read once")]), "read once"),
        ([], "-"),
    ],
)
def test_fields_of_the_response(lines: list[str], headers: Any, logged: str) -> None:
    assert serve({**START, "headers": headers}, {**BODY, "more_body": True}, BODY) == []
    assert lines == [f"GET /a 200 8 {logged} abc-1"]


@pytest.mark.parametrize(
    "message",
    [
        {**START, "headers": [("x-kind", "text")]},
        {**START, "headers": [(b"x-kind", 10**12)]},
        {**START, "headers": [b"no pair"]},
        {**START, "headers": None},
        {**START, "headers": 7},
        {"type": "http.response.body", "body": "text"},
    ],
)
def test_what_is_malformed_is_refused_as_ever(lines: list[str], message: dict[str, Any]) -> None:
    body = message["type"] == BODY["type"]
    messages = (START, message) if body else (message, BODY)
    (exc,) = serve(*messages)
    assert isinstance(exc, Exception)
    assert lines == ["GET /a 500 0 - abc-1"]


def test_a_response_to_head(lines: list[str]) -> None:
    serve(START, BODY, request=REQUEST.replace(b"GET", b"HEAD"))
    assert lines == ["HEAD /a 200 0 - abc-1"]


def test_the_handshake_of_a_websocket(lines: list[str]) -> None:
    seen: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.extend((scope["state"]["request_id"], REQUEST_ID.get()))
        await send({"type": "websocket.accept", "headers": [(b"x-kind", b"a socket")]})
        await send({"type": "websocket.close"})

    with serving(app, **OPTIONS) as served, WSClient(served.address) as client:
        client.open()
        client.read_close()
    assert seen[0] == seen[1]
    assert lines == [f"GET / 101 0 a socket {seen[0]}"]
