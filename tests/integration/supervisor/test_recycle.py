"""Workers that have served for long enough: replaced before they retire, one at a time."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from subinterp_asgi import Supervisor
from subinterp_asgi.supervisor.events import (
    Event,
    WorkerAbandoned,
    WorkerChanged,
    WorkerDied,
    WorkerRecycled,
)
from subinterp_asgi.supervisor.policy import recycling
from subinterp_asgi.supervisor.states import SupervisorState, WorkerState
from subinterp_asgi.testing import faults
from tests.support import get, wait_until

from ..apps.pool import App
from ..load import Load
from ..supervising import (
    Heard,
    Servers,
    all_names,
    both,
    generations,
    in_flight,
    in_turn,
    status_of,
    who,
)

MEBIBYTE = 1024 * 1024
MIXED = {"keep_alive": 3, "fresh": 2, "slow": 2, "upload": 1, "stream": 2}


def check_one_at_a_time(events: Sequence[Event]) -> None:
    """Check that each replacement served before the old one retired, and that ended first."""
    at_work: WorkerRecycled | None = None
    serves = False
    for event in events:
        if isinstance(event, WorkerRecycled):
            assert at_work is None, (event, at_work)
            at_work, serves = event, False
        elif (
            isinstance(event, WorkerChanged)
            and at_work is not None
            and event.worker_id == at_work.worker_id
        ):
            if event.state is WorkerState.SERVING:
                serves = True
            elif event.state is WorkerState.DRAINING:
                assert serves
            elif event.state is WorkerState.STOPPED:
                at_work = None


@both
def test_nothing_is_lost_by_limit_max_requests(servers: Servers, isolation: str) -> None:
    heard = Heard()
    server = servers.start(
        isolation=isolation,
        workers=2,
        limit_max_requests=50,
        limit_max_requests_jitter=20,
        on_event=heard,
        timeout_linger=5.0,
    )
    with Load(server.addresses[0], **MIXED) as load:
        wait_until(lambda: load.failures or len(heard.of(WorkerRecycled)) >= 5, "5 recycled")
    assert load.failures == []
    server.stop()
    assert server.stats().requests == load.requests
    check_one_at_a_time([e for e in heard.events if e.at < heard.of(WorkerRecycled)[-1].at])
    assert {event.reason for event in heard.of(WorkerRecycled)} == {"limit_max_requests"}
    # All that were recycled had served as many; nobody is replaced for nothing.
    recycled = len(heard.of(WorkerRecycled))
    assert sum(number >= 50 for number in load.workers.values()) >= recycled - 1
    assert heard.of(WorkerDied) == []


def test_the_limit_is_exact_where_there_is_time(servers: Servers) -> None:
    heard = Heard()
    server = servers.start(limit_max_requests=3, on_event=heard)
    first = who(server)
    assert who(server) == first
    assert heard.of(WorkerRecycled) == []
    assert who(server) == first
    heard.wait_for(WorkerChanged, state=WorkerState.STOPPED)
    assert who(server) != first
    wait_until(lambda: [info.requests for info in server.workers] == [1])
    assert generations(server) == [1]


def test_the_jitter_is_drawn_for_each(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = itertools.chain([2, 0], itertools.repeat(5))
    asked: list[tuple[int, int]] = []

    def randint(low: int, high: int) -> int:
        asked.append((low, high))
        return next(drawn)

    monkeypatch.setattr("subinterp_asgi.supervisor.pool.pool.randint", randint)
    heard = Heard()
    server = servers.start(limit_max_requests=1, limit_max_requests_jitter=5, on_event=heard)
    for number, requests in enumerate([3, 1], 1):
        name = who(server)
        for _ in range(requests - 1):
            assert who(server) == name
        heard.wait_for(WorkerChanged, state=WorkerState.STOPPED, count=number)
        assert who(server) != name or requests == 1
    assert asked == [(0, 5)] * 3  # the third, with 6 requests to go, serves now


@both
def test_nothing_is_lost_by_workers_lifetime(servers: Servers, isolation: str) -> None:
    heard = Heard()
    server = servers.start(
        isolation=isolation,
        workers=2,
        workers_lifetime=0.3,
        on_event=heard,
        timeout_linger=5.0,
    )
    before = all_names(server, 2)
    with Load(server.addresses[0], keep_alive=3, fresh=1, stream=1) as load:
        wait_until(lambda: load.failures or len(heard.of(WorkerRecycled)) >= 4, "4 recycled")
    assert load.failures == []
    # (The one that is told of may still be there.)
    wait_until(lambda: not all_names(server, 2) & before, "others than those of before")
    server.stop()
    check_one_at_a_time(heard.events[: heard.events.index(heard.of(WorkerRecycled)[-1])])
    recycled = heard.of(WorkerRecycled)
    assert {event.reason for event in recycled} == {"workers_lifetime"}
    for event in recycled:
        served = [
            change.at
            for change in heard.of(WorkerChanged)
            if change.worker_id == event.worker_id
            and change.state is WorkerState.SERVING
            and change.at < event.at
        ]
        assert event.at - served[-1] >= 0.3 - 0.05  # (an event is made when it is heard)


class Memory:
    """What the process is said to need."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.mebibytes: int | None = 100
        self.looks = 0
        monkeypatch.setattr(recycling, "resident_memory", self)
        monkeypatch.setattr(recycling, "RSS_INTERVAL", 0.01)

    def __call__(self) -> int | None:
        self.looks += 1
        return None if self.mebibytes is None else self.mebibytes * MEBIBYTE

    def be_looked_at(self) -> None:
        seen = self.looks
        wait_until(lambda: self.looks >= seen + 2)


def test_workers_max_rss(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process may grow by so much for each; then the oldest is replaced, and so on."""
    memory = Memory(monkeypatch)
    heard = Heard()
    server = servers.start(workers=2, workers_max_rss=10, on_event=heard)
    names = all_names(server, 2)
    memory.be_looked_at()  # which is where growth begins
    memory.mebibytes = 120
    memory.be_looked_at()
    assert heard.of(WorkerRecycled) == []
    memory.mebibytes = 121
    (first,) = heard.wait_for(WorkerRecycled)
    heard.wait_for(WorkerChanged, worker_id=first.worker_id, state=WorkerState.STOPPED)
    assert first.reason == "workers_max_rss"
    memory.be_looked_at()
    assert len(heard.of(WorkerRecycled)) == 1  # growth begins where it is now
    memory.mebibytes = 142
    _, second = heard.wait_for(WorkerRecycled, count=2)
    heard.wait_for(WorkerChanged, worker_id=second.worker_id, state=WorkerState.STOPPED)
    assert {first.worker_id, second.worker_id} == {0, 1}  # the oldest each time
    assert not all_names(server, 2) & names


def test_growth_begins_anew_with_a_generation(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What reloading costs is not given back by those that come after it."""
    memory, heard = Memory(monkeypatch), Heard()

    def make(number: int) -> App:
        if number == 2:
            memory.mebibytes = 111
        return App()

    server = servers.start(in_turn(make), workers_max_rss=10, on_event=heard)
    memory.be_looked_at()
    assert server.reload() == 2
    memory.be_looked_at()
    memory.mebibytes = 121
    memory.be_looked_at()
    assert heard.of(WorkerRecycled) == []
    memory.mebibytes = 122
    heard.wait_for(WorkerRecycled)


def test_a_system_that_does_not_tell_its_memory(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = Memory(monkeypatch)
    memory.mebibytes = None
    heard = Heard()
    server = servers.start(workers_max_rss=1, on_event=heard)
    memory.be_looked_at()
    assert get(server.url).status == 200
    assert heard.of(WorkerRecycled) == []


def test_resident_memory_is_plausible(monkeypatch: pytest.MonkeyPatch) -> None:
    found = recycling.resident_memory()
    assert found is not None
    assert 5 * MEBIBYTE < found < 100_000 * MEBIBYTE

    def fail(*arguments: Any) -> Any:
        raise FileNotFoundError

    monkeypatch.setattr("builtins.open", fail)
    assert recycling.resident_memory() is None


def test_no_other_is_recycled_while_one_retires(servers: Servers, tmp_path: Path) -> None:
    """Its memory is still there, and it may take its time."""
    heard = Heard()
    server = servers.start(workers=2, workers_lifetime=0.1, on_event=heard)
    path = tmp_path / "file"
    pending = in_flight(server, path)

    def recycled() -> int:
        return len(heard.of(WorkerRecycled))

    # (The one that has the request; the other may be recycled before, and end at once.)
    wait_until(lambda: any(i.state is WorkerState.DRAINING and i.requests for i in server.workers))
    before = recycled()
    since = monotonic()
    wait_until(lambda: monotonic() > since + 0.4 or recycled() > before + 1)
    assert recycled() <= before + 1  # (one may have been let go just before)
    before = recycled()
    path.touch()
    assert status_of(pending) == 200
    heard.wait_for(WorkerRecycled, count=before + 1)


def test_one_that_never_ends_is_not_waited_for(servers: Servers, tmp_path: Path) -> None:
    """Once it is given up as lost, the others have their turn."""
    heard = Heard()
    server = servers.start(
        workers=2,
        workers_lifetime=0.1,
        timeout_graceful_shutdown=0.0,
        shutdown_timeout=0.1,
        on_event=heard,
    )
    path = tmp_path / "file"
    pending = in_flight(server, path, "freeze")
    heard.wait_for(WorkerAbandoned)
    heard.wait_for(WorkerRecycled, count=len(heard.of(WorkerRecycled)) + 3)
    path.touch()
    pending.result()  # whatever it is


def test_a_replacement_that_can_not_start_is_tried_again(servers: Servers) -> None:
    """And the old one serves until then."""

    def make(number: int) -> App:
        if number in (2, 3):
            raise LookupError("not now")
        return App()

    heard = Heard()
    server = servers.start(in_turn(make), limit_max_requests=1, restart_delay=0.01, on_event=heard)
    with Load(server.addresses[0], fresh=2) as load:
        heard.wait_for(WorkerDied, count=2)
        heard.wait_for(WorkerChanged, state=WorkerState.STOPPED)
    assert load.failures == []
    assert server.state is SupervisorState.SERVING


def test_one_that_dies_while_its_replacement_starts_is_replaced_by_that(
    servers: Servers, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    gate.touch()
    heard = Heard()
    server = servers.start(
        limit_max_requests=1, state={"gate": str(gate)}, restart_delay=0.01, on_event=heard
    )
    gate.unlink()
    get(server.url)
    heard.wait_for(WorkerChanged, state=WorkerState.STARTING, count=2)
    faults.crash_worker(server)
    (died,) = heard.wait_for(WorkerDied)
    assert died.restart_in is not None
    again = died.at + died.restart_in
    wait_until(lambda: monotonic() > again)  # when there would be another
    gate.touch()
    heard.wait_for(WorkerChanged, state=WorkerState.SERVING, count=2)
    assert [info.state for info in server.workers] == [WorkerState.SERVING]
    assert len([e for e in heard.of(WorkerChanged) if e.state is WorkerState.STARTING]) == 2


def test_a_reload_ends_what_was_begun(servers: Servers, tmp_path: Any) -> None:
    """A replacement of the old code that has not come to serve is not wanted any more."""
    gate = tmp_path / "gate"
    gate.touch()
    heard = Heard()
    server: Supervisor = servers.start(
        limit_max_requests=1, state={"gate": str(gate)}, on_event=heard
    )
    gate.unlink()
    get(server.url)
    heard.wait_for(WorkerRecycled)
    gate.touch()
    assert server.reload() == 2
    wait_until(lambda: generations(server) == [2])
    assert get(server.url).status == 200
