"""The plain application that every server serves, with a path per workload.

Nothing here knows which server calls it. Bodies are made once, so that what is measured is the
server and not ``bytes * 1024``.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

type Message = MutableMapping[str, Any]
type Receive = Callable[[], Awaitable[Message]]
type Send = Callable[[Message], Awaitable[None]]
type Handler = Callable[[Receive, Send], Awaitable[None]]

HELLO = b"Hello, world!"
BODY_100K = b"x" * (100 * 1024)
BODY_10M = b"x" * (10 * 1024 * 1024)
CHUNK = b"x" * 1024
CHUNKS = 100
LOOPS = 36_000
"""Turns of the loop behind ``/cpu``: about a millisecond. The same for all, so never calibrated."""


def _respond_with(body: bytes) -> Handler:
    start = {
        "type": "http.response.start",
        "status": 200,
        "headers": [
            (b"content-type", b"text/plain; charset=utf-8"),
            (b"content-length", b"%d" % len(body)),
        ],
    }

    async def respond(receive: Receive, send: Send) -> None:
        await send(dict(start))
        await send({"type": "http.response.body", "body": body})

    return respond


async def _echo(receive: Receive, send: Send) -> None:
    pieces = []
    more = True
    while more:
        message = await receive()
        pieces.append(message.get("body", b""))
        more = message.get("more_body", False)
    await _respond_with(b"".join(pieces))(receive, send)


async def _stream(receive: Receive, send: Send) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for _ in range(CHUNKS):
        await send({"type": "http.response.body", "body": CHUNK, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def _burn(receive: Receive, send: Send) -> None:
    total = 0
    for number in range(LOOPS):
        total += number * number
    await _respond_with(b"%d" % total)(receive, send)


async def _who(receive: Receive, send: Send) -> None:
    """Name the worker: a thread here, a process there."""
    await _respond_with(b"%d/%d" % (os.getpid(), threading.get_ident()))(receive, send)


_HANDLERS: dict[str, Handler] = {
    "/": _respond_with(HELLO),
    "/echo": _echo,
    "/100k": _respond_with(BODY_100K),
    "/10m": _respond_with(BODY_10M),
    "/stream": _stream,
    "/cpu": _burn,
    "/who": _who,
}


async def app(scope: Message, receive: Receive, send: Send) -> None:
    """The plain ASGI application."""
    if scope["type"] == "http":
        await _HANDLERS[scope["path"]](receive, send)
    elif scope["type"] == "websocket":
        await _echo_messages(receive, send)
    elif scope["type"] == "lifespan":
        await _lifespan(receive, send)
    else:
        raise NotImplementedError(scope["type"])


async def _echo_messages(receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        text = message.get("text")
        if text is not None:
            await send({"type": "websocket.send", "text": text})
        else:
            await send({"type": "websocket.send", "bytes": message["bytes"]})


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
