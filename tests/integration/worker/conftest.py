"""Fixtures that several modules use."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support import nothing_left


@pytest.fixture
def leaves_nothing() -> Iterator[None]:
    with nothing_left():
        yield
