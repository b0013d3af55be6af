"""Fixtures that several modules use."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support import nothing_left

from .supervising import Servers


@pytest.fixture
def servers() -> Iterator[Servers]:
    """Makes supervisors; none of them may leave anything."""
    with nothing_left():
        servers = Servers()
        yield servers
        servers.close()
