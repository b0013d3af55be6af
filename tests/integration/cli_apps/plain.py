"""An application with neither framework nor state; what it does, its path says."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

not_an_app = 3


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        for event in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{event}.complete"})
        return
    query = {name: value for name, (value,) in parse_qs(scope["query_string"].decode()).items()}
    if scope["path"].endswith("/gate"):
        await pass_gate(Path(query["directory"]))
    elif scope["path"] == "/hang":
        (Path(query["directory"]) / "waiting").touch()
        time.sleep(3600)  # which nothing can interrupt
    elif scope["path"] == "/die":
        asyncio.get_running_loop().stop()
    answer = {"path": scope["path"], "root_path": scope["root_path"]}
    await send(
        {
            "type": "http.response.start",
            "status": 200,
            "headers": [(b"content-type", b"application/json")],
        }
    )
    await send({"type": "http.response.body", "body": json.dumps(answer).encode()})


async def pass_gate(directory: Path) -> None:
    """Say that somebody is waiting, and wait until somebody opens."""
    (directory / "waiting").touch()
    while True:
        await asyncio.sleep(0.01)
        if (directory / "open").exists():
            return


def create_app() -> Any:
    return app


async def without_lifespan(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] != "http":
        raise NotImplementedError(scope["type"])
    await app(scope, receive, send)


async def failing_lifespan(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "the database is on fire"})


async def endless_lifespan(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    sys.stderr.write("starting up, for ever\n")
    await asyncio.Event().wait()
