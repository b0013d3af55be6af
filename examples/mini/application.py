"""Step 1: the application, which knows nothing of the server that calls it."""

import json
from collections.abc import AsyncIterator


class Mini:
    """An ASGI application: functions by path, each called with the scope of a request."""

    def __init__(self):
        self._handlers = {}
        self._starting = []

    def get(self, path):
        """Have a function answer GET at a path; it returns text, data, or an async iterator."""
        return lambda function: self._handlers.setdefault(path, function)

    def on_start(self, function):
        """Have a function called in each worker before it serves; its argument is the state."""
        self._starting.append(function)
        return function

    async def __call__(self, scope, receive, send):
        match scope["type"]:
            case "http":
                await self._answer(scope, send)
            case "lifespan":
                await self._live(scope, receive, send)
            case _:  # a WebSocket: the server refuses it
                raise NotImplementedError(scope["type"])

    async def _answer(self, scope, send):
        handler = self._handlers.get(scope["path"])
        if handler is None:
            return await self._respond(send, 404, "text/plain", b"not here\n")
        if scope["method"] not in ("GET", "HEAD"):
            return await self._respond(send, 405, "text/plain", b"GET only\n")
        answer = await handler(scope)
        if isinstance(answer, AsyncIterator):
            return await self._stream(send, answer)
        if isinstance(answer, str):
            return await self._respond(send, 200, "text/plain; charset=utf-8", answer.encode())
        return await self._respond(send, 200, "application/json", json.dumps(answer).encode())

    async def _respond(self, send, status, kind, body):
        fields = [(b"content-type", kind.encode()), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": status, "headers": fields})
        await send({"type": "http.response.body", "body": body})

    async def _stream(self, send, pieces):
        fields = [(b"content-type", b"text/plain; charset=utf-8")]
        await send({"type": "http.response.start", "status": 200, "headers": fields})
        async for piece in pieces:
            body = piece.encode()
            await send({"type": "http.response.body", "body": body, "more_body": True})
        await send({"type": "http.response.body"})

    async def _live(self, scope, receive, send):
        await receive()  # lifespan.startup
        try:
            for function in self._starting:
                await function(scope["state"])
        except Exception as exc:
            await send({"type": "lifespan.startup.failed", "message": str(exc)})
            raise
        await send({"type": "lifespan.startup.complete"})
        await receive()  # lifespan.shutdown
        await send({"type": "lifespan.shutdown.complete"})
