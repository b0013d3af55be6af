"""Django, its settings changed between generations, while interpreters are used again.

A second import of the settings changes nothing in a Django that is set up: the old database would
go on being asked, without a word. So it is one of the libraries for which a new one is taken.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import textwrap
from pathlib import Path

import pytest

from subinterp_asgi import Supervisor

from ..support import get, nothing_left

pytest.importorskip("django")

SETTINGS = """
    DEBUG = {debug}
    SECRET_KEY = "of the test"
    ALLOWED_HOSTS = ["*"]
    ROOT_URLCONF = "reused_site"
    DATABASES = {{"default": {{"ENGINE": "django.db.backends.sqlite3", "NAME": {name!r}}}}}
"""
SITE = """
    import os

    os.environ["DJANGO_SETTINGS_MODULE"] = "reused_settings"

    from django.core.asgi import get_asgi_application
    from django.conf import settings
    from django.db import connection
    from django.http import HttpResponse
    from django.urls import path

    def view(request):
        with connection.cursor() as cursor:
            cursor.execute("SELECT name FROM thing")
            return HttpResponse(f"{settings.DEBUG} {cursor.fetchone()[0]}")

    urlpatterns = [path("", view)]
    app = get_asgi_application()
"""


def configure(folder: Path, number: int, *, debug: bool) -> str:
    """Write settings with a database of their own; return what the view then answers."""
    database = folder / f"database-{number}"
    connection = sqlite3.connect(database)
    connection.execute("CREATE TABLE thing (name TEXT)")
    connection.execute("INSERT INTO thing VALUES (?)", (f"thing-{number}",))
    connection.commit()
    connection.close()
    settings = SETTINGS.format(debug=debug, name=str(database))
    path = folder / "reused_settings.py"
    path.write_text(textwrap.dedent(settings))
    os.utime(path, (number, number))  # (bytecode is told by whole seconds)
    return f"{debug} thing-{number}"


def test_new_settings_and_the_new_database_are_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "reused_site.py").write_text(textwrap.dedent(SITE))
    expected = configure(tmp_path, 1, debug=True)
    options = {"port": 0, "access_log": False, "lifespan": "off", "reuse_interpreters": True}
    with nothing_left(), Supervisor("reused_site:app", **options) as server:
        assert get(server.url).text == expected
        for number in (2, 3, 4):
            expected = configure(tmp_path, number, debug=number % 2 == 0)
            server.reload()
            assert get(server.url).text == expected
    said = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert said == [
        "interpreters are not used again: django keeps settings and databases of the application"
    ]
