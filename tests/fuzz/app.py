"""The application that fuzzed connections reach: well-behaved and not, by path."""

from __future__ import annotations

import asyncio
from typing import Any

START = {"type": "http.response.start", "status": 200, "headers": []}
BODY = {"type": "http.response.body"}


class Refusal(Exception):
    """What this application raises on purpose."""


async def app(scope: Any, receive: Any, send: Any) -> None:
    await _BEHAVIOURS.get(scope["path"], hello)(receive, send)


async def hello(receive: Any, send: Any) -> None:
    await send(START)
    await send(BODY | {"body": b"hello"})


async def echo(receive: Any, send: Any) -> None:
    body = b""
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body += message["body"]
        more = message["more_body"]
    await send(START | {"headers": [(b"content-length", b"%d" % len(body))]})
    await send(BODY | {"body": body})


async def stream(receive: Any, send: Any) -> None:
    await send(START)
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        more = message["more_body"]
        await send(BODY | {"body": message["body"], "more_body": more})


async def late(receive: Any, send: Any) -> None:
    await asyncio.sleep(0)
    await hello(receive, send)


async def fail(receive: Any, send: Any) -> None:
    raise Refusal


async def fail_late(receive: Any, send: Any) -> None:
    await send(START)
    await send(BODY | {"body": b"begun", "more_body": True})
    await asyncio.sleep(0)
    raise Refusal


async def split(receive: Any, send: Any) -> None:
    await send(START | {"headers": [(b"connection", b"a\r\nx: y"), (b"x", b"\r\n\r\n")]})


async def wait(receive: Any, send: Any) -> None:
    await send(START)
    await send(BODY | {"body": b"waiting", "more_body": True})
    while (await receive())["type"] != "http.disconnect":
        pass
    await send(BODY | {"body": b"still there?"})


async def impatient(receive: Any, send: Any) -> None:
    for _ in range(3):
        calls = [asyncio.ensure_future(receive()) for _ in range(2)]
        await asyncio.sleep(0)
        for call in calls:
            call.cancel()
        await asyncio.wait(calls)
    await hello(receive, send)


async def large(receive: Any, send: Any) -> None:
    await send(START)
    for _ in range(4):
        await send(BODY | {"body": b"x" * 100_000, "more_body": True})
    await send(BODY)


async def short(receive: Any, send: Any) -> None:
    await send(START | {"headers": [(b"content-length", b"10")]})
    await send(BODY | {"body": b"short"})


async def silent(receive: Any, send: Any) -> None:
    return


async def background(receive: Any, send: Any) -> None:
    await hello(receive, send)
    await asyncio.sleep(0)
    assert (await receive())["type"] == "http.disconnect"
    raise Refusal


_BEHAVIOURS = {
    "/echo": echo,
    "/stream": stream,
    "/late": late,
    "/early": hello,
    "/fail": fail,
    "/fail-late": fail_late,
    "/split": split,
    "/wait": wait,
    "/impatient": impatient,
    "/large": large,
    "/short": short,
    "/silent": silent,
    "/background": background,
}
