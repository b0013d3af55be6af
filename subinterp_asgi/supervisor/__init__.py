"""The main side: what runs in the host's interpreter and owns the workers.

``supervisor`` is what hosts use. ``policy`` decides (replacing, reloading, shutting down), ``pool``
runs what was decided; the rest is what both need. Importing this package loads none of it.
"""

from __future__ import annotations

from importlib import import_module

from ..types import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .supervisor import Supervisor as Supervisor

__all__ = ["Supervisor"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(".supervisor", __name__), name)
    return value
