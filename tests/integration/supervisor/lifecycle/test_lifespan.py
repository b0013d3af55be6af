"""The application's lifespan, its state and its hooks."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from subinterp_asgi import Supervisor
from subinterp_asgi.errors import ConfigError, ShutdownFailedError, StartupError
from subinterp_asgi.supervisor.policy import shutdown
from subinterp_asgi.supervisor.states import SupervisorState, WorkerState
from tests.integration.apps import lifecycle
from tests.support import get

from .making import APP, APPS, LIFESPAN, both, events, make

HOOKS = f"{APPS}:with_hooks"


# --- state


GOOD_STATE = {
    "text": "höst",
    "number": 17,
    "real": 1.5,
    "flag": True,
    "nothing": None,
    "list": [1, [2, {"deep": "er"}]],
    "dict": {"key": "value"},
}


@both
def test_the_state_reaches_each_request_as_a_copy(isolation: str) -> None:
    state = dict(GOOD_STATE)
    with make(isolation=isolation, workers=2, state=state) as server:
        state["later"] = 1
        for _ in range(4):
            get(server.url, "/spoil")
            assert json.loads(get(server.url, "/state").body) == GOOD_STATE


@both
def test_the_lifespan_adds_to_it_in_each_worker(isolation: str) -> None:
    with make(LIFESPAN, isolation, workers=2, lifespan="on", state={"given": 1}) as server:
        tokens = set()
        for _ in range(20):
            state = json.loads(get(server.url, "/state").body)
            assert state.keys() == {"given", "from_startup"}
            tokens.add(state["from_startup"])
        assert (lifecycle.TOKEN in tokens) is (isolation == "thread")


@pytest.mark.parametrize(
    "value",
    [
        object(),
        (1, 2),
        {1: "number as key"},
        {"nested": {1, 2}},
        b"bytes",
        float("nan"),
        1j,
        [object()],
        lambda: None,
    ],
)
def test_what_json_cannot_carry_is_refused_by_name(value: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        Supervisor(APP, state={"fine": 1, "culprit": value})
    assert caught.value.option == "state"
    assert "'culprit' can't be carried by JSON unchanged" in str(caught.value)


def test_a_state_that_contains_itself_is_refused() -> None:
    circle: list[Any] = []
    circle.append(circle)
    with pytest.raises(ConfigError, match="'culprit'"):
        Supervisor(APP, state={"culprit": circle})


def test_a_name_that_is_no_string_is_refused() -> None:
    with pytest.raises(ConfigError, match="1 can't be carried"):
        Supervisor(APP, state={1: "one"})  # type: ignore[dict-item]


# --- lifespan


@both
def test_the_lifespan_runs_in_each_worker(isolation: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with make(LIFESPAN, isolation, workers=3, lifespan="on", state={"log": str(log)}):
        assert events(log) == ["startup"] * 3
    assert events(log) == ["startup"] * 3 + ["shutdown"] * 3
    tokens = {line.split()[0] for line in log.read_text().splitlines()}
    assert len(tokens) == (3 if isolation == "interpreter" else 1)


def test_lifespan_off_does_not_call_the_application(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with make(LIFESPAN, lifespan="off", state={"log": str(log)}) as server:
        assert get(server.url).text == "ok"
    assert not log.exists()


def test_lifespan_auto_runs_it_where_it_is_supported(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with make(LIFESPAN, lifespan="auto", state={"log": str(log)}):
        pass
    assert events(log) == ["startup", "shutdown"]


def test_lifespan_auto_serves_an_application_that_has_none() -> None:
    with make(APP, lifespan="auto") as server:
        assert get(server.url).text == "ok"


@both
def test_lifespan_on_insists(isolation: str) -> None:
    with pytest.raises(StartupError, match="raised during lifespan startup") as caught:
        make(APP, isolation, lifespan="on").start()
    assert "NotImplementedError: lifespan" in str(caught.value)


@pytest.mark.parametrize("mode", ["auto", "on"])
@both
def test_a_startup_that_failed_is_told_with_its_message(isolation: str, mode: str) -> None:
    state = {"startup.failed": "the database is down"}
    with pytest.raises(StartupError, match="lifespan startup failed: the database is down"):
        make(LIFESPAN, isolation, lifespan=mode, state=state).start()


@both
def test_a_shutdown_that_failed_is_told(isolation: str, caplog: pytest.LogCaptureFixture) -> None:
    state = {"shutdown.failed": "not all was saved"}
    server = make(LIFESPAN, isolation, lifespan="on", workers=2, state=state)
    with pytest.raises(ShutdownFailedError) as caught, server:
        pass
    assert set(caught.value.workers) == {"asgi-worker-0", "asgi-worker-1"}
    assert "LifespanError: lifespan shutdown failed: not all was saved" in str(caught.value)
    assert [info.state for info in server.workers] == [WorkerState.FAILED] * 2
    assert caplog.text.count("lifespan shutdown failed: not all was saved") == 2
    assert server.state is SupervisorState.STOPPED
    with pytest.raises(ShutdownFailedError):
        server.stop()


def test_so_is_one_that_raised() -> None:
    server = make(LIFESPAN, lifespan="on", state={"shutdown.raise": "no connection"})
    server.start()
    with pytest.raises(ShutdownFailedError, match="LookupError: no connection"):
        server.stop()


def test_that_hides_nothing_else() -> None:
    server = make(LIFESPAN, lifespan="on", state={"shutdown.failed": "not all was saved"})
    with pytest.raises(ZeroDivisionError), server:
        raise ZeroDivisionError


@pytest.mark.parametrize("error", [ZeroDivisionError, None])
def test_nor_without_blocking(error: type[Exception] | None) -> None:
    async def serve() -> None:
        async with make(LIFESPAN, lifespan="on", state={"shutdown.failed": "not all was saved"}):
            if error is not None:
                raise error

    with pytest.raises(error or ShutdownFailedError):
        asyncio.run(serve())


@both
def test_a_shutdown_that_hangs_is_ended(
    isolation: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutdown, "STOP_MARGIN", 30.0)  # a busy machine may take its time
    options: dict[str, Any] = {"state": {"shutdown.hang": 1}, "shutdown_timeout": 0.1}
    with (
        pytest.raises(ShutdownFailedError, match="took more than"),
        make(LIFESPAN, isolation, lifespan="on", **options),
    ):
        pass
    assert "lifespan shutdown took more than shutdown_timeout=0.1 s" in caplog.text


# --- hooks


@both
def test_worker_hooks(isolation: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    options: dict[str, Any] = {"workers": 2, "worker_hooks": True, "lifespan": "on"}
    with make(HOOKS, isolation, state={"log": str(log)}, **options):
        begun = sorted(events(log))
    kind = "subinterp_asgi.worker"
    assert begun == sorted(
        ["startup", "startup", *(f"{kind}.startup {n} http.disconnect" for n in (0, 1))]
    )
    all_events = events(log)
    assert sorted(all_events[4:]) == sorted(
        ["shutdown", "shutdown", *(f"{kind}.shutdown {n} http.disconnect" for n in (0, 1))]
    )


def test_hooks_stand_between_the_lifespans_ends(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with make(HOOKS, worker_hooks=True, lifespan="on", state={"log": str(log)}):
        pass
    assert [event.split(" ")[0].rpartition(".")[2] for event in events(log)] == [
        "startup",
        "startup",
        "shutdown",
        "shutdown",
    ]
    assert events(log)[0] == "startup"
    assert events(log)[-1] == "shutdown"


def test_no_hooks_unless_asked_for(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with make(HOOKS, lifespan="on", state={"log": str(log)}):
        pass
    assert events(log) == ["startup", "shutdown"]


@both
def test_a_hook_that_raises_fails_the_start(isolation: str) -> None:
    with pytest.raises(StartupError, match="LookupError: no licence"):
        make(HOOKS, isolation, worker_hooks=True, state={"hook.raise": "no licence"}).start()


@both
def test_an_end_hook_that_hangs_is_ended(
    isolation: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shutdown, "STOP_MARGIN", 30.0)  # a busy machine may take its time
    log = tmp_path / "log"
    state = {"hook.hang": 1, "log": str(log)}
    options: dict[str, Any] = {"worker_hooks": True, "lifespan": "on", "shutdown_timeout": 0.1}
    with (
        pytest.raises(ShutdownFailedError, match="TimeoutError"),
        make(HOOKS, isolation, state=state, **options),
    ):
        pass
    assert "TimeoutError" in caplog.text
    assert events(log)[-1] == "shutdown"  # the lifespan had its turn all the same


def test_no_end_hook_without_a_start_hook(tmp_path: Path) -> None:
    log = tmp_path / "log"
    state = {"log": str(log), "startup.failed": "no database"}
    with pytest.raises(StartupError, match="no database"):
        make(HOOKS, worker_hooks=True, lifespan="on", state=state).start()
    assert not log.exists()
