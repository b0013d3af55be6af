"""Fixtures that several modules use."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from subinterp_asgi.errors import ShutdownFailedError, ShutdownIncompleteError
from subinterp_asgi.supervisor.process import exit_guard
from tests.support import nothing_left, wait_until

from .making import _made


@pytest.fixture(autouse=True)
def leaves_nothing() -> Iterator[None]:
    _made.clear()
    with nothing_left():
        yield
        left = [server for server in _made if server in exit_guard._watched]
        for server in left:  # a test has failed; the next one shall not suffer from it
            for _ in range(2):
                with contextlib.suppress(ShutdownFailedError, ShutdownIncompleteError):
                    server.stop(0)
                wait_until(lambda server=server: not server.has_running_workers)  # type: ignore[misc]
        assert not left
    assert not exit_guard._watched
