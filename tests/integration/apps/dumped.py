"""An application that waits, in a task of the test's name and in a thread."""

from __future__ import annotations

import asyncio
import threading

from subinterp_asgi.types import Receive, Scope, Send

_waiting: list[asyncio.Event] = []


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] != "http":
        return
    if scope["path"] == "/wait":
        going_on = threading.Event()
        thread = threading.Thread(target=going_on.wait, name="of-the-application")
        thread.start()
        _waiting.append(asyncio.Event())
        task = asyncio.current_task()
        assert task is not None
        task.set_name("of /wait")
        try:
            await deeper(_waiting[-1])
        finally:
            going_on.set()
            thread.join()
    for event in _waiting:
        event.set()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


async def deeper(event: asyncio.Event) -> None:
    await event.wait()
