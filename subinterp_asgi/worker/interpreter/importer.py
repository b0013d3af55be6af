"""Finding the application that an import path names, and saying exactly why it can't be found."""

from __future__ import annotations

import importlib

from ... import errors
from ...types import TYPE_CHECKING
from .marks import takes_interrupts

if TYPE_CHECKING:
    from typing import Any


# CPython's words when an extension module does not allow subinterpreters.
_REFUSAL = "does not support loading in subinterpreters"


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
            raise errors.AppFactoryError(f"app factory {path}() raised: {exc}") from exc
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
        refused = _refused_extension(exc)
        if refused is not None:
            raise errors.AppModuleFailedError(
                f"importing {name!r} failed: it needs the extension module {refused!r}, which does "
                "not support subinterpreters; use isolation='thread' to serve it from threads, and "
                f"run `subinterp-asgi doctor {name}` to see what else would be refused"
            ) from exc
        raise errors.AppModuleFailedError(
            f"importing {name!r} failed: {type(exc).__name__}: {exc}"
        ) from exc


def _refused_extension(exc: BaseException | None) -> str | None:
    """The extension module that refused to load in a subinterpreter, if that is what happened."""
    seen: set[int] = set()
    while exc is not None and id(exc) not in seen:
        seen.add(id(exc))
        text = str(exc)
        if isinstance(exc, ImportError) and _REFUSAL in text:
            return text.partition(_REFUSAL)[0].removeprefix("module ").strip()
        exc = exc.__cause__ or exc.__context__
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
