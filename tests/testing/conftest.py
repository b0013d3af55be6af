"""Fixtures for the tests of live servers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from subinterp_asgi.testing.interpreters import stock
from tests.support import nothing_left


@pytest.fixture
def leaves_nothing() -> Iterator[None]:
    """Nothing may be left, once the interpreters are given up that wait for further servers."""
    stock.empty()
    with nothing_left():
        yield
        stock.empty()
