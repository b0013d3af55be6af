from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from . import common


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[dict[str, Any]]:
    resource = common.Resource()
    yield {"resource": resource}
    resource.close()


async def json(request: Request) -> Response:
    if request.method == "POST":
        return JSONResponse({"echo": await request.json()})
    return JSONResponse({"path": request.url.path, "query": dict(request.query_params)})


async def form(request: Request) -> Response:
    fields, files = {}, {}
    async with request.form() as data:
        for name, value in data.multi_items():
            if isinstance(value, UploadFile):
                digest = common.Digest(await value.read())
                files[name] = {"filename": value.filename, **digest.result()}
            else:
                fields[name] = value
    return JSONResponse({"fields": fields, "files": files})


async def upload(request: Request) -> Response:
    digest = common.Digest()
    async for piece in request.stream():
        digest.update(piece)
    return JSONResponse(digest.result())


async def download(request: Request) -> Response:
    async def body() -> AsyncIterator[bytes]:
        for chunk in common.chunks(int(request.query_params["chunks"])):
            yield chunk

    return StreamingResponse(body(), media_type="application/octet-stream")


async def events(request: Request) -> Response:
    return StreamingResponse(common.events(), background=BackgroundTask(common.follow_up))


async def background(request: Request) -> Response:
    await asyncio.sleep(0.1)
    return Response(b"x" * 100_000, background=BackgroundTask(common.follow_up))


def sync(request: Request) -> Response:
    return JSONResponse(common.whoami())


async def state(request: Request) -> Response:
    return JSONResponse(
        {
            "given": request.state.given,
            "same_worker": request.state.resource.marker == common.MARKER,
        }
    )


async def redirect(request: Request) -> Response:
    response = RedirectResponse("/cookies", status_code=303)
    response.set_cookie("flavour", "oat")
    response.set_cookie("size", "large", httponly=True)
    return response


async def cookies(request: Request) -> Response:
    return JSONResponse(request.cookies)


async def error(request: Request) -> Response:
    raise RuntimeError("the application's own secret")


async def whoami(request: Request) -> Response:
    return JSONResponse(common.whoami())


async def ws(socket: WebSocket) -> None:
    await socket.accept("chat" if "chat" in socket.scope["subprotocols"] else None)
    while (message := await socket.receive())["type"] == "websocket.receive":
        if message.get("text") == "close":
            await socket.close(4001, "enough")
        elif message.get("text") is not None:
            await socket.send_text(message["text"])
        else:
            await socket.send_bytes(message["bytes"])


async def ws_denied(socket: WebSocket) -> None:
    await socket.close()


app = Starlette(
    routes=[
        Route("/json", json, methods=["GET", "POST"]),
        Route("/form", form, methods=["POST"]),
        Route("/upload", upload, methods=["POST"]),
        Route("/download", download),
        Route("/events", events),
        Route("/background", background),
        Route("/sync", sync),
        Route("/state", state),
        Route("/redirect", redirect),
        Route("/cookies", cookies),
        Route("/error", error),
        Route("/whoami", whoami),
        WebSocketRoute("/ws", ws),
        WebSocketRoute("/ws-denied", ws_denied),
    ],
    lifespan=lifespan,
)
