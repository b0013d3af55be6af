"""Blocking calls for hosts that run a loop of their own."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable


async def in_thread(function: Callable[[], None]) -> None:
    """Call a blocking function in a thread that, unlike an executor's, is gone afterwards.

    If no thread can be had it blocks the loop, which is better than not to stop.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def finish(exc: BaseException | None) -> None:
        if not done.done():
            done.set_result(None) if exc is None else done.set_exception(exc)

    def call() -> None:
        outcome = None
        try:
            function()
        except BaseException as exc:
            outcome = exc
        with contextlib.suppress(RuntimeError):  # the loop is closed: who asked was cancelled
            loop.call_soon_threadsafe(finish, outcome)

    thread = threading.Thread(target=call, name="asgi-supervisor-call")
    try:
        thread.start()
    except RuntimeError:  # there is none to be had
        function()
        return
    try:
        await done
    finally:
        if done.done() and not done.cancelled():
            thread.join()  # it has only to return
