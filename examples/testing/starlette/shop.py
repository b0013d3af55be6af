"""A shop that keeps its items in a module, for the tests beside it."""

import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

logger = logging.getLogger("shop")
items: dict[str, int] = {}

PAGE = """<!doctype html>
<title>Shop</title>
<button>Add a pear</button>
<ul></ul>
<script>
  document.querySelector("button").onclick = async () => {
    await fetch("/items", {method: "POST", body: JSON.stringify({name: "pear", number: 1})});
    const list = document.querySelector("ul");
    list.innerHTML = "";
    for (const [name, number] of Object.entries(await (await fetch("/items")).json()))
      list.append(Object.assign(document.createElement("li"), {textContent: `${number} ${name}`}));
  };
</script>"""


async def page(request: Request) -> HTMLResponse:
    return HTMLResponse(PAGE)


async def show(request: Request) -> JSONResponse:
    return JSONResponse(items)


async def add(request: Request) -> JSONResponse:
    item = await request.json()
    put(item["name"], item["number"])
    task = BackgroundTask(logger.info, "%s was added", item["name"])
    return JSONResponse({"ok": True}, 201, background=task)


def put(name: str, number: int) -> int:
    """Add some; called by tests, too."""
    items[name] = items.get(name, 0) + number
    return items[name]


async def price(request: Request) -> PlainTextResponse:
    currency = os.environ.get("CURRENCY", "EUR")
    return PlainTextResponse(
        f"{request.state.price / request.path_params['number']:.2f} {currency}"
    )


async def talk(websocket: WebSocket) -> None:
    await websocket.accept()
    async for text in websocket.iter_text():
        await websocket.send_text(f"no {text} today")


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[dict[str, int]]:
    yield {"price": 10}


app = Starlette(
    routes=[
        Route("/", page),
        Route("/items", show),
        Route("/items", add, methods=["POST"]),
        Route("/price/{number:int}", price),
        WebSocketRoute("/talk", talk),
    ],
    lifespan=lifespan,
)
