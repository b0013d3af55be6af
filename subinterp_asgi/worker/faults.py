"""What ``testing.faults`` asks of a worker. Imported only in those that are asked."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from time import monotonic

from ..control.launch import Runtime
from ..control.messages import FAULT_CRASH, FAULT_FREEZE, FAULT_FREEZE_IN_C
from ..errors import WorkerInterrupted
from .interpreter.marks import stands_for_application

_STEP = 0.001


class InjectedFault(Exception):
    """What a worker fails with that was told not to start."""


def inflict(kind: str, argument: int) -> None:
    """Do what a command says to the worker on whose loop this is called."""
    loop = asyncio.get_running_loop()
    if kind == FAULT_CRASH:
        loop.call_soon(_crash)
    elif kind == FAULT_FREEZE:
        loop.call_soon(_freeze, argument / 1e6)
    elif kind == FAULT_FREEZE_IN_C:
        loop.call_soon(_freeze_in_c, argument / 1e6)
    else:
        raise ValueError(f"no such fault: {kind!r}")


def _crash() -> None:
    raise SystemExit("crashed by a test")  # which asyncio lets out of the loop


@stands_for_application
def _freeze(seconds: float) -> None:
    end = monotonic() + seconds
    try:
        while monotonic() < end:
            time.sleep(_STEP)  # so long that others may run, so short that an exception gets in
    except WorkerInterrupted:
        return


@stands_for_application
def _freeze_in_c(seconds: float) -> None:
    try:
        time.sleep(seconds)
    except WorkerInterrupted:  # it was to come as soon as this returns
        return


def before_serving(
    runtime: Runtime, on_start: Callable[[], Awaitable[None]] | None
) -> Callable[[], Awaitable[None]]:
    """Make a worker's ``on_start`` hook that delays a start or has it fail, after the given one."""

    @stands_for_application
    async def hook() -> None:
        if on_start is not None:
            await on_start()
        await asyncio.sleep(runtime.start_delay)
        if runtime.start_failure is not None:
            raise InjectedFault(runtime.start_failure)

    return hook
