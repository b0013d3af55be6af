from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from falcon import HTTP_303, WebSocketDisconnected
from falcon.asgi import App, Request, Response, WebSocket
from falcon.constants import WebSocketPayloadType
from falcon.media import BinaryBaseHandlerWS, TextBaseHandlerWS
from falcon.util import sync_to_async

from . import common


class Lifespan:
    async def process_startup(self, scope: dict[str, Any], event: dict[str, Any]) -> None:
        scope["state"]["resource"] = common.Resource()

    async def process_shutdown(self, scope: dict[str, Any], event: dict[str, Any]) -> None:
        scope["state"]["resource"].close()


class JSON:
    async def on_get(self, req: Request, resp: Response) -> None:
        resp.media = {"path": req.path, "query": req.params}

    async def on_post(self, req: Request, resp: Response) -> None:
        resp.media = {"echo": await req.get_media()}


class Form:
    async def on_post(self, req: Request, resp: Response) -> None:
        fields: dict[str, Any] = {}
        files: dict[str, Any] = {}
        if (req.content_type or "").startswith("multipart/form-data"):
            async for part in await req.get_media():
                if part.filename is None:
                    fields[part.name] = await part.text
                else:
                    digest = common.Digest()
                    async for piece in part.stream:
                        digest.update(piece)
                    files[part.name] = {"filename": part.filename, **digest.result()}
        else:
            fields = await req.get_media()
        resp.media = {"fields": fields, "files": files}


class Upload:
    async def on_post(self, req: Request, resp: Response) -> None:
        digest = common.Digest()
        async for piece in req.stream:
            digest.update(piece)
        resp.media = digest.result()


class Download:
    async def on_get(self, req: Request, resp: Response) -> None:
        async def body() -> AsyncIterator[bytes]:
            for chunk in common.chunks(req.get_param_as_int("chunks", required=True)):
                yield chunk

        resp.content_type = "application/octet-stream"
        resp.stream = body()


class Sync:
    async def on_get(self, req: Request, resp: Response) -> None:
        # Falcon's responders are coroutines; this is its way to run what blocks.
        resp.media = await sync_to_async(common.whoami)


class State:
    async def on_get(self, req: Request, resp: Response) -> None:
        state = req.scope["state"]
        resp.media = {
            "given": state["given"],
            "same_worker": state["resource"].marker == common.MARKER,
        }


class Redirect:
    async def on_get(self, req: Request, resp: Response) -> None:
        resp.status = HTTP_303
        resp.location = "/cookies"
        resp.set_cookie("flavour", "oat", secure=False)
        resp.set_cookie("size", "large", secure=False, http_only=True)


class Cookies:
    async def on_get(self, req: Request, resp: Response) -> None:
        resp.media = req.cookies


class Error:
    async def on_get(self, req: Request, resp: Response) -> None:
        raise RuntimeError("the application's own secret")


class WhoAmI:
    async def on_get(self, req: Request, resp: Response) -> None:
        resp.media = common.whoami()


class Text(TextBaseHandlerWS):
    """Falcon wants to know what will come, or what to make of it: here, nothing."""

    def deserialize(self, payload: str) -> str:
        return payload


class Binary(BinaryBaseHandlerWS):
    def deserialize(self, payload: bytes) -> bytes:
        return payload


class WS:
    async def on_websocket(self, req: Request, ws: WebSocket) -> None:
        try:
            await ws.accept("chat" if "chat" in ws.subprotocols else None)
            while (message := await ws.receive_media()) != "close":
                if isinstance(message, str):
                    await ws.send_text(message)
                else:
                    await ws.send_data(message)
            await ws.close(4001, "enough")
        except WebSocketDisconnected:
            pass


class WSDenied:
    async def on_websocket(self, req: Request, ws: WebSocket) -> None:
        await ws.close()


app = App(middleware=[Lifespan()])
app.ws_options.media_handlers[WebSocketPayloadType.TEXT] = Text()
app.ws_options.media_handlers[WebSocketPayloadType.BINARY] = Binary()
app.add_route("/json", JSON())
app.add_route("/form", Form())
app.add_route("/upload", Upload())
app.add_route("/download", Download())
app.add_route("/sync", Sync())
app.add_route("/state", State())
app.add_route("/redirect", Redirect())
app.add_route("/cookies", Cookies())
app.add_route("/error", Error())
app.add_route("/whoami", WhoAmI())
app.add_route("/ws", WS())
app.add_route("/ws-denied", WSDenied())
