"""What workers in interpreters are given of the test process, before the application is imported.

Under pytest-django, and Django's own test runner, these are the test databases: workers read the
project's settings themselves, and would find the real ones there. Under pytest it is the terminal,
which pytest has put something in the place of, for ``breakpoint()``.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from ..errors import DatabaseRefusedError

PREPARE = "subinterp_asgi.testing.in_worker:prepare"

terminal: tuple[int, int] | None = None
"""Descriptors of standard input and output, as they were before pytest took them."""
real_names: dict[str, object] = {}
"""Names of Django's databases before there were test databases; empty if nobody has looked."""

keep_errors = False
"""Workers are to keep what the application raises, for a debugger."""

_DUMMY = {"ENGINE": "django.db.backends.dummy"}
_LOOPBACK = ["127.0.0.1", "localhost", "[::1]"]


def prelude(options: Mapping[str, Any]) -> tuple[str, dict[str, Any]] | None:
    """What workers are to do first (see ``Runtime``), for a server with these options.

    ``DatabaseRefusedError``: there is no test database.
    """
    given: dict[str, Any] = {}
    if terminal is not None:
        given["terminal"] = terminal
    if keep_errors:
        given["keep_errors"] = True
    if django_is_tested():
        given["django"] = _django(options)
    return (PREPARE, given) if given else None


def django_is_tested() -> bool:
    """Whether Django's test environment is set up here, with databases; it is not imported."""
    utils = sys.modules.get("django.test.utils")
    return utils is not None and hasattr(utils._TestState, "saved_data") and bool(_databases())


def _databases() -> dict[str, dict[str, Any]]:
    from django.db import connections

    settings: dict[str, dict[str, Any]] = connections.settings
    engine = _DUMMY["ENGINE"]
    return {alias: values for alias, values in settings.items() if values["ENGINE"] != engine}


def note_real_names() -> None:
    """Note the names of the databases, before test databases take their place."""
    conf = sys.modules.get("django.conf")
    if conf is not None and conf.settings.configured:
        real_names.update((alias, values["NAME"]) for alias, values in _databases().items())


def _django(options: Mapping[str, Any]) -> dict[str, Any]:
    from django.conf import settings

    databases = _databases()
    usable = {alias for alias in databases if _is_test_database(alias, databases)}
    if "default" not in usable:
        raise DatabaseRefusedError(
            "the workers would use the real database of Django's: there is no test database yet. "
            "Use the plugin's fixtures, or the fixture transactional_db before the server; or "
            'isolation="thread", for which the test process decides what may be used'
        )
    hosts = [*settings.ALLOWED_HOSTS, *_LOOPBACK, str(options.get("host", "127.0.0.1"))]
    values: dict[str, Any] = {"DEBUG": settings.DEBUG, "ALLOWED_HOSTS": hosts}
    if hasattr(settings, "MAILERS"):
        values["MAILERS"] = settings.MAILERS
    else:
        values["EMAIL_BACKEND"] = "django.core.mail.backends.locmem.EmailBackend"
    return {
        "module": os.environ.get("DJANGO_SETTINGS_MODULE"),
        "settings": values,
        "databases": {
            alias: _plain(values) if alias in usable else _DUMMY
            for alias, values in databases.items()
        },
    }


def _is_test_database(alias: str, databases: Mapping[str, dict[str, Any]]) -> bool:
    values = databases.get(alias)
    if values is None:
        return False
    if real_names:
        return bool(values["NAME"] != real_names.get(alias))
    test = values.get("TEST", {})
    if test.get("MIRROR"):
        return _is_test_database(test["MIRROR"], databases)
    name, expected = str(values["NAME"]), str(test.get("NAME") or "")
    if expected in ("", ":memory:"):
        in_memory = values["ENGINE"].endswith("sqlite3")
        return name.startswith("file:memorydb_" if in_memory else "test_")
    root, extension = os.path.splitext(expected)  # and copies for processes have numbers
    return re.fullmatch(rf"{re.escape(root)}(_\d+)?{re.escape(extension)}", name) is not None


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """What JSON can carry; the worker has the rest from its own settings."""
    found = {}
    for name, value in values.items():
        value = str(value) if isinstance(value, PurePath) else value
        try:
            found[name] = json.loads(json.dumps(value))
        except TypeError:
            continue
    return found
