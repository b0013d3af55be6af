"""FastAPI with models, so that pydantic-core has something to keep."""

from __future__ import annotations

import time

from fastapi import Depends, FastAPI
from pydantic import BaseModel, Field

STARTED = time.monotonic_ns()


class Item(BaseModel):
    name: str
    price: float = Field(gt=0)
    parts: list[Item] = []


app = FastAPI()


async def started() -> int:
    return STARTED


@app.get("/")
async def root(number: int = Depends(started)) -> dict[str, int]:
    return {"started": number}


@app.post("/items")
def create(item: Item) -> Item:
    return item
