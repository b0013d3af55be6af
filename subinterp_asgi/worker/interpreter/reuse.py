"""Makes an interpreter fit to serve another generation once its worker has ended.

The modules of the application are imported anew, all others stay: that spares the time of importing
them, and the memory that an interpreter leaves when it is closed. What the application has left in
them would be found there by the next one, so that an interpreter is only used again if

* no library is loaded that is known to keep what an application registers with it,
* no library has told ``atexit`` to call it, which has happened: it has ended,
* nothing that the application has defined is left, whoever keeps it,
* the files of all that stays are those that were loaded.

Values that it has set in libraries are not found by that. ``isolation`` of the supervisor's pool
decides which interpreters are asked, and calls this in them.
"""

from __future__ import annotations

import atexit
import gc
import os
import sys
import time
import weakref
from functools import _lru_cache_wrapper, partial
from importlib import invalidate_caches
from importlib.machinery import EXTENSION_SUFFIXES
from types import FunctionType, ModuleType

from ...control.messages import STATUS_REUSABLE, sendable
from ...types import TYPE_CHECKING
from . import closing, starting_values
from .importer import INSTALLED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    type Stamp = tuple[int, int, int]

KEEP_STATE = {
    "greenlet": "threads",
    "celery": "tasks",
    "django": "settings and databases",
    "loguru": "handlers",
    "marshmallow": "schemas by their names",
    "matplotlib": "settings",
    "mongoengine": "connections",
    "opentelemetry.sdk": "providers",
    "pandas": "options",
    "prometheus_client": "metrics",
    "sentry_sdk": "its client",
    "sqlmodel": "tables",
    "structlog": "its configuration",
}
"""Libraries that were seen to keep what an application gives them, and what: docs/extensions.md."""

EXIT_AGAIN = {"certifi", "fastapi", "matplotlib"}
"""Libraries that work as before although their exit callbacks have been called, and which may be
called once more."""

_OURS = __name__.partition(".")[0]
_LIBRARY = os.path.join(os.path.dirname(os.__file__), "")
_COLLECTIONS = 5  # what ends with one of them may leave work to the next
_ALL_EVERY = 20  # generations after which collections look at everything
_CLOCK_STEP = 20_000_000  # nanoseconds by which the times of files may be behind

_contents_of_class = type.__dict__["__dict__"].__get__
_name_of_class = type.__dict__["__qualname__"].__get__

_application = ""  # its package, or its module
_began = 0  # when this generation did (``time.time_ns()``)
_before: frozenset[str] = frozenset()  # modules that were there before any application
_stamps: dict[str, Stamp | None] = {}  # files of modules, as they were when these were loaded
_frozen: list[weakref.ref[Any]] = []  # caches, and SQLAlchemy's metadata, of generations before
_generation = 0
_exits: list[tuple[str, Callable[[], Any]]] = []  # what libraries want called, while imported


# --- before


def prepare(app_path: str) -> None:
    """Note what the application is going to change, or put it back if that was done before."""
    global _application, _began, _before, _generation
    _generation += 1
    _application = app_path.partition(":")[0].partition(".")[0]
    _began = time.time_ns()
    if not _before:
        gc.unfreeze()  # by who has made it
        _before = frozenset(sys.modules)
        starting_values.note()
        _watch_exit_callbacks()
    else:
        starting_values.refresh_environment()
    note_files()


def _watch_exit_callbacks() -> None:
    register = atexit.register

    def watched[F: Callable[..., Any]](function: F, *args: Any, **kwargs: Any) -> F:
        frame: Any = sys._getframe(1)
        caller = frame.f_globals.get("__name__", "").partition(".")[0]
        if _is_installed(frame.f_code.co_filename):
            while frame is not None and frame.f_code.co_name != "<module>":
                frame = frame.f_back
            # Otherwise it is the application that has a library do it, in its turn.
            if frame is not None and _is_installed(frame.f_code.co_filename):
                _exits.append((caller, partial(function, *args, **kwargs)))
        register(function, *args, **kwargs)
        return function

    atexit.register = watched  # type: ignore[assignment]


def note_files() -> None:
    """Note what the files of modules are that were loaded since the last time."""
    own = own_modules()
    for name, module in tuple(sys.modules.items()):
        path = _file_of(module)
        if path and path not in _stamps and name not in own:
            stamp, changed_at = _stamp(path)
            # It may have been another one when it was loaded.
            _stamps[path] = stamp if changed_at < _began - _CLOCK_STEP else None


def _stamp(path: str) -> tuple[Stamp | None, int]:
    """Describe a file, and tell when that last changed; in an archive, the archive."""
    while True:
        try:
            found = os.stat(path)
        except NotADirectoryError:
            path = os.path.dirname(path)
        except OSError:
            return None, 0
        else:
            return (found.st_ino, found.st_size, found.st_mtime_ns), found.st_ctime_ns


def is_current() -> bool:
    """Whether all that was loaded would be loaded again from the same files."""
    return all(stamp and stamp == _stamp(path)[0] for path, stamp in _stamps.items())


# --- which modules


def own_modules() -> set[str]:
    """Names of the modules that are the application's own, and are imported anew.

    These are all that lie neither in the standard library nor in a folder that packages are
    installed into; and what the import path names, wherever that is.
    """
    own: set[str] = set()
    for name, module in sorted(sys.modules.items()):
        head, parent = name.partition(".")[0], name.rpartition(".")[0]
        if head == _OURS or name == "__main__" or name in _before:
            continue
        hidden = module is None
        if head == _application or parent in own or not (hidden or _stays(module, parent)):
            own.add(name)
    return own


def _stays(module: Any, parent: str) -> bool:
    content = _content(module)
    if path := _file_of(module):
        return _is_installed(path) or path.startswith(_LIBRARY)
    if folders := content.get("__path__"):
        return any(_is_installed(os.path.join(folder, "")) for folder in folders)
    origin = getattr(content.get("__spec__"), "origin", None)
    # (Modules without a file that belong to libraries: by their names, or made by Cython or cffi.
    # An application's own that was compiled with either has a file.)
    name = content.get("__name__") or ""
    made = "cython" in name or type(content.get("lib")).__module__ == "_cffi_backend"
    return bool(origin in ("built-in", "frozen") or parent or made)


def _content(module: Any) -> dict[str, Any]:
    # (Not by attributes, which lazy modules are executed for.)
    return module.__dict__ if issubclass(type(module), ModuleType) else {}


def _file_of(module: Any) -> str | None:
    path = _content(module).get("__file__")
    return path if isinstance(path, str) else None


def _is_installed(path: str) -> bool:
    return any(folder in path for folder in INSTALLED)


def shared_packages(app_path: str) -> list[str]:
    """Names of installed packages that are loaded, and stay when the application is removed."""
    application = app_path.partition(":")[0].partition(".")[0]
    installed = {
        name.partition(".")[0]
        for name, module in tuple(sys.modules.items())
        if (path := _file_of(module)) and _is_installed(path)
    }
    return sorted(installed - {_OURS, application})


# --- after


def retire(status_queue: Any) -> None:
    """Forget the application, and tell whether the interpreter can be used again."""
    try:
        reason = _forget_application()
    except BaseException as exc:  # none must leave; it is the application's to be closed with
        reason = f"what is left of the application can't be removed ({type(exc).__name__})"
    if reason:
        closing.let_go()
    status_queue.put((STATUS_REUSABLE, sendable(reason)))


def _forget_application() -> str:
    """Remove all of the application; return why that is not enough, or an empty text."""
    note_files()
    own = own_modules()
    for name in own:
        if (path := _file_of(sys.modules[name])) and path.endswith(tuple(EXTENSION_SUFFIXES)):
            return f"{name} is an extension module of the application's own"
    if kept := kept_state():
        return kept
    for name, _ in _exits:
        if name not in EXIT_AGAIN:
            return f"{name} was told that the process ends, by an exit callback"
    main = sys.modules["__main__"].__dict__
    for name in [name for name in main if not name.startswith("__")]:
        del main[name]
    for name in own:
        del sys.modules[name]
        parent, _, last = name.rpartition(".")
        if parent in sys.modules:
            _content(sys.modules[parent]).pop(last, None)
    starting_values.put_back()
    for _, callback in _exits:
        atexit.register(callback)
    left = _collect(own)
    if left or not _generation % _ALL_EVERY:
        gc.unfreeze()
        _frozen.clear()
        left = _collect(own)
    if left:
        return f"a library keeps {left} of the application"
    _freeze()
    return ""


def _collect(own: set[str]) -> str | None:
    """Collect what is not frozen, and return what is left of the application."""
    _clear_caches()
    for _ in range(_COLLECTIONS):
        if not gc.collect():
            break
    return next(_left_of(own), None)


def _freeze() -> None:
    """Have the next collections pass over what is there now, which takes most of their time.

    Nothing of it has been defined by the application.
    """
    kinds = (_lru_cache_wrapper, _metadata())
    _frozen.extend(weakref.ref(thing) for thing in gc.get_objects() if type(thing) in kinds)
    gc.freeze()


def _metadata() -> Any:
    schema = sys.modules.get("sqlalchemy.sql.schema")
    return schema and schema.MetaData


def _to_look_at() -> Iterator[Any]:
    yield from gc.get_objects()
    for reference in _frozen:
        if (thing := reference()) is not None:
            yield thing


def kept_state() -> str:
    """Say which library is loaded that keeps what an application gives it; or nothing."""
    for name, what in KEEP_STATE.items():
        if name in sys.modules:
            return f"{name} keeps {what} of the application"
    return ""


def _clear_caches() -> None:
    sys.path_importer_cache.clear()
    invalidate_caches()
    if linecache := sys.modules.get("linecache"):
        linecache.clearcache()
    for thing in _to_look_at():
        if type(thing) is _lru_cache_wrapper:
            thing.cache_clear()


def _left_of(own: set[str]) -> Iterator[str]:
    """Find what has been defined in modules, and tables of SQLAlchemy's that were."""
    metadata = _metadata()
    for thing in _to_look_at():
        kind = type(thing)
        if kind is metadata and thing.tables:
            yield f"the table {min(thing.tables)!r}"
        elif kind is FunctionType:
            # (Libraries give functions of their own the name of another module.)
            module = thing.__globals__.get("__name__")
            if isinstance(module, str) and module in own:
                yield f"{module}.{thing.__qualname__}"
        elif issubclass(kind, type):
            # (Not by attributes, for which a metaclass may have another answer.)
            module = _contents_of_class(thing).get("__module__")
            if isinstance(module, str) and module in own:
                yield f"{module}.{_name_of_class(thing)}"
        elif issubclass(kind, ModuleType) and _content(thing).get("__name__") in own:
            yield str(_content(thing)["__name__"])
