"""Imports of an application that are put off until what is imported is used: CPython 3.15."""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from subinterp_asgi import Supervisor, doctor
from subinterp_asgi.errors import ConfigError, StartupError

from ...support import get, nothing_left

needs_lazy_imports = pytest.mark.skipif(
    sys.version_info < (3, 15), reason="CPython has lazy imports from 3.15 on"
)

APP = """
    import json, sys

    async def app(scope, receive, send):
        assert scope["type"] == "http", scope["type"]
        body = json.dumps(answer(scope["path"])).encode()
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": body})
"""
SHOP = """
    import shelf
    from shelf import books
    from goods import prices

    def answer(path):
        if path == "/use":
            return [shelf.LENGTH, books.TITLES, prices.LIST]
        names = ("shelf", "shelf.books", "goods", "goods.prices", "wood", "wood.oak")
        return [name for name in names if name in sys.modules]
"""
FILES = {
    "shelf/__init__.py": "import wood.oak\nLENGTH = 2",
    "shelf/books.py": "TITLES = ['a', 'b']",
    "goods/__init__.py": "",
    "goods/prices.py": "LIST = [1]",
    "wood/__init__.py": "",
    "wood/oak.py": "",
}

type Serve = Callable[..., Supervisor]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(tmp_path)
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.fixture
def serve(folder: Path) -> Iterator[Serve]:
    with nothing_left():
        servers: list[Supervisor] = []

        def start(source: str = SHOP, **options: Any) -> Supervisor:
            (folder / "shop.py").write_text(textwrap.dedent(APP) + textwrap.dedent(source))
            defaults = {"port": 0, "access_log": False, "lifespan": "off", "lazy_imports": "all"}
            server = Supervisor("shop:app", **{**defaults, **options})
            servers.append(server)
            server.start()
            return server

        yield start
        for server in servers:
            server.stop()


def ask(server: Supervisor, path: str = "/loaded") -> Any:
    return json.loads(get(server.url, path).text)


@needs_lazy_imports
def test_what_is_not_used_is_not_loaded(serve: Serve) -> None:
    server = serve(workers=2)
    assert ask(server) == []
    assert ask(server, "/use") == [2, ["a", "b"], [1]]


@needs_lazy_imports
@pytest.mark.parametrize("options", [{"lazy_imports": "normal"}, {"lazy_imports": None}])
def test_all_is_loaded_at_once_unless_told_otherwise(serve: Serve, options: Any) -> None:
    assert len(ask(serve(**options))) == len(FILES)


@needs_lazy_imports
@pytest.mark.parametrize(
    ("excepted", "loaded"),
    [
        (("goods",), ["goods", "goods.prices"]),
        (("goods.prices",), ["goods", "goods.prices"]),
        (("wood",), []),
        (("shelf",), ["shelf", "shelf.books", "wood", "wood.oak"]),
        (("goo", "shel"), []),
    ],
)
def test_what_is_excepted_is_loaded_at_once(
    serve: Serve, excepted: tuple[str, ...], loaded: list[str]
) -> None:
    assert ask(serve(lazy_imports_except=excepted)) == loaded


@needs_lazy_imports
def test_what_modules_mark_as_lazy_is_put_off_unless_excepted(serve: Serve) -> None:
    source = SHOP.replace("from goods", "lazy from goods")
    server = serve(source, lazy_imports="normal")
    assert "goods" not in ask(server)
    server = serve(source, lazy_imports=None, lazy_imports_except=("goods",))
    assert "goods.prices" in ask(server)


@needs_lazy_imports
def test_this_package_is_loaded_at_once(serve: Serve) -> None:
    source = """
        import types
        def answer(path):
            # (The module that forgets an application: it is imported in a function.)
            from subinterp_asgi.worker.interpreter import reuse
            return [name for name, value in vars(reuse).items()
                    if type(value) is types.LazyImportType]
    """
    assert ask(serve(source)) == []


@needs_lazy_imports
@pytest.mark.parametrize("reuse", [False, True])
def test_a_reload_puts_off_likewise(serve: Serve, folder: Path, reuse: bool) -> None:
    server = serve(reuse_interpreters=reuse)
    for number in range(4):
        (folder / "goods/prices.py").write_text(f"LIST = {[number] * 9 * (number + 1)}")
        server.reload()
        assert ask(server) == []
        assert ask(server, "/use")[2] == [number] * 9 * (number + 1)


MISSING = """
    import no_such_module
    def answer(path):
        return no_such_module.anything if path == "/use" else "fine"
"""


@needs_lazy_imports
def test_what_is_missing_fails_when_it_is_used(serve: Serve) -> None:
    with pytest.raises(StartupError, match="'no_such_module', which is not installed"):
        serve(MISSING, lazy_imports=None)
    server = serve(MISSING)
    assert ask(server) == "fine"
    assert get(server.url, "/use").status == 500
    assert ask(server) == "fine"


@pytest.mark.parametrize(
    "source",
    [
        MISSING,
        pytest.param(MISSING.replace("import", "lazy import", 1), marks=needs_lazy_imports),
    ],
)
def test_the_doctor_finds_it_beforehand(
    folder: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    monkeypatch.setenv("PYTHON_LAZY_IMPORTS", "all")
    (folder / "shop.py").write_text(textwrap.dedent(APP) + textwrap.dedent(source))
    report = doctor("shop:app", path=[str(folder)], run=True)
    assert report.run == "failed"
    assert "it imports 'no_such_module', which is not installed" in report.findings[0].reason


@pytest.mark.skipif(sys.version_info >= (3, 15), reason="has them")
def test_who_asks_for_them_in_vain_is_told() -> None:
    version = f"3.{sys.version_info[1]}"
    with pytest.raises(ConfigError, match=rf"needs CPython 3\.15 or later, not {version}"):
        Supervisor("shop:app", lazy_imports="all")


def test_they_are_not_for_threads() -> None:
    options = {"lazy_imports_except": ("shelf",)}
    if sys.version_info >= (3, 15):
        options["lazy_imports"] = "all"
    with pytest.raises(ConfigError, match="-X lazy_imports=all"):
        Supervisor("shop:app", isolation="thread", **options)
    with pytest.raises(ConfigError, match="-X lazy_imports=all"):
        Supervisor(print, isolation="auto", **options)
