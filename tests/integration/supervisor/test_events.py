"""What a host hears and sees of a supervisor, and what it does not: its process stays its own."""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import logging
import os
import signal
import sys
import threading
import warnings
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from subinterp_asgi import Supervisor
from subinterp_asgi.control.stats import Stats
from subinterp_asgi.errors import BindError, StartupError, StateError
from subinterp_asgi.supervisor.events import (
    Event,
    GenerationChanged,
    SupervisorChanged,
    WorkerChanged,
    WorkerDied,
)
from subinterp_asgi.supervisor.states import GenerationState, SupervisorState, WorkerState
from tests.support import get, wait_until

from ..apps.pool import App
from ..load import Load
from ..supervising import Background, Heard, Servers, all_names, both, generations


def tell(event: Event) -> tuple[Any, ...]:
    """An event without its time, in short."""
    if isinstance(event, SupervisorChanged):
        return (event.state.value,)
    if isinstance(event, GenerationChanged):
        return (event.generation, event.state.value)
    if isinstance(event, WorkerChanged):
        return (event.generation, event.worker_id, event.state.value)
    return (event,)


# --- the course of things


@both
def test_a_whole_life(servers: Servers, isolation: str) -> None:
    heard = Heard()
    server = servers.start(isolation=isolation, on_event=heard)
    server.reload()
    server.stop()
    assert heard.threads == {"asgi-events"}
    told = [tell(event) for event in heard.events]
    assert [x for x in told if len(x) == 1] == [
        ("starting",),
        ("serving",),
        ("stopping",),
        ("stopped",),
    ]
    assert [x for x in told if len(x) == 2] == [
        (1, "starting"),
        (1, "serving"),
        (2, "starting"),
        (2, "serving"),
        (1, "retiring"),
        (1, "ended"),
        (2, "ended"),
    ]
    for number in (1, 2):
        states = [x[2] for x in told if len(x) == 3 and x[0] == number]
        # (One that has nothing to do may end before it can say that it is idle.)
        assert [x for x in states if x != "idle"] == [
            "starting",
            "serving",
            "draining",
            "stopped",
        ]
    # Ready before retire.
    assert told.index((2, 0, "serving")) < told.index((1, 0, "draining"))
    assert told[0] == ("starting",)
    assert told[-1] == ("stopped",)


def test_a_start_that_fails(servers: Servers) -> None:
    def fail() -> App:
        raise LookupError("no configuration")

    heard = Heard()
    server = servers.make(fail, on_event=heard)
    events = server.events()
    with pytest.raises(StartupError):
        server.start()
    told = [tell(event) for event in events]  # which ends
    assert told[:2] == [("starting",), (1, "starting")]
    assert (1, 0, "failed") in told
    assert told[-1] == ("failed",)
    (failed,) = heard.wait_for(GenerationChanged, state=GenerationState.FAILED)
    assert "no configuration" in failed.reason


def test_an_address_that_is_taken(servers: Servers) -> None:
    first = servers.start()
    server = servers.make(port=first.addresses[0][1])
    with server.events() as events:
        with pytest.raises(BindError):
            server.start()
        assert [tell(event) for event in events][-1] == ("failed",)


# --- iterators


def test_iterators_end_with_the_supervisor(servers: Servers) -> None:
    server = servers.make()
    streams = [Background(lambda: list(server.events())) for _ in range(3)]
    early = server.events()
    server.start()
    late = server.events()
    server.stop()
    assert next(tell(event) for event in early) == ("starting",)
    assert tell(next(iter(late)))[-1] in ("stopping", "draining")
    assert list(server.events()) == []
    for stream in streams:
        assert isinstance(stream.outcome(), list)


def test_an_iterator_of_a_supervisor_that_never_starts(servers: Servers) -> None:
    server = servers.make()
    stream = Background(lambda: [tell(event) for event in server.events()])
    wait_until(lambda: server._hub._streams)
    server.stop()
    assert stream.outcome() in ([("stopped",)], [])


def test_an_iterator_that_was_dropped_collects_nothing(servers: Servers) -> None:
    server = servers.make()
    dropped = weakref.ref(server.events())
    gc.collect()
    assert dropped() is None
    server.start()
    server.stop()


# --- callbacks


@pytest.mark.parametrize("kind", [LookupError, SystemExit])
def test_what_a_callback_raises_is_logged_and_harmless(
    servers: Servers, caplog: pytest.LogCaptureFixture, kind: type[BaseException]
) -> None:
    def callback(event: Event) -> None:
        raise kind("the host's mistake")

    server = servers.start(on_event=callback)
    assert server.reload() == 2
    assert get(server.url).status == 200
    server.stop()
    assert caplog.text.count("on_event failed") >= 10
    assert f"{kind.__name__}: the host's mistake" in caplog.text


def once(kind: type[Event], act: Callable[[], object], **values: Any) -> Callable[[Event], None]:
    """A callback that acts at the first event of a kind."""
    due = [act]

    def callback(event: Event) -> None:
        if isinstance(event, kind) and all(getattr(event, n) == v for n, v in values.items()):
            while due:
                due.pop()()

    return callback


@both
def test_a_callback_may_stop_the_supervisor(servers: Servers, isolation: str) -> None:
    server: Supervisor
    callback = once(SupervisorChanged, lambda: server.stop(), state=SupervisorState.SERVING)
    server = servers.make(isolation=isolation, on_event=callback)
    server.start()
    assert server.wait(20)
    assert server.state is SupervisorState.STOPPED


def test_a_callback_may_stop_it_while_it_starts(servers: Servers) -> None:
    server: Supervisor
    callback = once(GenerationChanged, lambda: server.stop(), state=GenerationState.STARTING)

    class Slow(App):
        async def startup(self, state: Any) -> None:
            await asyncio.Event().wait()

    server = servers.make(Slow, lifespan="on", on_event=callback)
    with pytest.raises(StartupError, match="stop"):
        server.start()


@both
def test_a_callback_may_reload(servers: Servers, isolation: str) -> None:
    outcome: list[int] = []
    server: Supervisor
    callback = once(
        SupervisorChanged,
        lambda: outcome.append(server.reload()),
        state=SupervisorState.SERVING,
    )
    server = servers.make(isolation=isolation, on_event=callback)
    server.start()
    wait_until(lambda: outcome)
    assert outcome == [2]
    assert generations(server) == [2]


def test_a_callback_may_look_at_everything(servers: Servers) -> None:
    seen: list[tuple[Any, ...]] = []
    server: Supervisor

    def callback(event: Event) -> None:
        stats = None if server.state is SupervisorState.STARTING else server.stats().requests
        seen.append((server.state, len(server.workers), server.generation, stats))

    server = servers.make(on_event=callback)
    server.start()
    server.reload()
    server.stop()
    assert len(seen) > 10
    assert seen[-1] == (SupervisorState.STOPPED, 1, 2, 0)


# --- state, workers and stats from any thread


def test_stats_want_a_start(servers: Servers) -> None:
    server = servers.make()
    with pytest.raises(StateError, match="no statistics before"):
        server.stats()
    assert server.generation == 1
    assert server.workers == ()


@both
def test_anything_can_be_asked_at_any_time(servers: Servers, isolation: str) -> None:
    """While workers come and go counts only grow, and nothing fails."""
    server = servers.start(isolation=isolation, workers=2, restart_delay=0.01, timeout_linger=5.0)
    done = threading.Event()
    failures: list[str] = []

    def ask() -> None:
        last: Stats | None = None
        while not done.is_set():
            stats = server.stats()
            if last is not None and (
                stats.requests < last.requests
                or stats.accepted < last.accepted
                or stats.bytes_out < last.bytes_out
                or any(stats.responses[kind] < last.responses[kind] for kind in range(1, 6))
            ):
                failures.append(f"{last} then {stats}")
            last = stats
            if any(info.requests < 0 or info.connections < 0 for info in server.workers):
                failures.append(f"{server.workers}")
            assert server.state in SupervisorState
            assert server.url
            done.wait(0.001)

    askers = [Background(ask) for _ in range(3)]
    with Load(server.addresses[0], keep_alive=2, fresh=2) as load:
        load.wait_for(20)
        server.reload()
        server.scale(3)
        load.wait_for(20)
        server.scale(1)
        server.reload(strategy="rolling")
        load.wait_for(20)
    server.stop()
    done.set()
    for asker in askers:
        assert asker.outcome() is None
    assert failures == []
    assert load.failures == []
    assert server.stats().requests == load.requests


@both
def test_the_accounts_are_exact(servers: Servers, isolation: str) -> None:
    """Over reloads, scaling and restarts: what clients count is what the workers do."""
    heard = Heard()
    server = servers.start(
        isolation=isolation, workers=2, restart_delay=0.01, on_event=heard, restart_limit=20
    )
    asked = 0

    def ask(count: int, path: str = "/", status: int = 200) -> None:
        nonlocal asked
        asked += count
        for _ in range(count):
            assert get(server.url, path).status == status

    ask(10)
    ask(3, "/fail", 500)
    server.reload()
    ask(7)
    server.scale(4)
    ask(11)
    for number in range(1, 4):
        ask(1, "/die")
        heard.wait_for(WorkerDied, count=number)
        wait_until(lambda: [x.state for x in server.workers] == [WorkerState.SERVING] * 4)
        ask(5)
    server.scale(1)
    server.reload()
    ask(5)
    server.stop()
    stats = server.stats()
    assert stats.requests == asked
    assert stats.accepted == asked  # each had a connection of its own
    assert stats.responses == {1: 0, 2: asked - 3, 3: 0, 4: 0, 5: 3}
    assert stats.errors == 3
    assert (stats.in_flight, stats.connections, stats.workers) == (0, 0, ())


def test_stats_name_each_worker(servers: Servers) -> None:
    server = servers.start(workers=2)
    all_names(server, 2)
    server.reload()
    assert [(x.worker_id, x.generation) for x in sorted_by_id(server.stats())] == [(0, 2), (1, 2)]
    server.stop()
    assert server.stats().workers == ()


def sorted_by_id(stats: Stats) -> list[Any]:
    return sorted(stats.workers, key=lambda worker: worker.worker_id)


# --- neighbours


def test_two_supervisors_do_not_disturb_each_other(servers: Servers) -> None:
    calm, heard = servers.start(isolation="interpreter", workers=2), Heard()
    busy = servers.start(
        "tests.integration.apps.pool:App", "interpreter", on_event=heard, timeout_linger=5.0
    )
    names = all_names(calm, 2)
    with Load(calm.addresses[0], keep_alive=3, fresh=2, stream=1) as load:
        with Load(busy.addresses[0], keep_alive=2) as other:
            for number in range(2, 7):
                assert busy.reload() == number
                load.wait_for(10)
        busy.stop()
        load.wait_for(10)
    assert load.failures == other.failures == []
    assert set(load.workers) == names
    assert generations(calm) == [1, 1]
    assert get(calm.url).status == 200


def surroundings() -> dict[str, Any]:
    """What belongs to the host."""
    loggers = [logging.getLogger(name) for name in (None, "asyncio", "subinterp_asgi")]
    return {
        "signals": [signal.getsignal(number) for number in signal.valid_signals()],
        "logging": [
            (x.level, x.propagate, x.disabled, list(x.handlers), list(x.filters)) for x in loggers
        ],
        "hooks": (sys.excepthook, threading.excepthook, sys.unraisablehook),
        "directory": os.getcwd(),
        "environment": dict(os.environ),
        "path": list(sys.path),
        "filters": list(warnings.filters),
        "faulthandler": faulthandler.is_enabled(),
        "switch interval": sys.getswitchinterval(),
        "streams": (sys.stdin, sys.stdout, sys.stderr),
        "modules": set(sys.modules) & {"tests.integration.apps.chat"},
    }


def wakeup_fd() -> int:
    found = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(found)
    return found


@both
def test_a_host_finds_its_own_untouched(servers: Servers, isolation: str, tmp_path: Path) -> None:
    """Its loop goes on meanwhile, and its signal handlers and logging are what they were."""
    gate = tmp_path / "gate"
    gate.touch()
    state = {"gate": str(gate)}
    received: list[int] = []
    turns = 0

    async def turn() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0.001)
            turns += 1

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGUSR1, received.append, 1)
        before, fd, tasks = surroundings(), wakeup_fd(), asyncio.all_tasks()
        turning = asyncio.create_task(turn())
        try:
            async with servers.make(isolation=isolation, state=state, workers=2) as server:
                assert await asyncio.to_thread(get, server.url)
                gate.unlink()
                reloading = asyncio.create_task(asyncio.to_thread(server.reload))
                seen = turns
                while turns < seen + 10:  # noqa: ASYNC110
                    await asyncio.sleep(0.001)
                assert not reloading.done()
                gate.touch()
                assert await reloading == 2
                assert wakeup_fd() == fd
                os.kill(os.getpid(), signal.SIGUSR1)
                while not received:  # noqa: ASYNC110
                    await asyncio.sleep(0.001)
            assert surroundings() == before
            assert wakeup_fd() == fd
            assert asyncio.get_running_loop() is loop
        finally:
            turning.cancel()
            loop.remove_signal_handler(signal.SIGUSR1)
        assert asyncio.all_tasks() - {turning} == tasks
        assert received == [1]

    asyncio.run(main())
