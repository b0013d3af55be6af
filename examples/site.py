"""A small Starlette site that shows what a worker is: ``make serve`` serves it.

Every worker is an interpreter of its own inside one process, so each has its own copy of this
module: reload /json a few times over new connections, and ``hits`` counts up once per interpreter
while ``pid`` stays the same.
"""

import asyncio
import os
import sys
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from html import escape
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

hits = 0
"""Requests answered by this interpreter: a module global, shared with no other worker."""

PAGE = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>subinterp_asgi</title>
<style>
  body {{ font: 1rem/1.5 system-ui, sans-serif; max-width: 42rem; margin: 2rem auto }}
  dt {{ font-family: ui-monospace, monospace; margin-top: .7rem }} dd {{ margin-left: 1.5rem }}
  output {{ display: block; font-family: ui-monospace, monospace; white-space: pre-wrap }}
</style>
<h1>It works</h1>
<p>This page came from interpreter {interpreter} of process {pid}, thread <em>{thread}</em>.</p>
<dl>{routes}</dl>
<h2>Upload</h2>
<form action="/upload" method="post" enctype="multipart/form-data">
  <input type="file" name="file" required> <button>Send</button>
</form>
<h2>Events</h2>
<output id="events">waiting for the first one</output>
<script>
  const events = new EventSource("/events?count=5");
  events.onmessage = (e) => document.getElementById("events").textContent = e.data;
  events.addEventListener("end", () => events.close());
</script>
</html>
"""


def interpreter_id() -> int:
    """The number of the interpreter that runs this code; 0 is the process's main one."""
    if sys.version_info >= (3, 14):
        from concurrent import interpreters

        return interpreters.get_current().id
    import _interpreters

    return _interpreters.get_current()[0]


def whereabouts() -> dict[str, Any]:
    return {
        "pid": os.getpid(),
        "interpreter": interpreter_id(),
        "thread": threading.current_thread().name,
        "python": sys.version.split()[0],
    }


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[dict[str, Any]]:
    """Runs once per worker: the place for connection pools and clients.

    What it yields, every request finds in ``request.state``.
    """
    yield {"started": time.monotonic(), "started_in": interpreter_id()}


async def index(request: Request) -> Response:
    """This page."""
    routes = "".join(
        f'<dt><a href="{escape(route.path)}">{escape(route.path)}</a>'
        f"<dd>{escape((route.endpoint.__doc__ or '').strip())}"
        for route in request.app.routes
    )
    here = {name: escape(str(value)) for name, value in whereabouts().items()}
    return HTMLResponse(PAGE.format(routes=routes, **here))


async def json(request: Request) -> Response:
    """Who answered: process, interpreter, thread, and how often this interpreter has."""
    global hits
    hits += 1
    return JSONResponse(
        whereabouts()
        | {
            "hits": hits,
            "started_in": request.state.started_in,
            "uptime_seconds": round(time.monotonic() - request.state.started, 3),
        }
    )


async def stream(request: Request) -> Response:
    """Lines of text, one every 50 ms (?lines=20)."""
    lines = number(request, "lines", default=20, most=100_000)

    async def body() -> AsyncIterator[str]:
        for line in range(1, lines + 1):
            yield f"line {line} of {lines}\n"
            await asyncio.sleep(0.05)

    return StreamingResponse(body(), media_type="text/plain")


async def events(request: Request) -> Response:
    """Server-sent events, one each second (?count=10)."""
    count = number(request, "count", default=10, most=3600)

    async def body() -> AsyncIterator[str]:
        for event in range(1, count + 1):
            yield f"id: {event}\ndata: {time.strftime('%H:%M:%S')}, event {event} of {count}\n\n"
            await asyncio.sleep(1)
        yield "event: end\ndata: that was all\n\n"

    return StreamingResponse(
        body(), media_type="text/event-stream", headers={"cache-control": "no-store"}
    )


async def upload(request: Request) -> Response:
    """Takes a form or a raw body by POST and tells its size."""
    if request.method == "GET":
        return Response("POST a form or a body here\n", 405, {"allow": "POST"})
    if request.headers.get("content-type", "").startswith(
        ("multipart/form-data", "application/x-www-form-urlencoded")
    ):
        async with request.form() as form:
            fields = {
                name: len(value) if isinstance(value, str) else value.size
                for name, value in form.multi_items()
            }
        return JSONResponse({"fields": fields, "size": sum(size or 0 for size in fields.values())})
    size = 0
    async for chunk in request.stream():  # as it arrives: a large upload is never held in memory
        size += len(chunk)
    return JSONResponse({"size": size})


def sync(request: Request) -> Response:
    """A plain function: it runs in a thread pool and may block."""
    time.sleep(0.1)
    return JSONResponse(whereabouts())


def number(request: Request, name: str, *, default: int, most: int) -> int:
    """The query parameter ``name`` if it is a number of 1 to ``most``, else ``default``."""
    text = request.query_params.get(name, "")
    return min(int(text), most) if text.isdecimal() and int(text) else default


app = Starlette(
    routes=[
        Route("/", index),
        Route("/json", json),
        Route("/stream", stream),
        Route("/events", events),
        Route("/upload", upload, methods=["GET", "POST"]),
        Route("/sync", sync),
    ],
    lifespan=lifespan,
)
