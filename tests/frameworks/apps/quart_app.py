from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from quart import (
    Quart,
    Response,
    abort,
    jsonify,
    redirect,
    request,
    stream_with_context,
    websocket,
)
from quart.asgi import ASGILifespan

from . import common

app = Quart(__name__)


class Lifespan(ASGILifespan):
    """Quart shows the lifespan's scope to nobody, but its class can be replaced."""

    def __init__(self, app: Quart, scope: Any) -> None:
        super().__init__(app, scope)
        app.extensions["lifespan_state"] = scope["state"]


app.asgi_lifespan_class = Lifespan


@app.before_serving
async def open_resource() -> None:
    app.extensions["lifespan_state"]["resource"] = common.Resource()


@app.after_serving
async def close_resource() -> None:
    app.extensions["lifespan_state"]["resource"].close()


@app.route("/json", methods=["GET", "POST"])
async def json() -> Response:
    if request.method == "POST":
        return jsonify(echo=await request.get_json())
    return jsonify(path=request.path, query=dict(request.args))


@app.post("/form")
async def form() -> Response:
    files = {}
    for name, file in (await request.files).items():
        files[name] = {"filename": file.filename, **common.Digest(file.read()).result()}
    return jsonify(fields=dict(await request.form), files=files)


@app.post("/upload")
async def upload() -> Response:
    digest = common.Digest()
    async for piece in request.body:
        digest.update(piece)
    return jsonify(digest.result())


@app.get("/download")
async def download() -> Response:
    @stream_with_context
    async def body() -> AsyncIterator[bytes]:
        for chunk in common.chunks(int(request.args["chunks"])):
            yield chunk

    return Response(body(), mimetype="application/octet-stream")


@app.get("/events")
async def events() -> Response:
    response = Response(common.events())
    response.timeout = None
    return response


@app.get("/sync")
def sync() -> Response:
    return jsonify(common.whoami())


@app.get("/state")
async def state() -> Response:
    shared = request.scope["state"]
    return jsonify(given=shared["given"], same_worker=shared["resource"].marker == common.MARKER)


@app.get("/redirect")
async def redirect_with_cookies() -> Any:
    response = redirect("/cookies", 303)
    response.set_cookie("flavour", "oat")
    response.set_cookie("size", "large", httponly=True)
    return response


@app.get("/cookies")
async def cookies() -> Response:
    return jsonify(dict(request.cookies))


@app.get("/error")
async def error() -> Response:
    raise RuntimeError("the application's own secret")


@app.get("/whoami")
async def whoami() -> Response:
    return jsonify(common.whoami())


@app.websocket("/ws")
async def ws() -> None:
    offered = websocket.requested_subprotocols
    await websocket.accept(subprotocol="chat" if "chat" in offered else None)
    while (message := await websocket.receive()) != "close":
        await websocket.send(message)
    await websocket.close(4001, "enough")


@app.websocket("/ws-denied")
async def ws_denied() -> None:
    abort(403)
