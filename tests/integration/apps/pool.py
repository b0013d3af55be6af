"""An application whose answers name the worker, and which does to that what the path says."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from typing import Any

CHUNKS = [b"chunk %d of ten;" % number for number in range(10)]


class App:
    """Made once for each worker, in interpreters and in threads.

    Args:
        name: What it calls itself; by default something that nobody else does.
    """

    def __init__(self, name: str = "") -> None:
        self.name = name or os.urandom(4).hex()
        self.headers = [(b"worker", self.name.encode())]
        self.lifespan_ends = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await getattr(self, scope["type"])(scope, receive, send)

    async def lifespan(self, scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await self.startup(scope["state"])
        await send({"type": "lifespan.startup.complete"})
        ending = asyncio.create_task(self.lifespan_ends.wait())
        shutdown = asyncio.create_task(receive())
        await asyncio.wait((ending, shutdown), return_when="FIRST_COMPLETED")
        if ending.done():
            sys.exit("the lifespan had enough")
        ending.cancel()
        await send({"type": "lifespan.shutdown.complete"})

    async def startup(self, state: Any) -> None:
        """For subclasses, and for what the lifespan's state asks for."""
        if "gate" in state:
            touch(state["gate"] + ".reached")
            while not os.path.exists(state["gate"]):  # noqa: ASYNC110
                await asyncio.sleep(0.005)

    async def websocket(self, scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"]})

    async def http(self, scope: Any, receive: Any, send: Any) -> None:
        action, _, argument = scope["path"].removeprefix("/").partition("/")
        act = getattr(self, f"do_{action}", None)
        body = b"ok" if act is None else await act(argument, receive, send)
        if body is not None:
            await self.answer(send, body)

    async def answer(self, send: Any, body: bytes) -> None:
        headers = [*self.headers, (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def do_who(self, argument: str, receive: Any, send: Any) -> bytes:
        return self.name.encode()

    async def do_slow(self, argument: str, receive: Any, send: Any) -> bytes:
        await asyncio.sleep(0.03)
        return b"slow"

    async def do_upload(self, argument: str, receive: Any, send: Any) -> bytes:
        size = 0
        while True:
            message = await receive()
            assert message["type"] == "http.request", "the client left"
            size += len(message.get("body", b""))
            if not message.get("more_body"):
                return b"%d" % size

    async def do_stream(self, argument: str, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.headers})
        for chunk in CHUNKS:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await asyncio.sleep(0.003)
        await send({"type": "http.response.body"})

    async def do_endless(self, argument: str, receive: Any, send: Any) -> None:
        """Stream until it is cancelled, and note in a file what else it hears."""
        await send({"type": "http.response.start", "status": 200, "headers": self.headers})
        await send({"type": "http.response.body", "body": b"x", "more_body": True})
        try:
            while (message := await receive())["type"] == "http.request":
                pass
            note(argument, message["type"])
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            note(argument, "cancelled")
            raise

    async def do_until(self, argument: str, receive: Any, send: Any) -> bytes:
        """Wait until a file exists."""
        touch(f"/{argument}.begun")
        while not os.path.exists(f"/{argument}"):  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        return b"done"

    async def do_freeze(self, argument: str, receive: Any, send: Any) -> bytes:
        """Wait until a file exists, and keep the loop from doing anything else."""
        touch(f"/{argument}.begun")
        while not os.path.exists(f"/{argument}"):
            time.sleep(0.005)
        return b"done"

    async def do_collapse(self, argument: str, receive: Any, send: Any) -> bytes:
        """Freeze, and then die."""
        asyncio.get_running_loop().call_soon(sys.exit, "told to collapse")
        return await self.do_freeze(argument, receive, send)

    async def do_fail(self, argument: str, receive: Any, send: Any) -> None:
        raise LookupError("told to fail")

    async def do_die(self, argument: str, receive: Any, send: Any) -> bytes:
        loop = asyncio.get_running_loop()
        if argument == "lifespan":
            self.lifespan_ends.set()
        elif argument == "stop":
            loop.call_soon(loop.stop)
        elif argument == "interrupt":
            loop.call_soon(_interrupt)
        else:
            loop.call_soon(sys.exit, "told to die")
        return b"dying"


def _interrupt() -> None:
    raise KeyboardInterrupt("told to die")


def touch(path: str) -> None:
    """Create a file."""
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT))


def note(path: str, line: str) -> None:
    """Append a line to a file."""
    with open(f"/{path}", "a") as file:
        file.write(f"{line}\n")
