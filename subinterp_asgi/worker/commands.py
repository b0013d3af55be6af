"""From commands on a control queue to calls of the worker, and back from these to statuses."""

from __future__ import annotations

import asyncio
import logging
import queue as stdlib_queue
import socket
import time
from collections.abc import Callable

from ..control import messages
from ..control.wakeup import Channel
from ..types import Any
from .worker import first_of

logger = logging.getLogger("subinterp_asgi.error")

_POLL_INTERVAL = 0.05  # seconds between looks at a control queue without a wakeup
_IDLE_POLL_INTERVAL = 0.01  # between looks at a draining worker
_LACKING = (OSError, ImportError, MemoryError)
"""Of what a command needs, and an import does. Another may be obeyed, or this one later."""


async def run_with_bridge(worker: Any, ctrl_queue: Any, status_queue: Any) -> None:
    """Run a worker's ``serve()`` with a bridge from the control queue beside it."""

    async def obey() -> None:
        while True:  # a bridge ends with each shutdown command; the second one forces
            await bridge(worker, ctrl_queue, status_queue)

    async with first_of(worker.serve(), obey()) as (serving, obeying):
        if not serving.done():
            obeying.result()  # a bridge that failed leaves a worker that nobody can command
        await serving


async def bridge(worker: Any, ctrl_queue: Any, status_queue: Any) -> None:
    """Translate commands into calls of the worker, until one says to shut down.

    A control queue with a wakeup is looked at when that rings; another is polled.
    """
    with _Waiter(ctrl_queue) as waiter:
        await _Bridge(worker, status_queue, waiter).run(ctrl_queue)


class _Bridge:
    """Obeys one command after the other, each by the method of its name."""

    def __init__(self, worker: Any, status_queue: Any, waiter: _Waiter) -> None:
        self._worker = worker
        self._status_queue = status_queue
        self._waiter = waiter
        self._draining = False  # it was told to drain
        self._told = False  # and has said that it does
        self._idle_announced = False
        self._over = False

    async def run(self, ctrl_queue: Any) -> None:
        while True:
            while (command := try_get(ctrl_queue)) is not None:
                obey = getattr(self, f"obey_{command[0]}", None)
                if obey is None:
                    logger.error("unknown command %r on the control queue", command)
                else:
                    _obey(obey, command)
                if self._over:
                    return
            if self._told and not self._idle_announced and self._worker.is_idle():
                self._idle_announced = True
                self._status_queue.put((messages.STATUS_IDLE,))
            watching = self._told and not self._idle_announced
            await self._waiter.wait(_IDLE_POLL_INTERVAL if watching else None)

    def obey_shutdown(self, command: tuple[Any, ...]) -> None:
        if not self._draining:
            self._begin_drain()
        if command[1:] == (messages.SHUTDOWN_NOW,):
            self._worker.shutdown(now=True)
        else:
            self._worker.shutdown()
        self._over = True

    def obey_drain(self, command: tuple[Any, ...]) -> None:
        if command[1:] == (messages.DRAIN_LATER,):
            self._worker.leave()
        elif not self._draining:
            self._draining = True
            if command[1:] == (messages.DRAIN_RESTART,):
                self._begin_drain(restarting=True)
            elif command[1:] == (messages.DRAIN_HAND_OVER,):
                self._begin_drain(restarting=True, handing_over=True)
            else:
                self._begin_drain()

    def obey_reload_tls(self, command: tuple[Any, ...]) -> None:
        self._worker.reload_tls()

    def obey_reopen_logs(self, command: tuple[Any, ...]) -> None:
        _reopen_logs(command)

    def obey_adopt(self, command: tuple[Any, ...]) -> None:
        self._worker.adopt(command[1], take(messages.listeners_of(command)))

    def obey_disown(self, command: tuple[Any, ...]) -> None:
        self._worker.disown(command[1])

    def obey_fault(self, command: tuple[Any, ...]) -> None:
        from . import faults

        faults.inflict(*command[1:])

    def obey_ask(self, command: tuple[Any, ...]) -> None:
        if self._worker.on_question is not None:
            self._worker.on_question(*command[1:])

    def _begin_drain(self, **options: bool) -> None:
        self._worker.drain(**options)
        if getattr(self._worker, "accepting", False):
            self._worker.on_draining = self._tell_draining  # when drain_delay is over
        else:
            self._tell_draining()

    def _tell_draining(self) -> None:
        self._told = True
        self._status_queue.put((messages.STATUS_DRAINING,))
        self._waiter.wake()


class _Waiter:
    """Waits for a control queue to have something."""

    def __init__(self, queue: Any) -> None:
        self._wakeup = queue.wakeup if isinstance(queue, Channel) else None
        self._woken = asyncio.Event()

    def __enter__(self) -> _Waiter:
        if self._wakeup is not None:
            asyncio.get_running_loop().add_reader(self._wakeup.fileno(), self._on_wakeup)
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._wakeup is not None:
            asyncio.get_running_loop().remove_reader(self._wakeup.fileno())

    def _on_wakeup(self) -> None:
        assert self._wakeup is not None
        self._wakeup.clear()
        self._woken.set()

    def wake(self) -> None:
        """Have a wait end, or the next one; a poll ends by itself."""
        self._woken.set()

    async def wait(self, timeout: float | None) -> None:
        """Wait for a ring, or for the time to look again."""
        if self._wakeup is None:
            await asyncio.sleep(_POLL_INTERVAL if timeout is None else timeout)
            return
        try:
            async with asyncio.timeout(timeout):
                await self._woken.wait()
        except TimeoutError:
            return
        self._woken.clear()


def wait_for_command(ctrl_queue: Any) -> tuple[Any, ...]:
    """Block this thread until a command to serve, or to end, has come; most others are void."""
    while True:
        if isinstance(ctrl_queue, Channel):
            ctrl_queue.wakeup.wait()
            ctrl_queue.wakeup.clear()
        else:
            time.sleep(_POLL_INTERVAL)
        while (command := try_get(ctrl_queue)) is not None:
            if command[0] in (messages.CMD_SERVE, messages.CMD_DRAIN, messages.CMD_SHUTDOWN):
                return command
            if command[0] == messages.CMD_REOPEN_LOGS:
                _obey(_reopen_logs, command)


def _obey(obey: Callable[[tuple[Any, ...]], None], command: tuple[Any, ...]) -> None:
    try:
        obey(command)
    except _LACKING as exc:
        if command[0] in (messages.CMD_DRAIN, messages.CMD_SHUTDOWN):
            raise  # a worker must not go on as if it had not been told
        logger.error("%r could not be done, and the worker goes on: %r", command[0], exc)


def _reopen_logs(command: tuple[Any, ...]) -> None:
    from ..config import log_rotation  # needed by those whose logs are rotated

    log_rotation.reopen()


def try_get(queue: Any) -> tuple[Any, ...] | None:
    """Get an item without blocking; ``None`` if there is none, and only then."""
    try:
        item: tuple[Any, ...] = queue.get_nowait()
    except stdlib_queue.Empty:
        return None
    return item


def told_to_hurry(ctrl_queue: Any) -> bool:
    """Whether a worker whose loop has ended was told once more to shut down; others are void."""
    hurry = False
    while (command := try_get(ctrl_queue)) is not None:
        for listener in take(messages.listeners_of(command)):
            listener.close()
        hurry = hurry or command == (messages.CMD_SHUTDOWN,)
    return hurry


def take(listeners: list[messages.Listener]) -> list[socket.socket]:
    """Make sockets of (descriptor, family) pairs; they own the descriptors."""
    return [socket.socket(family, socket.SOCK_STREAM, fileno=fd) for fd, family in listeners]
