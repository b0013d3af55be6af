"""Bodies that are no JSON, and what goes on besides a request."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Annotated, Any

from fastapi import (
    APIRouter,
    BackgroundTasks,
    File,
    Form,
    Query,
    Request,
    Response,
    UploadFile,
    WebSocket,
    WebSocketDisconnect,
    WebSocketException,
)
from fastapi.responses import (
    FileResponse,
    HTMLResponse,
    PlainTextResponse,
    RedirectResponse,
    StreamingResponse,
)
from pydantic import BaseModel

router = APIRouter()
_FILE = Path(__file__).parent / "static/style.css"


class Login(BaseModel):
    name: str
    password: str
    remember: bool = False


@router.post("/form")
async def form(
    title: Annotated[str, Form(min_length=2)], numbers: Annotated[list[int], Form()]
) -> dict[str, Any]:
    return {"title": title, "numbers": numbers}


@router.post("/login")
def login(login: Annotated[Login, Form()]) -> Login:
    return login


@router.post("/file")
async def file(data: Annotated[bytes, File()], note: Annotated[str, Form()] = "") -> dict[str, Any]:
    return {"sha256": hashlib.sha256(data).hexdigest(), "note": note}


@router.post("/files")
async def files(files: list[UploadFile]) -> list[dict[str, Any]]:
    return [
        {
            "name": file.filename,
            "type": file.content_type,
            "sha256": hashlib.sha256(await file.read()).hexdigest(),
        }
        for file in files
    ]


@router.post("/raw")
async def raw(request: Request) -> Response:
    digest = hashlib.sha256()
    async for piece in request.stream():
        digest.update(piece)
    return Response(digest.digest(), media_type="application/octet-stream", status_code=202)


@router.get("/stream")
async def stream(pieces: int = 5) -> StreamingResponse:
    async def body() -> AsyncIterator[str]:
        for number in range(pieces):
            yield f"piece {number}\n" * 100
            await asyncio.sleep(0)

    return StreamingResponse(body(), media_type="text/event-stream")


@router.get("/stream/sync")
def stream_sync() -> StreamingResponse:
    def body() -> Iterator[bytes]:
        yield from (bytes([number]) * 1000 for number in range(20))

    return StreamingResponse(body(), media_type="application/octet-stream")


@router.get("/download", response_class=FileResponse)
async def download() -> FileResponse:
    return FileResponse(_FILE, filename="käse.css")


@router.get("/page", response_class=HTMLResponse)
async def page() -> str:
    return "<p>grüezi</p>"


@router.get("/away", response_class=RedirectResponse, status_code=302)
async def away() -> str:
    return "/page?from=away"


_done: dict[str, asyncio.Event] = {}


@router.post("/background/{key}", response_class=PlainTextResponse, status_code=202)
async def background(key: str, tasks: BackgroundTasks) -> str:
    done = _done[key] = asyncio.Event()

    async def do() -> None:
        await asyncio.sleep(0.01)
        done.set()

    tasks.add_task(do)
    return "later"


@router.get("/background/{key}")
async def background_done(key: str) -> bool:
    async with asyncio.timeout(10):
        return await _done.pop(key).wait()


@router.websocket("/ws/{room}")
async def websocket(websocket: WebSocket, room: int, token: Annotated[str, Query()]) -> None:
    if token != "open":
        raise WebSocketException(1008, "wrong token")
    await websocket.accept(subprotocol="chat", headers=[(b"x-room", b"%d" % room)])
    try:
        while True:
            message = await websocket.receive_json()
            if message == "close":
                await websocket.close(4001, "enough")
                return
            await websocket.send_json({"room": room, "echo": message})
            await websocket.send_bytes(bytes(range(room)))
    except WebSocketDisconnect:
        pass
