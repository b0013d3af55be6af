"""Each worker that imports it answers with a name of its own, and writes what it is asked to."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import threading
import time
from typing import Any
from uuid import uuid4

NAME = uuid4().hex


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] != "http":
        raise NotImplementedError(scope["type"])
    if scope["path"] == "/log":
        logging.getLogger("the_app").warning("from the application %s", "x" * 2000)
    elif scope["path"] == "/print":
        print("from the application", file=sys.stderr)
    elif scope["path"] == "/stdout":
        print("from the application")
    elif scope["path"] == "/thread":
        await asyncio.to_thread(str)
    elif scope["path"] == "/slow-thread":
        await asyncio.to_thread(time.sleep, 0.1)
    elif scope["path"] == "/new-thread":
        with contextlib.suppress(RuntimeError):
            threading.Thread(target=str).start()
    elif scope["path"] == "/raise":
        raise LookupError("from the application")
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": NAME.encode()})
