"""The ASGI application that a server under test must serve: `conformance.apps:app`.

Plain ASGI 3 with no dependency, importable in any interpreter.  `/probe/<name>` runs a
probe; every other target is answered by the echo application, which describes the
request it saw.  It is a test application: scripts let a client choose what the
application sends, and reports connect back to the client.  Do not serve it in public.
"""

from conformance.probes import PROBES, Receive, Scope, Send
from conformance.probes import echo as _echo
from conformance.probes import lifespan as _lifespan
from conformance.probes import load as _load


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Dispatch on the scope's type, then on the path."""
    if scope["type"] == "lifespan":
        await _lifespan.run(scope, receive, send)
    elif scope["type"] == "http":
        await _dispatch(scope, receive, send)
    elif scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 1008})
    else:
        raise ValueError(f"unknown scope type {scope['type']!r}")


async def _dispatch(scope: Scope, receive: Receive, send: Send) -> None:
    path = scope["path"].removeprefix(scope.get("root_path") or "")
    probe = PROBES.get(path.removeprefix("/probe/")) if path.startswith("/probe/") else None
    await (probe or _echo.describe)(scope, receive, send)


_load()
