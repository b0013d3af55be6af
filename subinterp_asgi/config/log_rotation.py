"""Files that ``logging`` of this interpreter writes, opened anew once others have their names.

What rotates logs renames a file that is open, and says so. Imported only then.
"""

from __future__ import annotations

import logging
import os

logger = logging.getLogger("subinterp_asgi.error")


def reopen() -> None:
    """Open those anew whose names are other files' by now, or nobody's. If that fails it is logged.

    A file that is where it was stays open: anew it might be emptied.
    """
    for reference in tuple(logging._handlerList):  # type: ignore[attr-defined, unused-ignore]
        handler = reference()
        if isinstance(handler, logging.FileHandler):
            try:
                lost = _reopen(handler)
            except OSError as exc:
                logger.error(
                    "a log can't be opened anew, and the file that was open is written on: %s", exc
                )
            else:
                if lost is not None:
                    text = "what was last logged is lost, since the log before can't be written: %s"
                    logger.error(text, lost)


def _reopen(handler: logging.FileHandler) -> OSError | None:
    """Go on in a new file, and close the old one; return what has kept that from being written.

    It is closed whatever that is: on a full disk, removed, it may be all that fills it.
    """
    handler.acquire()
    try:
        old = handler.stream
        if old is None or _is_file(old.fileno(), handler.baseFilename):
            return None  # (without one, it is opened with the next record)
        handler.stream = handler._open()
    finally:
        handler.release()
    try:
        old.close()
    except OSError as exc:
        return exc
    return None


def _is_file(fd: int, path: str) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(fd))
    except FileNotFoundError:
        return False
