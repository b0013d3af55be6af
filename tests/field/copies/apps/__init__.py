"""Applications that need extension modules which refuse subinterpreters."""

from __future__ import annotations

import sys
from typing import Any


def named(app: Any) -> Any:
    """Have each response say in ``x-worker`` which interpreter it is from."""
    if sys.version_info >= (3, 14):
        from concurrent import interpreters

        number = interpreters.get_current().id
    else:
        import _interpreters

        number = _interpreters.get_current()[0]

    async def wrapped(scope: Any, receive: Any, send: Any) -> None:
        async def send_named(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"x-worker", b"%d" % number)]
            await send(message)

        await app(scope, receive, send_named if scope["type"] == "http" else send)

    return wrapped
