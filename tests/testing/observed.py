"""Does what its paths say, and fails in all the ways in which applications fail."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import threading
import time
from typing import Any

logger = logging.getLogger("observed")
requests = 0
lifespan_state: dict[str, Any] = {}


class AppFailure(LookupError):
    pass


class Outcome(BaseException):
    """As what ``pytest.fail()`` raises."""


async def app(scope: Any, receive: Any, send: Any) -> None:
    global requests
    if scope["type"] == "lifespan":
        lifespan_state.update(scope["state"])
        while True:
            message = await receive()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return
    if scope["type"] == "websocket":
        await _echo(receive, send)
        return
    requests += 1
    name = scope["path"].strip("/").replace("/", "_") or "index"
    answer = await globals().get(f"do_{name}", do_index)(scope, receive)
    status, body = answer if isinstance(answer, tuple) else (200, answer)
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": json.dumps(body).encode()})
    await globals().get(f"after_{name}", _nothing)()


async def _echo(receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        if message["text"] == "fail":
            raise AppFailure("in a WebSocket")
        await send({"type": "websocket.send", "text": message["text"]})


async def _nothing() -> None:
    pass


async def do_index(scope: Any, receive: Any) -> Any:
    return {"requests": requests, "env": os.environ.get("OBSERVED"), "state": scope.get("state")}


async def do_body(scope: Any, receive: Any) -> Any:
    size, more = 0, True
    while more:
        message = await receive()
        size, more = size + len(message["body"]), message["more_body"]
    return size


async def do_raise(scope: Any, receive: Any) -> Any:
    logger.warning("about to raise")
    raise AppFailure("for a test")


async def do_handled(scope: Any, receive: Any) -> Any:
    """What a framework does that answers for the application, and logs why."""
    try:
        raise AppFailure("handled")
    except AppFailure:
        logger.exception("internal error")
    return 500, "sorry"


async def do_survived(scope: Any, receive: Any) -> Any:
    try:
        raise AppFailure("survived")
    except AppFailure:
        logger.exception("it does without")
    return "fine"


async def do_refuse(scope: Any, receive: Any) -> Any:
    return 503, "not now"


async def do_hang(scope: Any, receive: Any) -> Any:
    await asyncio.sleep(1000)


async def after_late() -> None:
    await asyncio.sleep(0.05)
    logger.warning("late")
    raise AppFailure("after the response")


async def after_background() -> None:
    await asyncio.sleep(1000)


async def do_task(scope: Any, receive: Any) -> Any:
    async def fail() -> None:
        raise AppFailure("in a task")

    task = asyncio.create_task(fail())
    await asyncio.wait([task])
    return "made"


async def do_keep(scope: Any, receive: Any) -> Any:
    """Keep a task that nobody asks for what it has ended with."""

    async def fail() -> None:
        raise AppFailure("in a task that is kept")

    global kept
    kept = asyncio.create_task(fail(), name="kept")
    await asyncio.wait([kept])
    return "kept"


async def do_outcome(scope: Any, receive: Any) -> Any:
    raise Outcome("as a test does")


async def do_thread(scope: Any, receive: Any) -> Any:
    def fail() -> None:
        raise AppFailure("in a thread")

    thread = threading.Thread(target=fail)
    thread.start()
    await asyncio.to_thread(thread.join)
    return "made"


async def do_forgotten(scope: Any, receive: Any) -> Any:
    global forgotten
    forgotten = asyncio.create_task(asyncio.sleep(1000), name="forgotten")
    return "left"


async def do_endless(scope: Any, receive: Any) -> Any:
    threading.Thread(target=lambda: time.sleep(1.5), name="endless").start()
    return "left"


def make_app() -> Any:
    """Make an application that counts its own requests."""
    count = 0

    async def made(scope: Any, receive: Any, send: Any) -> None:
        nonlocal count
        if scope["type"] == "http":
            count += 1
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": str(count).encode()})

    return made


# --- to be called


def add(a: int, b: int = 0) -> int:
    return a + b


def count() -> int:
    return requests


def has_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


async def has_loop_in_async() -> bool:
    return has_loop()


def fail() -> None:
    raise AppFailure("as it was called")


def not_json() -> object:
    return object()


def set_requests(value: int) -> None:
    global requests
    requests = value


def freeze(path: str) -> None:
    """Return once there is such a file."""
    while not os.path.exists(path):
        time.sleep(0.005)


async def freeze_loop(path: str) -> None:
    freeze(path)


async def die() -> None:
    def leave() -> None:
        raise SystemExit("as the application does")

    asyncio.get_running_loop().call_soon(leave)
    await asyncio.sleep(1000)


async def fails_at_its_end(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] != "lifespan":
        return await app(scope, receive, send)
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    raise LookupError("at the end")
