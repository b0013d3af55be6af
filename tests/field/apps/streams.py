"""Streams of events that would go on for ever: the recipes of the README."""

import asyncio
import contextlib
import os

import anyio
from sse_starlette import EventSourceResponse
from sse_starlette.sse import AppStatus
from starlette.applications import Starlette
from starlette.routing import Route

from subinterp_asgi.worker import on_drain


class EventsUntilDrain(EventSourceResponse):
    """Ends when its worker drains."""

    async def __call__(self, scope, receive, send):
        with anyio.CancelScope() as stream:
            forget = on_drain(stream.cancel)
            try:
                await super().__call__(scope, receive, send)
            finally:
                forget()
        if stream.cancelled_caught:
            await send({"type": "http.response.body", "body": b""})  # the last piece


async def events():
    yield {"data": "first"}
    await asyncio.sleep(3600)


async def until_drain(request):
    return EventsUntilDrain(events())


async def until_told(request):
    return EventSourceResponse(events())


def end_streams():
    AppStatus.should_exit = True


@contextlib.asynccontextmanager
async def lifespan(app):
    if "TELL_SSE_STARLETTE" in os.environ:
        on_drain(end_streams)
    yield


app = Starlette(
    routes=[Route("/until-drain", until_drain), Route("/until-told", until_told)],
    lifespan=lifespan,
)
