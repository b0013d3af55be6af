"""What the status page shows: workers, events and the last minutes. Loaded only if asked for."""

from __future__ import annotations

import json
import os
import platform
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import fields
from enum import Enum
from time import monotonic

from ...control.scoreboard import Slot
from ...control.stats import Stats, WorkerStats
from ...types import Any
from ...worker.asgi.endpoints import Reply
from ..events import Event, EventStream
from ..pool.handle import WorkerHandle

INTERVAL = 1.0
"""Seconds between samples."""
_SAMPLES = 300
_EVENTS = 100
_TEXT = 2_000  # characters of a text in an event
_FIELDS = ((b"cache-control", b"no-store"), (b"x-content-type-options", b"nosniff"))
_HTML = (b"content-type", b"text/html; charset=utf-8")
_JSON = (b"content-type", b"application/json")
_POLICY = (
    b"content-security-policy",
    b"default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    b"connect-src 'self'; img-src data:; frame-ancestors 'none'",
)


class Status:
    """Keeps the samples and events of the last minutes.

    Args:
        board: The scoreboard.
        handles: Returns all workers.
        events: What happens, from now on.
        state: Returns the supervisor's state.
        memory: Returns the octets of memory that the process has in use, where that can be told.

    Attributes:
        endpoints: What is answered, by path.
    """

    def __init__(
        self,
        board: Slot,
        handles: Callable[[], Sequence[WorkerHandle]],
        events: EventStream,
        state: Callable[[], str],
        memory: Callable[[], int | None],
    ) -> None:
        self._board = board
        self._handles = handles
        self._stream = events
        self._state = state
        self._memory = memory
        self._clock = time.time() - monotonic()  # of a monotonic time, what the clock says
        self._events: deque[dict[str, Any]] = deque(maxlen=_EVENTS)
        self._number = 0
        self._samples: deque[dict[str, float | None]] = deque(maxlen=_SAMPLES)
        self._counted: dict[WorkerHandle, int] = {}
        self._rates: dict[WorkerHandle, float] = {}
        self._due = self._last = self._since = monotonic()
        self.endpoints: dict[str, Callable[[], Reply]] = {
            "/": lambda: (200, [*_FIELDS, _HTML, _POLICY], _page()),
            "/status.json": lambda: (200, [*_FIELDS, _JSON], self.to_json()),
        }

    def step(self, now: float) -> float:
        """Take a sample if it is time for one; return when it is again."""
        if now >= self._due:
            self._take_sample(now, Stats.read(self._board))
            self._due = now + INTERVAL
        return self._due

    def _take_sample(self, now: float, stats: Stats) -> None:
        requests = {handle: handle.info().requests for handle in self._handles()}
        passed = max(now - self._last, 1e-3)
        self._rates = {
            handle: (count - self._counted.get(handle, 0)) / passed
            for handle, count in requests.items()
        }
        self._counted, self._last = requests, now
        self._samples.append(
            {
                "at": round(now + self._clock, 3),
                "requests": stats.requests,
                "errors": stats.errors,
                "in_flight": stats.in_flight,
                "connections": stats.connections,
                "lag": round(stats.lag, 6),
                "memory": self._memory(),
            }
        )

    def to_json(self) -> bytes:
        """Encode what there is to show."""
        self._collect()
        stats = Stats.read(self._board)
        shown = {
            "state": self._state(),
            "pid": os.getpid(),
            "python": platform.python_version(),
            "uptime": round(monotonic() - self._since, 3),
            "memory": self._memory(),
            "requests": stats.requests,
            "errors": stats.errors,
            "in_flight": stats.in_flight,
            "connections": stats.connections,
            "websockets": stats.websockets,
            "responses": {f"{kind}xx": count for kind, count in stats.responses.items()},
            "workers": self._workers(stats),
            "events": list(self._events),
            "samples": list(self._samples),
        }
        return json.dumps(shown).encode()

    def _workers(self, stats: Stats) -> list[dict[str, Any]]:
        counted = {(each.worker_id, each.generation): each for each in stats.workers}
        now = monotonic()
        shown = []
        for handle in sorted(self._handles(), key=lambda each: (each.worker_id, each.generation)):
            worker, since = handle.info(), handle.busy_since
            of_it = counted.get((worker.id, worker.generation), _NOTHING)
            shown.append(
                {
                    "id": worker.id,
                    "generation": worker.generation,
                    "state": worker.state.value,
                    "age": round(now - handle.since, 3),
                    "requests": worker.requests,
                    "requests_per_second": round(self._rates.get(handle, 0.0), 1),
                    "in_flight": of_it.in_flight,
                    "connections": worker.connections,
                    "errors": of_it.errors,
                    "lag": round(of_it.lag, 6),
                    "busy": round(monotonic() - since / 1e9, 3) if since else 0.0,
                }
            )
        return shown

    def _collect(self) -> None:
        while True:
            try:
                event = self._stream.get(0)
            except TimeoutError:
                return
            if event is None:
                return
            self._number += 1
            self._events.append(
                {
                    "number": self._number,
                    "at": round(event.at + self._clock, 3),
                    "kind": type(event).__name__,
                    **{field.name: _plain(event, field.name) for field in fields(event)[1:]},
                }
            )

    def close(self) -> None:
        """Take no more events."""
        self._stream.close()


_NOTHING = WorkerStats(
    worker_id=-1,
    generation=0,
    requests=0,
    in_flight=0,
    connections=0,
    websockets=0,
    errors=0,
    lag=0.0,
)


def _plain(event: Event, name: str) -> object:
    value = getattr(event, name)
    if isinstance(value, Enum):
        return value.value
    return value[:_TEXT] if isinstance(value, str) else value


def _page() -> bytes:
    """Read the page, which is one file."""
    from importlib.resources import files  # once in a while

    return (files(__package__) / "page.html").read_bytes()
