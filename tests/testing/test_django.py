"""Under pytest-django: workers use the test databases, and never the developer's own."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import pytest

from tests import postgresql

from .suites import Suite

pytest.importorskip("django")
pytest.importorskip("pytest_django", reason="pytest-django is not installed")

pytestmark = pytest.mark.timeout(300)  # for several runs of pytest, on a loaded machine

SETTINGS = """
from pathlib import Path

HERE = Path(__file__).parent
DATABASES = {
    "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": HERE / "developer.sqlite3"},
    "other": {"ENGINE": "django.db.backends.sqlite3", "NAME": HERE / "developer.sqlite3"},
}
DATABASES["other"]["TEST"] = {"NAME": str(HERE / "other-test.sqlite3")}
MAILERS = {"default": {"BACKEND": "django.core.mail.backends.smtp.EmailBackend"}}
ALLOWED_HOSTS = ["example.org"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = ["notes"]
ROOT_URLCONF = "urls"
SECRET_KEY = "-"
USE_TZ = True
COLOUR = "red"
"""
MODELS = """
from django.db import models

class Note(models.Model):
    text = models.CharField(max_length=100)
"""
URLS = """
from django.conf import settings
from django.core import mail as sent
from django.http import HttpResponse
from django.urls import path
from notes.models import Note

def write(request):
    Note.objects.using(request.GET.get("in", "default")).create(text=request.GET["text"])
    return HttpResponse()

def read(request):
    return HttpResponse(",".join(note.text for note in Note.objects.order_by("id")))

def colour(request):
    return HttpResponse(settings.COLOUR)

def mail(request):
    sent.send_mail("subject", "body", "from@example.org", ["to@example.org"])
    return HttpResponse(f"{len(sent.outbox)} {settings.DEBUG}")

urlpatterns = [
    path("write", write), path("read", read), path("colour", colour), path("mail", mail),
]
"""
ASGI = """
import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings")
application = get_asgi_application()
"""
INI = """
[pytest]
asgi_app = asgi:application
DJANGO_SETTINGS_MODULE = settings
"""
FILES = {
    "settings.py": SETTINGS,
    "notes/__init__.py": "",
    "notes/models.py": MODELS,
    "urls.py": URLS,
    "asgi.py": ASGI,
    "pytest.ini": INI,
}


def make(folder: Path, tests: str, files: Mapping[str, str] | None = None) -> Suite:
    suite = Suite(folder, {**FILES, "test_it.py": tests, **(files or {})})
    with closing(sqlite3.connect(folder / "developer.sqlite3")) as database:
        database.execute("create table notes_note (id integer primary key, text varchar(100))")
        database.execute("insert into notes_note (text) values ('the developer''s own')")
        database.commit()
    return suite


def developers_own(suite: Suite) -> list[str]:
    with closing(sqlite3.connect(suite.folder / "developer.sqlite3")) as database:
        return [text for (text,) in database.execute("select text from notes_note")]


WRITING = """
import pytest
from notes.models import Note

def test_both_see_what_the_other_writes(asgi_server):
    assert asgi_server.get("/read").text == ""
    assert asgi_server.get("/write?text=one").status == 200
    assert [note.text for note in Note.objects.all()] == ["one"]
    Note.objects.create(text="two")
    assert asgi_server.get("/read").text == "one,two"
    assert asgi_server.get("/write?text=three&in=other").status == 200
    assert [note.text for note in Note.objects.using("other").all()] == ["three"]

def test_it_is_empty_again(asgi_server, fresh_asgi_server):
    assert asgi_server.get("/read").text == fresh_asgi_server.get("/read").text == ""
    assert Note.objects.using("other").count() == 0

@pytest.mark.django_db(databases=["default"])
def test_with_a_mark(fresh_asgi_server):
    Note.objects.create(text="here")
    assert fresh_asgi_server.get("/read").text == "here"

def test_no_mail_leaves(asgi_server):
    assert asgi_server.get("/mail").text == "1 False"
"""


@pytest.mark.parametrize("isolation", ["interpreter", "thread"])
def test_workers_write_into_the_test_databases(tmp_path: Path, isolation: str) -> None:
    suite = make(tmp_path, WRITING)
    # (Django never closes what threads have opened in memory.)
    options = ("-o", f"asgi_isolation={isolation}", "-W", "ignore::ResourceWarning")
    assert "4 passed" in suite.run(*options, plugins=("django",))
    assert developers_own(suite) == ["the developer's own"]


def test_in_files_and_across_processes(tmp_path: Path) -> None:
    """Each process of pytest-xdist's has its own."""
    named = SETTINGS + 'DATABASES["default"]["TEST"] = {"NAME": str(HERE / "test.sqlite3")}\n'
    suite = make(tmp_path, WRITING, {"settings.py": named})
    assert "4 passed" in suite.run("-n2", plugins=("xdist", "django"))
    assert developers_own(suite) == ["the developer's own"]


@pytest.mark.once
def test_postgresql(tmp_path: Path) -> None:
    """Which refuses to remove a test database to which a worker is still connected."""
    psycopg = pytest.importorskip("psycopg")
    with postgresql.running() as folder:
        default = {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": "postgres",
            "USER": "shop",
            "HOST": str(folder),
            "CONN_MAX_AGE": 600,
        }
        databases = {"default": default, "other": {**default, "TEST": {"NAME": "other_test"}}}
        suite = make(tmp_path, WRITING, {"settings.py": f"{SETTINGS}\nDATABASES = {databases!r}"})
        with psycopg.connect(host=str(folder), user="shop", dbname="postgres") as connection:
            connection.execute("create table notes_note (id serial primary key, text varchar)")
            connection.execute("insert into notes_note (text) values ('the developer''s own')")
            connection.commit()
            assert "4 passed" in suite.run(plugins=("django",))
            assert connection.execute("select text from notes_note").fetchall() == [
                ("the developer's own",)
            ]
            assert connection.execute(
                "select datname from pg_database where not datistemplate"
            ).fetchall() == [("postgres",)]


def test_servers_without_a_test_database_are_refused(tmp_path: Path) -> None:
    """Those too that no fixture has made, with or without the plugin."""
    suite = make(
        tmp_path,
        """
        import pytest
        from subinterp_asgi.errors import DatabaseRefusedError
        from subinterp_asgi.testing import serve

        def test_without(request):
            if "without" in request.config.option.keyword:
                with pytest.raises(DatabaseRefusedError, match="there is no test database yet"):
                    serve("asgi:application").start()

        def test_with(transactional_db):
            with serve("asgi:application") as server:
                assert server.get("/write?text=one").status == 200
                assert server.get("/write?text=one&in=other").status == 500
                assert [error.type for error in server.errors()] == ["ImproperlyConfigured"]
                server.reset()
        """,
    )
    assert "1 passed" in suite.run("-k", "without", plugins=("django",))
    django_only = ("-m", "pytest", "-p", "django", "-W", "error")
    (suite.folder / "pytest.ini").write_text("[pytest]\nDJANGO_SETTINGS_MODULE = settings\n")
    assert "1 passed" in suite.python(*django_only, "-k", "without")
    assert "2 passed" in suite.python(*django_only)
    assert developers_own(suite) == ["the developer's own"]


def test_existing_databases_are_refused(tmp_path: Path) -> None:
    """Where the project has pytest-django use the real one."""
    conftest = "import pytest\n@pytest.fixture(scope='session')\ndef django_db_setup(): pass\n"
    suite = make(tmp_path, WRITING, {"conftest.py": conftest})
    text = suite.run("-k", "mail", plugins=("django",), status=1)
    assert "the workers would use the real database of Django's" in text
    assert developers_own(suite) == ["the developer's own"]


def test_settings_that_are_no_module_are_refused(tmp_path: Path) -> None:
    conftest = """
        def pytest_configure():
            import settings as module
            from django.conf import settings
            settings.configure(**{n: v for n, v in vars(module).items() if n.isupper()})
    """
    ini = {"pytest.ini": "[pytest]\nasgi_app = asgi:application\n", "conftest.py": conftest}
    suite = make(tmp_path, WRITING, ini)
    text = suite.run("-k", "mail", plugins=("django",), status=1)
    assert "no module of settings is named by DJANGO_SETTINGS_MODULE" in text


def test_changed_settings_do_not_reach_workers(tmp_path: Path) -> None:
    """That is said where it is tried, and ways that do are."""
    suite = make(
        tmp_path,
        """
        import pytest
        from django.test import override_settings

        def test_fixture(asgi_server, settings):
            settings.COLOUR = "blue"
            assert asgi_server.get("/colour").text == "blue"

        def test_override(asgi_server):
            with override_settings(COLOUR="blue"):
                assert asgi_server.get("/colour").text == "blue"

        def test_called(fresh_asgi_server):
            fresh_asgi_server.call("django.conf:settings.__setattr__", "COLOUR", "blue")
            assert fresh_asgi_server.get("/colour").text == "blue"

        @pytest.mark.asgi(isolation="thread")
        def test_in_threads(fresh_asgi_server, settings):
            settings.COLOUR = "blue"
            assert fresh_asgi_server.get("/colour").text == "blue"

        def test_elsewhere(settings):
            settings.COLOUR = "blue"
        """,
    )
    text = suite.run(plugins=("django",), status=1)
    assert "2 failed, 3 passed" in text
    for line in ('settings.COLOUR = "blue"', 'with override_settings(COLOUR="blue"):'):
        assert re.search(rf"^>? +{re.escape(line)}$", text, re.MULTILINE)
    said = "NotReachedWarning: the setting COLOUR is changed in the test only"
    assert text.count(f"records.{said}") >= 2
    assert "What settings changes does not reach workers" in text
