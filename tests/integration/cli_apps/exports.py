"""An application with a library that exports from a daemon thread, and flushes in ``atexit``."""

import atexit
import os
import queue
import threading

from plain import app as app

_items: queue.SimpleQueue[str | None] = queue.SimpleQueue()


def _export() -> None:
    while (item := _items.get()) is not None:
        with open(os.environ["EXPORTED"], "a") as file:
            file.write(item)


def _flush() -> None:
    _items.put("flushed\n")
    _items.put(None)
    _thread.join()


_thread = threading.Thread(target=_export, name="exporter", daemon=True)
_thread.start()
atexit.register(_flush)
_items.put("queued\n")
