"""The worker side: what serves one application, in an interpreter or a thread of its own.

``asgi`` knows the protocol's messages, ``net`` sockets and octets, ``proxies`` what proxies say,
``interpreter`` the peculiarities of subinterpreters; the rest puts these together. Importing this
package loads none of it.
"""

from __future__ import annotations

from importlib import import_module

from ..types import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .worker import Worker as Worker
    from .worker import WorkerState as WorkerState
    from .worker import on_drain as on_drain

__all__ = ["Worker", "WorkerState", "on_drain"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(".worker", __name__), name)
    return value
