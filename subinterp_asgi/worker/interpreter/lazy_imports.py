"""Imports that are put off until what is imported is used.

``asyncio`` imports ``ssl`` for the streams that it could open, which costs each interpreter more
than a megabyte and most of ten milliseconds whether or not a stream with TLS is ever opened. Here
``ssl`` and the one module of ``asyncio`` that uses it at import time are put into ``sys.modules``
without having been executed; the first access to anything in them does that. So are modules that
serve nothing but children, signals and the description of code: 6 ms for all that they import.

CPython 3.15 does the like for whole applications, if it is told to: what is imported at the top of
a module is loaded when the name is used first. That goes for an interpreter, and each has to be
told by itself.

For interpreters of our own only: the host's ``sys.modules`` are the host's.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import find_spec, module_from_spec
from types import ModuleType

from ...types import Any

_PACKAGE = __name__.partition(".")[0]
_GRAPH = (
    "capture_call_graph",
    "format_call_graph",
    "print_call_graph",
    "FrameCallGraphEntry",
    "FutureCallGraph",
)
_RARE = ("inspect", "signal", "subprocess", "tokenize")


def set_mode(mode: str | None, excepted: tuple[str, ...]) -> None:
    """Have what is imported from now on be put off, as the options say; before 3.15: nothing.

    Not what this package imports: errors are logged, and a worker ended, when descriptors have run
    out, and then nothing can be loaded.

    Args:
        mode: The option ``lazy_imports``.
        excepted: Modules that are loaded at once, and load at once what they import.
    """
    system: Any = sys
    if not hasattr(system, "set_lazy_imports") or (mode is None and not excepted):
        return
    if mode is not None:
        system.set_lazy_imports(mode)
    at_once = tuple(f"{name}." for name in (_PACKAGE, *excepted))

    def may_be_put_off(importing: str | None, name: str, parts: tuple[str, ...] | None) -> bool:
        # (``from package import module`` names the package, and the module only in its parts.)
        names = (f"{importing}.", f"{name}.", *(f"{name}.{part}." for part in parts or ()))
        return not any(each.startswith(at_once) for each in names)

    system.set_lazy_imports_filter(may_be_put_off)


def make_all_eager() -> None:
    """Have all imports be done at once, even those that are marked as lazy."""
    system: Any = sys
    if hasattr(system, "set_lazy_imports_filter"):
        system.set_lazy_imports_filter(lambda *_: False)


def make_colours_lazy() -> None:
    """Have ``traceback`` import its colours without their being executed, from 3.14 on.

    That is a module of dataclasses, each compiled when it is defined: 4 ms. (3.15 marks it as lazy,
    but then could log no error that has come of a lack of descriptors.)
    """
    if sys.version_info >= (3, 14) and "_colorize" not in sys.modules:
        spec = PathFinder.find_spec("_colorize")
        if spec is not None:
            loader: Any = spec.loader
            code = loader.get_code(spec.name)  # which is read now
            _make_lazy(spec, lambda module: exec(code, module.__dict__))


def make_rare_lazy() -> None:
    """Have ``asyncio`` and others import without their being executed what is hardly ever used."""
    for name in _RARE:
        spec = PathFinder.find_spec(name)
        if spec is not None and name not in sys.modules:
            module = _make_lazy(spec)
            if name == "subprocess":  # asyncio's functions have these for defaults
                module.__dict__.update(PIPE=-1, STDOUT=-2, DEVNULL=-3)


def import_asyncio(*, ssl: bool) -> None:
    """Import ``asyncio``, without ``ssl`` if that is not needed, nor what describes its tasks.

    Does nothing if it is imported already.
    """
    package = PathFinder.find_spec("asyncio")
    if "asyncio" in sys.modules or package is None:
        return
    lazy = {}
    if graph := _submodule(package, "graph"):
        lazy["graph"] = _make_lazy(graph)
        lazy["graph"].__dict__["__all__"] = ()  # asyncio takes all of them when it is imported
    # (Importing ssl fails on a build without OpenSSL, and asyncio allows for it.)
    if not ssl and "ssl" not in sys.modules and find_spec("_ssl") is not None:
        ssl_spec, sslproto = PathFinder.find_spec("ssl"), _submodule(package, "sslproto")
        if ssl_spec and sslproto:
            _make_lazy(ssl_spec)
            lazy["sslproto"] = _make_lazy(sslproto)
    asyncio = module_from_spec(package)
    asyncio.__dict__.update(lazy)  # which it would be given when they are imported
    sys.modules["asyncio"] = asyncio
    assert package.loader is not None
    try:
        package.loader.exec_module(asyncio)
    except BaseException:
        del sys.modules["asyncio"]
        raise
    if "graph" in lazy:
        _offer(asyncio, lazy["graph"])


def _submodule(package: ModuleSpec, name: str) -> ModuleSpec | None:
    return PathFinder.find_spec(f"{package.name}.{name}", package.submodule_search_locations)


def _offer(package: Any, graph: ModuleType) -> None:
    """Have ``asyncio`` offer what it has not taken from a module."""
    offered = package.__getattr__

    def __getattr__(name: str) -> Any:
        return getattr(graph, name) if name in _GRAPH else offered(name)

    package.__getattr__ = __getattr__
    package.__all__ += _GRAPH


def _make_lazy(
    spec: ModuleSpec, execute: Callable[[ModuleType], object] | None = None
) -> ModuleType:
    """Put a module into ``sys.modules`` that is executed when it lacks what it is asked for."""
    module = module_from_spec(spec)
    lock = threading.RLock()
    begun = False

    def __getattr__(name: str) -> Any:
        nonlocal begun
        with lock:  # where other threads wait until the module is complete
            if not begun:
                begun = True
                assigned = {k: v for k, v in module.__dict__.items() if before.get(k) is not v}
                assert spec.loader is not None
                try:
                    (execute or spec.loader.exec_module)(module)
                except BaseException:  # such as that there are no descriptors for the moment
                    begun = False
                    raise
                finally:
                    module.__dict__.update(assigned)
        try:
            return module.__dict__[name]
        except KeyError:
            raise AttributeError(f"module {spec.name!r} has no attribute {name!r}") from None

    # (PEP 562) Not importlib's LazyLoader, which a second import statement sets off already.
    module.__dict__["__getattr__"] = __getattr__
    before = dict(module.__dict__)
    sys.modules[spec.name] = module
    return module
