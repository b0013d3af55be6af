from __future__ import annotations

import io
from typing import Any

import numpy as np
import pandas as pd
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from . import named


def _solve(size: int) -> dict[str, Any]:
    numbers = np.random.default_rng(7).random((size, size))
    solved = np.linalg.solve(numbers, np.ones(size))
    return {
        "right": bool(np.allclose(numbers @ solved, 1)),
        "spectrum": np.abs(np.fft.rfft(numbers[0]))[:3].round(9).tolist(),
        "sorted": np.sort(numbers, axis=None)[:3].tolist(),
    }


async def solve(request: Request) -> Response:
    return JSONResponse(await run_in_threadpool(_solve, int(request.query_params["size"])))


async def singular(request: Request) -> Response:
    try:
        np.linalg.inv(np.zeros((2, 2)))
    except np.linalg.LinAlgError as exc:
        return JSONResponse({"error": str(exc)}, 400)
    raise AssertionError


async def sales(request: Request) -> Response:
    frame = pd.read_csv(io.BytesIO(await request.body()), parse_dates=["day"])
    by_month = frame.groupby([frame.day.dt.strftime("%Y-%m"), "ware"]).amount.agg(["sum", "mean"])
    return PlainTextResponse(by_month.reset_index().to_json(orient="records"))


app = named(
    Starlette(
        routes=[
            Route("/solve", solve),
            Route("/singular", singular),
            Route("/sales", sales, methods=["POST"]),
        ]
    )
)
