"""A Starlette application with a WebSocket that real clients talk to, and a page for browsers."""

from __future__ import annotations

from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from tests.frameworks.apps.common import interpreter_id

PAGE = """\
<!doctype html>
<meta charset="utf-8">
<title>chat</title>
<script>
  // Sends each message once the one before has come back, and tells what happened.
  async function chat(path, messages, close) {
    const scheme = location.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(`${scheme}//${location.host}${path}`, ["talk", "chat"]);
    socket.binaryType = "arraybuffer";
    const told = { received: [] };
    const ended = new Promise((resolve) => socket.addEventListener("close", resolve));
    const next = () => new Promise((resolve, reject) => {
      socket.addEventListener("message", (event) => resolve(event.data), { once: true });
      ended.then(reject);
    });
    const opened = new Promise((resolve) => socket.addEventListener("open", resolve));
    await Promise.race([opened, ended]);
    told.opened = socket.readyState === WebSocket.OPEN;
    told.protocol = socket.protocol;
    told.extensions = socket.extensions;
    if (told.opened) {
      for (const message of messages) {
        const answer = next();
        socket.send(message);
        told.received.push(await answer);
      }
      close(socket);
    }
    const event = await ended;
    told.closed = { code: event.code, reason: event.reason, wasClean: event.wasClean };
    return told;
  }
</script>
<p>This page chats.
"""


async def page(request: Request) -> Response:
    return HTMLResponse(PAGE)


async def where(request: Request) -> Response:
    return JSONResponse({"interpreter": interpreter_id()})


async def talk(socket: WebSocket) -> None:
    """Echo; the text ``close CODE REASON`` is an order. How it ended goes to a journal."""
    offered = socket.scope["subprotocols"]
    await socket.accept(
        "chat" if "chat" in offered else None,
        headers=[(b"x-interpreter", b"%d" % interpreter_id())],
    )
    while (message := await socket.receive())["type"] == "websocket.receive":
        text = message.get("text")
        if text is None:
            await socket.send_bytes(message["bytes"])
        elif text.startswith("close "):
            _, code, reason = text.split(" ", 2)
            await socket.close(int(code), reason)
        elif text == "raise":
            raise RuntimeError("on purpose")
        else:
            await socket.send_text(text)
    journal = socket.query_params.get("journal")
    if journal:
        with Path(journal).open("a") as file:
            file.write(f"{message['code']} {message['reason']}\n")


async def deny(socket: WebSocket) -> None:
    await socket.close()


async def refuse(socket: WebSocket) -> None:
    await socket.send_denial_response(
        JSONResponse({"error": "no ticket"}, 401, {"www-authenticate": "Ticket"})
    )


app = Starlette(
    routes=[
        Route("/", page),
        Route("/where", where),
        WebSocketRoute("/talk", talk),
        WebSocketRoute("/deny", deny),
        WebSocketRoute("/refuse", refuse),
    ]
)
