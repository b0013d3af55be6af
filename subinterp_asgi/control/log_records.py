"""Log records as octets: what crosses from a worker's interpreter to the host's, on both sides.

A frame is four octets that mark it, a length, four octets little-endian, and as many octets of
``marshal``: a tuple of plain values. Both ends are the same Python in the same process; ``marshal``
takes a fifth of the time of JSON, and carries surrogates and NULs as they are. It is to be given
nothing else than what it has made, since a few wrong octets make it ask for gigabytes: hence the
mark, without which whatever else is written to the descriptor by mistake would be read as a frame.
Objects can't leave their interpreter. A message is sent with its arguments where these are plain
values, or say the same as text; else it is sent as it was formatted. A traceback is text, and an
exception a name and a text, for which the receiver makes a stand-in.

``log_forwarding`` sends, ``log_receiver`` receives.
"""

from __future__ import annotations

import logging
from contextvars import ContextVar
from functools import lru_cache
from marshal import dumps, loads
from operator import attrgetter
from time import time
from types import CodeType

from ..types import Any

type Fields = tuple[Any, ...]
type Arguments = tuple[Any, ...] | dict[str, Any]

MAX_FRAME = 1024 * 1024
"""Octets of the largest frame. One that is larger is never sent; its record counts as dropped."""

_MAX_TEXT = 256 * 1024  # characters of a message, of a traceback, of a stack
_SMALL = 1000  # characters of an argument that needs no second look
_MARK = b"\xf5log"
_HEAD = 8

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}
_STANDARD_COUNT = len(vars(logging.makeLogRecord({})))
_NUMBERS = frozenset({int, float, bool, type(None)})
_PLAIN = frozenset({str, int, float, bool, bytes, type(None)})

_ORIGIN = ("pathname", "lineno", "funcName")
_AS_THEY_ARE = ("created", "levelno", "levelname", "name", "thread", "taskName", *_ORIGIN)
_ATTRIBUTES = [*_AS_THEY_ARE, "msg", "args", "exc_text", "stack_info", "threadName"]
"""What a frame's tuple has of a record; an exception, and what else was added to it, follow."""
LEVELNO, NAME = _ATTRIBUTES.index("levelno"), _ATTRIBUTES.index("name")
"""Places in it of what decides whether the host wants the record."""

_formatter = logging.Formatter()
_as_they_are = attrgetter(*_AS_THEY_ARE)


REQUEST_ID: ContextVar[str] = ContextVar("subinterp_asgi request id", default="-")
"""The id of the request that is being served, with ``request_id_header``."""


class RemoteException(Exception):
    """Stands for an exception of a worker's interpreter in ``exc_info``, by a class of its name.

    Its text is that of the exception, and its note the traceback there; it has no own.
    """


def identify_records() -> None:
    """Give each record of this interpreter, which is a worker's own, a ``request_id``.

    Not by a record factory, after which an application could not give ``extra`` of that name.
    """
    make = logging.Logger.makeRecord
    if getattr(make, "identifies", False):
        return  # the interpreter has served before

    def make_record(self: logging.Logger, *args: Any, **kwargs: Any) -> logging.LogRecord:
        record = make(self, *args, **kwargs)
        record.__dict__.setdefault("request_id", REQUEST_ID.get())
        return record

    make_record.identifies = True  # type: ignore[attr-defined]
    logging.Logger.makeRecord = make_record  # type: ignore[method-assign]


def encode(record: logging.LogRecord, own_thread: int | None = None) -> bytes:
    """Make a frame of a record, which is not changed. It fails when out of memory, or of stack.

    The name of the worker's thread, ``own_thread``, is for the host to say.
    """
    msg, args = _message(record)
    exc_text = record.exc_text
    if record.exc_info and not exc_text:
        try:
            exc_text = _formatter.formatException(record.exc_info)
        except Exception as exc:
            exc_text = f"(the traceback can't be shown: {type(exc).__name__})"
    values = (
        *_as_they_are(record),
        msg,
        args,
        # The end of a traceback says most.
        exc_text[-_MAX_TEXT:] if exc_text else None,
        record.stack_info[-_MAX_TEXT:] if record.stack_info else None,
        None if record.thread == own_thread else record.threadName,
    )
    rest = (
        _exception(record.exc_info) if record.exc_info else None,
        _extras(record) if len(record.__dict__) > _STANDARD_COUNT else None,
    )
    try:
        data = dumps((*values, *rest))
    except ValueError:  # of a subclass of str, say, as many enumerations are
        plain = (value if value is args else _plain(value) for value in values)
        data = dumps((*plain, *rest))
    return _frame(data)


def _message(record: logging.LogRecord) -> tuple[str, Arguments]:
    """A record's message and arguments, or the text that they come to, if these can't be sent."""
    msg, args = record.msg, record.args
    try:
        text = record.getMessage()
    except Exception as exc:
        # A mistake of the application's, which must not cost it the record, let alone more.
        text = f"{_show(msg)} (can't be formatted: {type(exc).__name__}: {_show(exc)})"
        args = ()
    if args and len(text) <= _MAX_TEXT:
        if type(msg) is str and type(args) is tuple:
            for arg in args:
                if type(arg) not in _NUMBERS and not (type(arg) is str and len(arg) <= _SMALL):
                    break
            else:
                return msg, args
        try:
            msg = _show(msg)
            plain = _plain_arguments(args)
            if len(msg) + len(dumps(plain)) <= _MAX_TEXT and msg % plain == text:
                return msg, plain
        except Exception:
            pass  # %d, say, of an object that is text now: as it was formatted
    elif len(text) > _MAX_TEXT:
        text = f"{text[:_MAX_TEXT]}... ({len(text) - _MAX_TEXT} characters more)"
    return text, ()


def _plain_arguments(args: Any) -> Arguments:
    if isinstance(args, tuple):
        return tuple(map(_plain, args))
    return {_plain(name): _plain(value) for name, value in args.items()}


def _exception(exc_info: Any) -> tuple[str, str, str] | None:
    """The module, name and text of an exception."""
    try:
        kind, value, _ = exc_info
        return _show(kind.__module__), _show(kind.__qualname__), _show(value)[:_MAX_TEXT]
    except Exception:
        return None  # it is no exception


def encode_info(
    name: str, msg: str, args: tuple[Any, ...], own_thread: int, origin: CodeType
) -> bytes:
    """Make the frame of a record of level INFO, which costs a tenth of the record itself.

    It says to come from the worker's thread, which calls this, and from the code ``origin``.
    """
    code = (origin.co_filename, origin.co_firstlineno, origin.co_name)
    values = (time(), logging.INFO, "INFO", name, own_thread, None, *code, msg, args)
    return _frame(dumps((*values, None, None, None, None, None)))


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
    *values, exception, extras = fields
    record = logging.makeLogRecord(extras or {})  # by the host's factory, if it has set one
    # Of this interpreter's clock, which began to count at another time than the worker's.
    rebuilt = record.created
    for name, value in zip(_ATTRIBUTES, values, strict=True):
        setattr(record, name, value)
    record.relativeCreated -= (rebuilt - record.created) * 1000
    record.msecs = record.created * 1000 % 1000
    record.threadName = record.threadName or own_thread_name
    if exception is not None:
        *names, text = exception
        stand_in = _stand_in(*names)(text)
        stand_in.add_note(record.exc_text or "")
        record.exc_info = (type(stand_in), stand_in, None)
    record.filename = record.pathname.rpartition("/")[2]
    record.module = record.filename.rpartition(".")[0] or record.filename
    return record


@lru_cache(maxsize=64)
def _stand_in(module: str, name: str) -> type[RemoteException]:
    return type(
        name.rpartition(".")[2], (RemoteException,), {"__module__": module, "__qualname__": name}
    )


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
