"""Spares: workers that have imported the application and wait to be needed."""

from __future__ import annotations

import threading
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from subinterp_asgi.control import interpreters
from subinterp_asgi.errors import ReloadError, WorkerDiedError
from subinterp_asgi.supervisor.events import WorkerChanged, WorkerDied
from subinterp_asgi.supervisor.policy import reconciler
from subinterp_asgi.supervisor.states import SupervisorState, WorkerState
from tests.support import get, wait_until

from ..apps.pool import App
from ..load import Load
from ..rawclient import RawClient
from ..supervising import Background, Heard, Servers, all_names, both, generations, who


class Made:
    """A factory that keeps count: applications are called by their number."""

    def __init__(self) -> None:
        self.numbers = count(1)
        self.lock = threading.Lock()
        self.lifespans: list[str] = []
        self.fail: set[int] = set()

    def __call__(self) -> App:
        with self.lock:
            number = next(self.numbers)
        if number in self.fail:
            raise LookupError(f"number {number} fails")
        lifespans = self.lifespans

        class Noting(App):
            async def startup(self, state: Any) -> None:
                lifespans.append(self.name)

        return Noting(str(number))


def kill(server: Any) -> str:
    with RawClient(server.addresses[0]) as client:
        name: str = client.get(b"/who").body.decode()
        client.get(b"/die")
    return name


def spares(heard: Heard, number: int) -> None:
    """Wait until so many spares have been ready so far."""
    heard.wait_for(WorkerChanged, worker_id=-1, state=WorkerState.SPARE, count=number)


def test_a_spare_has_imported_the_application_and_no_more(servers: Servers) -> None:
    made, heard = Made(), Heard()
    server = servers.start(made, workers=2, spares=2, on_event=heard, lifespan="on")
    spares(heard, 2)
    assert next(made.numbers) == 5
    assert len(made.lifespans) == 2
    assert [info.id for info in server.workers] == [0, 1]  # spares are none of them
    assert len(server.stats().workers) == 2
    assert sum(thread.name == "asgi-spare" for thread in threading.enumerate()) == 2
    assert all_names(server, 2) == set(made.lifespans)


def test_a_spare_takes_the_place_of_one_that_died(servers: Servers) -> None:
    made, heard = Made(), Heard()
    server = servers.start(
        made, spares=1, on_event=heard, restart_delay=0.01, log_forwarding=True, lifespan="on"
    )
    spares(heard, 1)
    assert who(server) == "1"
    kill(server)
    assert who(server) == "2"
    assert made.lifespans == ["1", "2"]
    (info,) = server.workers
    assert (info.id, info.thread_name) == (0, "asgi-worker-0")
    spares(heard, 2)  # and has another one behind it
    kill(server)
    assert who(server) == "3"
    server.stop()
    assert server.stats().requests == 7


def test_in_an_interpreter(servers: Servers, caplog: pytest.LogCaptureFixture) -> None:
    heard = Heard()
    server = servers.start(
        isolation="interpreter",
        workers=2,
        spares=1,
        on_event=heard,
        restart_delay=0.01,
        log_forwarding=True,
        limit_max_requests=1000,
    )
    spares(heard, 1)
    assert interpreters.alive() == 3
    before = all_names(server, 2)
    with Load(server.addresses[0], keep_alive=2) as load:
        load.wait_for(20)
        dead = kill(server)
        spares(heard, 2)
        load.wait_for(20)
    assert all(failure.worker in (dead, "") for failure in load.failures), load.failures
    assert len(all_names(server, 2) & before) == 1
    assert interpreters.alive() == 3


def test_spares_take_the_places_of_new_ones(servers: Servers) -> None:
    made, heard = Made(), Heard()
    server = servers.start(made, spares=2, on_event=heard)
    spares(heard, 2)
    server.scale(4)
    assert all_names(server, 4) == {"1", "2", "3", "4"} | ({"5"} & all_names(server, 4))
    assert {"2", "3"} <= all_names(server, 4)
    spares(heard, 4)
    server.scale(1)
    assert len(all_names(server, 1)) == 1


def test_spares_take_the_places_of_those_that_are_recycled(servers: Servers) -> None:
    made, heard = Made(), Heard()
    server = servers.start(made, spares=1, limit_max_requests=1, on_event=heard)
    spares(heard, 1)
    assert who(server) == "1"
    heard.wait_for(WorkerChanged, state=WorkerState.STOPPED)
    assert who(server) == "2"


@both
def test_spares_that_know_the_old_code_are_replaced_by_a_reload(
    servers: Servers, isolation: str
) -> None:
    heard = Heard()
    app = Made() if isolation == "thread" else None
    server = servers.start(app, isolation, spares=1, on_event=heard, restart_delay=0.01)
    spares(heard, 1)
    assert server.reload() == 2
    heard.wait_for(WorkerChanged, worker_id=-1, generation=2, state=WorkerState.SPARE)
    heard.wait_for(WorkerChanged, worker_id=-1, generation=1, state=WorkerState.STOPPED)
    name = kill(server)
    assert who(server) != name
    wait_until(lambda: generations(server) == [2])
    if isolation == "thread":  # 1 and 2 are old, 3 was killed
        assert who(server) == "4"


def test_a_reload_that_fails_keeps_them(servers: Servers) -> None:
    made, heard = Made(), Heard()
    made.fail = {3}
    server = servers.start(made, spares=1, on_event=heard, restart_delay=0.01)
    spares(heard, 1)
    with pytest.raises(ReloadError):
        server.reload()
    kill(server)
    assert who(server) == "2"
    assert generations(server) == [1]


def test_a_reload_that_fails_half_way_replaces_them(servers: Servers) -> None:
    """They know the code of the workers that were not replaced; new ones know the other."""
    made, heard = Made(), Heard()
    made.fail = {5}
    server = servers.start(made, workers=2, spares=1, on_event=heard)
    spares(heard, 1)
    with pytest.raises(ReloadError):
        server.reload(strategy="rolling")
    heard.wait_for(WorkerChanged, worker_id=-1, generation=2, state=WorkerState.SPARE)
    heard.wait_for(WorkerChanged, worker_id=-1, generation=1, state=WorkerState.STOPPED)


def test_a_spare_that_can_not_be_made_is_tried_again(servers: Servers) -> None:
    """It is no harm to those that serve, but costs a restart."""
    made, heard = Made(), Heard()
    made.fail = {2, 3}
    server = servers.start(made, spares=1, on_event=heard, restart_delay=0.01)
    spares(heard, 1)
    died = heard.of(WorkerDied)
    assert [(event.worker_id, event.error.splitlines()[0]) for event in died] == [
        (-1, "AppFactoryError: app factory Made() raised: number 2 fails"),
        (-1, "AppFactoryError: app factory Made() raised: number 3 fails"),
    ]
    assert all(event.restart_in is not None for event in died)
    kill(server)
    assert who(server) == "4"


def test_spares_that_never_can_be_made(servers: Servers) -> None:
    made = Made()
    made.fail = set(range(2, 100))
    server = servers.start(made, spares=1, restart_limit=2, restart_delay=0.01)
    with pytest.raises(WorkerDiedError, match=r"a spare died: AppFactoryError: .* number 4 fails"):
        server.wait(30)


def test_two_die_and_there_is_one_spare(servers: Servers) -> None:
    made, heard = Made(), Heard()
    server = servers.start(made, workers=2, spares=1, on_event=heard, restart_delay=0.01)
    spares(heard, 1)
    before = all_names(server, 2)
    kill(server)
    kill(server)
    heard.wait_for(WorkerDied, count=2)
    wait_until(lambda: len(server.workers) == 2)
    assert "3" in all_names(server, 2) or "3" in before or len(heard.of(WorkerDied)) == 2
    assert len(all_names(server, 2)) == 2
    spares(heard, 2)


@both
def test_stopping(servers: Servers, isolation: str) -> None:
    heard = Heard()
    server = servers.start(isolation=isolation, spares=3, on_event=heard)
    spares(heard, 3)
    server.stop()
    assert server.state is SupervisorState.STOPPED
    stopped = heard.wait_for(WorkerChanged, worker_id=-1, state=WorkerState.STOPPED)
    assert len(stopped) == 3
    assert heard.of(WorkerDied) == []


def test_stopping_while_one_is_made(servers: Servers, tmp_path: Path) -> None:
    gate = threading.Event()
    reached = threading.Event()
    numbers = count(1)

    def make() -> App:
        if next(numbers) == 2:
            reached.set()
            assert gate.wait(30)
        return App()

    server = servers.start(make, spares=1)
    assert reached.wait(20)
    stopping = Background(lambda: server.stop(10))
    wait_until(lambda: server.state is SupervisorState.STOPPING)
    gate.set()
    assert stopping.outcome() is None


def test_a_spare_that_does_not_come_to_serve(
    servers: Servers, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It was quick to be ready, and holds its loop up now; another takes its place."""
    made, heard = Made(), Heard()
    path = tmp_path / "file"

    class Blocking(App):
        async def startup(self, state: Any) -> None:
            wait_until(path.exists)

    def make() -> App:
        app = made()
        return Blocking() if app.name == "2" else app

    server = servers.start(
        make, spares=1, startup_timeout=30, on_event=heard, restart_delay=0.01, lifespan="on"
    )
    spares(heard, 1)
    with monkeypatch.context() as hurried:
        hurried.setattr(reconciler, "START_MARGIN", -29.0)  # others may take longer
        kill(server)
        heard.wait_for(WorkerDied, count=2)
    assert who(server) == "3"
    path.touch()
    assert "startup_timeout" in heard.of(WorkerDied)[1].error


def test_a_spare_that_hangs_in_its_import(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, heard, released = Made(), Heard(), threading.Event()

    def make() -> App:
        app = made()
        if app.name == "2":
            released.wait(20)
        return app

    with monkeypatch.context() as hurried:
        hurried.setattr(reconciler, "START_MARGIN", -29.0)  # others may take longer
        server = servers.start(
            make, spares=1, startup_timeout=30, on_event=heard, restart_delay=0.01
        )
        heard.wait_for(WorkerDied)
    spares(heard, 1)
    (died,) = heard.of(WorkerDied)
    assert (died.worker_id, "startup_timeout=30" in died.error) == (-1, True)
    kill(server)
    assert who(server) == "3"
    released.set()


def test_a_spare_whose_lifespan_fails(servers: Servers) -> None:
    """It dies of it like any other, and another takes its place."""
    made, heard = Made(), Heard()

    class Refusing(App):
        async def startup(self, state: Any) -> None:
            raise LookupError("no database")

    def make() -> App:
        app = made()
        return Refusing() if app.name == "2" else app

    server = servers.start(make, spares=1, on_event=heard, restart_delay=0.01, lifespan="on")
    spares(heard, 1)
    kill(server)
    assert who(server) == "3"
    errors = [event.error for event in heard.of(WorkerDied)]
    assert len(errors) == 2
    assert "no database" in errors[1]
    assert get(server.url).status == 200
