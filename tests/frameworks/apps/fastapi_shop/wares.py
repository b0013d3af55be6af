"""Parameters, models and what they answer."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any

from fastapi import (
    APIRouter,
    Body,
    Cookie,
    Depends,
    Header,
    HTTPException,
    Path,
    Query,
    Request,
    Response,
    status,
)
from fastapi.exceptions import FastAPIDeprecationWarning
from fastapi.responses import ORJSONResponse, PlainTextResponse
from pydantic import BaseModel

from .models import Cat, Exotic, Lengths, Page, Pet, Span, Ware

warnings.simplefilter("ignore", FastAPIDeprecationWarning)  # of ORJSONResponse

router = APIRouter()
_wares: dict[int, Ware] = {}


@router.post("/wares/{number}", status_code=status.HTTP_201_CREATED, tags=["wares"])
async def put_ware(number: Annotated[int, Path(ge=1)], ware: Ware, response: Response) -> Ware:
    _wares[number] = ware
    response.headers["location"] = f"/wares/{number}"
    return ware


@router.get("/wares/{number}", response_model_exclude_unset=True, tags=["wares"])
async def get_ware(number: int) -> Ware:
    if number not in _wares:
        raise HTTPException(404, {"missing": number}, headers={"x-missing": "ware"})
    return _wares[number]


@router.get("/wares/{number}/short", response_model=Ware, response_model_include={"name", "label"})
async def short_ware(number: int) -> Any:
    return _wares[number].model_dump()


@router.get("/wares", response_model_exclude_none=True)
async def wares(
    limit: Annotated[int, Query(le=50)] = 10, tag: Annotated[tuple[str, ...], Query()] = ()
) -> Page[Ware]:
    rows = [_wares[number] for number in sorted(_wares)][:limit]
    return Page[Ware](
        rows=[row.model_copy(update={"secret": None}) for row in rows], total=len(tag)
    )


@router.delete("/wares", status_code=204)
def delete_wares() -> None:
    _wares.clear()


@router.post("/span")
async def span(span: Span) -> Span:
    return span


@router.post("/pets")
async def pets(pets: list[Pet]) -> list[Pet]:
    return pets


@router.post("/pet", responses={409: {"model": Cat, "description": "It is a cat"}})
async def pet(pet: Annotated[Pet, Body(embed=True)], loud: Annotated[bool, Body()] = False) -> Any:
    return {"pet": pet, "loud": loud}


@router.post("/lengths")
def lengths(lengths: Lengths) -> Lengths:
    return lengths


@router.put("/exotic", response_model_by_alias=True)
async def exotic(exotic: Exotic) -> Exotic:
    return exotic


class Filter(BaseModel):
    model_config = {"extra": "forbid"}

    limit: int = 100
    order: str = "name"


@router.get("/filter")
async def filtered(filter_query: Annotated[Filter, Query()]) -> Filter:
    return filter_query


@router.get("/orjson", response_class=ORJSONResponse)
async def with_orjson() -> Any:
    return ORJSONResponse({"text": "grüezi", "numbers": [1, 2.5, None], "nested": {"a": {"b": []}}})


@router.get("/headers")
async def headers(
    user_agent: Annotated[str, Header()],
    x_token: Annotated[list[str], Header()],
    flavour: Annotated[str | None, Cookie()] = None,
) -> dict[str, Any]:
    return {"agent": user_agent, "tokens": x_token, "flavour": flavour}


@router.get("/cookies", response_class=PlainTextResponse)
async def cookies(response: Response) -> str:
    response.set_cookie("flavour", "oat", max_age=60, httponly=True, samesite="strict")
    response.set_cookie("size", "large", secure=True)
    return "baked"


@router.get("/wrong-answer", response_model=Cat)
async def wrong_answer() -> Any:
    return {"kind": "dog"}


# --- dependencies

_order: list[str] = []


async def outer() -> AsyncIterator[str]:
    _order.append("outer in")
    try:
        yield "outer"
    except ValueError as exc:
        _order.append(f"outer saw {exc}")
        raise HTTPException(418, str(exc)) from exc
    finally:
        _order.append("outer out")


def inner(of: Annotated[str, Depends(outer)]) -> Iterator[str]:
    _order.append("inner in")
    yield f"inner of {of}"
    _order.append("inner out")


class Pager:
    def __init__(self, skip: int = 0) -> None:
        self.skip = skip


@router.get("/depends")
async def depends(
    found: Annotated[str, Depends(inner)], pager: Annotated[Pager, Depends()], fail: bool = False
) -> dict[str, Any]:
    if fail:
        raise ValueError("on demand")
    return {"found": found, "skip": pager.skip}


@router.get("/depends/order")
async def order() -> list[str]:
    async with asyncio.timeout(10):  # dependencies end after the response
        while _order and _order[-1] != "outer out":  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    done = _order.copy()
    _order.clear()
    return done


@router.api_route("/any", include_in_schema=False, methods=["PATCH", "OPTIONS", "HEAD", "GET"])
async def any_method(request: Request) -> dict[str, str]:
    return {"method": request.method, "path": request.url.path, "query": request.url.query}
