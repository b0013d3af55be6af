"""The application that fuzzed connections reach: well-behaved and not, by path."""

from __future__ import annotations

import asyncio
from typing import Any

START = {"type": "http.response.start", "status": 200, "headers": []}
BODY = {"type": "http.response.body"}


class Refusal(Exception):
    """What this application raises on purpose."""


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "websocket":
        await _serve_socket(scope, receive, send)
        return
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


# --- WebSockets

ACCEPT = {"type": "websocket.accept"}
CLOSE = {"type": "websocket.close", "code": 4000, "reason": "enough"}

RECORDS: dict[str, list[Any]] = {}
"""What WebSockets received, their end too, by query string."""


async def _serve_socket(scope: Any, receive: Any, send: Any) -> None:
    record: list[Any] = []

    async def noting() -> Any:
        message = await receive()
        if message["type"] == "websocket.receive":
            text = message.get("text")
            record.append(message["bytes"] if text is None else text)
        return message

    assert await receive() == {"type": "websocket.connect"}
    await SOCKETS.get(scope["path"], echo_messages)(noting, send)
    while (message := await noting())["type"] != "websocket.disconnect":
        pass
    assert await receive() == message
    RECORDS[scope["query_string"].decode("latin-1")] = [*record, message]


async def echo_messages(receive: Any, send: Any) -> None:
    await send(ACCEPT)
    while (message := await receive())["type"] == "websocket.receive":
        try:
            await send(message | {"type": "websocket.send"})
        except OSError:
            return


async def echo_slowly(receive: Any, send: Any) -> None:
    await send(ACCEPT)
    message: Any = None
    while message is None or message["type"] == "websocket.receive":
        await asyncio.sleep(0)
        message = await receive()


async def accept_later(receive: Any, send: Any) -> None:
    for _ in range(3):
        await asyncio.sleep(0)
    try:
        await send(ACCEPT)
    except OSError:
        return


async def receive_impatiently(receive: Any, send: Any) -> None:
    await send(ACCEPT)
    for _ in range(20):
        calls = [asyncio.ensure_future(receive()) for _ in range(2)]
        await asyncio.sleep(0)
        for call in calls:
            call.cancel()
        await asyncio.wait(calls)


async def babble(receive: Any, send: Any) -> None:
    await send(ACCEPT)
    for size in (0, 200, 70_000, 300_000) * 3:
        await send({"type": "websocket.send", "bytes": bytes(size)})


async def close_first(receive: Any, send: Any) -> None:
    await send(ACCEPT)
    await receive()
    await send(CLOSE)


async def raise_first(receive: Any, send: Any) -> None:
    await send(ACCEPT)
    await receive()
    raise Refusal


async def deny(receive: Any, send: Any) -> None:
    await send(CLOSE)


async def respond(receive: Any, send: Any) -> None:
    await send({"type": "websocket.http.response.start", "status": 401})
    for more in (True, True, False):
        await asyncio.sleep(0)
        await send({"type": "websocket.http.response.body", "body": b"no", "more_body": more})


async def fail_to_answer(receive: Any, send: Any) -> None:
    raise Refusal


SOCKETS = {
    "/echo": echo_messages,
    "/slow": echo_slowly,
    "/later": accept_later,
    "/impatient": receive_impatiently,
    "/babble": babble,
    "/close": close_first,
    "/raise": raise_first,
    "/deny": deny,
    "/respond": respond,
    "/fail": fail_to_answer,
}
