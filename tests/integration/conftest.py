"""Fixtures that several modules use."""

from __future__ import annotations

from collections.abc import Generator, Iterator

import pytest

from tests.support import nothing_left

from .supervising import Servers


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Let xdist send what was captured, which may hold lone surrogates on purpose."""
    report = yield
    report.sections = [
        (name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections
    ]
    return report


@pytest.fixture
def servers() -> Iterator[Servers]:
    """Makes supervisors; none of them may leave anything."""
    with nothing_left():
        servers = Servers()
        yield servers
        servers.close()
