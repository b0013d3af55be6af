"""A ``Worker`` on a loop of this process, in a thread, with an application of the test's own."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

from subinterp_asgi import Config, Worker
from subinterp_asgi.control.counters import Counters
from subinterp_asgi.control.scoreboard import IN_FLIGHT, SERVED, private_board
from subinterp_asgi.types import ASGIApp
from subinterp_asgi.worker.net.loop import ServerLoop
from tests.support import wait_until

from .rawclient import TIMEOUT, RawClient

QUIET: dict[str, Any] = {"access_log": False, "lifespan": "off"}


class Records(logging.Handler):
    """Keeps what the package logs as errors."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if record.exc_info and record.exc_info[1] is not None:
            text += f": {record.exc_info[1]!r}"
        self.messages.append(text)


@contextlib.contextmanager
def access_log() -> Iterator[list[str]]:
    """The lines of the access log, without the client's address and the time."""
    lines: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage().split(" - ", 1)[1].rsplit(" ", 1)[0])

    logger = logging.getLogger("subinterp_asgi.access")
    handler, level = Keep(), logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield lines
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


class Served:
    """The worker, seen from the test's thread."""

    def __init__(self, worker: Worker, loop: asyncio.AbstractEventLoop, address: Any) -> None:
        self.worker = worker
        self.loop = loop
        self.address = address
        self.records = Records()
        self.loop_errors: list[dict[str, Any]] = []
        self.metrics_address: Any = None

    def connect(self, **options: Any) -> RawClient:
        """Open a connection."""
        return RawClient(self.address, **options)

    def call[T](self, function: Callable[[], T]) -> T:
        """Call a function in the loop's thread and return what it returns."""
        result: concurrent.futures.Future[T] = concurrent.futures.Future()

        def run() -> None:
            try:
                result.set_result(function())
            except BaseException as exc:
                result.set_exception(exc)

        self.loop.call_soon_threadsafe(run)
        return result.result(TIMEOUT)

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return self.call(lambda: self.worker.active_connections)

    @property
    def idle(self) -> bool:
        """What ``is_idle()`` says."""
        return self.call(self.worker.is_idle)

    def wait_for_connections(self, number: int) -> None:
        """Wait until so many connections are open."""
        wait_until(lambda: self.connections == number, f"{number} open connections")

    def wait_until_idle(self) -> None:
        """Wait until nothing is in flight."""
        wait_until(lambda: self.idle, "is_idle()")


@contextlib.contextmanager
def serving(
    app: ASGIApp,
    *,
    family: socket.AddressFamily = socket.AF_INET,
    path: str = "",
    own_loop: bool = False,
    send_buffer: int = 0,
    **options: Any,
) -> Iterator[Served]:
    """Serve an application while the block runs.

    At the end nothing may be left, and neither the loop nor the package may have met with an error
    of its own.

    Args:
        app: The application.
        family: Of the listening socket.
        path: Of a Unix socket.
        own_loop: Run on the package's loop, as in interpreters, rather than on one of asyncio's.
        send_buffer: What the kernel may keep for a client (it takes twice that), 0: as it likes.
        options: Of ``Config``.
    """
    sock = socket.socket(family, socket.SOCK_STREAM)
    hosts = {socket.AF_INET: ("127.0.0.1", 0), socket.AF_INET6: ("::1", 0)}
    sock.bind(path or hosts[family])
    if send_buffer:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)  # accepted ones inherit
    sock.listen(512)
    config = Config(**QUIET | options)
    metrics_sock = socket.create_server(("127.0.0.1", 0)) if config.metrics_bind else None
    counters = Counters(*private_board())
    worker = Worker(app, config, sock, metrics_sock=metrics_sock or (), counters=counters)
    loop = ServerLoop(counters) if own_loop else asyncio.SelectorEventLoop()
    ended: list[BaseException | None] = []
    served = Served(worker, loop, path or sock.getsockname()[:2])
    if metrics_sock is not None:
        served.metrics_address = metrics_sock.getsockname()
    loop.set_exception_handler(lambda _, context: served.loop_errors.append(context))
    logger = logging.getLogger("subinterp_asgi")
    logger.addHandler(served.records)

    def run() -> None:
        try:
            loop.run_until_complete(worker.serve())
            ended.append(None)
        except BaseException as exc:
            ended.append(exc)

    def force_shutdown() -> None:
        worker.shutdown()
        worker.shutdown()

    thread = threading.Thread(target=run, name="worker-under-test", daemon=True)
    thread.start()
    try:
        # (A lifespan may be what the test has to do with.)
        before = ("new", "starting") if config.lifespan == "off" else ("new",)
        wait_until(lambda: ended or worker.state.value not in before)
        yield served
        loop.call_soon_threadsafe(force_shutdown)  # (of no effect if the worker has ended)
        thread.join(TIMEOUT)
        assert not thread.is_alive(), "the worker did not end"
        assert ended == [None]
        assert worker.active_connections == 0
        assert counters.in_flight == 0
        if config.limit_concurrency_total is not None:
            assert counters.slot[IN_FLIGHT] == 0
        assert counters.slot[SERVED] == 0
        left = asyncio.all_tasks(loop)
        assert not left, f"tasks left behind: {left}"
        assert served.loop_errors == []
        assert not [text for text in served.records.messages if "internal error" in text]
    finally:
        logger.removeHandler(served.records)
        if not loop.is_closed() and not loop.is_running():
            loop.close()
        sock.close()
        if metrics_sock is not None:
            metrics_sock.close()


class Gate:
    """Where an application waits until the test lets it go on, and what the test waits for."""

    def __init__(self) -> None:
        self._open = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._reached = threading.Event()

    async def wait(self) -> None:
        """Called by the application."""
        self._loop = asyncio.get_running_loop()
        self._reached.set()
        await self._open.wait()

    def wait_reached(self) -> None:
        """Called by the test: wait until the application has come here."""
        assert self._reached.wait(TIMEOUT), "the application did not come to the gate"

    def open(self) -> None:
        """Called by the test: let the application go on, once it has come here."""
        self.wait_reached()
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._open.set)


class Notes:
    """What an application tells the test, in order."""

    def __init__(self) -> None:
        self._items: list[Any] = []
        self._changed = threading.Condition()

    def __call__(self, item: Any) -> None:
        with self._changed:
            self._items.append(item)
            self._changed.notify_all()

    def wait(self, number: int = 1) -> list[Any]:
        """Wait until there are so many, and return all."""
        with self._changed:
            enough = self._changed.wait_for(lambda: len(self._items) >= number, TIMEOUT)
            assert enough, f"only {self._items}"
            return list(self._items)

    def __len__(self) -> int:
        return len(self._items)


async def respond(
    send: Callable[..., Any],
    body: bytes = b"",
    status: int = 200,
    headers: list[tuple[bytes, bytes]] | None = None,
) -> None:
    """Send a whole response."""
    await send({"type": "http.response.start", "status": status, "headers": headers or []})
    await send({"type": "http.response.body", "body": body})


async def read_body(receive: Callable[[], Any]) -> bytes:
    """Read the whole body; raise ``EOFError`` if the client leaves before its end."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise EOFError("disconnected")
        body += message.get("body", b"")
        if not message.get("more_body", False):
            return bytes(body)
