"""The option, and what is asked of it."""

from __future__ import annotations

from typing import Any

from ..rawclient import RawClient
from ..serving import Served, respond

HEALTH: dict[str, Any] = {"health_path": "/health"}
LONG = 600.0
"""Seconds that no test takes."""


async def app(scope: Any, receive: Any, send: Any) -> None:
    assert scope["path"] != "/health"
    await respond(send, b"app:" + scope["path"].encode())


def check_health(client: RawClient, status: int = 200, *, closes: bool = False) -> None:
    response = client.get(b"/health")
    assert (response.status, response.closes) == (status, closes)


def drain(served: Served, **options: bool) -> None:
    served.call(lambda: served.worker.drain(**options))
