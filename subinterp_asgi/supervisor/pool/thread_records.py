"""Marks what is logged in workers that are threads, as forwarded records are marked.

Who logs is known by a context variable, which tasks and ``asyncio.to_thread()`` hand down.
"""

from __future__ import annotations

import logging
import traceback
from contextvars import ContextVar

from ...control import output
from ...control.log_records import REQUEST_ID
from ...types import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing import Protocol

    class Worker(Protocol):
        """Who logs; a spare becomes another one."""

        worker_id: int
        generation: int


current: ContextVar[Worker] = ContextVar("subinterp_asgi records")


def _can_format() -> bool:
    """Whether a traceback can be formatted, for which CPython 3.15 loads something at first."""
    module: Any = traceback
    try:
        return bool(module._colorize)
    except (ImportError, OSError):  # no descriptor is left: else the record would be lost
        return False


class ThreadRecords:
    """A filter that lets all pass, and tells workers' records whose they are.

    They get ``worker_id``, ``generation``, and the ``request_id`` if there is one.

    It is put on this package's own loggers and, since those are the host's, only if that asks for
    it on the handlers of the root logger: what the application logs gets to these.
    """

    def __init__(self, *, of_applications: bool) -> None:
        self._places: list[logging.Filterer] = [
            logging.getLogger(f"subinterp_asgi.{name}") for name in ("error", "access")
        ]
        if of_applications:
            self._places += logging.getLogger().handlers
        for place in self._places:
            place.addFilter(self)

    def filter(self, record: logging.LogRecord) -> bool:
        """Called by ``logging``."""
        worker = current.get(None)
        if worker is not None:
            if record.exc_info and record.exc_info[1] and not (record.exc_text or _can_format()):
                record.exc_text = output.plain_traceback(record.exc_info[1])
            record.worker_id = worker.worker_id
            record.generation = worker.generation
            if (request_id := REQUEST_ID.get()) != "-":
                record.__dict__.setdefault("request_id", request_id)
        return True

    def close(self) -> None:
        """Take it off again."""
        for place in self._places:
            place.removeFilter(self)
