"""The application."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Request, Response
from fastapi.exception_handlers import request_validation_exception_handler
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from fastapi.middleware.gzip import GZipMiddleware
from fastapi.responses import JSONResponse
from fastapi.staticfiles import StaticFiles
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from .. import common
from . import accounts, transfers, wares
from .models import Cat


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="SHOP_", env_nested_delimiter="__")

    title: str = "Shop"
    limits: dict[str, int] = {}
    debug_level: Annotated[int, Field(ge=0)] = 0


@cache
def settings() -> Settings:
    return Settings()


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
    yield {"opened": settings().title}


app = FastAPI(title=settings().title, version="1.2", lifespan=lifespan)
app.add_middleware(GZipMiddleware, minimum_size=2000)
app.add_middleware(
    CORSMiddleware, allow_origins=["https://example.org"], allow_methods=["*"], max_age=60
)
for router in (wares.router, accounts.router, transfers.router):
    app.include_router(router)


class OutOfStock(Exception):
    def __init__(self, ware: str) -> None:
        self.ware = ware


@app.exception_handler(OutOfStock)
async def out_of_stock(request: Request, exc: OutOfStock) -> JSONResponse:
    return JSONResponse({"out": exc.ware}, 410, {"retry-after": "60"})


@app.exception_handler(RequestValidationError)
async def invalid(request: Request, exc: RequestValidationError) -> Response:
    response = await request_validation_exception_handler(request, exc)
    response.headers["x-errors"] = str(len(exc.errors()))
    return response


@app.middleware("http")
async def mark(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    response = await call_next(request)
    response.headers["x-worker"] = str(common.interpreter_id())
    return response


@app.get("/settings")
async def get_settings(found: Annotated[Settings, Depends(settings)]) -> Settings:
    return found


@app.get("/state")
async def state(request: Request) -> dict[str, Any]:
    return {"opened": request.state.opened}


@app.get("/stock/{ware}")
def stock(ware: str) -> None:
    raise OutOfStock(ware)


@app.get("/error")
async def error() -> None:
    raise RuntimeError("the application's own secret")


@app.get("/sync")
def sync() -> dict[str, bool]:
    return {"on_loop": common.on_loop()}


@app.get("/modules")
async def modules() -> dict[str, str | None]:
    """Where the extension module was loaded from."""
    return {"file": sys.modules["pydantic_core._pydantic_core"].__file__}


@app.webhooks.post("new-cat")
def new_cat(body: Cat) -> None:
    """Documented only."""


inside = FastAPI(title="Inside", root_path_in_servers=False)


@inside.get("/hello/{name}")
async def hello(name: str, request: Request) -> dict[str, str]:
    return {"hello": name, "root_path": request.scope["root_path"]}


app.mount("/inside", inside)
app.mount("/static", StaticFiles(directory=Path(__file__).parent / "static"), name="static")
