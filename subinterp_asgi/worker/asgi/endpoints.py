"""Endpoints that a worker answers itself, without the application: health and metrics.

They are no requests in the sense of the scoreboard: not counted, not logged, and answered where
``limit_concurrency`` turns others away. This module is loaded only where an option asks for it.
"""

from __future__ import annotations

from ...control.scoreboard import BUSY_SINCE
from ...types import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...http1.heads import Request
    from .state import ServerState

type Reply = tuple[int, list[tuple[bytes, bytes]], bytes]
"""Status, fields and body of a response."""

DEFAULT_METRICS_PATH = "/metrics"

_METHODS = frozenset(("GET", "HEAD"))


class Endpoints:
    """What is answered on which path.

    Args:
        endpoints: Functions that make the reply, by path.
        otherwise: The reply for all other paths; ``None`` leaves them to the application.
    """

    def __init__(self, endpoints: dict[str, Callable[[], Reply]], otherwise: Reply | None) -> None:
        self._endpoints = endpoints
        self._otherwise = otherwise

    def find(self, request: Request) -> Reply | None:
        """The answer to a request; ``None`` if it is the application's to give."""
        make = self._endpoints.get(request.path)
        if make is None:
            return self._otherwise
        if request.method not in _METHODS:
            return _text(405, b"Method Not Allowed\n", (b"allow", b"GET, HEAD"))
        return make()


def endpoints_beside_app(server_state: ServerState) -> Endpoints | None:
    """The endpoints on the listeners of the application, if it shares them with any."""
    config = server_state.config
    endpoints = _health(server_state)
    if config.metrics_path is not None and config.metrics_bind is None:
        endpoints |= _metrics(server_state, config.metrics_path)
    return Endpoints(endpoints, otherwise=None) if endpoints else None


def endpoints_alone(server_state: ServerState) -> Endpoints:
    """The endpoints on a listener where there is nothing else.

    Args:
        server_state: What is served on the other listeners.
    """
    path = server_state.config.metrics_path or DEFAULT_METRICS_PATH
    return Endpoints(
        _health(server_state) | _metrics(server_state, path),
        otherwise=_text(404, b"Not Found\n"),
    )


def _health(server_state: ServerState) -> dict[str, Callable[[], Reply]]:
    path = server_state.config.health_path
    if path is None:
        return {}
    uncached = (b"cache-control", b"no-store")
    healthy = _text(200, b"OK\n", uncached)
    leaving = _text(503, b"Draining\n", uncached)
    return {path: lambda: leaving if server_state.leaving else healthy}


def _metrics(server_state: ServerState, path: str) -> dict[str, Callable[[], Reply]]:
    from ...control.prometheus import CONTENT_TYPE, render

    counters = server_state.counters
    fields = [(b"content-type", CONTENT_TYPE)]

    def make() -> Reply:
        counters.flush(counters.slot[BUSY_SINCE])  # its own counts are exact; the heartbeat stays
        return 200, fields, render(counters.board)

    return {path: make}


def _text(status: int, body: bytes, *fields: tuple[bytes, bytes]) -> Reply:
    return status, [(b"content-type", b"text/plain; charset=utf-8"), *fields], body
