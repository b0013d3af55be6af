"""Log records as octets: what crosses from a worker's interpreter to the host's, on both sides.

A frame is four octets that mark it, a length, four octets little-endian, and as many octets of
``marshal``: a tuple of plain values. Both ends are the same Python in the same process; ``marshal``
takes a fifth of the time of JSON, and carries surrogates and NULs as they are. It is to be given
nothing else than what it has made, since a few wrong octets make it ask for gigabytes: hence the
mark, without which whatever else is written to the descriptor by mistake would be read as a frame.
A record is formatted by the one who sends it, since its arguments are objects that can't leave
their interpreter.

``log_forwarding`` sends, ``log_receiver`` receives.
"""

from __future__ import annotations

import logging
from marshal import dumps, loads
from time import time

from ..types import TYPE_CHECKING

if TYPE_CHECKING:
    from types import CodeType
    from typing import Any

    type Fields = tuple[Any, ...]

MAX_FRAME = 1024 * 1024
"""Octets of the largest frame. One that is larger is never sent; its record counts as dropped."""

_MAX_TEXT = 256 * 1024  # characters of a message, of a traceback, of a stack
_MARK = b"\xf5log"
_HEAD = 8

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}
_STANDARD_COUNT = len(vars(logging.makeLogRecord({})))
_PLAIN = frozenset({str, int, float, bool, bytes, type(None)})

_ATTRIBUTES = [
    "created",
    "levelno",
    "levelname",
    "name",
    "msg",
    "exc_text",
    "stack_info",
    "thread",
    "threadName",
    "taskName",
    "pathname",
    "lineno",
    "funcName",
]
"""What a frame's tuple has of a record; what else was added to that follows as a dictionary."""
LEVELNO = 1
NAME = 3
"""Places in it of what decides whether the host wants the record."""

_formatter = logging.Formatter()


def encode(record: logging.LogRecord, own_thread: int | None = None) -> bytes:
    """Make a frame of a record, which is not changed. It fails when out of memory, or of stack.

    The name of the worker's thread, ``own_thread``, is for the host to say.
    """
    try:
        text = record.getMessage()
    except Exception as exc:
        # A mistake of the application's, which must not cost it the record, let alone more.
        text = f"{_show(record.msg)} (can't be formatted: {type(exc).__name__}: {_show(exc)})"
    if len(text) > _MAX_TEXT:
        text = f"{text[:_MAX_TEXT]}... ({len(text) - _MAX_TEXT} characters more)"
    exc_text = record.exc_text
    if record.exc_info and not exc_text:
        try:
            exc_text = _formatter.formatException(record.exc_info)
        except Exception as exc:
            exc_text = f"(the traceback can't be shown: {type(exc).__name__})"
    values = (
        record.created,
        record.levelno,
        record.levelname,
        record.name,
        text,
        # The end of a traceback says most.
        exc_text[-_MAX_TEXT:] if exc_text else None,
        record.stack_info[-_MAX_TEXT:] if record.stack_info else None,
        record.thread,
        None if record.thread == own_thread else record.threadName,
        record.taskName,
        record.pathname,
        record.lineno,
        record.funcName,
    )
    extras = _extras(record) if len(record.__dict__) > _STANDARD_COUNT else None
    try:
        data = dumps((*values, extras))
    except ValueError:  # of a subclass of str, say, as many enumerations are
        data = dumps((*map(_plain, values), extras))
    return _frame(data)


def encode_info(name: str, text: str, own_thread: int, origin: CodeType) -> bytes:
    """Make the frame of a record of level INFO, which costs a tenth of the record itself.

    It says to come from the worker's thread, which calls this, and from the code ``origin``.
    """
    where = (origin.co_filename, origin.co_firstlineno, origin.co_name)
    level = (logging.INFO, "INFO")
    return _frame(
        dumps((time(), *level, name, text, None, None, own_thread, None, None, *where, None))
    )


def _frame(data: bytes) -> bytes:
    return _MARK + len(data).to_bytes(4, "little") + data


def take(buffer: bytearray) -> list[Fields]:
    """Take all complete frames out of a buffer; ``ValueError``: what is in it are no frames."""
    taken: list[Fields] = []
    start = 0
    while len(buffer) >= start + _HEAD:
        begin = start + _HEAD
        end = begin + int.from_bytes(buffer[start + 4 : begin], "little")
        if not buffer.startswith(_MARK, start) or end - start > MAX_FRAME:
            raise ValueError("what was written there are no records")
        if len(buffer) < end:
            break
        try:
            taken.append(loads(bytes(buffer[begin:end]), allow_code=False))
        except (EOFError, TypeError) as exc:
            raise ValueError(f"what was written there are no records: {exc}") from None
        start = end
    del buffer[:start]
    return taken


def rebuild(fields: Fields, own_thread_name: str) -> logging.LogRecord:
    """Make a record of one item of ``take()``; ``own_thread_name`` is that of the worker's thread.

    ``ValueError``: the frame was none of ours.
    """
    *values, extras = fields
    record = logging.makeLogRecord(extras or {})  # by the host's factory, if it has set one
    # Of this interpreter's clock, which began to count at another time than the worker's.
    rebuilt = record.created
    for name, value in zip(_ATTRIBUTES, values, strict=True):
        setattr(record, name, value)
    record.relativeCreated -= (rebuilt - record.created) * 1000
    record.msecs = record.created * 1000 % 1000
    record.threadName = record.threadName or own_thread_name
    record.filename = record.pathname.rpartition("/")[2]
    record.module = record.filename.rpartition(".")[0] or record.filename
    return record


def _extras(record: logging.LogRecord) -> dict[str, Any]:
    """What ``extra=`` or a filter added to a record; what is neither number nor text, as text."""
    return {
        _plain(name): _plain(value)
        for name, value in record.__dict__.items()
        if name not in _STANDARD
    }


def _plain(value: Any) -> Any:
    if type(value) in _PLAIN:
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int.__int__(value)
    if isinstance(value, float):
        return float.__float__(value)
    return _show(value)


def _show(value: object) -> str:
    """``str()`` that does not fail."""
    try:
        return str.__str__(str(value))
    except Exception:
        return f"<{type(value).__name__}>"
