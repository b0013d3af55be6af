"""Fixtures that several modules use."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support import open_descriptors


@pytest.fixture(autouse=True)
def no_descriptor_is_left() -> Iterator[None]:
    before = open_descriptors()
    yield
    assert {n: kind for n, kind in open_descriptors().items() if n not in before} == {}
