"""Shows what one request leaves behind for another."""

import asyncio
import contextvars

from conformance import codec
from conformance.probes import Receive, Scope, Send, probe, respond

_left: contextvars.ContextVar[str] = contextvars.ContextVar("conformance_left", default="")


@probe("context")
async def context(scope: Scope, receive: Receive, send: Send) -> None:
    """Tell the context variable's value, set it, and tell it again after other requests ran."""
    before = _left.get()
    mine = scope["query_string"].decode("ascii")
    _left.set(mine)
    await asyncio.sleep(0.02)
    await respond(send, codec.dumps({"before": before, "after": _left.get(), "mine": mine}))


@probe("scope")
async def own_scope(scope: Scope, receive: Receive, send: Send) -> None:
    """Tell whether the scope carries what an earlier request put into it, then put it there."""
    left = "conformance_left" in scope
    scope["conformance_left"] = True
    scope["path"] = "/changed"
    headers = scope["headers"]
    if isinstance(headers, list):
        headers.append((b"x-left", b"1"))
    await respond(send, codec.dumps({"left": left}))
