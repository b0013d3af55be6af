"""Puts off importing ``ssl`` in an interpreter until something uses it.

``asyncio`` imports ``ssl`` for the streams that it could open, which costs each interpreter more
than a megabyte and most of ten milliseconds whether or not a stream with TLS is ever opened. Here
``ssl`` and the one module of ``asyncio`` that uses it at import time are put into ``sys.modules``
without having been executed; the first access to anything in them does that.

For interpreters of our own only: the host's ``sys.modules`` are the host's.
"""

from __future__ import annotations

import sys
import threading
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec, module_from_spec
from types import ModuleType

from ...types import Any


def make_ssl_lazy() -> None:
    """Import ``asyncio`` without ``ssl``, unless one of them is imported already."""
    ssl_spec, package_spec = PathFinder.find_spec("ssl"), PathFinder.find_spec("asyncio")
    if "ssl" in sys.modules or "asyncio" in sys.modules or not (ssl_spec and package_spec):
        return
    if find_spec("_ssl") is None:
        return  # a build without OpenSSL, where importing ssl fails and asyncio allows for it
    sslproto_spec = PathFinder.find_spec(
        "asyncio.sslproto", package_spec.submodule_search_locations
    )
    if sslproto_spec is None:
        return
    _make_lazy(ssl_spec)
    sslproto = _make_lazy(sslproto_spec)
    import asyncio

    asyncio.sslproto = sslproto  # type: ignore[attr-defined]  # which importing would have done


def _make_lazy(spec: ModuleSpec) -> ModuleType:
    """Put a module into ``sys.modules`` that is executed when it lacks what it is asked for."""
    module = module_from_spec(spec)
    lock = threading.RLock()
    begun = False

    def __getattr__(name: str) -> Any:
        nonlocal begun
        with lock:  # where other threads wait until the module is complete
            if not begun:
                begun = True
                assert spec.loader is not None
                spec.loader.exec_module(module)
        try:
            return module.__dict__[name]
        except KeyError:
            raise AttributeError(f"module {spec.name!r} has no attribute {name!r}") from None

    # (PEP 562) Not importlib's LazyLoader, which a second import statement sets off already.
    module.__dict__["__getattr__"] = __getattr__
    sys.modules[spec.name] = module
    return module
