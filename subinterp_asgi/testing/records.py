"""What a server under test tells of its application."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

type Expected = bool | str | type[BaseException] | Iterable[str | type[BaseException]]
"""Exceptions that are no failure: all (``True``), or those of classes, or of classes' names."""

_Type = type  # which has another meaning in classes below


class LeftBehindWarning(UserWarning):
    """Something of the application's was still there when its server was to end."""


class NotReachedWarning(UserWarning):
    """A test has changed something in its own interpreter, which its workers do not see."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Received:
    """A request as the application was given it.

    Attributes:
        type: ``"http"`` or ``"websocket"``.
        query: The query string, as it was sent.
        headers: Names in lower case, and values.
        body: As much of it as the application has read, up to 64 KiB.
        status: Of its response; ``None``: there was none yet.
        done: The application has returned.
        worker_id: Number of the worker that has served it.
    """

    type: str
    method: str
    path: str
    query: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    status: int | None
    done: bool
    worker_id: int

    def header(self, name: str) -> str | None:
        """The first value of a header, or ``None``."""
        return next((value for key, value in self.headers if key == name.lower()), None)

    @property
    def text(self) -> str:
        """The body, as UTF-8."""
        return self.body.decode("utf-8", "replace")

    def json(self) -> Any:
        """The body, as JSON."""
        return json.loads(self.body)


@dataclass(frozen=True, kw_only=True, slots=True)
class AppError:
    """An exception of the application's that nobody has handled.

    Attributes:
        type: Name of its class.
        types: Full names of its class and of all that this is derived from.
        traceback: As the worker has formatted it.
        method: Of the request in which it happened; ``None``: in none, or nobody knows in which.
        path: As ``method``.
        worker_id: Number of the worker.
    """

    type: str
    types: tuple[str, ...]
    message: str
    traceback: str
    method: str | None
    path: str | None
    worker_id: int

    def __str__(self) -> str:
        where = f"{self.method} {self.path}, " if self.method else ""
        text = f"{self.type}: {self.message} ({where}worker {self.worker_id})"
        return f"{text}\n{self.traceback}".rstrip()

    def is_one_of(self, expected: Expected) -> bool:
        """Whether it is expected."""
        if isinstance(expected, bool):
            return expected
        kinds = (expected,) if isinstance(expected, str | _Type) else expected
        names = {name for full in self.types for name in (full, full.rpartition(".")[2])}
        return any(
            (kind if isinstance(kind, str) else f"{kind.__module__}.{kind.__qualname__}") in names
            for kind in kinds
        )
