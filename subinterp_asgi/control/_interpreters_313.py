"""What ``concurrent.interpreters`` offers, for CPython 3.13, made of its private modules.

Also imported inside of each interpreter there: that registers ``Queue`` with it, and loads
``_interpreters``, without which no memoryview can be received.
"""

from __future__ import annotations

import _interpqueues
import _interpreters
import queue
from types import SimpleNamespace

from ..types import Any, Literal

_SHAREABLE_ONLY = 0
_REMOVE_UNBOUND: Literal[1] = 1  # drop the items of an interpreter that is closed


InterpreterError = _interpreters.InterpreterError


class ExecutionFailed(Exception):
    """Code raised; ``excinfo`` says what."""

    def __init__(self, excinfo: SimpleNamespace) -> None:
        super().__init__(excinfo.formatted)
        self.excinfo = excinfo


class QueueEmpty(_interpqueues.QueueError, queue.Empty):
    """The queue has no item."""


class QueueFull(_interpqueues.QueueError, queue.Full):
    """The queue has no room."""


class Queue:
    """A queue between interpreters."""

    def __init__(self, id: int) -> None:
        self._id = id
        _interpqueues.bind(id)

    def put(self, obj: object) -> None:
        # Never called on a full queue: what goes this way are a worker's few statuses.
        self.put_nowait(obj)

    def put_nowait(self, obj: object) -> None:
        _interpqueues.put(self._id, obj, _SHAREABLE_ONLY, _REMOVE_UNBOUND)

    def get_nowait(self) -> Any:
        return _interpqueues.get(self._id)[0]

    def __del__(self) -> None:
        try:
            _interpqueues.release(self._id)
        except _interpqueues.QueueNotFoundError:
            return


# Without this an empty queue makes CPython 3.13 import its own test package.
_interpqueues._register_heap_types(  # type: ignore[attr-defined]
    Queue, QueueEmpty, QueueFull
)


class Interpreter:
    """An isolated interpreter."""

    def __init__(self, id: int) -> None:
        self.id = id

    def prepare_main(self, names: dict[str, object]) -> None:
        _interpreters.set___main___attrs(self.id, names, restrict=True)

    def exec(self, source: str) -> None:
        excinfo = _interpreters.exec(self.id, source, restrict=True)
        if excinfo is not None:
            raise ExecutionFailed(excinfo)

    def close(self) -> None:
        _interpreters.destroy(self.id, restrict=True)


def create() -> Interpreter:
    return Interpreter(_interpreters.create(reqrefs=False))


def create_queue(maxsize: int) -> Queue:
    return Queue(_interpqueues.create(maxsize, _SHAREABLE_ONLY, _REMOVE_UNBOUND))


def list_all() -> list[int]:
    return [id for id, *_ in _interpreters.list_all(require_ready=False)]
