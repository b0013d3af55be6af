"""Keeps a record of the lifespan, and shows it and the state to requests."""

import asyncio
import contextlib
import os
import socket
from typing import Any

from conformance import codec
from conformance.probes import Message, Receive, Scope, Send, probe, respond

SHUTDOWN_PORT = "CONFORMANCE_SHUTDOWN_PORT"
"""Environment variable: where a run that started the server waits for shutdown reports."""

_record: dict[str, Any] = {"calls": 0, "events": [], "complete": False, "shared": None}


class Shared:
    """An object in the state: every request must see this very one."""


async def run(scope: Scope, receive: Receive, send: Send) -> None:
    """Play the lifespan protocol and write down what happened."""
    _record["calls"] += 1
    _record["loop"] = id(asyncio.get_running_loop())
    _record["asgi"] = dict(scope["asgi"])
    _record["has_state"] = "state" in scope
    if "state" in scope:
        _record["initial_keys"] = sorted(scope["state"])
        _record["shared"] = scope["state"]["conformance_shared"] = Shared()
        scope["state"]["conformance_seen"] = []
    startup = await receive()
    _record["events"].append(startup)
    # Time in which a server that does not wait would already accept requests.
    await asyncio.sleep(0.05)
    _record["complete"] = True
    await send({"type": "lifespan.startup.complete"})
    shutdown = await receive()
    _announce_shutdown(shutdown)
    await send({"type": "lifespan.shutdown.complete"})


def _announce_shutdown(message: Message) -> None:
    port = os.environ.get(SHUTDOWN_PORT)
    if port is None:
        return
    with (
        contextlib.suppress(OSError),
        socket.create_connection(("127.0.0.1", int(port)), timeout=2) as sock,
    ):
        sock.sendall(codec.dumps(message))


@probe("lifespan")
async def show(scope: Scope, receive: Receive, send: Send) -> None:
    """Tell what the lifespan of this worker saw, and how this request's state compares."""
    state = scope.get("state")
    seen = {key: value for key, value in _record.items() if key != "shared"}
    seen["same_loop"] = _record.get("loop") == id(asyncio.get_running_loop())
    seen["request_has_state"] = state is not None
    if state is not None:
        seen["shared"] = state.get("conformance_shared") is _record["shared"]
        seen["left_over"] = "conformance_request" in state
        state["conformance_request"] = True
    await respond(send, codec.dumps(seen))
