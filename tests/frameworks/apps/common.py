"""What all the applications answer with.

Each worker's interpreter has a copy of this module, hence of its globals, of its own.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import os
import secrets
import sys
import threading
from collections.abc import AsyncGenerator, Generator
from pathlib import Path
from typing import Any

MARKER = secrets.token_hex(8)
"""Differs between copies of this module."""

_calls = itertools.count(1)

CHUNK = bytes(range(256)) * 256
"""64 KiB of a download."""


def interpreter_id() -> int:
    """The number of the interpreter that runs this code; 0 is the main one."""
    if sys.version_info >= (3, 14):
        from concurrent import interpreters

        return interpreters.get_current().id
    import _interpreters

    return _interpreters.get_current()[0]


def on_loop() -> bool:
    """Whether this thread runs an event loop; a pool's thread does not."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def whoami() -> dict[str, Any]:
    return {
        "marker": MARKER,
        "call": next(_calls),
        "interpreter": interpreter_id(),
        "pid": os.getpid(),
        "thread": threading.current_thread().name,
        "on_loop": on_loop(),
    }


class Digest:
    """Size and hash of what a client sent, piece by piece."""

    def __init__(self, data: bytes = b"") -> None:
        self._hash = hashlib.sha256(data)
        self._size = len(data)

    def update(self, data: bytes) -> None:
        self._hash.update(data)
        self._size += len(data)

    def result(self) -> dict[str, Any]:
        return {"size": self._size, "sha256": self._hash.hexdigest()}


def journal(event: str) -> None:
    """Tell the test, which reads this file, what happened and where."""
    with Path(os.environ["TEST_JOURNAL"]).open("a") as file:  # appended lines don't mix
        file.write(f"{event} {interpreter_id()} {threading.get_ident()}\n")


def chunks(count: int) -> Generator[bytes]:
    """The pieces of a download; its end is told, however it comes."""
    try:
        yield from itertools.repeat(CHUNK, count)
    finally:
        journal("download-ended")


async def events() -> AsyncGenerator[bytes]:
    """A stream that waits for its second event for ever; its end is told, however it comes."""
    try:
        yield b"first"
        await asyncio.Event().wait()
    finally:
        journal("events-ended")


async def follow_up() -> None:
    """What an application does after a response."""
    await asyncio.sleep(0.2)
    journal("followed-up")


class Resource:
    """Stands for a connection pool: made by the lifespan, used by requests, closed at the end."""

    def __init__(self) -> None:
        self.marker = MARKER
        journal("opened")

    def close(self) -> None:
        journal("closed")
