"""What supervisor and worker say to each other, written down once; both sides import it.

Messages are tuples of strings on two queues. To a worker go **commands**:

``("drain",)``
    Accept no more connections, and serve what has been accepted. ``("drain", "restart")`` if
    another worker takes this one's place, which the peers of WebSockets are told.
``("shutdown",)``
    Drain, wait for requests in flight up to ``timeout_graceful_shutdown``, and end. Sent again, it
    ends the wait: what is still in flight is broken off.

``("reload_tls",)``
    Read the certificates again, for new connections.

From a worker come **statuses**, in this order:

``("started",)``
    Its code runs; the application is not imported yet.
``("serving",)``
    The lifespan has started and connections are accepted.
``("draining",)``
    No more connections are accepted.
``("idle",)``
    Draining, and nothing is in flight any more.
``("stopped",)``
    The last message of a worker that ended as it was told to.
``("error", text)``
    The last message of one that did not: what happened in the first line, then a traceback.

A queue is anything with ``put()`` and with a ``get_nowait()`` that raises ``queue.Empty``, as
``concurrent.interpreters.Queue`` and ``queue.Queue`` are. Queues between interpreters can only be
polled, so that a supervisor lends the worker two **doorbells**, descriptors that become readable:
one that it rings after each command, and one that the worker rings after each status. Their
numbers, and the listeners beyond the first, travel as ``Runtime`` within the config's JSON.

This vocabulary is part of the package's public interface and follows its version.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
from dataclasses import asdict, dataclass

from .config import Config
from .errors import ConfigError
from .types import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any, Self


CMD_DRAIN = "drain"
CMD_SHUTDOWN = "shutdown"
CMD_RELOAD_TLS = "reload_tls"
DRAIN_RESTART = "restart"

STATUS_STARTED = "started"
STATUS_SERVING = "serving"
STATUS_DRAINING = "draining"
STATUS_IDLE = "idle"
STATUS_STOPPED = "stopped"
STATUS_ERROR = "error"

QUEUE_SIZE = 64
"""Bound of the queues between interpreters. Items are freed through a list of 300 places that
belongs to the producer's interpreter; beyond it they leak."""


class Doorbell:
    """A descriptor that one thread rings and another waits for; rings add up to one.

    Args:
        numbers: Reading and writing descriptor, borrowed from another ``Doorbell`` which must
            outlive this one; by default a new pair, to be closed with ``close()``.
    """

    def __init__(self, numbers: tuple[int, int] | None = None) -> None:
        self._closed = False
        if numbers is not None:
            self.numbers = numbers
        elif hasattr(os, "eventfd"):
            fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
            self.numbers = (fd, fd)
        else:
            self.numbers = os.pipe()
            for fd in self.numbers:
                os.set_blocking(fd, False)

    def ring(self) -> None:
        """Make the reading descriptor readable. Safe in any thread and in signal handlers."""
        if self._closed:
            return
        # Eight octets are what an eventfd wants and one ring in a pipe; a full pipe rings anyway.
        with contextlib.suppress(BlockingIOError):
            os.write(self.numbers[1], b"\1\0\0\0\0\0\0\0")

    def silence(self) -> None:
        """Forget the rings so far; do this before looking for what they announce."""
        with contextlib.suppress(BlockingIOError):
            os.read(self.numbers[0], 4096)

    def wait(self) -> None:
        """Block this thread until it is rung."""
        if hasattr(select, "poll"):  # select() refuses descriptors from 1024 on
            waiter = select.poll()
            waiter.register(self.numbers[0], select.POLLIN)
            waiter.poll()
        else:
            select.select([self.numbers[0]], [], [])

    def fileno(self) -> int:
        """The reading descriptor."""
        return self.numbers[0]

    def close(self) -> None:
        """Close the descriptors; once, since their numbers may be others' afterwards."""
        if not self._closed:
            self._closed = True
            for fd in set(self.numbers):
                os.close(fd)


class RungQueue:
    """A queue with a doorbell: ``put()`` rings it, whoever gets may wait for it.

    Args:
        queue: The queue.
        doorbell: Rung after each item.
    """

    def __init__(self, queue: Any, doorbell: Doorbell) -> None:
        self._queue = queue
        self.doorbell = doorbell

    def put(self, item: tuple[str, ...]) -> None:
        """Put an item and ring."""
        self._queue.put(item)
        self.doorbell.ring()

    def get_nowait(self) -> Any:
        """Get an item, or raise ``queue.Empty``."""
        return self._queue.get_nowait()


@dataclass(frozen=True, kw_only=True, slots=True)
class Runtime:
    """What a supervisor tells a worker beyond the options: numbers of descriptors, mostly.

    Attributes:
        listeners: (descriptor, address family) of listeners beyond the first. The worker owns them.
        command_bell: Doorbell of the control queue, borrowed, or ``None``.
        status_bell: Doorbell of the status queue, borrowed, or ``None``.
    """

    listeners: tuple[tuple[int, int], ...] = ()
    command_bell: tuple[int, int] | None = None
    status_bell: tuple[int, int] | None = None

    def join(self, config: Config) -> str:
        """Make the ``config_json`` that ``bootstrap`` is given."""
        return json.dumps({**json.loads(config.to_json()), "runtime": asdict(self)})

    @classmethod
    def split(cls, config_json: str) -> tuple[str, Self]:
        """Take ``config_json`` apart: the config's JSON, and the runtime if there was one."""
        try:
            values = json.loads(config_json)
        except ValueError as exc:
            raise ConfigError("config_json", f"not JSON: {exc}") from None
        runtime = values.pop("runtime", None) if isinstance(values, dict) else None
        if runtime is None:
            return config_json, cls()
        bells = {
            name: tuple(runtime[name]) if runtime[name] else None
            for name in ("command_bell", "status_bell")
        }
        listeners = tuple((fd, family) for fd, family in runtime["listeners"])
        return json.dumps(values), cls(listeners=listeners, **bells)
