"""Keeps what it receives, or sends, in memory, until it has all of it."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

NAME = uuid4().hex.encode()


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] != "http":
        raise NotImplementedError(scope["type"])
    answer = NAME
    if scope["path"] == "/big":
        answer = b"x" * int(scope["query_string"])
    pieces = []
    while True:
        message = await receive()
        pieces.append(message.get("body", b""))
        if not message.get("more_body"):
            break
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": answer})
