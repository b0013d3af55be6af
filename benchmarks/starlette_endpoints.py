"""What a framework adds: a router, a request object, middleware, a response class.

By itself, since FastAPI has extension modules that refuse subinterpreters.
"""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route


async def _json(request: Request) -> JSONResponse:
    return JSONResponse({"message": "Hello, world!", "path": request.url.path})


def _json_in_thread(request: Request) -> JSONResponse:
    return JSONResponse({"message": "Hello, world!", "path": request.url.path})


app = Starlette(routes=[Route("/", _json), Route("/def", _json_in_thread)])
