"""Applications that log: when they are imported, start, serve and end."""

from __future__ import annotations

import asyncio
import logging
import logging.config
import sys
import threading
import time
from typing import Any

from .lifecycle import answer

logger = logging.getLogger("the_app")
logger.info("imported")


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Logs what the path says."""
    if scope["type"] == "lifespan":
        await receive()
        if "configure" in scope["state"]:
            logging.config.dictConfig(scope["state"]["configure"])
        logger.info("started")
        await send({"type": "lifespan.startup.complete"})
        await receive()
        logger.info("shut down")
        await send({"type": "lifespan.shutdown.complete"})
        return
    action, _, argument = scope["path"].removeprefix("/").partition("/")
    if action == "text":
        logger.info(
            "said %s", {"odd": "wörds \ud800 \0 \U0001f40d", "big": "x" * 200_000}[argument]
        )
    elif action == "caught":
        try:
            raise LookupError("inner wörds")
        except LookupError:
            logger.exception("caught it", extra={"request_id": 17}, stack_info=True)
    elif action == "raise":
        raise LookupError("out of the application")
    elif action == "level":
        logger.debug("debug")
        logger.info("info")
        logger.warning("warning")
    elif action == "apart":
        apart = logging.getLogger("apart")
        apart.propagate = False
        apart.error("nobody hears this")
    elif action == "threads":
        names = [str(number) for number in range(4)]
        await asyncio.gather(*(asyncio.to_thread(_count, name, int(argument)) for name in names))
    elif action == "flood":
        for number in range(int(argument)):
            logger.info("%d %s", number, "x" * 100)
    elif action == "leave-thread":
        loop = asyncio.get_running_loop()
        threading.Thread(target=_linger, args=(loop,), name="lingering").start()
    elif action == "die":
        asyncio.get_running_loop().call_soon(_die)
    await answer(send, "ok")


def _count(name: str, number: int) -> None:
    for index in range(number):
        logger.info("%s %d", name, index)


def _die() -> None:
    logger.info("last words")
    sys.exit("the worker is told to die")


def _linger(loop: asyncio.AbstractEventLoop) -> None:
    while loop.is_running():
        time.sleep(0.002)
    logger.info("has lingered")


def broken() -> Any:
    """A factory that fails."""
    logger.info("about to fail")
    raise LookupError("no application")
