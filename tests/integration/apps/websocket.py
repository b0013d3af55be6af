"""An application for tests of WebSockets over interpreters."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from . import http


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] != "websocket":
        await http.app(scope, receive, send)
        return
    await receive()
    await send({"type": "websocket.accept"})
    if scope["path"] == "/stay":
        await asyncio.sleep(3600)
    while (message := await receive())["type"] == "websocket.receive":
        await send(message | {"type": "websocket.send"})
    journal = parse_qs(scope["query_string"].decode()).get("journal")
    if journal:
        with Path(journal[0]).open("a") as file:  # appended lines don't mix
            file.write(f"{message['code']} {message['reason']}\n")
