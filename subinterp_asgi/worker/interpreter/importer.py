"""Finding the application that an import path names, and saying exactly why it can't be found."""

from __future__ import annotations

import importlib
import os
import sys
from importlib.machinery import ExtensionFileLoader

from ... import errors
from ...types import TYPE_CHECKING
from .marks import takes_interrupts

if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any


# CPython's words when an extension module does not allow subinterpreters.
_REFUSAL = "does not support loading in subinterpreters"

STDLIB = (
    os.path.join(os.path.dirname(os.__file__), "lib-dynload", ""),
    os.path.join(sys.base_exec_prefix, "DLLs", ""),
)
"""Where extension modules lie that need not be judged."""

_create_module = ExtensionFileLoader.create_module  # as it was
_imported = False  # the application is


def judge_extensions(mode: str, hidden: tuple[str, ...]) -> None:
    """Have this interpreter, which is a worker's, load extension modules as ``native`` decides.

    Args:
        mode: The option ``extensions``.
        hidden: Modules that are taken for not installed.
    """
    global _imported
    _imported = False
    if (earlier := sys.modules.get(f"{__package__}.native")) is not None:
        earlier.forget()
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None: not found
    create = _create_module

    def create_module(self: ExtensionFileLoader, spec: ModuleSpec) -> ModuleType | None:
        if (spec.origin or "").startswith(STDLIB):
            return create(self, spec)
        from . import native  # not before it is needed

        return native.create_module(self, spec, create, mode, late=_imported)

    ExtensionFileLoader.create_module = create_module  # type: ignore[assignment, method-assign]


def report_extensions(worker_id: int, mode: str) -> None:
    """Log what ``native`` has done, if there was anything to do."""
    global _imported
    _imported = True
    native = sys.modules.get(f"{__package__}.native")
    if native is not None:
        native.report(worker_id, mode)


@takes_interrupts
def import_app(app_path: str, *, factory: bool = False) -> Any:
    """Import an ASGI application by path.

    Args:
        app_path: ``"package.module:attribute"``; the attribute may be dotted, and followed by
            ``()`` if it is a factory to be called.
        factory: Call what the path names, as if ``()`` followed it.

    Raises:
        AppPathError: The path is malformed.
        AppModuleNotFoundError: There is no such module.
        AppModuleFailedError: The module raised while it was imported; the cause is chained.
        AppAttributeError: The module has no such attribute; close matches are named.
        AppFactoryError: The factory raised; the cause is chained.
        AppTypeError: The result is not callable.
    """
    path = app_path
    if path.endswith("()"):
        path, factory = path[:-2], True
    found = import_object(path)
    if factory:
        if not callable(found):
            raise errors.AppTypeError(f"{path} is not a factory: it can't be called")
        try:
            found = found()
        except (Exception, SystemExit) as exc:
            raise errors.AppFactoryError(
                f"app factory {path}() raised: {refusal(exc) or exc}"
            ) from exc
    if not callable(found):
        raise errors.AppTypeError(
            f"{app_path!r} is not an ASGI application: "
            f"{type(found).__name__} objects can't be called"
        )
    return found


def import_object(path: str) -> Any:
    """Import what ``"package.module:attribute"`` names, as ``import_app()``, whatever it is."""
    module_name, colon, attribute = path.partition(":")
    names = attribute.split(".")
    if not (colon and all(map(str.isidentifier, module_name.split(".") + names))):
        raise errors.AppPathError(f"Invalid app path {path!r}: expected 'package.module:attribute'")
    found: Any = _import_module(module_name)
    for name in names:
        found = _get_attribute(found, name, path)
    return found


@takes_interrupts
def _import_module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as exc:
        missing = exc.name or ""
        if name == missing or name.startswith(missing + "."):
            raise errors.AppModuleNotFoundError(
                f"no module named {missing!r}, looking for the application in {name!r}; "
                "is its directory on sys.path (--app-dir on the command line)?",
                name=missing,
            ) from None
        reason = f"it imports {missing!r}, which is not installed" if missing else str(exc)
        raise errors.AppModuleFailedError(f"importing {name!r} failed: {reason}") from exc
    except (Exception, SystemExit) as exc:
        refused = refusal(exc)
        if refused is not None:
            raise errors.AppModuleFailedError(
                f"importing {name!r} failed: {refused}; run `subinterp-asgi doctor {name}` to see "
                "what else would be refused"
            ) from exc
        raise errors.AppModuleFailedError(
            f"importing {name!r} failed: {type(exc).__name__}: {exc}"
        ) from exc


def refusal(exc: BaseException) -> str | None:
    """Say which extension module was refused in a subinterpreter, if that led to an exception."""
    waiting, seen = [exc], set[int]()
    while waiting:
        exc = waiting.pop(0)
        if id(exc) in seen:
            continue
        seen.add(id(exc))
        if isinstance(exc, errors.ExtensionRefusedError):
            return str(exc)
        if isinstance(exc, ImportError) and _REFUSAL in str(exc):
            module = str(exc).partition(_REFUSAL)[0].removeprefix("module ").strip()
            return (
                f"it needs the extension module {module!r}, which does not support "
                "subinterpreters; isolation='thread' serves from threads"
            )
        if isinstance(exc, BaseExceptionGroup):
            waiting += exc.exceptions
        waiting += filter(None, (exc.__cause__, exc.__context__))
    return None


def _get_attribute(owner: Any, name: str, app_path: str) -> Any:
    try:
        return getattr(owner, name)
    except AttributeError:
        from difflib import get_close_matches  # needed for a mistake only

        where = getattr(owner, "__name__", type(owner).__name__)
        close = get_close_matches(name, dir(owner), n=3)
        hint = f"; did you mean {' or '.join(close)}?" if close else ""
        raise errors.AppAttributeError(
            f"{where!r} has no attribute {name!r}, named by {app_path!r}{hint}", name=name
        ) from None
