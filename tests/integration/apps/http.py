"""An application for tests of HTTP: each path does one thing."""

from __future__ import annotations

import asyncio
import json
from typing import Any

RESULTS: dict[str, list[Any]] = {}
"""What requests left behind, by the name they gave: an application's view of how they ended."""


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    await HANDLERS[scope["path"].split("/")[1]](scope, receive, send)


async def respond(send: Any, body: bytes, status: int = 200, headers: Any = ()) -> None:
    await send({"type": "http.response.start", "status": status, "headers": list(headers)})
    await send({"type": "http.response.body", "body": body})


async def hello(scope: Any, receive: Any, send: Any) -> None:
    await respond(send, b"hello")


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """The body comes back whole."""
    body = b""
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body += message["body"]
        more = message["more_body"]
    await respond(send, body)


async def stream_echo(scope: Any, receive: Any, send: Any) -> None:
    """The body comes back piece by piece, as it arrives."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        more = message["more_body"]
        await send({"type": "http.response.body", "body": message["body"], "more_body": more})


async def show_scope(scope: Any, receive: Any, send: Any) -> None:
    """The scope as JSON; bytes as Latin-1."""

    def plain(value: Any) -> Any:
        if isinstance(value, bytes):
            return value.decode("latin-1")
        if isinstance(value, list | tuple):
            return [plain(item) for item in value]
        if isinstance(value, dict):
            return {name: plain(item) for name, item in value.items()}
        return value

    await respond(send, json.dumps(plain(scope)).encode())


async def status(scope: Any, receive: Any, send: Any) -> None:
    """/status/CODE/BODY"""
    code, body = scope["path"].split("/")[2:]
    await respond(send, body.encode(), int(code))


async def count(scope: Any, receive: Any, send: Any) -> None:
    """/count/N: N pieces, the number of each in it."""
    number = int(scope["path"].split("/")[2])
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for index in range(number):
        body = b"%d;" % index
        await send({"type": "http.response.body", "body": body, "more_body": True})
        await asyncio.sleep(0)
    await send({"type": "http.response.body"})


async def sized(scope: Any, receive: Any, send: Any) -> None:
    """/sized/N/PIECE: N octets by length, in pieces."""
    number, piece = map(int, scope["path"].split("/")[2:])
    headers = [(b"content-length", b"%d" % number)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    while number:
        size = min(piece, number)
        number -= size
        body = b"x" * size
        await send({"type": "http.response.body", "body": body, "more_body": number > 0})


async def fail(scope: Any, receive: Any, send: Any) -> None:
    raise RuntimeError("the secret of the application")


async def fail_late(scope: Any, receive: Any, send: Any) -> None:
    """Begin a response and fail."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"begun", "more_body": True})
    raise RuntimeError("the secret of the application")


async def wait(scope: Any, receive: Any, send: Any) -> None:
    """/wait/NAME: wait for the client to leave; /results/NAME tells what came."""
    name = scope["path"].split("/")[2]
    results = RESULTS[name] = []
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"waiting", "more_body": True})
    while True:
        message = await receive()
        results.append(message["type"])
        if message["type"] == "http.disconnect":
            break
    try:
        await send({"type": "http.response.body", "body": b"x", "more_body": True})
    except OSError as exc:
        results.append(type(exc).__name__)


async def results(scope: Any, receive: Any, send: Any) -> None:
    name = scope["path"].split("/")[2]
    await respond(send, json.dumps(RESULTS.get(name)).encode())


async def slowly(scope: Any, receive: Any, send: Any) -> None:
    """Complete, but not at once."""
    for _ in range(5):
        await asyncio.sleep(0)
    await respond(send, b"slowly")


HANDLERS = {
    "": hello,
    "echo": echo,
    "stream-echo": stream_echo,
    "scope": show_scope,
    "status": status,
    "count": count,
    "sized": sized,
    "fail": fail,
    "fail-late": fail_late,
    "wait": wait,
    "results": results,
    "slowly": slowly,
}
