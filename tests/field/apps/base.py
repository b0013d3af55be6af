"""What all of them answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def make(on_request: Callable[[], object] = lambda: None) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            raise NotImplementedError
        on_request()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})

    return app
