"""Finding the application that an import path names, and saying exactly why it can't be found."""

from __future__ import annotations

import errno
import importlib
import os
import sys
from importlib.machinery import ExtensionFileLoader
from types import CodeType

from ... import errors
from ...config.checks import import_path
from ...control.wakeup import LACKING
from ...types import TYPE_CHECKING
from .marks import takes_interrupts

if TYPE_CHECKING:
    from collections.abc import Iterator
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any


CO_VARARGS = 4
"""A flag of code: it takes any number of arguments (``inspect`` has it too)."""

_NO_DESCRIPTOR = os.strerror(errno.EMFILE)
_NO_THREAD = "can't start new thread"

_USUAL = ("app", "application", "asgi", "api")
"""What applications are called, as a rule."""

# CPython's words when an extension module does not allow subinterpreters.
_REFUSAL = "does not support loading in subinterpreters"

STDLIB = (
    os.path.join(os.path.dirname(os.__file__), "lib-dynload", ""),
    os.path.join(sys.base_exec_prefix, "DLLs", ""),
)
"""Where extension modules lie that need not be judged."""
INSTALLED = tuple(f"{os.sep}{name}{os.sep}" for name in ("site-packages", "dist-packages"))
"""Of the path of a file, one of these says that it is none of the application's own."""

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


def report_extensions(worker_id: int, mode: str, said: str) -> str:
    """Log what ``native`` has done, if there was anything to do, unless it was ``said`` before.

    Returns what there is to say.
    """
    global _imported
    _imported = True
    native = sys.modules.get(f"{__package__}.native")
    text: str = "" if native is None else native.report(worker_id, mode, said)
    return text


def import_app(app_path: str, *, factory: bool = False) -> Any:
    """Import an ASGI application by path.

    Args:
        app_path: ``"package.module:attribute"``; the attribute may be dotted, and followed by the
            call of a factory, ``()`` or with literals, as in ``('dev', debug=True)``.
        factory: Call what the path names, as if ``()`` followed it.

    Raises:
        AppPathError: The path is malformed.
        AppModuleNotFoundError: There is no such module.
        AppModuleFailedError: The module raised while it was imported; the cause is chained.
        AppAttributeError: The module has no such attribute; close matches are named.
        AppFactoryError: The factory raised; the cause is chained.
        AppTypeError: The result is no ASGI application, as far as can be told without calling it.
    """
    path, called, arguments = app_path.partition("(")
    args, kwargs = _literals(app_path, arguments) if called else ([], {})
    found = import_object(path)
    if factory or called:
        found = call_factory(found, path, *args, **kwargs)
    check_application(found, repr(app_path))
    return found


@takes_interrupts
def call_factory(factory: Any, name: str, *args: Any, **kwargs: Any) -> Any:
    """Return what a factory makes; errors as ``import_app()``."""
    if not callable(factory):
        raise errors.AppTypeError(f"{name} is not a factory: it can't be called")
    try:
        return factory(*args, **kwargs)
    except (Exception, SystemExit) as exc:
        hint = "; is it the application itself, and no factory?"
        hint *= _arguments(factory) == (3, 3)
        raise errors.AppFactoryError(
            f"app factory {name}() raised: {refusal(exc) or message_of(exc)}{hint}"
        ) from exc


def _literals(app_path: str, call: str) -> tuple[list[Any], dict[str, Any]]:
    """The arguments of a factory, of which ``call`` is what follows the opening parenthesis."""
    if call == ")":
        return [], {}
    import ast  # rarely needed, and not cheap

    try:
        tree = ast.parse(f"f({call}", mode="eval").body
        if not (isinstance(tree, ast.Call) and isinstance(tree.func, ast.Name)):
            raise ValueError
        args = [ast.literal_eval(value) for value in tree.args]
        named = {item.arg: ast.literal_eval(item.value) for item in tree.keywords}
        kwargs = {name: value for name, value in named.items() if name is not None}
        if len(kwargs) < len(tree.keywords):
            raise ValueError
    except (ValueError, SyntaxError):
        raise errors.AppPathError(
            f"Invalid app path {app_path!r}: the arguments of a factory must be literals, as in "
            "'module:factory(\"dev\", debug=True)'"
        ) from None
    return args, kwargs


def check_application(app: Any, name: str) -> None:
    """Raise ``AppTypeError``, with the cure, if something can't be an ASGI application."""
    problem = f"{name} is not an ASGI application: "
    if not callable(app):
        raise errors.AppTypeError(f"{problem}{type(app).__name__} objects can't be called")
    bounds = _arguments(app)
    if bounds is None or bounds[0] <= 3 <= bounds[1]:
        return
    fewest, most = bounds
    if fewest <= 0:
        cure = "it seems to be a factory; --factory (factory=True) calls it"
    elif fewest == 2 == most:
        cure = "it seems to be a WSGI application; a2wsgi.WSGIMiddleware(app) makes one of it"
    elif fewest == 1 == most:
        cure = "it takes one argument; if that is the scope, as in ASGI 2, "
        cure += "asgiref.compatibility.guarantee_single_callable(app) makes one of it"
    else:
        cure = f"it takes {fewest} arguments, and not scope, receive and send"
    raise errors.AppTypeError(problem + cure)


def _arguments(app: Any) -> tuple[int, int] | None:
    """Fewest and most positional arguments of a call; ``None``: that can't be told.

    (Without ``inspect``, whose signatures cost a start more than all else that is here.)
    """
    call: Any = vars(app).get("__init__") if isinstance(app, type) else app
    if type(getattr(call, "__code__", None)) is not CodeType:  # (of mocks it is a mock)
        call = getattr(call, "__call__", None)  # noqa: B004  # the bound method
    code = getattr(call, "__code__", None)
    if type(code) is not CodeType:
        return None
    bound = isinstance(app, type) or hasattr(call, "__self__")
    most = code.co_argcount - bound
    fewest = most - len(getattr(call, "__defaults__", None) or ())
    return fewest, 1000 if code.co_flags & CO_VARARGS else most


def import_object(path: str) -> Any:
    """Import what ``"package.module:attribute"`` names, as ``import_app()``, whatever it is."""
    if import_path(path) is not None:
        raise errors.AppPathError(
            f"Invalid app path {path!r}: expected 'package.module:attribute'{_suggestion(path)}"
        )
    module_name, _, attribute = path.partition(":")
    found: Any = _import_module(module_name)
    for name in attribute.split("."):
        found = _get_attribute(found, name, path)
    return found


def import_function(option: str, path: str) -> Any:
    """Import the function that an option names; ``ConfigError``: that is not possible."""
    try:
        found = import_object(path)
    except errors.AppImportError as exc:
        raise errors.ConfigError(option, str(exc)) from exc
    if not callable(found):
        raise errors.ConfigError(option, f"{path} can't be called")
    return found


def _suggestion(path: str) -> str:
    file, _, attribute = path.partition(":")
    folder, _, name = file.removesuffix(".py").rpartition("/")
    if "." in name and not (folder or attribute):
        name, _, attribute = name.rpartition(".")
    attribute = attribute.partition(":")[0]
    if not all(map(str.isidentifier, name.split("."))):
        return ""
    where = f" --app-dir {folder}" if folder else ""
    return f"; did you mean{where} {name}:{attribute or 'app'}?"


@takes_interrupts
def _import_module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as exc:
        missing = exc.name or ""
        if name == missing or name.startswith(missing + "."):
            raise errors.AppModuleNotFoundError(
                f"no module named {missing!r}, looking for {name!r}"
                + (
                    "; an import path is written without .py"
                    if name.endswith(".py")
                    else "; is its directory on sys.path (--app-dir on the command line)?"
                ),
                name=missing,
            ) from None
        reason = f"it imports {missing!r}, which is not installed" if missing else message_of(exc)
        raise errors.AppModuleFailedError(f"importing {name!r} failed: {reason}") from exc
    except (Exception, SystemExit) as exc:
        refused = refusal(exc)
        if refused is not None:
            raise errors.AppModuleFailedError(
                f"importing {name!r} failed: {refused}; run `subinterp-asgi doctor {name}` to see "
                "what else would be refused"
            ) from exc
        raise errors.AppModuleFailedError(f"importing {name!r} failed: {line_of(exc)}") from exc


def refusal(exc: BaseException) -> str | None:
    """Say which extension module was refused in a subinterpreter, if that led to an exception."""
    for each in behind(exc):
        if isinstance(each, errors.ExtensionRefusedError):
            return str(each)
        if isinstance(each, ImportError) and _REFUSAL in (text := message_of(each)):
            module = text.partition(_REFUSAL)[0].removeprefix("module ").strip()
            return (
                f"it needs the extension module {module!r}, which does not support "
                "subinterpreters; isolation='thread' serves from threads"
            )
    return None


def message_of(exc: BaseException) -> str:
    """What an exception of the application's says; its own methods may raise, or give no text."""
    try:
        return str(exc)
    except BaseException:
        return "(its message can't be shown)"


def line_of(exc: BaseException) -> str:
    """The class of an exception of the application's, and what it says."""
    return f"{type(exc).__name__}: {message_of(exc)}"


def is_lacking(exc: BaseException) -> bool:
    """Whether the system had no descriptor, memory or thread to give, and that led to it."""
    return any(
        isinstance(each, MemoryError)
        or (isinstance(each, OSError) and each.errno in LACKING)
        or (isinstance(each, ImportError) and _NO_DESCRIPTOR in message_of(each))  # as loaders say
        or (isinstance(each, RuntimeError) and message_of(each) == _NO_THREAD)
        for each in behind(exc)
    )


def behind(exc: BaseException) -> Iterator[BaseException]:
    """An exception, those of a group, and what has led to them."""
    waiting, seen = [exc], set[int]()
    while waiting:
        exc = waiting.pop(0)
        if id(exc) not in seen:
            seen.add(id(exc))
            yield exc
            if isinstance(exc, BaseExceptionGroup):
                waiting += exc.exceptions
            waiting += filter(None, (exc.__cause__, exc.__context__))


def _get_attribute(owner: Any, name: str, app_path: str) -> Any:
    try:
        return getattr(owner, name)
    except AttributeError:
        from ...config.suggestion import suggestion

        where = getattr(owner, "__name__", type(owner).__name__)
        there = dir(owner)
        usual = [each for each in _USUAL if each in there] if name in _USUAL else []
        hint = suggestion(name, there, instead=usual)
        if where == "__main__":
            hint = "; __main__ is another one in each interpreter: name the module by its file"
        raise errors.AppAttributeError(
            f"{where!r} has no attribute {name!r}, named by {app_path!r}{hint}", name=name
        ) from None
