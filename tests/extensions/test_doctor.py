"""What the doctor says of applications, in environments that are made of a few files."""

from __future__ import annotations

import json
import sys
import textwrap
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Any

import pytest

import subinterp_asgi
from subinterp_asgi import __main__ as cli
from subinterp_asgi import doctor
from subinterp_asgi.errors import AppModuleNotFoundError, AppPathError
from subinterp_asgi.extensions.doctor import Finding, Report
from tests.support import ROOT, run_script

from .elf_files import Library, multi_phase

OWN, SHARED = multi_phase((3, 2)), multi_phase()
SUFFIX = EXTENSION_SUFFIXES[0]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere no file is judged")


class Site:
    """An application's folder and a site-packages folder."""

    def __init__(self, folder: Path) -> None:
        self.app = folder / "app"
        self.packages = folder / "site-packages"
        self.app.mkdir()
        self.packages.mkdir()

    def write(self, files: dict[str, str]) -> None:
        for name, source in files.items():
            folder = self.app if name.startswith("shop") else self.packages
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(textwrap.dedent(source))

    def compile(self, name: str, slots: list[tuple[int, int]]) -> None:
        path = self.packages / (name + SUFFIX)
        path.parent.mkdir(parents=True, exist_ok=True)
        module = path.name.removesuffix(SUFFIX)
        path.write_bytes(Library(defines=[f"PyInit_{module}"], module=module, slots=slots).build())

    def install(self, name: str, version: str, *files: str) -> None:
        folder = self.packages / f"{name.replace('-', '_')}-{version}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        )
        (folder / "RECORD").write_text("".join(f"{file},sha256=x,1\n" for file in files))

    def examine(self, app: str = "shop:app", **options: Any) -> Report:
        return doctor(app, path=[str(self.app), str(self.packages)], **options)

    def outcomes(self, extensions: str = "pure") -> dict[str, str]:
        report = self.examine(extensions=extensions)
        return {found.module: found.outcome for found in report.findings}


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def only(report: Report) -> Finding:
    (finding,) = report.findings
    return finding


@pytest.mark.parametrize(
    "table",
    [
        'lazy_imports={"App": ".applications.App", "other": 1}',
        'lazy_imports={"App": "framework.applications:App"}',
        '_dynamic_imports = {"App": (__spec__.parent, ".applications"), **more}; __getattr__ = 0',
    ],
)
def test_names_that_packages_import_when_asked_are_followed(site: Site, table: str) -> None:
    site.compile("core", SHARED)
    site.write(
        {
            "shop.py": "from framework import App",
            "framework/__init__.py": table,
            "framework/applications.py": "import core",
            "framework/unused.py": "import never",
        }
    )
    site.compile("never", SHARED)
    assert site.outcomes() == {"core": "refused"}


@pytest.mark.parametrize(
    ("source", "outcome"),
    [
        ("import framework; app = framework.App()", "refused"),
        ("import framework as f; app = f.App", "refused"),
        ("import framework.unlike, framework\nclass A(framework.App): pass", "refused"),
        ("import over.framework; app = over.framework.App()", "refused"),
        ("from over import framework as f\napp = f.App()", "refused"),
        ("from over import framework\ndef make(): return framework.App()", "refused when used"),
        ("import framework\ndef make(x: framework.App): pass", "refused when used"),
        ("import framework\nx: framework.App", "refused when used"),
        ("import framework\n@framework.App\ndef make(): pass", "refused"),
        ("import framework\nmake = lambda: framework.App()", "refused when used"),
        ("import framework\nwith x: framework.App", "refused"),
        ("import framework\ntry: framework.App\nexcept ImportError: pass", "speed-up lost"),
        (
            "import framework\nwith contextlib.suppress(ImportError): framework.App",
            "speed-up lost",
        ),
        ("import framework\nif framework.App.x: pass", "refused"),
        ("import framework\nif x: framework.App", "refused"),
        ("import framework\nif not TYPE_CHECKING: framework.App", "refused"),
        ("import framework\nif TYPE_CHECKING: framework.App", None),
        ("import framework\nx = '' " + "+ 'x'" * 1500 + " + framework.App", "refused"),
        ("import framework; app = framework.Other; framework = App", None),
        ("import framework; app = x.framework.App", None),
        ("import framework; app = framework().App", None),
        ("import framework.unlike as f; app = f.App", None),
    ],
)
def test_attributes_for_which_packages_import_are_followed(
    site: Site, source: str, outcome: str | None
) -> None:
    site.compile("core", SHARED)
    table = 'lazy_imports={"App": ".applications.App", "__version__": ".unused.version"}'
    files = {
        "__init__.py": table,
        "applications.py": "import core",
        "unlike.py": "",
        "unused.py": "import never",
    }
    site.write({f"{folder}/{file}": files[file] for folder in FOLDERS for file in files})
    site.write({"shop.py": source, "over/__init__.py": ""})
    site.compile("never", SHARED)
    assert site.outcomes() == ({"core": outcome} if outcome else {})


FOLDERS = ("framework", "over/framework")


def test_a_refusal_says_what_how_and_what_would_do(site: Site) -> None:
    site.write(
        {
            "shop/__init__.py": "",
            "shop/web.py": "from fastapi import FastAPI\napp = FastAPI()\n",
            "fastapi/__init__.py": "from .routing import x",
            "fastapi/routing.py": "import pydantic_core",
            "pydantic_core/__init__.py": "from ._pydantic_core import x",
        }
    )
    site.compile("pydantic_core/_pydantic_core", SHARED)
    site.install("fastapi", "0.115.0", "fastapi/__init__.py", "fastapi/routing.py")
    site.install("pydantic_core", "2.50.5", f"pydantic_core/_pydantic_core{SUFFIX}")
    report = site.examine("shop.web:app")
    finding = only(report)
    assert report.refused
    assert report.modules == 6
    assert finding.outcome == "refused"
    assert (finding.distribution, finding.version) == ("pydantic_core", "2.50.5")
    assert finding.chain == (
        "shop.web",
        "fastapi",
        "fastapi.routing",
        "pydantic_core",
        "pydantic_core._pydantic_core",
    )
    assert "does not say that it supports" in finding.reason
    copies, instead, threads = finding.cures
    assert copies.startswith("extensions='private'")
    assert instead.startswith("instead of fastapi there is Starlette")
    assert threads.startswith("isolation='thread'")
    assert only(site.examine("shop.web:app", extensions="private")).outcome == "private copy"


@pytest.mark.parametrize(
    ("source", "slots", "outcome"),
    [
        ("import fast", SHARED, "refused"),
        ("import fast", OWN, "native"),
        ("try:\n  import fast\nexcept ImportError:\n  fast = None", SHARED, "speed-up lost"),
        ("try:\n  import fast\nexcept ImportError:\n  fast = None", OWN, "native"),
        ("def view():\n  import fast", SHARED, "refused when used"),
        ("def view():\n  import fast\nimport fast", SHARED, "refused"),
        ("if TYPE_CHECKING:\n  import fast", SHARED, None),
        ("import json", SHARED, None),
    ],
)
def test_outcomes(
    site: Site, source: str, slots: list[tuple[int, int]], outcome: str | None
) -> None:
    site.compile("fast", slots)
    site.write({"shop.py": source})
    assert site.outcomes() == ({} if outcome is None else {"fast": outcome})
    assert site.examine().refused == (outcome in ("refused", "refused when used"))


def test_what_is_optional_on_the_way_is_optional(site: Site) -> None:
    site.compile("lib/_c", SHARED)
    site.write(
        {
            "shop.py": "try:\n  import lib\nexcept ImportError:\n  pass",
            "lib/__init__.py": "from . import _c",
        }
    )
    assert site.outcomes() == {"lib._c": "speed-up lost"}
    site.write({"shop.py": "import other", "other.py": "import lib"})
    assert site.outcomes() == {"lib._c": "refused"}


def test_functions_of_libraries_are_not_followed(site: Site) -> None:
    site.compile("fast", SHARED)
    site.write({"shop.py": "import lib", "lib.py": "def f():\n  import fast"})
    assert site.outcomes() == {}


def test_a_condition_asks_for_what_is_optional_elsewhere(site: Site) -> None:
    """As redis-py does with hiredis."""
    site.compile("fast", SHARED)
    site.write(
        {
            "shop.py": "import lib",
            "lib/__init__.py": "from . import connection, utils",
            "lib/utils.py": "try:\n  import fast\n  HAS = True\nexcept ImportError:\n  HAS = False",
            "lib/connection.py": "from .utils import HAS\nif HAS:\n  import fast",
        }
    )
    assert site.outcomes() == {"fast": "speed-up lost"}
    site.write({"lib/utils.py": "HAS = True"})
    assert site.outcomes() == {"fast": "refused"}


def test_a_pure_twin_is_named_and_followed(site: Site) -> None:
    site.compile("lib/_cy", SHARED)
    site.compile("lib/_inner", SHARED)
    site.write(
        {
            "shop.py": "import lib",
            "lib/__init__.py": "from lib import _cy",
            "lib/_cy.py": "from . import _inner",
        }
    )
    findings = {found.module: found for found in site.examine().findings}
    assert findings["lib._cy"].twin == str(site.packages / "lib/_cy.py")
    assert findings["lib._cy"].outcome == "pure twin"
    assert findings["lib._inner"].twin is None
    assert findings["lib._inner"].outcome == "refused"
    assert set(site.outcomes("refuse").values()) == {"refused"}


def test_source_that_is_only_to_be_compiled_is_no_twin(site: Site) -> None:
    site.compile("lib/_cy", SHARED)
    site.write(
        {
            "shop.py": "from lib import _cy",
            "lib/__init__.py": "",
            "lib/_cy.py": "import cython\nif not cython.compiled:\n    raise ImportError()",
        }
    )
    assert site.outcomes() == {"lib._cy": "refused"}
    assert site.outcomes("private") == {"lib._cy": "private copy"}


def test_what_is_hidden_is_not_there(site: Site) -> None:
    site.compile("fast/_c", SHARED)
    site.write({"shop.py": "import fast", "fast/__init__.py": "from . import _c"})
    assert site.outcomes() == {"fast._c": "refused"}
    assert site.examine(hide_modules=("fast",)).findings == ()


def test_daemon_threads_are_told_by_name(site: Site) -> None:
    site.write({"shop.py": "import watchdog.observers", "watchdog/observers/__init__.py": ""})
    site.write({"watchdog/__init__.py": ""})
    site.install("watchdog", "6.0.0", "watchdog/__init__.py", "watchdog/observers/__init__.py")
    report = site.examine()
    assert only(report).outcome == "daemon threads"
    assert not report.refused


def test_damaged_and_foreign_files_are_unknown(site: Site) -> None:
    site.write({"shop.py": "import broken, foreign"})
    site.compile("broken", SHARED)
    path = site.packages / f"broken{SUFFIX}"
    path.write_bytes(path.read_bytes()[:200])
    (site.packages / f"foreign{SUFFIX}").write_bytes(b"\xcf\xfa\xed\xfe" + bytes(100))
    assert site.outcomes() == {"broken": "unknown", "foreign": "unknown"}
    assert not site.examine().refused


NESTED = "if x == 0:\n  pass\n" + "".join(f"elif x == {i}:\n  pass\n" for i in range(1200))


@pytest.mark.parametrize(
    ("file", "source", "reason"),
    [
        ("torn.py", "def app(:", "torn, line 1"),
        ("torn.py", "\0", "null bytes"),
        ("torn.py", NESTED, "recursion"),
        ("torn.py", "#" * (17 << 20), "too large"),
        ("torn.pyc", "", "only byte code"),
        ("torn/__init__.pyc", "", "only byte code"),
    ],
    ids=["syntax", "null", "nested", "large", "byte code", "package"],
)
def test_source_that_cant_be_read_is_told(site: Site, file: str, source: str, reason: str) -> None:
    site.write({"shop.py": "import torn, fine", "fine.py": ""})
    (site.packages / file).parent.mkdir(exist_ok=True)
    (site.packages / file).write_text(source)
    found = only(site.examine())
    assert (found.module, found.outcome) == ("torn", "unknown")
    assert reason in found.reason
    (site.app / "shop.py").write_text("(")
    found = only(site.examine())
    assert (found.module, found.outcome) == ("shop", "unknown")


def test_nothing_is_executed(site: Site) -> None:
    site.write({"shop.py": "import lib\n1 / 0", "lib.py": "raise SystemExit"})
    before = set(sys.modules)
    assert site.examine().modules == 2
    assert not {"shop", "lib"} & (set(sys.modules) - before)


@pytest.mark.parametrize("app", ["", ":app", "a-b:app", "a..b"])
def test_malformed_paths(site: Site, app: str) -> None:
    with pytest.raises(AppPathError):
        site.examine(app)


def test_a_missing_application(site: Site) -> None:
    with pytest.raises(AppModuleNotFoundError, match=r"'nowhere'.*--app-dir"):
        site.examine("nowhere:app")


# --- The command


def command(site: Site, *arguments: str, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "path", ["", str(site.packages), *sys.path])
    return cli.main(["doctor", "--app-dir", str(site.app), *arguments])


def test_the_command_for_people(
    site: Site, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    site.compile("lib/_a", SHARED)
    site.compile("lib/_b", SHARED)
    site.compile("good", OWN)
    site.write({"shop.py": "import lib, good", "lib/__init__.py": "from . import _a, _b"})
    site.install("lib", "1.0", "lib/__init__.py")
    assert command(site, "shop:app", monkeypatch=monkeypatch) == 1
    text = capsys.readouterr().out
    assert "lib._a (lib 1.0) and 1 more of it" in text
    assert "imported by shop -> lib -> lib._a" in text
    assert "--isolation thread" in text
    assert "1 extension module will load" in text
    site.write({"shop.py": "import good"})
    assert command(site, "shop:app", monkeypatch=monkeypatch) == 0
    assert "Nothing was found" in capsys.readouterr().out
    site.write({"shop.py": "("})
    assert command(site, "shop:app", monkeypatch=monkeypatch) == 0
    assert "--run tells" in capsys.readouterr().out


def test_the_command_for_machines(
    site: Site, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    site.compile("fast", SHARED)
    site.write({"shop.py": "import fast"})
    assert command(site, "shop:app", "--json", monkeypatch=monkeypatch) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["refused"] is True
    assert found["findings"][0]["chain"] == ["shop", "fast"]
    assert found["findings"][0]["path"] == str(site.packages / f"fast{SUFFIX}")


@pytest.mark.parametrize("arguments", [[], ["nowhere:app"], ["a-b:app"], ["shop:app", "--what"]])
def test_misuse(site: Site, arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit) as caught:
        command(site, *arguments, monkeypatch=monkeypatch)
    assert caught.value.code == 2


def test_it_agrees_with_an_interpreter(tmp_path: Path) -> None:
    """What the doctor says of a real package is what happens to it."""
    pytest.importorskip("yarl")
    (tmp_path / "shop.py").write_text("import multidict._multidict\nimport yarl._quoting_c\n")
    report = doctor("shop:app", path=[str(tmp_path), *sys.path])
    outcomes = {found.module: found.outcome for found in report.findings}
    assert outcomes["multidict._multidict"] == "native"
    assert outcomes["yarl._quoting_c"] == "refused"
    done = run_script(
        tmp_path,
        f"""
        import sys
        sys.path.insert(0, {str(ROOT)!r})
        from subinterp_asgi.control import interpreters
        interpreter = interpreters.Interpreter()
        interpreter.adopt_path(tuple(sys.path))
        interpreter.execute("import multidict._multidict")
        try:
            interpreter.execute("import yarl._quoting_c")
        except interpreters.InterpreterFailed as exc:
            assert "yarl._quoting_c does not support loading" in str(exc)
        else:
            raise AssertionError
        """,
    )
    assert done.returncode == 0, done.stderr


def test_it_is_public() -> None:
    assert "doctor" in dir(subinterp_asgi)


@pytest.mark.parametrize("with_stdlib", [False, True])
def test_an_application_named_like_a_module_of_the_standard_library(
    site: Site, with_stdlib: bool
) -> None:
    """Its folder comes first on the path, and so does its module."""
    site.write({"shop.py": "import calendar"})
    (site.app / "calendar.py").write_text("import fast, json, email.x, time")
    (site.app / "email").mkdir()  # no package, so that it replaces nothing
    (site.app / "email" / "x.py").write_text("import other")
    (site.app / "time.py").write_text("import other")  # which is built in
    (site.packages / "json.py").write_text("import other")  # which comes after the standard library
    site.compile("fast", SHARED)
    site.compile("other", SHARED)
    stdlib = [str(Path(json.__file__).parents[1])] * with_stdlib
    path = [str(site.app), *stdlib, str(site.packages)]
    for app, chain in (("calendar:app", ()), ("shop:app", ("shop",))):
        (finding,) = doctor(app, path=path).findings
        assert finding.module == "fast"
        assert finding.chain == (*chain, "calendar", "fast")
