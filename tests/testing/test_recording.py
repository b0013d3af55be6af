"""What a server tells of its application: requests, exceptions, and when all of it is there."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator

import pytest
from websockets.exceptions import ConnectionClosed

from subinterp_asgi.errors import AppRaisedError, NoAnswerError
from subinterp_asgi.testing import AppError, LiveServer, serve
from subinterp_asgi.testing.faults import crash_worker

APP = "tests.testing.observed:app"

pytestmark = pytest.mark.usefixtures("leaves_nothing")


@pytest.fixture(params=["interpreter", "thread"])
def server(request: pytest.FixtureRequest) -> Iterator[LiveServer]:
    with LiveServer(APP, isolation=request.param, allow_errors=True) as server:
        yield server


def only(errors: list[AppError]) -> AppError:
    assert len(errors) == 1, errors
    return errors[0]


# --- requests


def test_requests_are_recorded_as_they_were_received(server: LiveServer) -> None:
    server.request("PATCH", "/body?a=%20b", body="text", headers={"X-One": "1"})
    server.get("/refuse")
    first, second = server.received()
    assert (first.type, first.method, first.path) == ("http", "PATCH", "/body")
    assert (first.query, first.text, first.status) == ("a=%20b", "text", 200)
    assert first.header("x-one") == "1"
    assert first.header("none") is None
    assert (second.status, second.done, second.worker_id) == (503, True, 0)
    server.reset()
    assert server.received() == []


def test_of_a_body_the_beginning_is_recorded(server: LiveServer) -> None:
    assert server.post("/body", b"x" * 200_000).json() == 200_000
    assert server.received()[0].body == b"x" * 65536


def test_a_request_in_flight_is_recorded_too(server: LiveServer) -> None:
    with pytest.raises(TimeoutError):
        server.get("/hang", timeout=0.1)
    server.get("/")
    done, hanging = server.received()
    assert (done.path, done.done) == ("/", True)
    assert (hanging.path, hanging.done, hanging.status) == ("/hang", False, None)
    server.stop(0)


def test_what_was_recorded_is_there_after_the_end(server: LiveServer) -> None:
    server.get("/")
    server.get("/raise")
    server.stop()
    assert [each.path for each in server.received()] == ["/", "/raise"]
    assert only(server.errors()).path == "/raise"


# --- exceptions


def test_an_exception_is_told_with_its_traceback_and_request(server: LiveServer) -> None:
    assert server.get("/raise").status == 500
    error = only(server.errors())
    assert (error.type, error.message) == ("AppFailure", "for a test")
    assert (error.method, error.path, error.worker_id) == ("GET", "/raise", 0)
    assert "tests.testing.observed.AppFailure" in error.types
    assert "builtins.LookupError" in error.types
    lines = error.traceback.splitlines()
    assert lines[1].strip().endswith("in app"), "it begins where the application does"
    assert lines[-1].endswith("AppFailure: for a test")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/handled", "handled"),
        ("/late", "after the response"),
    ],
)
def test_exceptions_that_are_of_a_request(server: LiveServer, path: str, message: str) -> None:
    server.get(path)
    error = only(server.errors())
    assert (error.message, error.path) == (message, path)


def test_what_ends_a_task_is_told(server: LiveServer) -> None:
    server.get("/task")
    assert only(server.errors()).message == "in a task"


def test_what_ends_a_kept_task_is_told_at_the_end(capfd: pytest.CaptureFixture[str]) -> None:
    """Not when the interpreter is closed, where nothing can be shown any more."""
    with serve(APP, allow_errors=True) as server:
        server.get("/keep")
    assert only(server.errors()).message == "in a task that is kept"
    assert "Logging error" not in capfd.readouterr().err


def test_the_outcome_of_a_test_is_told(server: LiveServer) -> None:
    """Though it is no ``Exception``."""
    assert server.get("/outcome").status == 500
    error = only(server.errors())
    assert (error.type, error.message, error.path) == ("Outcome", "as a test does", "/outcome")


def test_what_ends_a_thread_is_told() -> None:
    with serve(APP, allow_errors=True) as server:
        server.get("/thread")
        assert only(server.errors()).message == "in a thread"


def test_exceptions_in_websockets_are_told(server: LiveServer) -> None:
    with server.websocket("/") as connection:
        connection.send("fail")
        with pytest.raises(ConnectionClosed):
            connection.recv()
    error = only(server.errors())
    assert (error.message, error.path) == ("in a WebSocket", "/")


@pytest.mark.parametrize("path", ["/survived", "/refuse", "/"])
def test_what_the_application_has_dealt_with_is_no_error(server: LiveServer, path: str) -> None:
    server.get(path)
    assert server.errors() == []


def test_exceptions_that_django_has_answered_are_told_however_it_logs() -> None:
    with serve("tests.testing.django_raising:app", allow_errors=True) as server:
        assert [server.get(path).status for path in ("/sync", "/async")] == [500, 500]
        # Told at the end of each call, and Django's goes on for a while after the response.
        second, first = sorted(server.errors(), key=lambda error: error.path or "")
    assert (first.type, first.message, first.path) == ("LookupError", "in a view", "/sync")
    assert (second.message, second.path) == ("in an async view", "/async")
    assert "in raising" in first.traceback


def test_a_worker_that_dies_is_an_error_unless_a_test_has_killed_it() -> None:
    with serve(APP, restart_delay=0.0) as server:
        crash_worker(server, wait=True)
        assert server.errors() == []


def test_an_exception_fails_the_test_with_the_workers_traceback() -> None:
    with pytest.raises(AppRaisedError) as caught, serve(APP) as server:
        assert server.get("/raise").status == 500
    text = str(caught.value)
    assert "AppFailure: for a test (GET /raise, worker 0)" in text
    assert "observed.py" in text
    assert [error.type for error in caught.value.errors] == ["AppFailure"]  # type: ignore[attr-defined]


def test_a_test_that_fails_anyway_is_told_of_the_exception_in_a_note() -> None:
    with pytest.raises(AssertionError, match="500 == 200") as caught, serve(APP) as server:
        assert server.get("/raise").status == 200, "500 == 200"
    assert any("AppFailure: for a test" in note for note in caught.value.__notes__)


@pytest.mark.parametrize(
    "expected", [True, LookupError, "AppFailure", (KeyError, "LookupError"), iter(["Exception"])]
)
def test_an_exception_that_is_expected_fails_nothing(expected: object) -> None:
    with serve(APP, allow_errors=expected) as server:  # type: ignore[arg-type]
        server.get("/raise")
        server.check()
        server.get("/raise")


def test_another_exception_than_that_expected_fails() -> None:
    with pytest.raises(AppRaisedError), serve(APP, allow_errors=KeyError) as server:
        server.get("/raise")


def test_each_exception_is_checked_once() -> None:
    with serve(APP) as server:
        server.get("/raise")
        with pytest.raises(AppRaisedError):
            server.check()
        server.check()
        server.get("/raise")
        server.check(LookupError)
        server.get("/raise")
        server.reset()
        assert server.errors() == []


def test_servers_beside_each_other_tell_of_their_own_requests() -> None:
    with (
        serve(APP, isolation="thread", allow_errors=True) as first,
        serve(APP, isolation="thread", allow_errors=True) as second,
    ):
        first.get("/handled")
        second.get("/raise")
        assert only(first.errors()).path == "/handled"
        assert only(second.errors()).path == "/raise"


# --- flush


def test_after_a_flush_all_is_there(server: LiveServer, caplog: pytest.LogCaptureFixture) -> None:
    """Also what was logged by threads, and counted: none of it a moment later."""
    with caplog.at_level(logging.INFO):
        for number in range(1, 51):
            server.get("/raise")
            server.flush()
            assert caplog.text.count("about to raise") == number
            assert caplog.text.count("exception in the ASGI application: GET /raise") == number
            assert server.supervisor.stats().responses[5] == number
    assert len(server.errors()) == 50


def test_a_flush_waits_for_what_a_request_does_after_its_response(
    server: LiveServer, caplog: pytest.LogCaptureFixture
) -> None:
    server.get("/late")
    server.flush()
    assert "late" in caplog.messages


def test_a_flush_does_not_wait_for_requests_without_a_response(server: LiveServer) -> None:
    with pytest.raises(TimeoutError):
        server.get("/hang", timeout=0.1)
    server.flush()
    server.stop(0)


def test_a_request_that_does_not_end_after_its_response_is_named(server: LiveServer) -> None:
    server.get("/background")
    with pytest.raises(NoAnswerError, match="GET /background") as caught:
        server.flush(timeout=0.1)
    assert caught.value.workers == (0,)
    server.stop(0)


def test_events_have_been_delivered_after_a_flush() -> None:
    seen = []

    def on_event(event: object) -> None:
        time.sleep(0.001)
        seen.append(event)

    with serve(APP, on_event=on_event) as server:
        emitted = server.supervisor._hub._emitted
        server.flush()
        assert len(seen) >= emitted
