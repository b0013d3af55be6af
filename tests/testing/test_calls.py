"""Functions that a test calls in workers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from subinterp_asgi.errors import CallFailedError, NoAnswerError, StateError
from subinterp_asgi.testing import LiveServer, serve
from subinterp_asgi.testing.faults import crash_worker

MODULE = "tests.testing.observed"

pytestmark = pytest.mark.usefixtures("leaves_nothing")


@pytest.fixture(params=["interpreter", "thread"])
def server(request: pytest.FixtureRequest) -> Iterator[LiveServer]:
    with LiveServer(f"{MODULE}:app", isolation=request.param) as server:
        yield server


def test_arguments_and_results_go_there_and_back(server: LiveServer) -> None:
    assert server.call(f"{MODULE}:add", 1, b=2) == 3
    carried = {"a": [1, None, "ü\ud800\0"]}
    assert server.call("json:dumps", carried) == json.dumps(carried)
    assert server.call(f"{MODULE}:AppFailure.mro.__name__.upper") == "MRO"


def test_state_is_set_up_and_looked_into(server: LiveServer) -> None:
    server.call(f"{MODULE}:set_requests", 41)
    assert server.get("/").json()["requests"] == 42
    assert server.call(f"{MODULE}:count") == 42


def test_async_functions_run_on_the_loop_and_others_beside_it(server: LiveServer) -> None:
    assert server.call(f"{MODULE}:has_loop_in_async") is True
    assert server.call(f"{MODULE}:has_loop") is False


def test_workers_are_chosen_by_number_or_all_called() -> None:
    with serve(f"{MODULE}:app", workers=3) as server:
        for number in range(3):
            server.call(f"{MODULE}:set_requests", number, worker=number)
        assert server.call(f"{MODULE}:count", worker="all") == [0, 1, 2]
        assert server.call(f"{MODULE}:count", worker=1) == 1
        assert server.call(f"{MODULE}:count") == 0
        with pytest.raises(StateError, match="no worker 3 serves"):
            server.call(f"{MODULE}:count", worker=3)


@pytest.mark.parametrize(
    ("function", "kind", "text"),
    [
        (f"{MODULE}:fail", "AppFailure", "as it was called"),
        (f"{MODULE}:missing", "AppAttributeError", "has no attribute 'missing'"),
        (f"{MODULE}:not_json", "TypeError", "has returned what JSON can't carry"),
        (f"{MODULE}:requests", "TypeError", "not callable"),
        ("no path", "AppPathError", "expected 'package.module:attribute'"),
        ("sys:exit", "SystemExit", "SystemExit"),
    ],
)
def test_what_fails_there_is_raised_here(
    server: LiveServer, function: str, kind: str, text: str
) -> None:
    with pytest.raises(CallFailedError, match=text) as caught:
        server.call(function)
    assert caught.value.type == kind
    assert caught.value.worker_id == 0
    assert kind in caught.value.traceback
    assert server.get("/").status == 200
    assert server.errors() == []


def test_arguments_that_json_cant_carry_are_refused(server: LiveServer) -> None:
    with pytest.raises(TypeError, match="JSON"):
        server.call(f"{MODULE}:add", object())


def test_a_call_that_does_not_return_is_given_up(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with serve(f"{MODULE}:app") as server:
        with pytest.raises(NoAnswerError, match=r"no answer of worker 0 within 0\.2 s"):
            server.call(f"{MODULE}:freeze", str(gate), timeout=0.2)
        assert server.call(f"{MODULE}:add", 1) == 1, "the loop is free"
        with pytest.raises(NoAnswerError) as caught:
            server.call(f"{MODULE}:freeze_loop", str(gate), timeout=0.2)
        assert caught.value.workers == (0,)
        gate.touch()
        assert server.call(f"{MODULE}:add", 1) == 1


def test_a_worker_that_dies_meanwhile_has_failed() -> None:
    with serve(f"{MODULE}:app", workers=2, restart_delay=0.0, allow_errors=True) as server:
        died = crash_worker(server, 1, wait=True)
        assert died.worker_id == 1
        with pytest.raises(CallFailedError, match="ended before it could answer"):
            server.call(f"{MODULE}:die", worker=0)
