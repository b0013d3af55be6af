"""FastAPI, with endpoints that are coroutines and such that are not.

Endpoints and dependencies that are plain functions are called in a thread, by anyio; what that
costs is mostly the way there and back.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, FastAPI, Header
from pydantic import BaseModel


class Item(BaseModel):
    """What is posted."""

    name: str
    price: float
    tags: list[str] = []


app = FastAPI(openapi_url=None)


@app.get("/")
async def read() -> dict[str, str]:
    return {"message": "Hello, world!"}


@app.get("/def")
def read_in_thread() -> dict[str, str]:
    return {"message": "Hello, world!"}


def user(user_agent: Annotated[str, Header()] = "") -> str:
    return user_agent.partition("/")[0]


@app.post("/items")
async def create(item: Item, user: Annotated[str, Depends(user)]) -> dict[str, object]:
    return {"name": item.name, "total": item.price * 1.19, "by": user}
