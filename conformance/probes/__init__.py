"""The probe application's parts: a registry, and what probes share.

Each module registers coroutines under a name; `conformance.apps` calls them for
`/probe/<name>`.  Nothing here imports the client side of the suite.
"""

import contextlib
import importlib
import socket
from collections.abc import Awaitable, Callable
from typing import Any

from conformance import codec

Scope = dict[str, Any]
Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Probe = Callable[[Scope, Receive, Send], Awaitable[None]]

PROBES: dict[str, Probe] = {}


def probe(name: str) -> Callable[[Probe], Probe]:
    """Register the decorated application under `/probe/<name>`."""

    def add(app: Probe) -> Probe:
        PROBES[name] = app
        return app

    return add


def load() -> None:
    """Import every module that registers probes."""
    for name in ("echo", "lifespan", "script", "files", "flow", "context"):
        importlib.import_module(f"{__name__}.{name}")


def header(scope: Scope, name: bytes) -> bytes | None:
    """The first value of a request header."""
    for key, value in scope["headers"]:
        if key.lower() == name:
            return bytes(value)
    return None


async def respond(send: Send, body: bytes, status: int = 200) -> None:
    """Send a whole response with its length."""
    length = b"%d" % len(body)
    headers = [(b"content-type", b"application/json"), (b"content-length", length)]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def report(scope: Scope, payload: Any, other_token: str = "") -> None:
    """Hand `payload` to the client that asked for it, on a connection of our own.

    The header `x-report: PORT/TOKEN` asks for it; the report goes to the request's own
    peer address and nowhere else.  The write is small, so it does not block.
    """
    wanted = header(scope, b"x-report")
    if wanted is None:
        return
    port, _, token = wanted.decode("ascii").partition("/")
    client = scope.get("client") or ("127.0.0.1", 0)
    line = codec.dumps((other_token or token, payload))
    with (
        contextlib.suppress(OSError),
        socket.create_connection((client[0], int(port)), timeout=2) as sock,
    ):
        sock.sendall(line)
