"""An application for tests of TLS; it is told what to do by the path."""

from __future__ import annotations

import hashlib
import json
from typing import Any

_BLOCK = bytes(range(251))  # of a prime length, so that no buffer's end falls on it


def pattern(start: int, size: int) -> bytes:
    """Octets of an endless sequence in which a piece lost or swapped shows."""
    first = start % len(_BLOCK)
    return (_BLOCK * ((first + size) // len(_BLOCK) + 1))[first : first + size]


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    _, name, *arguments = scope["path"].split("/")
    await HANDLERS[name](scope, receive, send, *arguments)


async def start(send: Any, *headers: tuple[bytes, bytes]) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": list(headers)})


async def respond(send: Any, body: bytes) -> None:
    await start(send)
    await send({"type": "http.response.body", "body": body})


async def hello(scope: Any, receive: Any, send: Any) -> None:
    await respond(send, b"hello")


async def show(scope: Any, receive: Any, send: Any) -> None:
    """Scheme and extensions as JSON."""
    await respond(send, json.dumps([scope["scheme"], scope["extensions"]]).encode())


async def digest(scope: Any, receive: Any, send: Any) -> None:
    """Size and SHA-256 of the body."""
    size, found, more = 0, hashlib.sha256(), True
    while more:
        message = await receive()
        size += len(message["body"])
        found.update(message["body"])
        more = message["more_body"]
    await respond(send, b"%d %s" % (size, found.hexdigest().encode()))


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """The body, piece by piece as it comes."""
    await start(send)
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        more = message["more_body"]
        await send({"type": "http.response.body", "body": message["body"], "more_body": more})


async def pieces(scope: Any, receive: Any, send: Any, size: str, piece: str) -> None:
    """/pieces/SIZE/PIECE: the pattern, in pieces."""
    await start(send)
    for at in range(0, int(size), int(piece)):
        body = pattern(at, min(int(piece), int(size) - at))
        await send({"type": "http.response.body", "body": body, "more_body": True})
    await send({"type": "http.response.body"})


async def whole(scope: Any, receive: Any, send: Any, size: str) -> None:
    """/whole/SIZE: the pattern in one message."""
    await respond(send, pattern(0, int(size)))


async def file(scope: Any, receive: Any, send: Any, *path: str) -> None:
    """/file/PATH: the file."""
    await start(send)
    await send({"type": "http.response.pathsend", "path": "/" + "/".join(path)})


async def talk(scope: Any, receive: Any, send: Any) -> None:
    """A WebSocket that says what it is told."""
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": message["text"]})


HANDLERS: dict[str, Any] = {
    "": hello,
    "show": show,
    "digest": digest,
    "echo": echo,
    "pieces": pieces,
    "whole": whole,
    "file": file,
    "talk": talk,
}
