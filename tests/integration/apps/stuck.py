"""Applications that hold up their worker, in as many ways as the watchdog's tests need.

The path says how, and which file to create before; the file tells the test that the loop is in the
middle of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import pdb
from pathlib import Path
from typing import Any


def spin() -> None:
    """Never return."""
    while True:
        sum(range(100))


def spin_whatever_happens() -> None:
    """Never return because of an ordinary exception."""
    while True:
        with contextlib.suppress(Exception):
            spin()


def block(path: str) -> None:
    """Wait in C until somebody writes to a FIFO."""
    fifo = os.open(path, os.O_RDWR)
    try:
        os.read(fifo, 1)
    finally:
        os.close(fifo)


async def answer(send: Any, body: str) -> None:
    data = body.encode()
    headers = [(b"content-length", b"%d" % len(data))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": data})


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Does what the path says; has no lifespan."""
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        Path(scope["path"]).touch()
        spin()
    if scope["type"] != "http":
        raise NotImplementedError(scope["type"])
    action, _, argument = scope["path"].removeprefix("/").partition("/")
    begun = Path("/" + argument)
    if action == "spin":
        begun.touch()
        spin()
    elif action == "debug":  # at a terminal that is a FIFO
        with open(os.open(begun, os.O_RDWR)) as terminal, open(os.devnull, "w") as nothing:
            pdb.Pdb(stdin=terminal, stdout=nothing, nosigint=True).set_trace()
        await answer(send, "ok")
    elif action == "spin-after-waiting":  # in a step that the loop takes, not the connection
        await asyncio.sleep(0)
        begun.touch()
        spin()
    elif action == "spin-whatever-happens":
        begun.touch()
        spin_whatever_happens()
    elif action == "spin-in-the-middle":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        await asyncio.sleep(0)  # what is sent in the first step leaves when that is over
        begun.touch()
        spin()
    elif action == "spin-in-a-group":
        async with asyncio.TaskGroup() as group:
            group.create_task(touch_and_spin(begun))
    elif action == "spin-in-a-callback":
        loop, over = asyncio.get_running_loop(), asyncio.Event()

        def callback() -> None:
            begun.touch()
            try:
                spin()
            finally:
                over.set()

        loop.call_soon(callback)
        await over.wait()
        await answer(send, "the callback ended")
    elif action == "hammer":  # most of the time is spent in the server's own code
        await send({"type": "http.response.start", "status": 200, "headers": []})
        begun.touch()
        while True:
            await send({"type": "http.response.body", "body": b"", "more_body": True})
    elif action == "block":
        begun.touch()
        block(f"/{argument}.fifo")
        await answer(send, "not interrupted")
    elif action == "block-then-more":
        begun.touch()
        with contextlib.suppress(BaseException):
            block(f"/{argument}.fifo")
        # What follows, in this very turn of the loop, must not be interrupted a second time.
        await answer(send, "went on")
    elif action == "spin-in-a-log-handler":
        begun.touch()
        logging.getLogger("subinterp_asgi.error").addHandler(SpinningHandler(begun))
        raise RuntimeError("to be logged")
    elif action == "spin-in-the-loops-log-handler":
        begun.touch()
        logging.getLogger("asyncio").addHandler(SpinningHandler(begun, "asyncio"))
        asyncio.get_running_loop().call_soon(int, "not a number")
        await answer(send, "ok")
    else:
        await answer(send, "ok")


async def touch_and_spin(begun: Path) -> None:
    begun.touch()
    spin()


class SpinningHandler(logging.Handler):
    """Does not return from logging a record until a file exists; of use once."""

    def __init__(self, path: Path, logger: str = "subinterp_asgi.error") -> None:
        super().__init__()
        self._over = path.with_suffix(".over")
        self._logger = logging.getLogger(logger)

    def emit(self, record: logging.LogRecord) -> None:
        self._logger.removeHandler(self)
        while not self._over.exists():
            sum(range(100))


async def spins_at_startup(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    spin()


async def spins_at_shutdown(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] != "lifespan":
        await answer(send, "ok")
        return
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    spin()


async def fails_at_startup(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "no database"})


def spinning_factory() -> Any:
    spin()


def factory_that_imports_a_debugger() -> Any:
    """Never returns from executing a module of that name."""
    exec("spin()", {"__name__": "bdb", "spin": spin})


async def busy(scope: Any, receive: Any, send: Any) -> None:
    """Computes, sends, waits and leaves callbacks and tasks behind, for some milliseconds each."""
    if scope["type"] != "http":
        raise NotImplementedError(scope["type"])
    loop = asyncio.get_running_loop()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for _ in range(5):
        compute()
        loop.call_soon(compute)
        await send({"type": "http.response.body", "body": b"x" * 100, "more_body": True})
    await asyncio.sleep(0)
    await asyncio.gather(compute_in_task(), asyncio.wait_for(compute_in_task(), 20))
    await send({"type": "http.response.body", "body": b"end"})


async def compute_in_task() -> None:
    compute()


def compute() -> int:
    return sum(min(range(40), key=lambda n: -n) for _ in range(500))
