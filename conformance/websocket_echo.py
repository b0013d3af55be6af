"""The ASGI application for Autobahn's fuzzing client: `conformance.websocket_echo:app`.

It sends every message back as it came, text as text and bytes as bytes.  That is all the suite
asks of an application: the rest is the server's.
"""

from typing import Any

from conformance.probes import Receive, Scope, Send


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Accept any WebSocket and echo its messages."""
    if scope["type"] != "websocket":
        raise ValueError(f"only WebSockets are served here, not {scope['type']!r}")
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send(_echo(message))


def _echo(message: dict[str, Any]) -> dict[str, Any]:
    """Servers may leave out the key that a message has no use for, or give it as None."""
    if (text := message.get("text")) is not None:
        return {"type": "websocket.send", "text": text}
    return {"type": "websocket.send", "bytes": message["bytes"]}
