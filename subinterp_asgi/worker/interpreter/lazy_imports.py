"""Imports that cost less: put off until what is imported is used, or made of code that is there.

``asyncio`` imports ``ssl`` for the streams that it could open, which costs each interpreter more
than a megabyte and most of ten milliseconds whether or not a stream with TLS is ever opened. Here
``ssl`` and the one module of ``asyncio`` that uses it at import time are put into ``sys.modules``
without having been executed; the first access to anything in them does that. So are modules that
serve nothing but children, signals, pickles and the description of code, and what these import.

CPython 3.15 does the like for whole applications, if it is told to: what is imported at the top of
a module is loaded when the name is used first. That goes for an interpreter, and each has to be
told by itself.

Where many interpreters are made, as in tests, the code of Python's modules and of this package's is
read once: looking for a file and reading it is a sixth of what an import takes.

For interpreters of our own only, and the command's process: a host's ``sys.modules`` are the
host's.
"""

from __future__ import annotations

import marshal
import os
import sys
import threading
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.util import find_spec, module_from_spec
from types import ModuleType

from ...types import Any

_PACKAGE = __name__.partition(".")[0]
_PARENT = os.path.abspath(os.path.join(os.path.dirname(__file__), *[os.pardir] * 2))
_FOLDERS = tuple(os.path.join(each, "") for each in (os.path.dirname(os.__file__), _PARENT))
_GRAPH = (
    "capture_call_graph",
    "format_call_graph",
    "print_call_graph",
    "FrameCallGraphEntry",
    "FutureCallGraph",
)
_WRAPPERS = 20  # one in another, that are no reason to execute inspect
_RARE = ("inspect", "pickle", "signal", "subprocess", "tokenize")


def _inspect() -> Any:
    inspect = sys.modules["inspect"]
    inspect.isfunction  # noqa: B018  (which loads it)
    return inspect


def _unwrap(function: Any, *, stop: Any = None) -> Any:
    innermost = function
    for _ in range(_WRAPPERS if stop is None else 0):
        if not hasattr(innermost, "__wrapped__"):
            return innermost
        innermost = innermost.__wrapped__
    return _inspect().unwrap(function, stop=stop)


def _get_annotations(obj: Any, **options: Any) -> Any:
    found = vars(obj).get("__annotations__", {}) if isinstance(obj, type) else None
    if type(found) is dict and not options:
        return found.copy()
    return _inspect().get_annotations(obj, **options)


def _signature(obj: Any, **options: Any) -> Any:
    # The dataclasses of colours need no docstrings, and an error that is shown while there is no
    # descriptor left can't load this for them.
    if getattr(obj, "__module__", "") == "_colorize":
        raise ValueError("nobody asks for it")
    return _inspect().signature(obj, **options)


_GIVEN: dict[str, dict[str, Any]] = {
    "inspect": {"unwrap": _unwrap},  # each dataclass that has slots asks for it
    "subprocess": {"PIPE": -1, "STDOUT": -2, "DEVNULL": -3},  # functions of asyncio default to them
}
"""What these modules have before they are executed."""
if sys.version_info < (3, 14):  # where each dataclass asks for it
    _GIVEN["inspect"]["get_annotations"] = _get_annotations
else:
    _GIVEN["inspect"]["signature"] = _signature  # which each without a docstring asks for


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
            _make_lazy(spec, execute=lambda module: exec(code, module.__dict__))


def make_rare_lazy(names: Sequence[str] = _RARE) -> None:
    """Have ``asyncio`` and others import without their being executed what is hardly ever used."""
    for name in names:
        spec = PathFinder.find_spec(name)
        if spec is not None and name not in sys.modules:
            _make_lazy(spec, **_GIVEN.get(name, {}))


def import_asyncio(*, ssl: bool) -> None:
    """Import ``asyncio``, without ``ssl`` if that is not needed, nor what describes its tasks.

    Does nothing if it is imported already.
    """
    package = PathFinder.find_spec("asyncio")
    if "asyncio" in sys.modules or package is None:
        return
    lazy = {}
    if graph := _submodule(package, "graph"):
        lazy["graph"] = _make_lazy(graph, __all__=())  # asyncio takes all when it is imported
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
    spec: ModuleSpec, *, execute: Callable[[ModuleType], object] | None = None, **given: object
) -> ModuleType:
    """Put a module into ``sys.modules`` that is executed when it lacks what it is asked for.

    It does not lack what is ``given``, which is not kept then.
    """
    module = module_from_spec(spec)
    lock = threading.RLock()
    begun = False

    def __getattr__(name: str) -> Any:
        nonlocal begun
        if name == "__path__":  # importing asks for it, and these are no packages
            raise AttributeError(name)
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
    module.__dict__.update(given)
    before = dict(module.__dict__)
    sys.modules[spec.name] = module
    return module


# --- code that is handed over


def loaded_code(memory: memoryview) -> bytes:
    """Write there the code of the modules that are loaded of Python's and of this package's.

    Returns what ``use_code()`` in another interpreter is to be told beside it.
    """
    places, end = {}, 0
    for name, module in tuple(sys.modules.items()):
        spec = getattr(module, "__spec__", None)
        loader = getattr(spec, "loader", None)
        if spec is None or type(loader) is not SourceFileLoader or "site-packages" in loader.path:
            continue
        if spec.name == name and loader.path.startswith(_FOLDERS):
            code = marshal.dumps(loader.get_code(name))
            if (begin := end) + len(code) > len(memory):
                break
            end += len(code)
            memory[begin:end] = code
            is_package = spec.submodule_search_locations is not None
            places[name] = loader.path, is_package, begin, end
    return marshal.dumps(places)


def use_code(places: bytes, codes: memoryview) -> None:
    """Have modules made of that code when they are imported."""
    finder = _CodeFinder(marshal.loads(places), codes)
    sys.meta_path.insert(sys.meta_path.index(PathFinder), finder)


class _CodeFinder:
    """Finds what other finders before those of files have not found."""

    def __init__(self, places: dict[str, tuple[str, bool, int, int]], codes: memoryview) -> None:
        self._places = places
        self._codes = codes

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        place = self._places.get(name)
        if place is None:
            return None
        file, is_package, begin, end = place
        loader = _CodeLoader(name, file)
        loader.code = self._codes[begin:end]
        spec = ModuleSpec(name, loader, origin=file, is_package=is_package)
        spec.has_location = True
        if spec.submodule_search_locations is not None:
            spec.submodule_search_locations.append(os.path.dirname(file))
        return spec


class _CodeLoader(SourceFileLoader):
    code: memoryview | None

    def get_code(self, fullname: str) -> Any:
        # Once: what all loaders held to the end was 3.4 MB that each closed interpreter left.
        code, self.code = self.code, None
        return super().get_code(fullname) if code is None else marshal.loads(code)
