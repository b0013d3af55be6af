"""FastAPI with forty operations: what an application of some size costs to start and to hold."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, FastAPI
from pydantic import BaseModel, create_model

app = FastAPI()


class Item(BaseModel):
    name: str
    price: float
    tags: list[str] = []


def page(skip: int = 0, limit: int = 10) -> tuple[int, int]:
    return skip, limit


Page = Annotated[tuple[int, int], Depends(page)]


@app.get("/")
async def root() -> dict[str, str]:
    return {"message": "Hello, world!"}


def _add(number: int) -> None:
    model = create_model(f"Item{number}", __base__=Item, kind=(int, number))

    @app.get(f"/items{number}", response_model=list[model])  # type: ignore[valid-type]
    async def items(page: Page) -> list[Item]:
        return [model(name="bread", price=page[0])]

    @app.post(f"/items{number}", response_model=model)
    async def create(item: model) -> Item:  # type: ignore[valid-type]
        created: Item = item
        return created


for _number in range(20):
    _add(_number)
