"""Files to send."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ....support import open_descriptors
from ...apps.tls import pattern
from .scripts import LARGE


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A small file."""
    path = tmp_path / "small"
    path.write_bytes(b"0123456789")
    return path


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that no buffer holds."""
    path = tmp_path_factory.mktemp("large") / "file"
    path.write_bytes(pattern(0, LARGE))
    return path


@pytest.fixture(autouse=True)
def no_file_left_open(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[None]:
    yield
    assert not [kind for kind in open_descriptors().values() if str(tmp_path) in kind]
