"""What would keep the memory of an interpreter that is closed, and is undone before.

CPython 3.14 and later give back what an interpreter has allocated, save what something outside of
it, or a type that never dies, still refers to. Libraries cause that without knowing: urllib3,
requests, aiohttp and boto3 leave 4 to 11 MB for each reload, h11 and so httpx 4, pymongo and celery
4 to 8.
"""

from __future__ import annotations

import gc
import warnings
from collections.abc import Iterator

from ...types import Any


def let_go() -> None:
    """Undo the rest, as the last thing that is done in the interpreter."""
    gc.unfreeze()  # what was frozen would never be collected
    # A category in a filter that is the application's own keeps the application. Those of Python
    # itself stay, for what is said while the interpreter is closed.
    general = [
        (action, category, line)
        for action, message, category, module, line in warnings.filters
        if message is None and module is None and category.__module__ == "builtins"
    ]
    warnings.resetwarnings()
    for action, category, line in general:
        warnings.simplefilter(action, category, line, append=True)  # type: ignore[arg-type]
    # So does a class that is its own class, as h11's sentinels are.
    for metaclass in tuple(_subclasses(type)):
        if type(metaclass) is metaclass and metaclass is not type:
            metaclass.__class__ = metaclass.__base__  # type: ignore[assignment]  # as it was made


def _subclasses(cls: Any) -> Iterator[Any]:
    for subclass in type.__subclasses__(cls):
        yield subclass
        yield from _subclasses(subclass)
