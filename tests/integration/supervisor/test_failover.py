"""Connections and workers: an even spread, and no queue that nobody looks at."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from subinterp_asgi import Supervisor
from subinterp_asgi.control import handoff
from subinterp_asgi.errors import BindError
from subinterp_asgi.supervisor.events import WorkerChanged, WorkerDied
from subinterp_asgi.supervisor.pool.pool import MOST_ADOPTERS
from subinterp_asgi.supervisor.states import WorkerState
from tests.support import get, wait_until

from ..rawclient import RawClient, request
from ..supervising import Background, Heard, Servers, all_names, both, connect, freeze_all, who

ROUNDS = 5
"""Of which most must be even: a worker that has no processor for 20 ms is rightly given nothing."""


@contextlib.contextmanager
def connections(server: Supervisor, count: int, *, at_once: bool) -> Iterator[list[RawClient]]:
    """Keep-alive connections, each of which has had an answer."""
    clients: list[RawClient] = []

    def another() -> RawClient:
        clients.append(connect(server))
        return clients[-1]

    try:
        if at_once:
            for _ in range(count):
                another().send(request(b"GET", b"/"))
            for client in clients:
                assert client.response().status == 200
        else:
            for _ in range(count):
                assert another().get(b"/").status == 200
        yield clients
    finally:
        for client in clients:
            client.close()


def spread(server: Supervisor, count: int, *, at_once: bool) -> list[int]:
    """How many of so many connections each worker has."""
    with connections(server, count, at_once=at_once):
        wait_until(lambda: sum(info.connections for info in server.workers) == count)
        found = [info.connections for info in server.workers]
    wait_until(lambda: sum(info.connections for info in server.workers) == 0)
    return found


@pytest.fixture(params=["port", "unix", "given"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dict[str, Any]]:
    """Options that say where to listen; only with the first has each worker its own socket."""
    if request.param == "given":
        with socket.create_server(("127.0.0.1", 0)) as sock:
            yield {"sockets": [sock]}
    else:
        yield {"uds": str(tmp_path / "socket")} if request.param == "unix" else {}


# --- an even spread


@pytest.mark.parametrize("at_once", [True, False])
def test_64_connections_over_two_workers(
    servers: Servers, where: dict[str, Any], at_once: bool
) -> None:
    server = servers.start(isolation="interpreter", workers=2, **where)
    found = [spread(server, 64, at_once=at_once) for _ in range(ROUNDS)]
    assert median(map(max, found)) <= 0.6 * 64, found


@pytest.mark.parametrize("at_once", [True, False])
def test_64_connections_over_four_workers(
    servers: Servers, where: dict[str, Any], at_once: bool
) -> None:
    server = servers.start(isolation="interpreter", workers=4, **where)
    found = [spread(server, 64, at_once=at_once) for _ in range(ROUNDS)]
    assert median(map(min, found)) >= 6, found
    assert median(map(max, found)) <= 26, found


def test_a_new_worker_gets_its_part(servers: Servers) -> None:
    """It has none of the connections there are, and most of the next ones."""
    server = servers.start(workers=1)
    with connections(server, 40, at_once=False):
        server.scale(2)
        with connections(server, 40, at_once=False):
            wait_until(lambda: sum(info.connections for info in server.workers) == 80)
            assert max(info.connections for info in server.workers) <= 0.6 * 80


# --- workers that are frozen


@both
def test_a_frozen_worker_delays_no_new_connection(
    servers: Servers, where: dict[str, Any], isolation: str, tmp_path: Path
) -> None:
    server = servers.start(isolation=isolation, workers=2, **where)
    path = tmp_path / "file"
    (frozen,) = freeze_all(server, path, 1)
    for at_once in (True, False):
        with connections(server, 20, at_once=at_once):
            assert not path.exists()  # all were answered without it
    path.touch()
    assert frozen.response().body == b"done"
    frozen.close()
    assert len(all_names(server, 2)) == 2  # it takes part again


def test_of_two_frozen_workers_neither_delays_any(servers: Servers, tmp_path: Path) -> None:
    server = servers.start(workers=3)
    path = tmp_path / "file"
    frozen = freeze_all(server, path, 2)
    with connections(server, 30, at_once=True), connections(server, 10, at_once=False):
        assert not path.exists()
    path.touch()
    for client in frozen:
        assert client.response().body == b"done"
        client.close()


def test_what_was_handed_to_a_worker_that_froze_goes_to_another(
    servers: Servers, where: dict[str, Any], tmp_path: Path
) -> None:
    """It looked alive when a neighbour chose it, and never saw what it was given."""
    server = servers.start(workers=2, **where)
    path = tmp_path / "file"
    (frozen,) = freeze_all(server, path, 1)
    slots = frozen_slots(server)
    with hand_over(slots[0]) as client:
        assert client.get(b"/").status == 200
        assert not path.exists()
    path.touch()
    assert frozen.response().body == b"done"
    frozen.close()


def frozen_slots(server: Supervisor) -> list[Any]:
    """The slots whose workers are held up for longer than anything else takes here."""
    from time import monotonic_ns

    assert server._pool is not None
    found: list[Any] = []

    def look() -> list[Any]:
        assert server._pool is not None
        found[:] = [
            slot
            for slot in server._pool.slots
            if slot.current is not None
            and slot.current.busy_since
            and monotonic_ns() - slot.current.busy_since > 100_000_000
        ]
        return found

    wait_until(look, "a frozen worker")
    return found


@contextlib.contextmanager
def hand_over(slot: Any) -> Iterator[RawClient]:
    """A connection that a neighbour has accepted and passed on to this slot."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = RawClient(listener.getsockname())
        accepted, _ = listener.accept()
    with client:
        assert handoff.send(slot.inbox[1], accepted.detach())
        yield client


# --- workers that are dead, or not there yet


def test_the_queue_of_a_dead_worker_is_served_by_its_neighbour(
    servers: Servers, tmp_path: Path
) -> None:
    """Long before it is replaced."""
    heard = Heard()
    server = servers.start(workers=2, restart_delay=3600.0, on_event=heard)
    path = tmp_path / "file"
    stalled = freeze_all(server, path, 2, b"collapse")
    clients = [RawClient(server.addresses[0]) for _ in range(40)]
    for client in clients:
        client.send(request(b"GET", b"/who"))
    path.touch()
    names = Counter(client.response().body for client in clients)
    heard.wait_for(WorkerDied)
    assert len(names) == 1
    assert len(server.workers) == 1
    with connections(server, 20, at_once=False):  # and so are those that come later
        pass
    for client in [*clients, *stalled]:
        client.close()


def test_the_inbox_of_a_dead_worker_is_emptied(servers: Servers, tmp_path: Path) -> None:
    heard = Heard()
    server = servers.start(workers=2, restart_delay=3600.0, on_event=heard)
    path = tmp_path / "file"
    stalled = freeze_all(server, path, 2, b"collapse", b"freeze")
    with contextlib.ExitStack() as stack:
        slots = frozen_slots(server)
        wait_until(lambda: len(frozen_slots(server)) == 2)
        slots = frozen_slots(server)
        clients = [stack.enter_context(hand_over(slot)) for slot in slots for _ in range(100)]
        for client in clients:
            client.send(request(b"GET", b"/who"))
        path.touch()
        for client in clients:
            assert client.response().status == 200
    heard.wait_for(WorkerDied)
    for client in stalled:
        client.close()


def test_what_was_handed_to_a_worker_that_retires_goes_to_another(
    servers: Servers, tmp_path: Path
) -> None:
    """It would be closed soon, whether its client has asked for something or not."""
    server = servers.start(workers=2, timeout_linger=0.0)
    path = tmp_path / "file"
    stalled = freeze_all(server, path, 2)
    wait_until(lambda: len(frozen_slots(server)) == 2)
    slots = frozen_slots(server)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(hand_over(slot)) for slot in slots for _ in range(10)]
        reloading = Background(server.reload)
        wait_until(lambda: server.generation == 2)
        path.touch()
        assert reloading.outcome() == 2
        for client in clients:
            assert client.get(b"/").status == 200
    for client in stalled:
        client.close()


def test_the_queue_of_a_starting_worker_is_served(servers: Servers, tmp_path: Path) -> None:
    """Of one that takes a dead one's place, and of those that scaling adds."""
    gate = tmp_path / "gate"
    gate.touch()
    heard = Heard()
    server = servers.start(workers=2, state={"gate": str(gate)}, restart_delay=0.01, on_event=heard)
    gate.unlink()
    with RawClient(server.addresses[0]) as client:
        client.get(b"/die")
    heard.wait_for(WorkerDied)
    with connections(server, 20, at_once=True), connections(server, 20, at_once=False):
        assert WorkerState.SERVING not in {
            info.state for info in server.workers if info.id == heard.of(WorkerDied)[0].worker_id
        }
    gate.touch()
    heard.wait_for(WorkerChanged, state=WorkerState.SERVING, count=3)
    gate.unlink()
    scaling = Background(lambda: server.scale(4))
    wait_until(lambda: len(server.workers) == 4)
    with connections(server, 20, at_once=True), connections(server, 20, at_once=False):
        assert scaling.running
    gate.touch()
    assert scaling.outcome() is None
    assert len(all_names(server, 4)) == 4


def test_a_neighbour_that_has_adopted_a_queue_may_retire(servers: Servers, tmp_path: Path) -> None:
    """Those that take its place adopt it in turn."""
    gate = tmp_path / "gate"
    gate.touch()
    heard = Heard()
    server = servers.start(workers=3, restart_delay=3600.0, on_event=heard)
    with RawClient(server.addresses[0]) as client:
        client.get(b"/die")
    (died,) = heard.wait_for(WorkerDied)
    with connections(server, 20, at_once=True):
        pass
    server.scale(4)
    with connections(server, 20, at_once=True):
        pass
    assert died.worker_id not in [info.id for info in server.workers]
    server.reload()
    with connections(server, 20, at_once=True):
        assert len(server.workers) == 4


def test_one_that_was_frozen_when_it_became_the_last_serves_all_queues(
    servers: Servers, tmp_path: Path
) -> None:
    server, path = servers.start(workers=2), tmp_path / "file"
    frozen = freeze_all(server, path, 2)
    assert server._reconciler is not None
    assert server._pool is not None
    failover, pool = server._reconciler._failover, server._pool
    with contextlib.ExitStack() as waiting:
        for _ in range(16):
            waiting.enter_context(connect(server)).send(request(b"GET", b"/"))
        wait_until(lambda: failover._frozen == {0, 1}, "both to be found frozen")
        scaling = Background(lambda: server.scale(1))
        wait_until(lambda: len(pool.slots) == 1)
        path.touch()
        assert scaling.outcome() is None
    (removed,) = pool.removed
    wait_until(lambda: removed.lent_to, "somebody to serve its queue")
    for _ in range(2):
        with connections(server, 20, at_once=True):
            assert len(server.workers) == 1
    for client in frozen:
        client.close()


def test_no_descriptor_for_a_neighbour(
    servers: Servers, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The supervisor outlives that, and tries again."""
    server = servers.start(workers=2)
    assert server._listeners
    path = tmp_path / "file"
    duplicate = server._listeners[0].duplicate
    failures = iter([OSError(errno.EMFILE, "Too many open files")] * 3)

    def fail(*arguments: Any, **options: Any) -> Any:
        for failure in failures:
            raise failure
        return duplicate(*arguments, **options)

    monkeypatch.setattr(server._listeners[0], "duplicate", fail)
    (frozen,) = freeze_all(server, path, 1)
    with connections(server, 20, at_once=True):
        assert not path.exists()
    path.touch()
    frozen.response()
    frozen.close()
    assert next(failures, None) is None


# --- addresses


def ports(server: Supervisor, workers: int) -> list[set[int]]:
    """The ports that each worker's own sockets are bound to."""
    assert server._listeners
    found = []
    for slot in range(workers):
        numbers = set()
        for fd in server._listeners[0].of_slot(slot):
            with socket.socket(fileno=os.dup(fd)) as sock:
                numbers.add(sock.getsockname()[1])
        found.append(numbers)
    return found


def test_port_0_is_one_port_for_all(servers: Servers) -> None:
    server = servers.start(workers=3)
    ((_, port),) = server.addresses
    assert ports(server, 3) == [{port}] * 3
    server.scale(5)
    assert ports(server, 5) == [{port}] * 5
    assert len(all_names(server, 5)) == 5


@pytest.mark.parametrize("reuse_port", [False, True])
def test_a_port_that_another_server_has_is_an_error(servers: Servers, reuse_port: bool) -> None:
    """Although this server's own sockets share theirs."""
    with socket.create_server(("127.0.0.1", 0), reuse_port=reuse_port) as other:
        server = servers.make(port=other.getsockname()[1], workers=2)
        with pytest.raises(BindError) as caught:
            server.start()
        assert caught.value.errno == errno.EADDRINUSE


@pytest.mark.parametrize("workers", [1, 2])
def test_a_port_that_another_supervisor_has_is_an_error(servers: Servers, workers: int) -> None:
    first = servers.start(workers=workers)
    port = first.addresses[0][1]
    second = servers.make(port=port, workers=2)
    with pytest.raises(BindError) as caught:
        second.start()
    assert caught.value.errno == errno.EADDRINUSE
    name = who(first)
    assert name in all_names(first, workers)
    first.stop()
    third = servers.start(port=port, workers=2)
    assert who(third) != name


def test_ipv6_and_names_of_several_addresses(servers: Servers) -> None:
    with contextlib.suppress(OSError):
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
        server = servers.start(bind=["[::1]:0"], workers=2)
        assert len(all_names(server, 2)) == 2
        assert max(spread(server, 32, at_once=True)) <= 24
    server = servers.start(host="localhost", workers=2)
    assert len({port for _, port in server.addresses}) == 1
    for host, port in server.addresses:
        url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        for _ in range(10):
            assert get(url).status == 200
    server.scale(4)
    server.reload()
    assert len(all_names(server, 4)) == 4


def test_some_neighbours_adopt_a_queue_and_others_take_their_place(
    servers: Servers, tmp_path: Path
) -> None:
    """If all did, many workers would need as many descriptors squared while they start."""
    heard = Heard()
    server = servers.start(workers=12, restart_delay=30.0, restart_limit=20, on_event=heard)
    pool = server._pool
    assert pool is not None
    dead: set[int] = set()

    def adopters_are_alive(index: int) -> bool:
        adopters = [handle.worker_id for handle in tuple(pool.slots[index].lent_to)]
        return len(adopters) == min(MOST_ADOPTERS, 12 - len(dead)) and not dead & {*adopters}

    for number in range(1, 6):
        with connect(server) as client:
            client.get(b"/die")
        dead.add(heard.wait_for(WorkerDied, number)[-1].worker_id)
        for index in dead:
            wait_until(lambda: adopters_are_alive(index))  # noqa: B023
        for _ in range(30):
            assert get(server.url, timeout=5).status == 200
