"""Fixtures that several modules use."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from subinterp_asgi.supervisor.process import exit_guard
from subinterp_asgi.supervisor.states import SupervisorState
from tests.support import nothing_left

from .making import _made


@pytest.fixture(autouse=True)
def leaves_nothing() -> Iterator[None]:
    _made.clear()
    with nothing_left():
        yield
        serving = [server for server in _made if server.state is SupervisorState.SERVING]
        for server in serving:  # a test has failed; the next one shall not suffer from it
            server.stop(0)
        assert not serving
    assert not exit_guard._watched
