"""What the application has left when its server ends is named, and holds nobody up for long."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from subinterp_asgi.control import interpreters
from subinterp_asgi.errors import ShutdownFailedError, ShutdownIncompleteError
from subinterp_asgi.testing import LeftBehindWarning, LiveServer, serve
from subinterp_asgi.testing.interpreters import stock
from tests.support import Pending, wait_until

APP = "tests.testing.observed:app"

pytestmark = pytest.mark.usefixtures("leaves_nothing")


@pytest.fixture(params=["interpreter", "thread"])
def server(request: pytest.FixtureRequest) -> Iterator[LiveServer]:
    server = LiveServer(APP, isolation=request.param)
    server.start()
    yield server
    server.stop()


def hang(server: LiveServer) -> Pending:
    pending = Pending(server.url, "/hang")
    wait_until(lambda: any(each.path == "/hang" for each in server.received()))
    return pending


def test_requests_that_hang_are_named(server: LiveServer) -> None:
    pending = hang(server)
    with pytest.warns(LeftBehindWarning, match="request GET /hang of worker 0"):
        server.stop()
    pending.result()


def test_who_breaks_them_off_need_not_be_told(server: LiveServer) -> None:
    pending = hang(server)
    server.stop(0)
    pending.result()


def test_tasks_that_are_left_are_named(server: LiveServer) -> None:
    server.get("/forgotten")
    with pytest.warns(LeftBehindWarning, match=r"task forgotten \(sleep\) of worker 0"):
        server.stop()


def test_threads_that_do_not_end_in_time_are_named() -> None:
    before = interpreters.alive()
    with (
        pytest.raises(ShutdownIncompleteError) as caught,
        serve(APP, shutdown_timeout=0.1) as server,
    ):
        server.get("/endless")
    assert "thread endless of worker 0" in caught.value.__notes__[0]
    stock.empty()
    wait_until(lambda: interpreters.alive() == before)  # it was kept until the thread has ended
    server.stop()


def test_all_of_them_are_told_at_once(server: LiveServer) -> None:
    server.get("/forgotten")
    pending = hang(server)
    with pytest.warns(LeftBehindWarning) as caught:
        server.stop()
    assert len(caught) == 1
    assert "GET /hang" in str(caught[0].message)
    assert "task forgotten" in str(caught[0].message)
    assert caught[0].filename == __file__, "it names the line that has ended the server"
    pending.result()


def test_background_tasks_that_are_nearly_done_are_waited_for(server: LiveServer) -> None:
    server.get("/late")
    server.allow_errors = True
    server.stop()
    assert [error.message for error in server.errors()] == ["after the response"]


def test_a_shutdown_that_fails_is_an_error() -> None:
    server = serve("tests.testing.observed:fails_at_its_end")
    with pytest.raises(ShutdownFailedError, match="LookupError: at the end"), server:
        server.get("/")
