"""Which of Django's databases are test databases, by their settings."""

from __future__ import annotations

from typing import Any

import pytest

from subinterp_asgi.testing import handed_over

SQLITE = "django.db.backends.sqlite3"
POSTGRES = "django.db.backends.postgresql"


def is_test(engine: str, name: object, **test: Any) -> bool:
    databases = {"default": {"ENGINE": engine, "NAME": name, "TEST": test}}
    return handed_over._is_test_database("default", databases)


@pytest.mark.parametrize(
    ("engine", "name", "test_name"),
    [
        (POSTGRES, "test_shop", None),
        (POSTGRES, "test_shop_gw0", None),
        (POSTGRES, "shop_in_tests", "shop_in_tests"),
        (POSTGRES, "shop_in_tests_2", "shop_in_tests"),  # of a process of Django's test runner
        (SQLITE, "file:memorydb_default?mode=memory&cache=shared", None),
        (SQLITE, "file:memorydb_default?mode=memory&cache=shared", ":memory:"),
        (SQLITE, "/work/test.sqlite3", "/work/test.sqlite3"),
        (SQLITE, "/work/test_1.sqlite3", "/work/test.sqlite3"),
    ],
)
def test_those_that_are(engine: str, name: str, test_name: str | None) -> None:
    assert is_test(engine, name, NAME=test_name)


@pytest.mark.parametrize(
    ("engine", "name", "test_name"),
    [
        (POSTGRES, "shop", None),
        (POSTGRES, "shop", "shop_in_tests"),
        (POSTGRES, "shop_live", "shop"),
        (SQLITE, "/work/shop.sqlite3", None),
        (SQLITE, "/work/test_shop.sqlite3", None),
        (SQLITE, "/work/shop.sqlite3", "/work/shop-test.sqlite3"),
        (SQLITE, ":memory:", None),  # each interpreter would have one
    ],
)
def test_those_that_are_not(engine: str, name: str, test_name: str | None) -> None:
    assert not is_test(engine, name, NAME=test_name)


def test_where_the_real_names_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name alone does not make a test database."""
    monkeypatch.setitem(handed_over.real_names, "default", "test_shop")
    assert not is_test(POSTGRES, "test_shop")
    assert is_test(POSTGRES, "test_test_shop")


def test_mirrors() -> None:
    databases: dict[str, Any] = {
        "default": {"ENGINE": POSTGRES, "NAME": "test_shop"},
        "replica": {"ENGINE": POSTGRES, "NAME": "test_shop", "TEST": {"MIRROR": "default"}},
        "archive": {"ENGINE": POSTGRES, "NAME": "archive", "TEST": {"MIRROR": "other"}},
    }
    found = [alias for alias in databases if handed_over._is_test_database(alias, databases)]
    assert found == ["default", "replica"]
