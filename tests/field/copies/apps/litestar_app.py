from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
from litestar import Litestar, Request, Response, WebSocket, delete, get, post, websocket
from litestar.datastructures import Cookie, UploadFile
from litestar.di import Provide
from litestar.enums import RequestEncodingType
from litestar.exceptions import NotFoundException
from litestar.params import Body
from litestar.response import Redirect, Stream

from . import named


class Ware(msgspec.Struct):
    name: Annotated[str, msgspec.Meta(min_length=2)]
    price: float
    tags: list[str] = []


@dataclass
class Form:
    title: str
    file: UploadFile


class OutOfStock(Exception):
    pass


async def pager(skip: int = 0) -> int:
    return skip


@get("/json", dependencies={"page": Provide(pager)})
async def json(request: Request[Any, Any, Any], page: int) -> dict[str, Any]:
    return {"query": dict(request.query_params), "page": page}


@post("/wares")
async def wares(data: list[Ware]) -> list[Ware]:
    return data


@get("/wares/{number:int}", sync_to_thread=True)
def ware(number: int) -> Ware:
    if number == 410:
        raise OutOfStock
    if number > 9:
        raise NotFoundException(f"no ware {number}")
    return Ware(f"ware {number}", number / 2)


@delete("/wares/{number:int}")
async def remove(number: int) -> None:
    pass


@post("/form")
async def form(
    data: Annotated[Form, Body(media_type=RequestEncodingType.MULTI_PART)],
) -> dict[str, Any]:
    return {"title": data.title, "size": len(await data.file.read())}


@get("/stream")
async def stream() -> Stream:
    async def body() -> AsyncIterator[str]:
        for number in range(50):
            yield f"piece {number}\n" * 100

    return Stream(body())


@get("/cookie", response_cookies=[Cookie("flavour", "oat", max_age=60)])
async def cookie() -> str:
    return "baked"


@get("/away")
async def away() -> Redirect:
    return Redirect("/json")


@get("/msgpack")
async def msgpack() -> Response[bytes]:
    return Response(msgspec.msgpack.encode(Ware("a", 1.5)), media_type="application/x-msgpack")


@get("/error")
async def error() -> None:
    raise RuntimeError("the application's own secret")


@websocket("/ws")
async def talk(socket: WebSocket[Any, Any, Any]) -> None:
    await socket.accept()
    await socket.send_json({"echo": await socket.receive_json()})
    await socket.close(4001)


def out_of_stock(request: Request[Any, Any, Any], exc: OutOfStock) -> Response[dict[str, str]]:
    return Response({"sold": "out"}, status_code=410)


app = named(
    Litestar(
        [json, wares, ware, remove, form, stream, cookie, away, msgpack, error, talk],
        exception_handlers={OutOfStock: out_of_stock},
    )
)
