"""Stopping: when it is done, by whom, and how long it takes at most."""

from __future__ import annotations

import socket
import time
from pathlib import Path
from typing import Any

import pytest

from subinterp_asgi.errors import ShutdownIncompleteError, StartupError, StateError
from subinterp_asgi.supervisor.states import SupervisorState
from tests.integration.apps import lifecycle
from tests.support import Pending, get, wait_until

from .making import LIFESPAN, both, in_background, in_flight, make, text_of


@both
def test_stop_is_idempotent(isolation: str) -> None:
    server = make(isolation=isolation)
    server.start()
    for _ in range(3):
        server.stop()
        assert server.state is SupervisorState.STOPPED


def test_stop_before_start() -> None:
    server = make()
    server.stop()
    server.stop()
    assert server.state is SupervisorState.STOPPED
    assert server.wait() is True
    with pytest.raises(StateError):
        server.start()


@both
def test_at_once_it_says_how_many_are_broken_off_but_nothing_of_none(
    isolation: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for busy in (False, True):
        with (
            make(isolation=isolation, log_forwarding=True) as server,
            socket.create_connection(server.addresses[0]),
        ):
            wait_until(lambda: server.stats().connections == 1)
            pending = in_flight(server, "for-ever", tmp_path) if busy else None
            server.stop(0)
            if pending is not None:
                pending.result()
        assert ("worker 0: 1 request(s) still in flight are broken off" in caplog.text) is busy
        assert "0 request(s)" not in caplog.text


@both
def test_stop_from_several_threads_at_once(isolation: str) -> None:
    server = make(isolation=isolation, workers=2)
    server.start()
    callers = [in_background(server.stop) for _ in range(8)]
    for thread, outcome in callers:
        thread.join(20)
        assert outcome == [None]
        assert server.state is SupervisorState.STOPPED


@both
def test_stop_during_start(isolation: str, tmp_path: Path) -> None:
    gate = {"startup.gate": str(tmp_path / "in")}  # which nobody opens
    server = make(LIFESPAN, isolation, workers=2, lifespan="on", state=gate)
    starter, started = in_background(server.start)
    wait_until((tmp_path / "in.reached").exists, "startup")
    server.stop()
    starter.join(20)
    (outcome,) = started
    assert isinstance(outcome, StartupError)
    assert "stop() was called before the workers served" in str(outcome)
    assert not server.has_running_workers


def test_stop_at_any_moment_of_a_start() -> None:
    """Whatever it meets, it returns, and nothing is left."""
    for delay in (0, 0.0005, 0.001, 0.002, 0.004):
        server = make()
        starter, started = in_background(server.start)
        time.sleep(delay)
        server.stop()
        starter.join(20)
        (outcome,) = started
        assert outcome is None or isinstance(outcome, StartupError | StateError), outcome
        assert not server.has_running_workers


@both
def test_a_request_in_flight_is_completed(isolation: str, tmp_path: Path) -> None:
    server = make(isolation=isolation, workers=2)
    server.start()
    pending = in_flight(server, "until", tmp_path)
    stopper, stopped = in_background(server.stop)
    # Until then the workers have heard of it, and would have broken off what they don't wait for.
    wait_until(lambda: is_refused(server.addresses[0]), "the listener to be closed")
    assert server.state is SupervisorState.STOPPING
    (tmp_path / "until").touch()
    assert text_of(pending.result()) == "done"
    stopper.join(20)
    assert stopped == [None]


@both
@pytest.mark.parametrize("kind", ["for-ever", "deaf"])
def test_a_request_that_takes_too_long_is_broken_off(
    isolation: str, kind: str, tmp_path: Path
) -> None:
    server = make(isolation=isolation, workers=2)
    server.start()
    pending = in_flight(server, kind, tmp_path)
    server.stop(timeout=0.05)
    answer = pending.result()
    assert isinstance(answer, Exception) or answer.status in (500, 503)
    assert server.state is SupervisorState.STOPPED


def test_the_option_bounds_requests_in_flight_too(tmp_path: Path) -> None:
    server = make(timeout_graceful_shutdown=0.05)
    server.start()
    pending = in_flight(server, "for-ever", tmp_path)
    server.stop()
    pending.result()


@both
def test_stop_may_wait_longer_than_the_option_says(isolation: str, tmp_path: Path) -> None:
    server = make(isolation=isolation, workers=2, timeout_graceful_shutdown=0)
    server.start()
    pending = in_flight(server, "until", tmp_path)
    stopper, stopped = in_background(lambda: server.stop(timeout=3600))
    wait_until(lambda: is_refused(server.addresses[0]), "the listener to be closed")
    assert stopper.is_alive()
    (tmp_path / "until").touch()
    assert text_of(pending.result()) == "done"
    stopper.join(20)
    assert stopped == [None]


def test_a_longer_stop_can_be_shortened_too(tmp_path: Path) -> None:
    server = make(timeout_graceful_shutdown=0)
    server.start()
    pending = in_flight(server, "for-ever", tmp_path)
    stopper, stopped = in_background(lambda: server.stop(timeout=3600))
    wait_until(lambda: server.state is SupervisorState.STOPPING, "stopping")
    server.stop(timeout=0)
    stopper.join(20)
    assert stopped == [None]
    pending.result()


@both
def test_a_second_stop_shortens_the_first(isolation: str, tmp_path: Path) -> None:
    server = make(isolation=isolation, timeout_graceful_shutdown=3600)
    server.start()
    pending = in_flight(server, "for-ever", tmp_path)
    stopper, stopped = in_background(server.stop)
    wait_until(lambda: server.state is SupervisorState.STOPPING, "stopping")
    assert stopper.is_alive()
    server.stop(timeout=0)
    stopper.join(20)
    assert stopped == [None]
    pending.result()


def test_a_second_stop_shortens_the_first_even_if_no_worker_listens(tmp_path: Path) -> None:
    """A worker whose loop is blocked does not say that it drains."""
    gate = tmp_path / "gate"

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            (tmp_path / "begun").touch()
            while not gate.exists():
                time.sleep(0.001)
        await lifecycle.app(scope, receive, send)

    server = make(app, timeout_graceful_shutdown=3600, shutdown_timeout=30)
    server.start()
    pending = Pending(server.url, "/")
    wait_until((tmp_path / "begun").exists, "the request to be begun")
    stopper, stopped = in_background(server.stop)
    wait_until(lambda: server.state is SupervisorState.STOPPING, "stopping")
    stopper_2, stopped_2 = in_background(lambda: server.stop(timeout=0))
    # It is refused to clients as soon as nobody is waited for any more.
    wait_until(lambda: is_refused(server.addresses[0]), "the listener to be closed")
    gate.touch()
    for thread, outcome in ((stopper, stopped), (stopper_2, stopped_2)):
        thread.join(20)
        assert outcome == [None]
    pending.result()


def is_refused(address: Any) -> bool:
    try:
        socket.create_connection(address, timeout=0.2).close()
    except TimeoutError:
        return False
    except ConnectionError:
        return True
    return False


def test_a_worker_thread_cannot_stop_its_own_supervisor() -> None:
    outcomes: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            try:
                server.stop()
            except StateError as exc:
                outcomes.append(exc)
        await lifecycle.app(scope, receive, send)

    server = make(app)
    with server:
        assert get(server.url).text == "ok"
        assert server.state is SupervisorState.SERVING
    assert "a worker can't stop its own supervisor" in str(outcomes[0])


def test_a_worker_that_does_not_end_is_named_and_forgiven_once_it_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("subinterp_asgi.supervisor.policy.shutdown.STOP_MARGIN", 0.05)
    gate = tmp_path / "gate"

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            (tmp_path / "begun").touch()
            while not gate.exists():
                time.sleep(0.001)
        await lifecycle.app(scope, receive, send)

    server = make(app, workers=2, shutdown_timeout=0.05)
    server.start()
    pending = Pending(server.url, "/")
    wait_until((tmp_path / "begun").exists, "the request to be begun")
    for _ in range(2):
        with pytest.raises(ShutdownIncompleteError, match="still running: asgi-worker-") as caught:
            server.stop(timeout=0)
        (name,) = caught.value.workers
        assert name in ("asgi-worker-0", "asgi-worker-1")
        assert server.state is SupervisorState.STOPPED
        assert server.has_running_workers
    assert is_refused(server.addresses[0])
    gate.touch()
    wait_until(lambda: not server.has_running_workers, "the worker to end")
    server.stop()  # nothing is left to complain of, nor to release: see the fixture
    pending.result()
