"""Import paths: what they may look like, and an error of its own for each thing that goes wrong."""

from __future__ import annotations

import itertools
import textwrap
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

from subinterp_asgi.bootstrap import _import_app
from subinterp_asgi.errors import (
    AppAttributeError,
    AppFactoryError,
    AppImportError,
    AppModuleFailedError,
    AppModuleNotFoundError,
    AppPathError,
    AppTypeError,
)
from subinterp_asgi.worker.interpreter.importer import import_app

_numbers = itertools.count()

type MakeModule = Callable[[str], str]


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeModule:
    """Writes a module of a name that was never imported before, and returns the name."""
    monkeypatch.syspath_prepend(tmp_path)

    def make(source: str) -> str:
        name = f"imported_app_{next(_numbers)}"
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(source))
        return name

    return make


GOOD = """
    async def app(scope, receive, send): ...

    class Site:
        async def __call__(self, scope, receive, send): ...
        @staticmethod
        async def inner(scope, receive, send): ...

    site = Site()
    table = {}

    def create_app():
        return site

    def create_nothing():
        return None

    def wants_more(argument):
        return site
"""


# --- what is found


def test_a_function(module: MakeModule) -> None:
    name = module(GOOD)
    assert import_app(f"{name}:app").__name__ == "app"


def test_an_object(module: MakeModule) -> None:
    name = module(GOOD)
    assert type(import_app(f"{name}:site")).__name__ == "Site"


def test_a_dotted_attribute(module: MakeModule) -> None:
    name = module(GOOD)
    assert import_app(f"{name}:site.inner").__name__ == "inner"


def test_a_dotted_module(tmp_path: Path, module: MakeModule) -> None:
    package = tmp_path / "a_package_of_apps"
    package.mkdir()
    (package / "inner.py").write_text(textwrap.dedent(GOOD))
    module("")  # puts tmp_path on the path
    assert import_app("a_package_of_apps.inner:app").__name__ == "app"


@pytest.mark.parametrize("factory", [False, True])
def test_a_factory_by_its_parentheses_and_by_option(module: MakeModule, factory: bool) -> None:
    name = module(GOOD)
    path = f"{name}:create_app" + ("" if factory else "()")
    assert type(import_app(path, factory=factory)).__name__ == "Site"


def test_parentheses_and_the_option_together_call_once(module: MakeModule) -> None:
    name = module(GOOD)
    assert type(import_app(f"{name}:create_app()", factory=True)).__name__ == "Site"


def test_bootstrap_has_it_under_its_documented_name(module: MakeModule) -> None:
    name = module(GOOD)
    assert _import_app(f"{name}:create_app()") is _import_app(f"{name}:site")


# --- malformed paths


@pytest.mark.parametrize(
    "path",
    [
        "",
        ":",
        "module",
        "module:",
        ":app",
        "module.app",
        "module:()",
        "module:app()()",
        "module:app(name)",
        "module:app(1",
        "module:app(**{})",
        "module:app.",
        "module:.app",
        "module..inner:app",
        ".module:app",
        "module:app:app",
        "my-module:app",
        "module:my app",
        " module:app",
        "module.py:1",
        "path/module:app",
        "module:app\0",
    ],
)
def test_a_malformed_path(path: str) -> None:
    with pytest.raises(AppPathError) as caught:
        import_app(path)
    shown = repr(path.removesuffix("()") if path.count("(") == 1 else path)
    assert str(caught.value).startswith(f"Invalid app path {shown}: ")


@pytest.mark.parametrize(
    ("path", "cure"),
    [
        ("package.module.app", "did you mean package.module:app?"),
        ("module:app:x", "did you mean module:app?"),
        ("module", "did you mean module:app?"),
        ("module.py", "did you mean module:app?"),
        ("src/module.py:site", "did you mean --app-dir src module:site?"),
    ],
)
def test_a_malformed_path_that_can_be_guessed(path: str, cure: str) -> None:
    with pytest.raises(AppPathError) as caught:
        import_app(path)
    assert str(caught.value).endswith(cure)


def test_a_file_instead_of_a_module(module: MakeModule) -> None:
    name = module(GOOD)
    with pytest.raises(AppModuleNotFoundError, match=r"is written without \.py"):
        import_app(f"{name}.py:app")


def test_a_factory_with_arguments(module: MakeModule) -> None:
    name = module("""
        def make(*args, **kwargs):
            async def app(scope, receive, send): ...
            app.made_with = args, kwargs
            return app
    """)
    app = import_app(f"{name}:make('dev', 2, debug=True, hosts=['a', 'b'])")
    assert app.made_with == (("dev", 2), {"debug": True, "hosts": ["a", "b"]})


# --- what is found, and is no ASGI application


NOT_ASGI = """
    import functools
    import unittest.mock

    def wsgi(environ, start_response): ...
    def asgi2(scope): ...
    def create(): ...
    def create_with_defaults(config=None): ...
    async def handler(request, name, more, and_more): ...

    class Site:
        def __call__(self, environ, start_response): ...
        def method(self, environ, start_response): ...
        @staticmethod
        def static(environ, start_response): ...

    class Endpoint:
        def __init__(self, scope): ...

    site = Site()

    # and what is fine, or can't be told
    def asgi(scope, receive, send): ...
    def any_number(*args): ...
    def more(scope, receive, send, extra=None): ...
    def wrapped(app):
        @functools.wraps(app)
        def call(*args): ...
        return call
    class Good:
        def __init__(self, scope, receive, send): ...
        def __await__(self): ...
        @staticmethod
        def static(scope, receive, send): ...
        @classmethod
        def made(cls, scope, receive, send): ...
    class Static:
        @staticmethod
        def __call__(scope, receive, send): ...
    static = Static()
    wrapped_wsgi = wrapped(wsgi)
    part = functools.partial(more, extra=1)
    mock = unittest.mock.AsyncMock()
"""


@pytest.mark.parametrize(
    ("attribute", "cure"),
    [
        ("wsgi", "a WSGI application; a2wsgi"),
        ("site", "a WSGI application; a2wsgi"),
        ("site.method", "a WSGI application; a2wsgi"),
        ("Site.static", "a WSGI application; a2wsgi"),
        ("asgi2", "as in ASGI 2, asgiref"),
        ("Endpoint", "as in ASGI 2, asgiref"),
        ("create", "a factory; --factory (factory=True) calls it"),
        ("create_with_defaults", "a factory; --factory"),
        ("handler", "takes 4 arguments, and not scope, receive and send"),
    ],
)
def test_what_is_no_asgi_application(module: MakeModule, attribute: str, cure: str) -> None:
    name = module(NOT_ASGI)
    with pytest.raises(AppTypeError) as caught:
        import_app(f"{name}:{attribute}")
    assert f"'{name}:{attribute}' is not an ASGI application: " in str(caught.value)
    assert cure in str(caught.value)


@pytest.mark.parametrize(
    "attribute",
    [
        *("asgi", "any_number", "more", "Good", "Good.static", "Good.made", "static"),
        *("wrapped_wsgi", "part", "mock"),
    ],
)
def test_what_may_be_one(module: MakeModule, attribute: str) -> None:
    assert callable(import_app(f"{module(NOT_ASGI)}:{attribute}"))


def test_an_application_that_was_taken_for_a_factory(module: MakeModule) -> None:
    name = module(GOOD)
    with pytest.raises(AppFactoryError, match="is it the application itself, and no factory"):
        import_app(f"{name}:app", factory=True)


# --- modules that are not there, and modules that fail


@pytest.mark.parametrize(
    ("path", "missing"),
    [
        ("no_such_module_here:app", "no_such_module_here"),
        ("no_such_package_here.inner:app", "no_such_package_here"),
        ("json.no_such_module_here:app", "json.no_such_module_here"),
        ("json.decoder.inner:app", "json.decoder.inner"),
    ],
)
def test_no_such_module(path: str, missing: str) -> None:
    with pytest.raises(AppModuleNotFoundError) as caught:
        import_app(path)
    assert f"no module named {missing!r}, looking for " in str(caught.value)
    assert "sys.path" in str(caught.value)
    assert caught.value.name == missing
    assert caught.value.__suppress_context__  # importlib's own frames say no more


def test_a_module_that_imports_what_is_not_there_is_told_apart(module: MakeModule) -> None:
    name = module("import no_such_dependency.of_it")
    with pytest.raises(AppModuleFailedError) as caught:
        import_app(f"{name}:app")
    assert str(caught.value) == (
        f"importing {name!r} failed: it imports 'no_such_dependency', which is not installed"
    )
    assert not isinstance(caught.value, AppModuleNotFoundError)
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)


def test_a_module_that_words_its_own_module_not_found(module: MakeModule) -> None:
    name = module("raise ModuleNotFoundError('install the extra: pip install site[db]')")
    with pytest.raises(AppModuleFailedError, match="failed: install the extra"):
        import_app(f"{name}:app")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("from json import no_such_name", "ImportError: cannot import name 'no_such_name'"),
        ("def broken(:", "SyntaxError: "),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("raise RecursionError('deep')", "RecursionError: deep"),
    ],
)
def test_a_module_that_raises(module: MakeModule, source: str, words: str) -> None:
    name = module(source)
    with pytest.raises(AppModuleFailedError) as caught:
        import_app(f"{name}:app")
    assert str(caught.value).startswith(f"importing {name!r} failed: {words}")
    cause = caught.value.__cause__
    assert cause is not None
    if not isinstance(cause, SyntaxError):  # which has no frame of the module
        assert f"{name}.py" in "".join(traceback.format_exception(cause))


def test_a_keyboard_interrupt_is_nobodys_import_error(module: MakeModule) -> None:
    name = module("raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        import_app(f"{name}:app")


def test_an_extension_that_refuses_interpreters_is_named_with_the_way_out(
    module: MakeModule,
) -> None:
    # CPython's own words, wrapped as packages like to do.
    name = module(
        """
        try:
            raise ImportError("module stubborn._core does not support loading in subinterpreters")
        except ImportError:
            raise RuntimeError("the core of stubborn is missing")
        """
    )
    with pytest.raises(AppModuleFailedError) as caught:
        import_app(f"{name}:app")
    message = str(caught.value)
    assert "'stubborn._core', which does not support subinterpreters" in message
    assert "isolation='thread'" in message
    assert f"run `subinterp-asgi doctor {name}`" in message
    assert "\n" not in message


def test_exceptions_that_cause_each_other_in_a_circle(module: MakeModule) -> None:
    name = module(
        """
        a, b = ValueError("a"), ValueError("b")
        a.__cause__, b.__cause__ = b, a
        raise a
        """
    )
    with pytest.raises(AppModuleFailedError, match="ValueError: a"):
        import_app(f"{name}:app")


# --- attributes


def test_no_such_attribute_names_close_matches(module: MakeModule) -> None:
    name = module(GOOD)
    with pytest.raises(AppAttributeError) as caught:
        import_app(f"{name}:ap")
    message = str(caught.value)
    assert message.startswith(f"{name!r} has no attribute 'ap', named by '{name}:ap'")
    assert "; did you mean app?" in message
    assert caught.value.name == "ap"


def test_no_such_attribute_names_what_applications_are_called(module: MakeModule) -> None:
    name = module(GOOD)
    with pytest.raises(AppAttributeError, match=r"; did you mean app\?"):
        import_app(f"{name}:application")


def test_no_such_attribute_like_no_other(module: MakeModule) -> None:
    name = module(GOOD)
    with pytest.raises(AppAttributeError) as caught:
        import_app(f"{name}:xyzzy")
    assert "did you mean" not in str(caught.value)


def test_no_such_attribute_of_an_attribute(module: MakeModule) -> None:
    name = module(GOOD)
    with pytest.raises(AppAttributeError, match=r"'Site' has no attribute 'iner'.* mean inner"):
        import_app(f"{name}:site.iner")


# --- factories and what they return


def test_a_factory_that_raises(module: MakeModule) -> None:
    name = module("def make(): raise LookupError('no database')")
    with pytest.raises(AppFactoryError) as caught:
        import_app(f"{name}:make()")
    assert str(caught.value) == f"app factory {name}:make() raised: no database"
    assert isinstance(caught.value.__cause__, LookupError)


def test_a_factory_that_exits(module: MakeModule) -> None:
    name = module("def make(): raise SystemExit('usage: ...')")
    with pytest.raises(AppFactoryError, match=r"raised: usage"):
        import_app(f"{name}:make()")


def test_a_factory_that_wants_arguments(module: MakeModule) -> None:
    name = module(GOOD)
    with pytest.raises(AppFactoryError, match="missing 1 required positional argument"):
        import_app(f"{name}:wants_more()")


def test_a_factory_that_is_none(module: MakeModule) -> None:
    name = module(GOOD)
    with pytest.raises(AppTypeError, match="table is not a factory: it can't be called"):
        import_app(f"{name}:table()")


@pytest.mark.parametrize("attribute", ["table", "create_nothing()"])
def test_a_result_that_is_no_application(module: MakeModule, attribute: str) -> None:
    name = module(GOOD)
    with pytest.raises(AppTypeError) as caught:
        import_app(f"{name}:{attribute}")
    kind = "dict" if attribute == "table" else "NoneType"
    assert str(caught.value) == (
        f"'{name}:{attribute}' is not an ASGI application: {kind} objects can't be called"
    )


def test_every_error_has_the_common_base_and_a_built_in_one() -> None:
    for error, built_in in {
        AppPathError: ValueError,
        AppModuleNotFoundError: ModuleNotFoundError,
        AppModuleFailedError: ImportError,
        AppAttributeError: AttributeError,
        AppFactoryError: RuntimeError,
        AppTypeError: TypeError,
    }.items():
        assert issubclass(error, AppImportError)
        assert issubclass(error, built_in)
