"""Files that ``logging`` of this interpreter writes, opened anew once others have their names.

What rotates logs renames a file that is open, and says so. Imported only then.
"""

from __future__ import annotations

import logging
import os


def reopen() -> None:
    """Open those anew whose names are other files' by now, or nobody's. If that fails it is logged.

    A file that is where it was stays open: anew it might be emptied.
    """
    for reference in tuple(logging._handlerList):  # type: ignore[attr-defined, unused-ignore]
        handler = reference()
        if isinstance(handler, logging.FileHandler):
            try:
                _reopen(handler)
            except OSError as exc:
                logging.getLogger("subinterp_asgi.error").error(
                    "a log can't be opened anew, and the file that was open is written on: %s", exc
                )


def _reopen(handler: logging.FileHandler) -> None:
    handler.acquire()
    try:
        if handler.stream is None:
            return  # it is opened with the next record
        if _is_file(handler.stream.fileno(), handler.baseFilename):
            return
        old = handler.setStream(handler._open())
    finally:
        handler.release()
    if old is not None:
        old.close()


def _is_file(fd: int, path: str) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(fd))
    except FileNotFoundError:
        return False
