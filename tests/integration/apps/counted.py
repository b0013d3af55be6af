"""An application that finds out how many of its calls run at the same time, in all workers."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from .pool import App


class Counted(App):
    """Each call takes an octet out of a pipe that all share; where there is none are too many."""

    async def startup(self, state: Any) -> None:
        self.reading, self.writing = state["places"]

    async def answer(self, send: Any, body: bytes) -> None:
        try:
            os.read(self.reading, 1)
        except BlockingIOError:
            body = b"too many"
        else:
            for _ in range(os.urandom(1)[0] % 4):  # let others in, now sooner, now later
                await asyncio.sleep(0)
            os.write(self.writing, b"p")
        await super().answer(send, body)
