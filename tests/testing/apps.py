"""Applications that tests of this folder serve."""

from __future__ import annotations

import sys

from subinterp_asgi.types import Receive, Scope, Send


async def modules(scope: Scope, receive: Receive, send: Send) -> None:
    """Say what is imported."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": " ".join(sys.modules).encode()})
