"""What people run: FastAPI and Starlette, with endpoints that are coroutines and such that are not.

Endpoints and dependencies that are plain functions are called in a thread, by anyio; what that
costs is mostly the way there and back. Django's are in ``django_app.py``.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, FastAPI, Header
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route


class Item(BaseModel):
    """What is posted."""

    name: str
    price: float
    tags: list[str] = []


fastapi_app = FastAPI(openapi_url=None)


@fastapi_app.get("/")
async def read() -> dict[str, str]:
    return {"message": "Hello, world!"}


@fastapi_app.get("/def")
def read_in_thread() -> dict[str, str]:
    return {"message": "Hello, world!"}


def user(user_agent: Annotated[str, Header()] = "") -> str:
    return user_agent.partition("/")[0]


@fastapi_app.post("/items")
async def create(item: Item, user: Annotated[str, Depends(user)]) -> dict[str, object]:
    return {"name": item.name, "total": item.price * 1.19, "by": user}


async def _json(request: Request) -> JSONResponse:
    return JSONResponse({"message": "Hello, world!", "path": request.url.path})


def _json_in_thread(request: Request) -> JSONResponse:
    return JSONResponse({"message": "Hello, world!", "path": request.url.path})


starlette_app = Starlette(routes=[Route("/", _json), Route("/def", _json_in_thread)])
