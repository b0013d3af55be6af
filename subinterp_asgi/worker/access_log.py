"""What a worker logs: the access log, and a place for records where nobody has provided one.

A host's logging is never touched. An interpreter of our own begins with logging not configured at
all, so that access lines and errors would vanish there; ``configure_interpreter()`` gives this
package's loggers a handler unless the application has configured logging itself.
"""

from __future__ import annotations

import logging
import os
from http import HTTPStatus

from ..config import Config
from ..control import output
from ..types import TYPE_CHECKING, Address, Any
from .asgi.state import AccessLog, LoggedRequest

if TYPE_CHECKING:
    from typing import Protocol

    class Forwarder(Protocol):
        """A handler that can log a request without a record."""

        def log_access(self, *request: *LoggedRequest) -> None: ...


package_logger = logging.getLogger("subinterp_asgi")
access_logger = logging.getLogger("subinterp_asgi.access")


def _guard(logger: logging.Logger) -> None:
    """Have what logs by a logger of ours go on, whatever filters and handlers raise.

    They are the application's. ``logging`` sees to what handlers raise as they write, unless there
    is no memory to show it; not to what filters raise, such as one that wants a request's context.
    """
    handle = logger.handle

    def guarded(record: logging.LogRecord) -> None:
        try:
            handle(record)
        except Exception as exc:
            if logging.raiseExceptions:
                output.say_unlogged(exc)

    logger.handle = guarded  # type: ignore[method-assign]


for _logger in (package_logger, logging.getLogger("subinterp_asgi.error"), access_logger):
    _guard(_logger)

_PHRASES = {status.value: status.phrase for status in HTTPStatus}
_FORMAT = "%(levelname)s: %(message)s"
_NO_ID = {"request_id": "-"}
_FORMAT_WITH_ID = "%(levelname)s: [%(request_id)s] %(message)s"
ACCESS_MESSAGE = '%s - "%s %s HTTP/%s" %d %s %.1fms'
"""The message of the access log, of which ``access_arguments()`` are the arguments."""
_LINE = f"INFO: {ACCESS_MESSAGE}\n"


class StderrHandler(logging.Handler):
    """Writes each record to descriptor 2 in one piece, so that lines of workers don't mix."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(_Formatter(_FORMAT))

    def emit(self, record: logging.LogRecord) -> None:
        try:
            write_line(self.format(record))
        except MemoryError:
            # What shows errors shows tracebacks, which take more than the line itself.
            write_line(f"{record.levelname}: {record.getMessage()} (there is no memory for more)")
        except Exception:
            self.handleError(record)


class _Formatter(logging.Formatter):
    """Shows a traceback without its source rather than lose the record."""

    def formatException(self, ei: Any) -> str:
        try:
            return super().formatException(ei)
        except (ImportError, OSError, MemoryError):
            # What reads source is imported when it is first needed, perhaps to tell that no
            # descriptors are left; and a source takes memory.
            return output.plain_traceback(ei[1])


class _FormatterOfAccess(_Formatter):
    """Leaves requests the form that the options give them."""

    def format(self, record: logging.LogRecord) -> str:
        return record.getMessage() if record.name == access_logger.name else super().format(record)


def write_line(line: str) -> None:
    """Write a line to standard error, without ever waiting for it."""
    output.stderr.write((line + "\n").encode("utf-8", "backslashreplace"))


def escaped(text: str) -> str:
    r"""Return what others have sent, a character for each octet, in a form that spoils no line.

    As nginx does it: ``"``, ``\`` and all but printable ASCII become ``\xNN``, so that a record is
    one line, a quoted value ends where the format says, and terminals are told nothing.
    """
    if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        return text  # nearly always, and looked at twice as fast
    return "".join(
        each if " " <= each <= "~" and each not in '"\\' else f"\\x{ord(each):02X}" for each in text
    )


def octets_of(client: Address) -> str:
    """The host of a client, a character for each octet: a Unix socket's name may hold any."""
    return os.fsencode(client[0]).decode("latin-1")


def configure_interpreter(config: Config) -> None:
    """Give this package's loggers a level and, if there is none to use, a handler.

    For a worker's own interpreter (or the process of the command line), after the application was
    imported, whose own configuration comes first.
    """
    if package_logger.level == logging.NOTSET:
        package_logger.setLevel(config.log_level.upper())
    if not package_logger.hasHandlers():
        handler = StderrHandler()
        form = _FORMAT if config.request_id_header is None else _FORMAT_WITH_ID
        if config.access_log_format is not None:
            handler.setFormatter(_FormatterOfAccess(form, defaults=_NO_ID))
        elif form is not _FORMAT:
            handler.setFormatter(_Formatter(form, defaults=_NO_ID))
        package_logger.addHandler(handler)
        package_logger.propagate = False


def log_access(*request: *LoggedRequest) -> None:
    """Log a request."""
    if access_logger.isEnabledFor(logging.INFO):
        access_logger.info(ACCESS_MESSAGE, *access_arguments(*request))


def access_arguments(
    client: Address | None,
    method: str,
    target: str,
    http_version: str,
    status: int,
    duration: float,
) -> tuple[str, str, str, str, int, str, float]:
    """The arguments of ``ACCESS_MESSAGE``."""
    if client is None:
        peer = "-"
    elif client[1] is None:
        peer = escaped(octets_of(client)) + ":None"
    else:
        peer = f"{client[0]}:{client[1]}"
    return (
        peer,
        method,
        # (Of what must be escaped, the grammar of requests allows these in a target.)
        escaped(target) if '"' in target or "\\" in target else target,
        http_version,
        status,
        _PHRASES.get(status, "-"),
        duration * 1000.0,
    )


def log_access_directly(*request: *LoggedRequest) -> None:
    """Write the line that ``log_access()`` would come to, without a log record on the way."""
    line = _LINE % access_arguments(*request)
    output.stderr.write(line.encode("utf-8", "backslashreplace"))


def is_detailed(config: Config) -> bool:
    """Whether a request is more in the log than its default line."""
    return bool(
        config.access_log
        and (
            config.access_log_format is not None
            or config.access_log_exclude
            or config.access_log_filter is not None
            or config.request_id_header is not None
        )
    )


def choose_access_log(own_interpreter: bool, log_forwarder: Forwarder | None = None) -> AccessLog:
    """Choose the cheapest way: without a record here, if it would only reach our own handler."""
    if not own_interpreter or access_logger.handlers or access_logger.level != logging.NOTSET:
        return log_access
    if log_forwarder is not None:
        handlers: list[Any] = logging.getLogger().handlers
        alone = (
            not package_logger.handlers
            and handlers == [log_forwarder]
            and package_logger.propagate
            and access_logger.propagate
            and not access_logger.filters
            and not handlers[0].filters
            and handlers[0].level <= logging.INFO
        )
        return log_forwarder.log_access if alone else log_access
    ours_only = [type(handler) for handler in package_logger.handlers] == [StderrHandler]
    direct = ours_only and package_logger.isEnabledFor(logging.INFO)
    return log_access_directly if direct else log_access
