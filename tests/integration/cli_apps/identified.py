"""Logs, raises and answers, each with the id of the request."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from typing import Any

logger = logging.getLogger("identified")
handler = logging.StreamHandler(sys.stderr)
handler.setFormatter(logging.Formatter("APP %(request_id)s %(message)s", defaults={}))
logger.addHandler(handler)
logger.propagate = False


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] != "http":
        raise NotImplementedError
    if scope["path"] == "/boom":
        raise LookupError("boom")
    if scope["path"] == "/log":
        await asyncio.to_thread(logger.warning, "from a thread")
        logger.warning("hello")
    names = [value.decode() for name, value in scope["headers"] if name == b"x-request-id"]
    body = json.dumps({"state": scope["state"].get("request_id"), "headers": names}).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x-kind", b"a thing")]})
    await send({"type": "http.response.body", "body": body})


def wanted(entry: dict[str, Any]) -> bool:
    if entry["path"] == "/fails":
        raise LookupError("no idea")
    return bool(entry["status"] != 200)
