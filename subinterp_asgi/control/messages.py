"""What supervisor and worker say to each other, written down once; both sides import it.

Messages are tuples of strings on two queues. To a worker go **commands**:

``("drain",)``
    Let ``health_path`` fail, accept no more connections after ``drain_delay``, and serve what has
    been accepted. ``("drain", "restart")`` if another worker takes this one's place: that happens
    at once, health does not fail, and the peers of WebSockets are told.
``("shutdown",)``
    Drain, wait for requests in flight up to ``timeout_graceful_shutdown``, and end. Sent again, it
    ends the wait, ``drain_delay`` too: what is still in flight is broken off.

``("reload_tls",)``
    Read the certificates again, for new connections.
``("adopt", slot, fd, family, ...)``
    Accept from these listeners of another worker's slot too; they are this worker's to close.
``("disown", slot)``
    Close them.
``("serve", worker_id, inbox, fd, family, ...)``
    To a spare only: become this worker, with these listeners; ``inbox`` as in ``Runtime``, or -1.
``("fault", kind, argument)``
    For tests: do yourself some harm (see ``testing.faults``, which is imported for it).

From a worker come **statuses**, in this order:

``("started",)``
    Its code runs; the application is not imported yet.
``("spare",)``
    Only if it was to be one: the application is imported, and ``("serve", ...)`` waited for.
``("serving",)``
    The lifespan has started and connections are accepted.
``("exhausted",)``
    As many requests were begun as ``Runtime.request_limit`` says; it goes on.
``("draining",)``
    No more connections are accepted.
``("idle",)``
    Draining, and nothing is in flight any more.
``("stopped",)``
    The last message of a worker that ended as it was told to.
``("error", text)``
    The last message of one that did not: what happened in the first line, then a traceback.

At any time between these may come, from a thread beside the one that serves:

``("stuck", stack)``
    The answer to a supervisor that asked what a worker is at whose heartbeat is old, if its loop
    still had not gone on: the Python stack of its thread, or in parentheses why that can't be told.
    A worker that gives no answer is in C code that does not let any other thread run.

A queue is anything with ``put()`` and with a ``get_nowait()`` that raises ``queue.Empty``, as
``concurrent.interpreters.Queue`` and ``queue.Queue`` are. Queues between interpreters can only be
polled, so that a supervisor lends the worker two **doorbells**, descriptors that become readable:
one that it rings after each command, and one that the worker rings after each status. A loop that
is held up reads no commands; a **watchdog line** reaches a thread that waits beside it. The numbers
of all these, and the listeners beyond the first, travel as ``Runtime`` within the config's JSON.

This vocabulary is part of the package's public interface and follows its version.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
from dataclasses import asdict, dataclass

from ..config import Config
from ..errors import ConfigError
from ..types import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any, Self


CMD_DRAIN = "drain"
CMD_SHUTDOWN = "shutdown"
CMD_RELOAD_TLS = "reload_tls"
CMD_ADOPT = "adopt"
CMD_DISOWN = "disown"
CMD_SERVE = "serve"
CMD_FAULT = "fault"
DRAIN_RESTART = "restart"

STATUS_STARTED = "started"
STATUS_SPARE = "spare"
STATUS_SERVING = "serving"
STATUS_EXHAUSTED = "exhausted"
STATUS_DRAINING = "draining"
STATUS_IDLE = "idle"
STATUS_STOPPED = "stopped"
STATUS_ERROR = "error"
STATUS_STUCK = "stuck"

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

    def wait(self, timeout: float | None = None) -> None:
        """Block this thread until it is rung, or for as many seconds."""
        if hasattr(select, "poll"):  # select() refuses descriptors from 1024 on
            waiter = select.poll()
            waiter.register(self.numbers[0], select.POLLIN)
            waiter.poll(None if timeout is None else timeout * 1000)
        else:
            select.select([self.numbers[0]], [], [], timeout)

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


class WatchdogLine:
    """A pipe by which a supervisor reaches the watchdog of a worker whose loop is held up.

    What is asked names the heartbeat that the supervisor saw (the slot's ``BUSY_SINCE``), and is
    void if the loop has gone on since.

    Args:
        numbers: Reading and writing descriptor, borrowed from another ``WatchdogLine`` which must
            outlive this one; by default a new pair, to be closed with ``close()`` once the worker
            has ended.
    """

    REPORT = b"r"
    INTERRUPT = b"i"
    QUIT = b"q"

    def __init__(self, numbers: tuple[int, int] | None = None) -> None:
        self._closed = False
        if numbers is None:
            numbers = os.pipe()
            os.set_blocking(numbers[1], False)
        self.numbers = numbers

    def report(self, busy_since: int) -> None:
        """Ask where the worker is held up; a ``stuck`` status may answer."""
        self._send(self.REPORT, busy_since)

    def interrupt(self, busy_since: int) -> None:
        """Have ``WorkerInterrupted`` raised where the application holds the worker up.

        Code in C that waits can't be interrupted: there it is raised when that returns.
        """
        self._send(self.INTERRUPT, busy_since)

    def quit(self) -> None:
        """Tell the watchdog to end; the worker's own part."""
        self._send(self.QUIT, 0)

    def receive(self) -> tuple[bytes, int]:
        """Block this thread until something is asked; return what, and of which heartbeat."""
        data = os.read(self.numbers[0], 9)
        return data[:1], int.from_bytes(data[1:], "little")

    def _send(self, request: bytes, busy_since: int) -> None:
        if not self._closed:
            # A pipe takes so few octets as a whole or not at all. A full one is not read by anyone.
            with contextlib.suppress(BlockingIOError):
                os.write(self.numbers[1], request + busy_since.to_bytes(8, "little"))

    def close(self) -> None:
        """Close the descriptors; once, since their numbers may be others' afterwards."""
        if not self._closed:
            self._closed = True
            for fd in self.numbers:
                os.close(fd)


@dataclass(frozen=True, kw_only=True, slots=True)
class Runtime:
    """What a supervisor tells a worker beyond the options: numbers of descriptors, mostly.

    Attributes:
        listeners: (descriptor, address family) of listeners beyond the first. The worker owns them.
        command_bell: Doorbell of the control queue, borrowed, or ``None``.
        status_bell: Doorbell of the status queue, borrowed, or ``None``.
        metrics_listeners: (descriptor, address family) of listeners for metrics and health only.
            The worker owns them.
        inbox: Descriptor to read what other workers hand over (see ``handover``), borrowed.
        request_limit: Number of requests from which on the worker says that it is exhausted.
        spare: Import the application and wait for the command to serve.
        watchdog: Numbers of a ``WatchdogLine``, borrowed, or ``None`` to have no watchdog.
        log_fd: Pipe to which log records are forwarded (see ``log_receiver``), borrowed, or
            ``None``.
        start_delay: Seconds to wait before it serves; for tests (see ``testing.faults``).
        start_failure: What to fail with instead of serving, or ``None``; for tests.
    """

    listeners: tuple[tuple[int, int], ...] = ()
    command_bell: tuple[int, int] | None = None
    status_bell: tuple[int, int] | None = None
    metrics_listeners: tuple[tuple[int, int], ...] = ()
    inbox: int | None = None
    request_limit: int | None = None
    spare: bool = False
    watchdog: tuple[int, int] | None = None
    log_fd: int | None = None
    start_delay: float = 0.0
    start_failure: str | None = None

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
        bells = ("command_bell", "status_bell", "watchdog")
        for name in ("listeners", "metrics_listeners"):
            runtime[name] = tuple((fd, family) for fd, family in runtime[name])
        for name in bells:
            runtime[name] = runtime[name] and tuple(runtime[name])
        return json.dumps(values), cls(**runtime)
