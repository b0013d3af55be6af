"""The application of the chaos run. It keeps a journal of what happens to its worker.

A line for each event, in a file that all workers append to: who (the native number of the worker's
thread), when (``time.monotonic_ns()``), what, about what. ``journal.py`` reads it. Which
connections a worker takes, and what faults are inflicted on it, only the server knows; so that is
looked at where it happens.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
import threading
import time
from typing import Any

from subinterp_asgi.control import handoff
from subinterp_asgi.control.messages import FAULT_CRASH
from subinterp_asgi.errors import WorkerInterrupted
from subinterp_asgi.worker import faults
from subinterp_asgi.worker.net.acceptor import Acceptor

_JOURNAL = os.environ["SOAK_JOURNAL"]


def note(what: str, about: object = "-") -> None:
    """Write a line; in one piece, so that lines of workers don't mix."""
    line = f"{threading.get_native_id()} {time.monotonic_ns()} {what} {about}\n"
    journal = os.open(_JOURNAL, os.O_WRONLY | os.O_APPEND)
    os.write(journal, line.encode())
    os.close(journal)


def _watch() -> None:
    serve, inflict, leave = Acceptor._serve, faults.inflict, handoff.leave

    def noted_serve(self: Any, make: Any, sock: Any, client: Any, server: Any, **more: Any) -> Any:
        note("took", _port(client))
        return serve(self, make, sock, client, server, **more)

    def noted_inflict(kind: str, argument: int) -> None:
        note(kind)
        inflict(kind, argument)

    def noted_leave(counters: Any, fd: int) -> bool:
        with socket.socket(fileno=os.dup(fd)) as sock:
            port = _port(sock.getpeername())
        done = leave(counters, fd)
        if done:
            note("left", port)
        return done

    handoff.leave = noted_leave
    Acceptor._serve, faults.inflict = noted_serve, noted_inflict  # type: ignore[method-assign]


def _port(client: Any) -> int:
    """Number of a client's port; 0: it has none, but a Unix socket."""
    return client[1] if isinstance(client, tuple) else 0


_watch()


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Does what the path says: /what/number/argument."""
    kind = scope["type"]
    if kind == "lifespan":
        for event in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{event}.complete"})
        return
    _, what, number, argument = scope["path"].split("/")
    try:
        if kind == "websocket":
            await echo(receive, send)
        else:
            await ACTIONS[what](receive, send, argument)
    except WorkerInterrupted:
        note("interrupted", number)
        raise


async def hello(receive: Any, send: Any, argument: str) -> None:
    await respond(send, f"hello {argument}".encode())


async def upload(receive: Any, send: Any, argument: str) -> None:
    digest = hashlib.sha256()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        digest.update(message["body"])
        if not message["more_body"]:
            break
    await respond(send, digest.hexdigest().encode())


async def slow(receive: Any, send: Any, argument: str) -> None:
    await asyncio.sleep(float(argument))
    await respond(send, b"at last")


async def stream(receive: Any, send: Any, argument: str) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [_worker()]})
    for piece in range(int(argument)):
        await send({"type": "http.response.body", "body": b"%4d" % piece * 250, "more_body": True})
        await asyncio.sleep(0.01)
    await send({"type": "http.response.body", "body": b"end"})


async def stick(receive: Any, send: Any, argument: str) -> None:
    """Hold the worker up until that is interrupted."""
    while True:
        sum(range(100))


async def crash(receive: Any, send: Any, argument: str) -> None:
    await respond(send, b"crashing")
    faults.inflict(FAULT_CRASH, 0)


async def freeze(receive: Any, send: Any, argument: str) -> None:
    await respond(send, b"freezing")
    kind, _, seconds = argument.partition(":")
    faults.inflict(kind, int(float(seconds) * 1e6))


ACTIONS = {
    action.__name__: action for action in (hello, upload, slow, stream, stick, crash, freeze)
}


async def echo(receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.accept", "headers": [_worker()]})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": message["text"]})


async def respond(send: Any, body: bytes) -> None:
    headers = [_worker(), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _worker() -> tuple[bytes, bytes]:
    return (b"x-worker", b"%d" % threading.get_native_id())
