"""Step 4: streams without an end do not keep a worker from ending."""

import asyncio

from subinterp_asgi.errors import StateError
from subinterp_asgi.worker import on_drain


async def until_drain(pieces):
    """Yield what an async iterator yields, until the worker is told to end."""
    draining = asyncio.Event()
    try:
        forget = on_drain(draining.set)
    except StateError:  # another server runs the application
        async for piece in pieces:
            yield piece
        return
    end = asyncio.create_task(draining.wait())
    try:
        while True:
            piece = asyncio.ensure_future(anext(pieces))
            await asyncio.wait({piece, end}, return_when=asyncio.FIRST_COMPLETED)
            if not piece.done():
                piece.cancel()
                return
            try:
                yield piece.result()
            except StopAsyncIteration:
                return
    finally:
        end.cancel()
        forget()
