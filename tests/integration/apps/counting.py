"""The example's application, whose worker dies on request, in the middle of one."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from examples import app_metrics


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope.get("path") == "/die":
        app_metrics.OPEN.inc()
        app_metrics.ORDERS.inc()
        asyncio.get_running_loop().call_soon(sys.exit, "told to die")
        await asyncio.sleep(60)

    async def say_ok(message: Any) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [(b"content-length", b"2")]
        else:
            message["body"] = b"ok"
        await send(message)

    await app_metrics.app(scope, receive, say_ok if scope.get("path") == "/" else send)
