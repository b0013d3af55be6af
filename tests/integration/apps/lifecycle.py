"""Applications for the tests of starting, serving and stopping."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
from typing import Any

TOKEN = os.urandom(8).hex()
"""Made when the module is imported: tells apart the interpreters that did."""

counter = 0
events: list[str] = []
not_callable = 17
noticed_state: dict[str, Any] = {}


async def answer(send: Any, body: str, status: int = 200) -> None:
    data = body.encode()
    headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(data))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": data})


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Does what the path says; has no lifespan."""
    global counter
    if scope["type"] != "http":
        raise NotImplementedError(scope["type"])
    action, _, argument = scope["path"].removeprefix("/").partition("/")
    if action == "count":
        counter += 1
        await answer(send, json.dumps({"token": TOKEN, "counter": counter}))
    elif action == "state":
        await answer(send, json.dumps(scope["state"]))
    elif action == "spoil":
        scope["state"]["spoiled"] = True
        await answer(send, "spoiled")
    elif action == "thread":
        await answer(send, threading.current_thread().name)
    elif action == "until":  # a file exists; another one tells that this has begun
        _touch(f"/{argument}.begun")
        hearing = asyncio.create_task(_disconnected(receive))
        while not (os.path.exists("/" + argument) or hearing.done()):  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        await answer(send, "given up" if hearing.done() else "done")
        hearing.cancel()
    elif action == "for-ever":  # or until it hears that nobody waits for it
        _touch(f"/{argument}.begun")
        await _disconnected(receive)
    elif action == "deaf":
        _touch(f"/{argument}.begun")
        await asyncio.Event().wait()
    elif action == "die":
        asyncio.get_running_loop().call_soon(sys.exit, "the worker is told to die")
        await answer(send, "dying")
    elif action == "leave-task":
        tasks.add(asyncio.create_task(asyncio.sleep(3600), name="left-behind"))
        await answer(send, "left")
    else:
        await answer(send, "ok")


async def _disconnected(receive: Any) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


tasks: set[asyncio.Task[None]] = set()


def create_app() -> Any:
    return app


async def with_lifespan(scope: Any, receive: Any, send: Any) -> None:
    """Starts and ends as ``scope["state"]`` asks, and notes it in files beside ``log``."""
    if scope["type"] != "lifespan":
        await app(scope, receive, send)
        return
    wishes = dict(scope["state"])
    assert (await receive())["type"] == "lifespan.startup"
    if "startup.one_fails" in wishes:  # each but the first goes on
        try:
            os.close(os.open(wishes["startup.one_fails"], os.O_WRONLY | os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            pass
        else:
            raise LookupError("one of them fails")
    if "startup.gate" in wishes:
        await _pass(wishes["startup.gate"])
    if "startup.meet" in wishes:
        directory, count = wishes["startup.meet"]
        _touch(os.path.join(directory, os.urandom(8).hex()))
        while len(os.listdir(directory)) < count:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    if "startup.hang" in wishes:
        await asyncio.Event().wait()
    if "startup.raise" in wishes:
        raise LookupError(wishes["startup.raise"])
    if "startup.failed" in wishes:
        await send({"type": "lifespan.startup.failed", "message": wishes["startup.failed"]})
        return
    scope["state"]["from_startup"] = TOKEN
    _note(wishes, "startup")
    await send({"type": "lifespan.startup.complete"})
    assert (await receive())["type"] == "lifespan.shutdown"
    if "shutdown.gate" in wishes:
        await _pass(wishes["shutdown.gate"])
    if "shutdown.hang" in wishes:
        await asyncio.Event().wait()
    if "shutdown.raise" in wishes:
        raise LookupError(wishes["shutdown.raise"])
    _note(wishes, "shutdown")
    if "shutdown.failed" in wishes:
        await send({"type": "lifespan.shutdown.failed", "message": wishes["shutdown.failed"]})
    else:
        await send({"type": "lifespan.shutdown.complete"})


async def with_hooks(scope: Any, receive: Any, send: Any) -> None:
    """Notes the worker's hooks, and that they are given a ``receive`` and a ``send``."""
    kind = scope["type"]
    if not kind.startswith("subinterp_asgi.worker."):
        await with_lifespan(scope, receive, send)
        return
    await send({"type": "anything"})
    message = await receive()
    _note(scope["state"], f"{kind} {scope['worker_id']} {message['type']}")
    if "hook.hang" in scope["state"] and kind.endswith("shutdown"):
        await asyncio.Event().wait()
    if "hook.raise" in scope["state"] and kind.endswith("startup"):
        raise LookupError(scope["state"]["hook.raise"])


async def _pass(gate: str) -> None:
    """Tell that the gate is reached, and wait until it is open."""
    _touch(f"{gate}.reached")
    while not os.path.exists(gate):  # noqa: ASYNC110
        await asyncio.sleep(0.001)


def _touch(path: str) -> None:
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT))


def _note(state: Any, event: str) -> None:
    if "log" in state:
        # One write with O_APPEND: lines of several workers don't mix.
        fd = os.open(state["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(fd, f"{TOKEN} {event}\n".encode())
        os.close(fd)
