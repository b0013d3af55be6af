"""What the doctor makes of Django's settings; Django itself is the real one."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from subinterp_asgi import doctor
from subinterp_asgi.extensions import django as settings_of

from .test_doctor import SHARED, SUFFIX, Site

pytest.importorskip("django")
pytestmark = [
    pytest.mark.once,
    pytest.mark.skipif(sys.platform != "linux", reason="elsewhere no file is judged"),
]

ASGI = """
import os
from django.core.asgi import get_asgi_application
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "shop.settings.local")
application = get_asgi_application()
"""
FILES = {
    "shop/__init__.py": "",
    "shop/asgi.py": ASGI,
    "shop/settings/__init__.py": "",
    "shop/settings/base.py": """
        SECRET_KEY = "no secret"
        DJANGO_APPS = ["django.contrib.contenttypes", "django.contrib.auth"]
        OTHERS = ("pages.apps.PagesConfig",)
        INSTALLED_APPS = [*DJANGO_APPS, *OTHERS]
        MIDDLEWARE = ["django.middleware.common.CommonMiddleware"]
        ROOT_URLCONF = "shop.urls"
        DATABASES = {"default": {"ENGINE": "enginery", "NAME": "x"}}
        """,
    "shop/settings/local.py": """
        from .base import *
        INSTALLED_APPS += ["wares"]
        MIDDLEWARE.append("guards.middleware.Guard")
        """,
    "shop/urls.py": """
        from django.urls import include, path
        urlpatterns = [path("wares/", include("wares.urls"))]
        """,
    "pages/__init__.py": "",
    "pages/apps.py": """
        from django.apps import AppConfig
        class PagesConfig(AppConfig):
            name = "pages"
            def ready(self):
                from . import signals
        """,
    "pages/signals.py": "import by_ready",
    "pages/models.py": "import by_models",
    "wares/__init__.py": "",
    "wares/models.py": "",
    "wares/urls.py": "import by_urls\nurlpatterns = []",
    "guards/__init__.py": "",
    "guards/middleware.py": "import by_middleware\nGuard = lambda get_response: get_response",
    "enginery/__init__.py": "",
    "enginery/base.py": "import by_engine",
}
BY = ("by_ready", "by_models", "by_urls", "by_middleware", "by_engine")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.delenv(settings_of.VARIABLE, raising=False)
    site = Site(tmp_path)
    site.write(FILES)
    for name in BY:
        site.compile(name, SHARED)
    return site


def outcomes(site: Site, app: str = "shop.asgi:application") -> dict[str, str]:
    path = [str(site.app), str(site.packages), *sys.path]
    found = {finding.module: finding.outcome for finding in doctor(app, path=path).findings}
    return {name: found[name] for name in BY if name in found}


EXPECTED = dict.fromkeys(BY, "refused") | {"by_urls": "refused when used"}


def test_what_settings_name_is_followed(site: Site) -> None:
    before = set(sys.modules)
    assert outcomes(site) == EXPECTED
    assert not {"shop", "pages", "wares"} & (set(sys.modules) - before)  # nothing was executed


def test_it_is_said_who_has_imported_it(site: Site) -> None:
    path = [str(site.app), str(site.packages), *sys.path]
    report = doctor("shop.asgi:application", path=path)
    chains = {finding.module: finding.chain for finding in report.findings}
    settings = ("shop.asgi", "shop.settings.local")
    assert chains["by_models"] == (*settings, "pages.models", "by_models")
    assert chains["by_ready"] == (*settings, "pages.apps", "pages.signals", "by_ready")
    assert chains["by_urls"] == (*settings, "shop.urls", "wares.urls", "by_urls")


def test_settings_of_the_environment_come_first(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(settings_of.VARIABLE, "shop.settings.base")
    assert outcomes(site) == {k: v for k, v in EXPECTED.items() if k != "by_middleware"}


def test_settings_that_nobody_names(site: Site) -> None:
    site.write({"shop/asgi.py": "from django.core.asgi import get_asgi_application"})
    assert outcomes(site) == {}


def test_settings_without_django(site: Site) -> None:
    source = f"import os\nos.environ[{settings_of.VARIABLE!r}] = 'shop.settings.local'"
    site.write({"shop/asgi.py": source})
    assert outcomes(site) == {}
    site.write({"shop/asgi.py": f"{source}\nimport django"})
    assert outcomes(site) == EXPECTED


@pytest.mark.parametrize(
    "source",
    [
        "from shop.settings import base\nINSTALLED_APPS = base.INSTALLED_APPS",
        "from shop.settings.base import INSTALLED_APPS",
        "APPS = ['pages']\nINSTALLED_APPS = list(APPS)",
        "INSTALLED_APPS: list[str] = []\nif True:\n    INSTALLED_APPS.extend(['pages'])",
        "INSTALLED_APPS = INSTALLED_APPS + ['pages']",
    ],
)
def test_ways_to_put_settings_together(site: Site, source: str) -> None:
    (site.app / "shop/settings/local.py").write_text(source)
    assert outcomes(site) == {"by_ready": "refused", "by_models": "refused"}


@pytest.mark.parametrize("source", ["def app(:", "\0", "from .local import *\nimport shop.nothing"])
def test_settings_that_are_no_use(site: Site, source: str) -> None:
    (site.app / "shop/settings/local.py").write_text(source)
    assert outcomes(site) == {}


def test_it_agrees_with_django(site: Site) -> None:
    """Run in an interpreter, the project comes to what was foreseen."""
    pytest.importorskip("yarl")
    site.write({"guards/middleware.py": "def Guard(get_response): return get_response"})
    site.write({"pages/signals.py": "", "pages/models.py": "import yarl._quoting_c"})
    site.write({"wares/urls.py": "urlpatterns = []"})
    local = site.app / "shop/settings/local.py"
    local.write_text(
        local.read_text() + "DATABASES = {'default': {'ENGINE': 'django.db.backends.sqlite3'}}\n"
    )
    for name in BY:
        os.unlink(site.packages / f"{name}{SUFFIX}")
    path = [str(site.app), str(site.packages), *sys.path]
    foreseen = doctor("shop.asgi:application", path=path)
    happened = doctor("shop.asgi:application", path=path, run=True)
    assert foreseen.refused
    assert happened.run == "failed"
    refused = [found.module for found in happened.findings if found.outcome == "refused"]
    assert refused == ["yarl._quoting_c"]
    assert not any(found.outcome == "foreseen otherwise" for found in happened.findings)
