"""FastAPI with SQLAlchemy and psycopg, on a PostgreSQL that the test starts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import postgresql

from .test_libraries import check


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    """SQLAlchemy's URL of a database."""
    with postgresql.running() as folder:
        yield f"postgresql+psycopg://shop@/postgres?host={folder}"


def test_sqlalchemy_with_psycopg(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_POSTGRES", database)
    check(
        "postgres_app",
        tmp_path,
        [
            ("GET", "/driver", {}),
            ("POST", "/reset", {}),
            ("POST", "/orders", {"json": {"customer": "ada", "prices": ["1.10", 2]}}),
            (
                "POST",
                "/orders",
                {"json": {"customer": "bob", "prices": [3], "details": {"colour": "grün"}}},
            ),
            ("POST", "/orders", {"json": {"customer": "ada", "prices": []}}),
            ("POST", "/orders", {"json": {"customer": None}}),
            ("GET", "/orders", {}),
            ("GET", "/orders?colour=gr%C3%BCn", {}),
            ("GET", "/broken", {}),
            ("GET", "/orders", {}),
            ("GET", "/driver", {}),
        ],
        "psycopg_binary._psycopg",
        "pydantic_core._pydantic_core",
    )
