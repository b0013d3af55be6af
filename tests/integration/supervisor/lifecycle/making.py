"""Supervisors to be started and stopped, and requests in flight."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from subinterp_asgi import Supervisor
from tests.support import Pending, wait_until

APPS = "tests.integration.apps.lifecycle"
APP = f"{APPS}:app"
LIFESPAN = f"{APPS}:with_lifespan"

both = pytest.mark.parametrize("isolation", ["interpreter", "thread"])

_made: list[Supervisor] = []


def make(app: Any = APP, isolation: str = "thread", **options: Any) -> Supervisor:
    """A supervisor with a free port; in threads, which is fast, unless it matters."""
    server = Supervisor(app, **{"port": 0, "isolation": isolation, "access_log": False, **options})
    _made.append(server)
    return server


def in_flight(server: Supervisor, action: str, directory: Path) -> Pending:
    """Send a request and return once the application has begun with it."""
    pending = Pending(server.url, f"/{action}{directory}/{action}")
    wait_until((directory / f"{action}.begun").exists, "the request to be begun")
    return pending


def in_background(function: Callable[[], object]) -> tuple[threading.Thread, list[Any]]:
    """Call in a thread; return that and a list which will hold the result or the exception."""
    outcome: list[Any] = []

    def call() -> None:
        try:
            outcome.append(function())
        except BaseException as exc:
            outcome.append(exc)

    thread = threading.Thread(target=call, name="test-caller")
    thread.start()
    return thread, outcome


def text_of(answer: Any) -> str:
    assert not isinstance(answer, Exception), answer
    text: str = answer.text
    return text


def events(log: Path) -> list[str]:
    return [line.split(" ", 1)[1] for line in log.read_text().splitlines()]
