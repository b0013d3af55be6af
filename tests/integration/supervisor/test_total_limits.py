"""Limits that count once, for all workers together."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from subinterp_asgi import Supervisor
from subinterp_asgi.supervisor.states import WorkerState
from subinterp_asgi.testing import faults
from tests.support import Pending, get, wait_until

from ..apps.counted import Counted
from ..rawclient import RawClient, Response, request
from ..supervising import Background, Servers, all_names, both, connect, in_flight, status_of, who
from ..wsclient import WSClient, handshake

COUNTED = "tests.integration.apps.counted:Counted"


def refused(response: Response) -> bool:
    """Whether it is the answer of a server that is too busy."""
    if response.status != 503:
        return False
    assert response.get(b"retry-after") == b"1"
    assert response.closes
    return True


def clients_of(server: Supervisor, name: str, count: int) -> list[RawClient]:
    """So many connections to one worker."""
    found: list[RawClient] = []

    def another() -> bool:
        client = connect(server)
        if client.get(b"/who").body.decode() == name:
            found.append(client)
        else:
            client.close()
        return len(found) == count

    wait_until(another, f"{count} connections to a worker")
    return found


class Held:
    """Requests in flight, each until it is let go."""

    def __init__(self, server: Supervisor, folder: Path) -> None:
        self._server = server
        self._folder = folder
        self._left: list[tuple[Path, Pending]] = []
        self._made = 0

    def begin(self, count: int = 1) -> None:
        """Begin so many."""
        for _ in range(count):
            path = self._folder / f"held-{self._made}"
            self._made += 1
            self._left.append((path, in_flight(self._server, path)))

    def end(self) -> None:
        """Let the first one go."""
        path, pending = self._left.pop(0)
        path.touch()
        assert status_of(pending) == 200

    def end_all(self) -> None:
        """Let all go; some may have been broken off."""
        for path, _ in self._left:
            path.touch()
        for _, pending in self._left:
            pending.result()


@pytest.fixture
def hold(tmp_path: Path) -> Iterator[Callable[[Supervisor], Held]]:
    made: list[Held] = []

    def make(server: Supervisor) -> Held:
        folder = tmp_path / str(len(made))
        folder.mkdir()
        made.append(Held(server, folder))
        return made[-1]

    yield make
    for held in made:
        held.end_all()


def is_full(server: Supervisor) -> None:
    """Check that no worker takes one more, whichever it is that is asked."""
    for _ in range(6):
        with connect(server) as client:
            client.send(request(b"GET", b"/"))
            assert refused(client.response())
            client.assert_closed()


def has_room(server: Supervisor) -> bool:
    """Whether one more is let in."""
    return get(server.url, "/who").status == 200


@both
def test_one_more_than_all_may_have(
    servers: Servers, isolation: str, hold: Callable[[Supervisor], Held]
) -> None:
    server = servers.start(isolation=isolation, workers=3, limit_concurrency_total=6)
    held = hold(server)
    held.begin(6)
    is_full(server)
    for _ in range(3):
        held.end()
        assert has_room(server)
        held.begin()
        is_full(server)


def begin_at(client: RawClient, gate: Path) -> None:
    """Begin a request on a connection that lasts until the file exists."""
    begun = Path(f"{gate}.begun")
    client.send(request(b"GET", b"/until" + bytes(gate)))
    wait_until(begun.exists)
    begun.unlink()


@both
def test_all_may_be_in_one_worker(servers: Servers, isolation: str, tmp_path: Path) -> None:
    """And then the others have none."""
    server = servers.start(isolation=isolation, workers=2, limit_concurrency_total=5)
    one, other = (clients_of(server, name, 6) for name in all_names(server, 2))
    for client in one[:5]:
        begin_at(client, tmp_path / "gate")
    for late in (one.pop(), *other):
        late.send(request(b"GET", b"/who"))
        assert refused(late.response())
        late.close()
    assert {info.in_flight for info in server.stats().workers} == {5, 0}
    (tmp_path / "gate").touch()
    for client in one:
        assert client.response().body == b"done"
        client.assert_open()
        client.close()


def test_the_limit_of_each_counts_besides(servers: Servers, tmp_path: Path) -> None:
    server = servers.start(workers=2, limit_concurrency=2, limit_concurrency_total=3)
    one, other = (clients_of(server, name, 3) for name in all_names(server, 2))
    for client in (*one[:2], other[0]):
        begin_at(client, tmp_path / "gate")
        if client is one[1]:
            one[2].send(request(b"GET", b"/who"))
            assert refused(one[2].response())
    other[1].send(request(b"GET", b"/who"))
    assert refused(other[1].response())
    (tmp_path / "gate").touch()
    for client in (*one[:2], other[0]):
        assert client.response().body == b"done"
    for client in (*one, *other):
        client.close()


@both
def test_a_worker_that_dies_gives_back_what_it_held(
    servers: Servers, isolation: str, hold: Callable[[Supervisor], Held]
) -> None:
    server = servers.start(isolation=isolation, workers=2, limit_concurrency_total=4)
    held = hold(server)
    held.begin(4)
    is_full(server)
    for info in server.workers:
        faults.crash_worker(server, info.id, wait=True)
    wait_until(lambda: has_room(server), "what the dead held")
    again = hold(server)
    again.begin(4)
    is_full(server)
    again.end()
    assert has_room(server)


@both
@pytest.mark.parametrize("strategy", ["all", "rolling"])
def test_workers_that_drain_count_until_they_have_ended(
    servers: Servers, isolation: str, strategy: str, hold: Callable[[Supervisor], Held]
) -> None:
    server = servers.start(isolation=isolation, workers=2, limit_concurrency_total=4)
    held = hold(server)
    held.begin(4)
    reload = Background(lambda: server.reload(strategy=strategy))
    wait_until(lambda: any(h.state is WorkerState.DRAINING for h in server._pool.handles))
    is_full(server)
    held.end()
    assert has_room(server)
    held.begin()
    is_full(server)
    held.end_all()
    assert reload.outcome() == 2
    again = hold(server)
    again.begin(4)
    is_full(server)


def test_another_number_of_workers(servers: Servers, hold: Callable[[Supervisor], Held]) -> None:
    server = servers.start(workers=1, limit_concurrency_total=4)
    held = hold(server)
    held.begin(3)
    server.scale(3)
    held.begin()
    is_full(server)
    held.end_all()
    server.scale(1)
    assert has_room(server)
    again = hold(server)
    again.begin(4)
    is_full(server)


def test_a_spare_holds_nothing(servers: Servers, hold: Callable[[Supervisor], Held]) -> None:
    server = servers.start(workers=2, spares=1, limit_concurrency_total=4)
    held = hold(server)
    held.begin(4)
    is_full(server)
    faults.crash_worker(server, wait=True)
    faults.crash_worker(server, 1, wait=True)
    wait_until(lambda: has_room(server), "what the dead held")
    again = hold(server)
    again.begin(4)
    is_full(server)


@both
def test_websockets_count_as_long_as_they_are_open(servers: Servers, isolation: str) -> None:
    server = servers.start(isolation=isolation, workers=2, limit_concurrency_total=3)
    host, port = server.addresses[0]
    assert port is not None
    with contextlib.ExitStack() as stack:
        first, *_ = clients = [stack.enter_context(WSClient((host, port))) for _ in range(4)]
        for client in clients[:3]:
            client.open()
        is_full(server)
        clients[3].send(handshake())
        assert refused(clients[3].response())
        first.close_with(1000)
        wait_until(lambda: has_room(server), "the end of the application's call")
        with WSClient((host, port)) as client:
            client.open()
            is_full(server)


# --- connections


@both
def test_one_connection_more_than_all_may_have(servers: Servers, isolation: str) -> None:
    server = servers.start(isolation=isolation, workers=3, limit_connections_total=6)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(connect(server)) for _ in range(6)]
        for client in clients:
            client.assert_open()
        for _ in range(6):
            late = stack.enter_context(connect(server))  # it stays: who was turned away counts not
            assert refused(late.response())
        for client in clients:
            client.assert_open()
        clients.pop().close()

        def comes_in() -> bool:
            with connect(server) as client:
                client.send(request(b"GET", b"/"))
                return client.response().status == 200

        wait_until(comes_in, "a connection that is let in")
        for client in clients:
            client.assert_open()


def test_all_connections_may_be_in_one_worker(servers: Servers) -> None:
    server = servers.start(isolation="interpreter", workers=2, limit_connections_total=5)
    with contextlib.ExitStack() as stack:
        for client in clients_of(server, who(server), 5):
            stack.enter_context(client)
        for _ in range(6):
            late = stack.enter_context(connect(server))
            assert refused(late.response())


def test_connections_of_a_worker_that_dies(servers: Servers) -> None:
    server = servers.start(workers=2, limit_connections_total=4)
    clients = [connect(server) for _ in range(4)]
    for client in clients:
        client.assert_open()
    with connect(server) as late:
        assert refused(late.response())
    for info in server.workers:
        faults.crash_worker(server, info.id, wait=True)
    for client in clients:
        client.wait_for_end()
        client.close()
    with contextlib.ExitStack() as stack:
        again = [stack.enter_context(connect(server)) for _ in range(4)]
        for client in again:
            client.assert_open()


def test_idle_connections_that_a_reload_hands_over_count_once(servers: Servers) -> None:
    server = servers.start(isolation="interpreter", workers=2, limit_connections_total=4)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(connect(server)) for _ in range(4)]
        for client in clients:
            client.assert_open()
        for _ in range(3):
            server.reload()
            for client in clients:
                client.assert_open()
            with connect(server) as late:
                assert refused(late.response())


# --- under load


class Crowd:
    """Clients that ask as fast as they can, often another worker, and count what they are told."""

    def __init__(self, server: Supervisor, clients: int, requests: int) -> None:
        self._server = server
        self._requests = requests
        self._answers: list[bytes] = []
        self._threads = [Thread(target=self._run, daemon=True) for _ in range(clients)]
        for thread in self._threads:
            thread.start()

    def _run(self) -> None:
        left = self._requests
        while left > 0:
            with connect(self._server) as client:
                for _ in range(3):
                    response = client.get(b"/")
                    self._answers.append(b"refused" if refused(response) else response.body)
                    left -= 1
                    if response.closes:
                        break

    @property
    def answers(self) -> Counter[bytes]:
        """How many of each; fewer than there should be if a client has met with an error."""
        return Counter(self._answers)

    def wait(self) -> None:
        """Wait until they have had enough."""
        for thread in self._threads:
            thread.join(120)
            assert not thread.is_alive()


@pytest.fixture
def places() -> Iterator[Callable[[int], dict[str, Any]]]:
    """Makes the pipe of ``Counted``, with so many places, for its lifespan's state."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)

    def make(count: int) -> dict[str, Any]:
        os.write(writing, b"p" * count)
        return {"state": {"places": [reading, writing]}, "lifespan": "on"}

    yield make
    os.close(reading)
    os.close(writing)


@both
def test_a_crowd_never_gets_in_at_once(
    servers: Servers, isolation: str, places: Callable[[int], dict[str, Any]]
) -> None:
    limit, workers = 4, 3
    app: Any = COUNTED if isolation == "interpreter" else Counted
    server = servers.start(
        app, isolation, workers=workers, limit_concurrency_total=limit, **places(limit + workers)
    )
    crowd = Crowd(server, 16, 100)
    crowd.wait()
    assert crowd.answers.keys() == {b"ok", b"refused"}, crowd.answers
    assert crowd.answers.total() >= 16 * 100
    wait_until(lambda: not server.stats().in_flight)


@both
def test_as_many_clients_as_there_is_room_for_are_never_refused(
    servers: Servers, isolation: str, places: Callable[[int], dict[str, Any]]
) -> None:
    """Who has read an answer may send the next request to any worker."""
    limit, workers = 6, 3
    app: Any = COUNTED if isolation == "interpreter" else Counted
    server = servers.start(
        app, isolation, workers=workers, limit_concurrency_total=limit, **places(limit)
    )
    crowd = Crowd(server, limit, 300)
    crowd.wait()
    assert crowd.answers == {b"ok": 300 * limit}


def test_a_crowd_and_workers_that_come_and_go(
    servers: Servers, places: Callable[[int], dict[str, Any]]
) -> None:
    limit, workers = 6, 2
    server = servers.start(
        COUNTED,
        "interpreter",
        workers=workers,
        limit_concurrency_total=limit,
        restart_limit=0,
        **places(limit + 2 * workers),
    )
    crowd = Crowd(server, 12, 150)
    server.reload()
    server.scale(1)
    server.scale(workers)
    server.reload(strategy="rolling")
    crowd.wait()
    assert crowd.answers.keys() <= {b"ok", b"refused"}, crowd.answers
    assert crowd.answers.total() >= 12 * 150
    wait_until(lambda: not server.stats().in_flight)
    with contextlib.ExitStack() as stack:
        for _ in range(2 * limit):
            assert stack.enter_context(connect(server)).get(b"/").body == b"ok"
