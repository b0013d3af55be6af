from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import BackgroundTasks, FastAPI, Form, Request, Response, UploadFile
from fastapi.responses import RedirectResponse, StreamingResponse
from pydantic import BaseModel, Field

from . import common


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
    resource = common.Resource()
    yield {"resource": resource}
    resource.close()


app = FastAPI(lifespan=lifespan)


class Item(BaseModel):
    name: str
    price: Annotated[float, Field(gt=0)]


@app.get("/json")
async def get_json(request: Request) -> dict[str, Any]:
    return {"path": request.url.path, "query": dict(request.query_params)}


@app.post("/json")
async def post_json(request: Request) -> dict[str, Any]:
    return {"echo": await request.json()}


@app.post("/item")
async def item(item: Item) -> Item:
    return item


@app.post("/form")
async def form(
    title: Annotated[str, Form()],
    text: Annotated[str, Form()],
    file: UploadFile | None = None,
) -> dict[str, Any]:
    files = {}
    if file is not None:
        digest = common.Digest(await file.read())
        files["file"] = {"filename": file.filename, **digest.result()}
    return {"fields": {"title": title, "text": text}, "files": files}


@app.post("/upload")
async def upload(request: Request) -> dict[str, Any]:
    digest = common.Digest()
    async for piece in request.stream():
        digest.update(piece)
    return digest.result()


@app.get("/download")
async def download(chunks: int) -> StreamingResponse:
    async def body() -> AsyncIterator[bytes]:
        for chunk in common.chunks(chunks):
            yield chunk

    return StreamingResponse(body(), media_type="application/octet-stream")


@app.get("/events")
async def events(background: BackgroundTasks) -> StreamingResponse:
    background.add_task(common.follow_up)
    return StreamingResponse(common.events())


@app.get("/background")
async def background(tasks: BackgroundTasks) -> Response:
    tasks.add_task(common.follow_up)
    await asyncio.sleep(0.1)
    return Response(b"x" * 100_000)


@app.get("/sync")
def sync() -> dict[str, Any]:
    return common.whoami()


@app.get("/state")
async def state(request: Request) -> dict[str, Any]:
    return {
        "given": request.state.given,
        "same_worker": request.state.resource.marker == common.MARKER,
    }


@app.get("/redirect")
async def redirect() -> Response:
    response = RedirectResponse("/cookies", status_code=303)
    response.set_cookie("flavour", "oat")
    response.set_cookie("size", "large", httponly=True)
    return response


@app.get("/cookies")
async def cookies(request: Request) -> dict[str, str]:
    return request.cookies


@app.get("/error")
async def error() -> None:
    raise RuntimeError("the application's own secret")


@app.get("/whoami")
async def whoami() -> dict[str, Any]:
    return common.whoami()
