"""Logging from the supervisor's threads, through handlers and filters that are the host's.

They may want locks, and raise: call nothing of this with a lock held. ``logging`` is imported only
when there is something to say, since a host that has no use for it need not pay for it.
"""

from __future__ import annotations

from collections.abc import Callable

from ..control import output


def log(level: str, text: str, exc: BaseException | None = None) -> None:
    """Log a line, perhaps with an exception."""
    try:
        import logging
    except (ImportError, OSError):
        # An import opens files, and descriptors may have run out: then it is said without.
        if level not in ("debug", "info"):
            output.say(f"{text}\n" if exc is None else f"{text}: {exc!r}\n")
        return
    logger = logging.getLogger("subinterp_asgi.error")
    if logger.hasHandlers() or logger.filters or logging.lastResort is None:
        method = getattr(logger, level)
        call(lambda: method("%s", text, exc_info=exc))
    elif logger.isEnabledFor(getattr(logging, level.upper())):
        # As the last resort of ``logging`` would, which may wait for ever.
        output.say(text + "\n" + ("" if exc is None else _format(exc)))


def call(function: Callable[..., object], *arguments: object) -> None:
    """Call what may call the host's handlers; their errors go where ``logging`` sends its own."""
    import logging

    try:
        function(*arguments)
    except BaseException as exc:
        if logging.raiseExceptions:
            output.say(_format(exc))


def _format(exc: BaseException) -> str:
    import traceback

    try:
        return "".join(traceback.format_exception(exc))
    except (ImportError, OSError):  # it imports what reads source, for which nothing may be left
        return f"{output.plain_traceback(exc)}\n"
