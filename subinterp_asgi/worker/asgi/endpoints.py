"""Endpoints that a worker answers itself, without the application: health and metrics.

They are no requests in the sense of the scoreboard: not counted, not logged, and answered where
``limit_concurrency`` turns others away. This module is loaded only where an option asks for it.
"""

from __future__ import annotations

from collections.abc import Callable

from ...config import Config
from ...config.options import DEFAULT_METRICS_PATH
from ...control.counters import Counters
from ...control.scoreboard import BUSY_SINCE
from ...http1.heads import Request

type Reply = tuple[int, list[tuple[bytes, bytes]], bytes]
"""Status, fields and body of a response."""

_METHODS = frozenset(("GET", "HEAD", "OPTIONS"))
"""The last is what HAProxy probes with where nobody says otherwise."""
_ALLOW = (b"allow", b"GET, HEAD, OPTIONS")


class Endpoints:
    """What is answered on which path.

    Args:
        endpoints: Functions that make the reply, by path.
        otherwise: The reply for all other paths; ``None`` leaves them to the application.

    Attributes:
        keep_alive: Connections live on after a reply. Without an application they don't: one that
            belongs to a worker which is held up then would wait for that one alone.
    """

    def __init__(self, endpoints: dict[str, Callable[[], Reply]], otherwise: Reply | None) -> None:
        self._endpoints = endpoints
        self._otherwise = otherwise
        self.keep_alive = otherwise is None

    def find(self, request: Request) -> Reply | None:
        """The answer to a request; ``None`` if it is the application's to give."""
        make = self._endpoints.get(request.path)
        if make is None:
            return self._otherwise
        if request.method not in _METHODS:
            return _text(405, b"Method Not Allowed\n", _ALLOW)
        reply = make()
        if request.method == "OPTIONS":
            status, fields, body = reply
            return status, [*fields, _ALLOW], body
        return reply


def endpoints_beside_app(
    config: Config, counters: Counters, leaving: Callable[[], bool]
) -> Endpoints | None:
    """The endpoints on the listeners of the application, if it shares them with any.

    ``leaving()`` tells whether load balancers shall look elsewhere.
    """
    endpoints = _health(config.health_path, leaving)
    if config.metrics_path is not None and config.metrics_bind is None:
        endpoints |= _metrics(config.metrics_path, counters)
    return Endpoints(endpoints, otherwise=None) if endpoints else None


def endpoints_alone(config: Config, counters: Counters, leaving: Callable[[], bool]) -> Endpoints:
    """The endpoints on a listener where there is nothing else.

    The arguments are those of ``endpoints_beside_app()``: what is served on the other listeners.
    """
    return Endpoints(
        _health(config.health_path, leaving)
        | _metrics(config.metrics_path or DEFAULT_METRICS_PATH, counters),
        otherwise=_text(404, b"Not Found\n"),
    )


def _health(path: str | None, leaving: Callable[[], bool]) -> dict[str, Callable[[], Reply]]:
    if path is None:
        return {}
    uncached = (b"cache-control", b"no-store")
    healthy = _text(200, b"OK\n", uncached)
    draining = _text(503, b"Draining\n", uncached)
    return {path: lambda: draining if leaving() else healthy}


def _metrics(path: str, counters: Counters) -> dict[str, Callable[[], Reply]]:
    from ...control.prometheus import CONTENT_TYPE, render

    fields = [(b"content-type", CONTENT_TYPE)]

    def make() -> Reply:
        counters.flush(counters.slot[BUSY_SINCE])  # its own counts are exact; the heartbeat stays
        return 200, fields, render(counters.board)

    return {path: make}


def _text(status: int, body: bytes, *fields: tuple[bytes, bytes]) -> Reply:
    return status, [(b"content-type", b"text/plain; charset=utf-8"), *fields], body
