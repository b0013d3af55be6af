"""Logging from the supervisor's threads, through handlers and filters that are the host's.

They may want locks, and raise: call nothing of this with a lock held. ``logging`` is imported only
when there is something to say, since a host that has no use for it need not pay for it.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable


def log(level: str, text: str, exc: BaseException | None = None) -> None:
    """Log a line, perhaps with an exception."""
    import logging

    method = getattr(logging.getLogger("subinterp_asgi.error"), level)
    call(lambda: method("%s", text, exc_info=exc))


def call(function: Callable[..., object], *arguments: object) -> None:
    """Call what may call the host's handlers; their errors go where ``logging`` sends its own."""
    import logging

    try:
        function(*arguments)
    except BaseException:
        if logging.raiseExceptions and sys.stderr is not None:
            import traceback

            with contextlib.suppress(OSError, ValueError):
                traceback.print_exc()
