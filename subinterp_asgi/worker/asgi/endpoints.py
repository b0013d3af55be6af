"""Pages that a worker answers itself, without the application: health and metrics.

They are no requests in the sense of the scoreboard: not counted, not logged, and answered where
``limit_concurrency`` turns others away. This module is loaded only where an option asks for it.
"""

from __future__ import annotations

from ...control.scoreboard import BUSY_SINCE
from ...types import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from ...http1.heads import Request
    from .state import Service

type Page = tuple[int, list[tuple[bytes, bytes]], bytes]
"""Status, fields and body of a response."""

DEFAULT_METRICS_PATH = "/metrics"

_METHODS = frozenset(("GET", "HEAD"))


class Pages:
    """What is answered on which path.

    Args:
        pages: Functions that make the page, by path.
        otherwise: The page for all other paths; ``None`` leaves them to the application.
    """

    def __init__(self, pages: dict[str, Callable[[], Page]], otherwise: Page | None) -> None:
        self._pages = pages
        self._otherwise = otherwise

    def find(self, request: Request) -> Page | None:
        """The answer to a request; ``None`` if it is the application's to give."""
        make = self._pages.get(request.path)
        if make is None:
            return self._otherwise
        if request.method not in _METHODS:
            return _text(405, b"Method Not Allowed\n", (b"allow", b"GET, HEAD"))
        return make()


def pages_beside_app(service: Service) -> Pages | None:
    """The pages on the listeners of the application, if it shares them with any."""
    config = service.config
    pages = _health(service)
    if config.metrics_path is not None and config.metrics_bind is None:
        pages |= _metrics(service, config.metrics_path)
    return Pages(pages, otherwise=None) if pages else None


def pages_alone(service: Service) -> Pages:
    """The pages on a listener where there is nothing else.

    Args:
        service: What is served on the other listeners.
    """
    path = service.config.metrics_path or DEFAULT_METRICS_PATH
    return Pages(
        _health(service) | _metrics(service, path),
        otherwise=_text(404, b"Not Found\n"),
    )


def _health(service: Service) -> dict[str, Callable[[], Page]]:
    path = service.config.health_path
    if path is None:
        return {}
    uncached = (b"cache-control", b"no-store")
    healthy = _text(200, b"OK\n", uncached)
    leaving = _text(503, b"Draining\n", uncached)
    return {path: lambda: leaving if service.leaving else healthy}


def _metrics(service: Service, path: str) -> dict[str, Callable[[], Page]]:
    from ...control.prometheus import CONTENT_TYPE, render

    meter = service.meter
    fields = [(b"content-type", CONTENT_TYPE)]

    def make() -> Page:
        meter.flush(meter.slot[BUSY_SINCE])  # its own counts are exact; the heartbeat stays
        return 200, fields, render(meter.board)

    return {path: make}


def _text(status: int, body: bytes, *fields: tuple[bytes, bytes]) -> Page:
    return status, [(b"content-type", b"text/plain; charset=utf-8"), *fields], body
