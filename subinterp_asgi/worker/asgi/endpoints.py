"""Endpoints that a worker answers itself, without the application: health and metrics.

They are no requests in the sense of the scoreboard: not counted, not logged, and answered where
``limit_concurrency`` turns others away. This module is loaded only where an option asks for it.
"""

from __future__ import annotations

from collections.abc import Callable

from ...config import Config
from ...config.options import DEFAULT_METRICS_PATH
from ...control.counters import Counters
from ...control.scoreboard import BUSY_SINCE, Slot
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
        try:
            reply = make()
        except (ImportError, OSError) as exc:  # what makes it is loaded then, and can't be just now
            return _text(503, f"Not available: {exc}\n".encode(), (b"retry-after", b"1"))
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
    endpoints = {}
    if config.health_path is not None:
        endpoints[config.health_path] = health_of(leaving)
    if config.metrics_path is not None and config.metrics_bind is None:
        endpoints[config.metrics_path] = metrics_of(counters, config)
    return Endpoints(endpoints, otherwise=None) if endpoints else None


def endpoints_alone(
    config: Config,
    health: Callable[[], Reply],
    metrics: Callable[[], Reply],
    others: dict[str, Callable[[], Reply]] | None = None,
) -> Endpoints:
    """The endpoints on a listener where there is nothing else; ``others`` by their paths."""
    endpoints = {**(others or {}), config.metrics_path or DEFAULT_METRICS_PATH: metrics}
    if config.health_path is not None:
        endpoints[config.health_path] = health
    return Endpoints(endpoints, otherwise=_text(404, b"Not Found\n"))


def health_of(leaving: Callable[[], bool]) -> Callable[[], Reply]:
    """Make what answers whether a worker is well."""
    healthy, draining = health_reply(200, b"OK\n"), health_reply(503, b"Draining\n")
    return lambda: draining if leaving() else healthy


def health_reply(status: int, body: bytes) -> Reply:
    """An answer to whether all is well."""
    return _text(status, body, (b"cache-control", b"no-store"))


def metrics_of(counters: Counters, config: Config) -> Callable[[], Reply]:
    """Make what answers with the metrics of all workers, of which one has these counters."""

    def make() -> Reply:
        counters.flush(counters.slot[BUSY_SINCE])  # its own counts are exact; the heartbeat stays
        return metrics_reply(counters.board, config)

    return make


def metrics_reply(board: Slot, config: Config) -> Reply:
    """The metrics of all workers."""
    from ...control.prometheus import CONTENT_TYPE, render

    return 200, [(b"content-type", CONTENT_TYPE)], render(board, config)


def _text(status: int, body: bytes, *fields: tuple[bytes, bytes]) -> Reply:
    return status, [(b"content-type", b"text/plain; charset=utf-8"), *fields], body
