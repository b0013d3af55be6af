"""A pipe in place of the supervisor, and ways to run what logs."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import logging.config
import os
import re
from collections.abc import Callable
from typing import Any

from subinterp_asgi.control import log_records
from subinterp_asgi.worker.log_forwarder import LogForwarder

LINE = "x" * 100


class Pipe:
    """A pipe, and what was read from it."""

    def __init__(self) -> None:
        self.read_fd, self.write_fd = os.pipe()
        os.set_blocking(self.read_fd, False)
        os.set_blocking(self.write_fd, False)
        self.buffer = bytearray()
        self.records: list[logging.LogRecord] = []
        self.writes: list[int] = []

    def read(self) -> list[str]:
        """Read what there is; return all messages so far."""
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self.read_fd, 65536):
                self.buffer += data
                taken = log_records.take(self.buffer)
                self.records += [log_records.rebuild(fields, "own") for fields in taken]
        return self.messages

    @property
    def messages(self) -> list[str]:
        return [record.getMessage() for record in self.records]

    def reported(self) -> list[int]:
        """What reports of dropped records say."""
        found = [re.search(r": (\d+) log record\(s\) were dropped here", m) for m in self.messages]
        return [int(match[1]) for match in found if match]

    def fill(self) -> int:
        """Leave no room, not for an octet; return how much that took."""
        count = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                count += os.write(self.write_fd, b"\0" * 4096)
        return count

    def drain(self, count: int) -> None:
        """Take what ``fill()`` has put in."""
        while count:
            count -= len(os.read(self.read_fd, count))

    def close(self) -> None:
        os.close(self.read_fd)
        os.close(self.write_fd)


def run(forwarder: LogForwarder, main: Callable[[], Any], worker_id: int = 4) -> None:
    """Run a coroutine function on a loop that the forwarder knows."""
    loop = asyncio.SelectorEventLoop()
    forwarder.use_loop(loop, worker_id)
    try:
        loop.run_until_complete(main())
    finally:
        loop.close()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.001)
