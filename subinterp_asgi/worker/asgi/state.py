"""What all connections of one worker share: the application, its state, the options in effect.

A ``ServerState`` is made by the worker when it starts to serve and handed to every session. It
knows nothing of sockets or interpreters.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Callable, Coroutine
from time import perf_counter

from ...config import Config
from ...config.trust import TrustedProxies
from ...control import output
from ...control.counters import Counters
from ...errors import WorkerInterrupted
from ...http1.heads import HeadParser, Limits, Request
from ...http1.response import DefaultFields
from ...types import TYPE_CHECKING, Address, Any, ASGIApp, Fields
from ..interpreter.importer import refusal
from ..proxies.headers import ProxyHeaders
from . import extensions

if TYPE_CHECKING:
    from typing import Protocol

    from .endpoints import Endpoints
    from .notes import Notes

    class Served(Protocol):
        """A request, or a WebSocket's handshake, and what its log says of it.

        Attributes:
            client: The peer, or whom trusted proxies name.
            started: When its head was complete (``time.perf_counter()``).
            notes: Only set if something was noted of it (``ServerState.noting``).
        """

        request: Request
        client: Address | None
        started: float
        notes: Notes

    type DetailedLog = Callable[[Served, int, float], None]

logger = logging.getLogger("subinterp_asgi.error")

NO_FAILURES = (KeyboardInterrupt, GeneratorExit)
"""What says that a call, or the process, is to end. All else that leaves a call of the application
is a failure of that, a test's too (pytest's are no ``Exception``), and harms nobody else.
"""

CLIENT_CLOSED_REQUEST = 499
"""Logged where the client left before it had an answer; nginx's code."""

type LoggedRequest = tuple[Address | None, str, str, str, int, float]
"""Client, method, target, HTTP version, status, and seconds from its head to its response's end."""
type AccessLog = Callable[[*LoggedRequest], None]


class ServerState:
    """The application and how to serve it.

    Attributes:
        state: The lifespan's state; each request gets a shallow copy.
        heads: Parses the heads of all requests.
        defaults: Server and Date fields.
        access_log: Where to report requests, or ``None``.
        detailed_log: The same, where that takes more than a line of the default form.
        trusted: The proxies that are believed.
        proxies: What forwarded fields are believed, or ``None``.
        scheme: ``"http"`` or ``"https"``.
        on_task_end: Called when a call of the application has returned.
        tasks: Calls of the application that have not returned, background work included.
        measuring: Whether the time that requests take is counted.
        timed: Whether anybody asks how long a request took.
        endpoints: What is answered without the application, or ``None``.
        leaving: Load balancers shall look elsewhere: the worker will drain, or does.
        draining: The worker is ending; no connection is kept alive.
        unix_unheard: Peers on Unix sockets are not believed, which has not been logged yet.
        unattended: What requests do when the worker drains whose client is gone, or may be.
        going_away: The close code that tells the peers of WebSockets why: 1001, or 1012 if another
            worker takes this one's place (RFC 6455 section 7.4.1 and its registry).
    """

    def __init__(
        self,
        app: ASGIApp,
        config: Config,
        loop: asyncio.AbstractEventLoop,
        *,
        state: dict[str, Any],
        counters: Counters,
        access_log: AccessLog | None,
        detailed_log: DetailedLog | None = None,
        on_task_end: Callable[[], None],
        context: contextvars.Context,
    ) -> None:
        self.app = app
        self.config = config
        self.loop = loop
        self.state = state
        self.heads = HeadParser(Limits.of(config))
        self.defaults = DefaultFields(server=config.server_header, date=config.date_header)
        self.access_log = access_log
        self.detailed_log = detailed_log
        self.measuring = config.metrics_path is not None or config.metrics_bind is not None
        self.timed = self.measuring or not (access_log is None is detailed_log)
        self.root_path = config.root_path
        self.root_path_bytes = config.root_path.encode("utf-8")
        self.trusted = TrustedProxies(config.forwarded_allow_ips)
        if config.request_id_header is not None or config.access_log_format is not None:
            from .notes import noting

            self.app = noting(app, config, self.trusted)
        self.proxies: ProxyHeaders | None = None
        if config.proxy_headers:
            header, host = config.forwarded_header, config.forwarded_host
            self.proxies = ProxyHeaders(self.trusted, header=header, host=host)
        self.unix_unheard = not (
            config.proxy_protocol or self.proxies is None or self.proxies.believes(None)
        )
        self.scheme = "https" if config.tls else "http"
        self.leaving = False
        self.draining = False
        self.going_away = 1001
        self.extensions = extensions.ADVERTISED
        if config.early_hints:
            self.extensions = extensions.ADVERTISED | {extensions.EARLY_HINT: {}}
        self.counters = counters
        self.on_task_end = on_task_end
        self._limit_concurrency = config.limit_concurrency
        self._context = context
        self.tasks: set[asyncio.Task[None]] = set()
        self.unattended: set[Callable[[], None]] = set()
        self.endpoints: Endpoints | None = None
        if config.health_path is not None or config.metrics_path is not None:
            from .endpoints import endpoints_beside_app

            self.endpoints = endpoints_beside_app(config, counters, lambda: self.leaving)

    def drain(self) -> None:
        """The worker is ending."""
        self.draining = True
        for drain in tuple(self.unattended):
            drain()

    def run(self, coroutine: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Run an application call as a task of this name, in a context of its own.

        It is begun at once, so that an application which never waits is done when this returns.
        """
        task = asyncio.Task(
            coroutine, name=name, loop=self.loop, context=self._context.copy(), eager_start=True
        )
        if not task.done():
            self.tasks.add(task)
            task.add_done_callback(self._task_ended)
        return task

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        self.on_task_end()

    def tell_of_unix_peer(self, server: Address | None, headers: Fields) -> None:
        """Say once that a proxy on a Unix socket is not believed, if it says anything."""
        names = () if self.proxies is None else self.proxies.names
        said = next((name for name, _ in headers if name in names), None)
        if said is not None:
            self.unix_unheard = False
            logger.warning(
                "a peer on the Unix socket %s sends %s and is not believed, so that clients have "
                "no address: if it is a proxy that sets the field itself, add 'unix' to "
                "forwarded_allow_ips; else turn proxy_headers off",
                None if server is None else server[0],
                said.decode("ascii"),
            )

    def request_started(self) -> None:
        """Count a request; called when its head is complete."""
        counters = self.counters
        counters.requests += 1
        counters.in_flight += 1

    def request_ended(self, served: Served, status: int) -> None:
        """Count and log, once for each ``request_started()`` in HTTP, what the client saw."""
        counters = self.counters
        counters.in_flight -= 1
        counters.statuses[status // 100] += 1
        if self.timed:
            try:
                self.log_request(served, status)
            except Exception as exc:  # for want of memory; the connection is to go on
                output.say_unlogged(exc)

    def websocket_ended(self) -> None:
        """As ``request_ended()``, of a WebSocket, whose handshake was logged."""
        self.counters.in_flight -= 1

    def log_failure(self, exc: BaseException, request: Request, *, gone: bool) -> None:
        """Log an exception that left the application, none of ``NO_FAILURES``.

        If the client is ``gone`` the exception may be no more than a consequence. The record also
        has the request's ``method`` and ``path``, the latter as it was sent: decoded it may hold
        anything.
        """
        what = {"method": request.method, "path": request.raw_path.decode("ascii", "replace")}
        info = of_application(exc)
        if isinstance(exc, BaseExceptionGroup):
            interrupted = exc.subgroup(WorkerInterrupted) is not None
        else:
            interrupted = isinstance(exc, WorkerInterrupted)
        if interrupted:
            self.counters.errors += 1
            logger.error(
                "the ASGI application held the worker up for %.1f s and was interrupted: %s %s",
                self.counters.held_up(),
                *what.values(),
                exc_info=info,
                extra=what,
            )
        elif gone:
            text = "exception after the client had gone: %s %s"
            logger.debug(text, *what.values(), exc_info=info, extra=what)
        else:
            self.counters.errors += 1
            text = "exception in the ASGI application: %s %s"
            refused = refusal(exc)
            more = () if refused is None else (refused,)
            text += "; %s" * len(more)
            logger.error(text, *what.values(), *more, exc_info=info, extra=what)

    def log_request(self, served: Served, status: int) -> None:
        """Log a request and its time since its head was complete."""
        seconds = perf_counter() - served.started
        if self.measuring:
            self.counters.took(seconds)
        if self.access_log is not None:
            request = served.request
            self.access_log(
                served.client,
                request.method,
                request.target.decode("ascii"),
                request.http_version,
                status,
                seconds,
            )
        elif self.detailed_log is not None:
            self.detailed_log(served, status, seconds)

    @property
    def overloaded(self) -> bool:
        """Whether as many requests are in flight as may be."""
        limit = self._limit_concurrency
        return limit is not None and self.counters.in_flight >= limit


def was_cancelled(exc: BaseException) -> bool:
    """Whether an exception is there because the current task was asked to end.

    (One that it was not is the application's own: it has waited for a task that was cancelled.)
    """
    task = asyncio.current_task() if isinstance(exc, asyncio.CancelledError) else None
    return task is not None and task.cancelling() > 0


def of_application(exc: BaseException) -> tuple[type[BaseException], BaseException, Any]:
    """The ``exc_info`` of what has left a call of the application, without the frame of the call.

    (Where that is the only one, the call itself has failed.)
    """
    trace = exc.__traceback__
    return type(exc), exc, trace if trace is None else trace.tb_next or trace
