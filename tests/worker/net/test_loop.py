"""The loop of a worker: heartbeat, counters, and connections beside what asyncio watches."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import selectors
import socket
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from subinterp_asgi.control import scoreboard
from subinterp_asgi.control.counters import Counters
from subinterp_asgi.control.scoreboard import BUSY_SINCE, LAG, REQUESTS, TURN_SUM, TURNS
from subinterp_asgi.worker.net import loop as loop_module
from subinterp_asgi.worker.net.loop import HeartbeatSelector, ServerLoop, make_poller
from subinterp_asgi.worker.net.poller import READ, WRITE, EpollPoller, LoopPoller


@pytest.fixture
def counters() -> Counters:
    return Counters(scoreboard.new_board(1), 1)


@pytest.fixture(params=["epoll", "elsewhere"])
def loop(
    counters: Counters, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ServerLoop]:
    with monkeypatch.context() as patch:
        if request.param == "elsewhere":
            patch.delattr(loop_module.select, "epoll")
        loop = ServerLoop(counters)
    yield loop
    loop.close()


@pytest.mark.parametrize("missing", ["socketpair", "eventfd"])
def test_half_of_a_loop_leaves_nothing(
    counters: Counters, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    """Nor does asyncio complain of what it lacks. (An unraisable exception fails a test.)"""
    modules = {"socketpair": socket, "eventfd": os}

    def refuse(*arguments: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    if not hasattr(modules[missing], missing):
        pytest.skip("this system has none")
    gc.collect()
    before = set(os.listdir("/proc/self/fd")) if sys.platform == "linux" else set()
    monkeypatch.setattr(modules[missing], missing, refuse)
    with pytest.raises(OSError, match="Too many open files"):
        ServerLoop(counters)
    gc.collect()
    if before:
        assert len(os.listdir("/proc/self/fd")) == len(before)


def test_it_beats_while_it_works_and_rests_while_it_sleeps(
    loop: ServerLoop, counters: Counters, monkeypatch: pytest.MonkeyPatch
) -> None:
    asleep: list[int] = []
    flush = Counters.flush

    def look(self: Counters, busy_since: int = 0) -> None:
        flush(self, busy_since)
        asleep.append(counters.slot[BUSY_SINCE])

    monkeypatch.setattr(Counters, "flush", look)
    busy: list[int] = []

    async def work() -> None:
        busy.append(counters.slot[BUSY_SINCE])
        counters.requests = 1
        await asyncio.sleep(0.01)
        busy.append(counters.slot[BUSY_SINCE])

    loop.run_until_complete(work())
    assert 0 < busy[0] < busy[1] <= time.monotonic_ns()
    assert set(asleep) == {0}
    assert counters.slot[REQUESTS] == 1


def test_lag_is_how_long_it_was_held_up_and_decays(loop: ServerLoop, counters: Counters) -> None:
    async def hold_up() -> None:
        time.sleep(0.05)
        await asyncio.sleep(0)
        lags.append(counters.slot[LAG])
        for _ in range(200):
            await asyncio.sleep(0.0005)  # (turns that don't sleep are told of together)
        lags.append(counters.slot[LAG])

    lags: list[int] = []
    loop.run_until_complete(hold_up())
    assert lags[0] >= 50_000_000
    assert lags[1] < lags[0] / 2


def test_turns_are_counted_by_how_long_they_took(loop: ServerLoop, counters: Counters) -> None:
    """No timer does it: a loop that sleeps counts nothing."""
    slot = counters.slot

    def turns() -> tuple[int, int]:
        return slot[TURNS], sum(slot[TURNS + 5 : TURNS + 17])  # at most 1 ms, more than 25 ms

    async def work() -> None:
        time.sleep(0.05)
        await asyncio.sleep(0.001)
        assert turns()[1] == 0, "it did not serve yet"
        counters.serving = True
        before = turns()[0]
        for _ in range(5):
            await asyncio.sleep(0.001)
        assert turns()[0] > before
        time.sleep(0.05)
        await asyncio.sleep(0.001)
        slept = turns()
        await asyncio.sleep(0.1)
        seen.append((slept, turns()))

    seen: list[tuple[tuple[int, int], tuple[int, int]]] = []
    loop.run_until_complete(work())
    ((before, after),) = seen
    assert before[1] >= 1
    assert slot[TURN_SUM] >= 50_000_000
    assert sum(after) - sum(before) <= 2  # the turn that it fell asleep in, and perhaps a timer's


def test_timers_and_readers_of_asyncio_work_as_ever(loop: ServerLoop) -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)

    async def talk() -> bytes:
        await loop.sock_sendall(ours, b"hello")
        data = await loop.sock_recv(theirs, 100)
        readable: asyncio.Future[None] = loop.create_future()
        loop.add_reader(theirs, readable.set_result, None)
        loop.add_writer(theirs, lambda: loop.remove_writer(theirs))
        ours.send(b"x")
        await readable
        assert loop.remove_reader(theirs)
        assert not loop.remove_reader(theirs)
        began = loop.time()
        await asyncio.sleep(0.02)
        assert loop.time() - began >= 0.02
        reader, writer = await asyncio.open_connection(sock=ours)
        theirs.send(b" world")
        data += await reader.read(100)
        writer.close()
        await writer.wait_closed()
        return data

    with ours, theirs:
        assert loop.run_until_complete(talk()) == b"hello world"


def test_threads_wake_it_up(loop: ServerLoop) -> None:
    async def ask() -> int:
        return await asyncio.to_thread(lambda: 17)

    assert loop.run_until_complete(ask()) == 17


@pytest.mark.parametrize("clients", [1, 2, 20])
def test_no_thread_is_left_unheard(loop: ServerLoop, clients: int) -> None:
    """The loop is woken only if it sleeps: the moments about its falling asleep are tried."""

    async def hop(pool: ThreadPoolExecutor) -> None:
        for _ in range(6_000 // clients):
            assert await asyncio.wait_for(loop.run_in_executor(pool, int), 20) == 0

    async def all_hop() -> None:
        with ThreadPoolExecutor(4) as pool:
            await asyncio.gather(*(hop(pool) for _ in range(clients)))

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        loop.run_until_complete(all_hop())
    finally:
        sys.setswitchinterval(before)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere asyncio wakes it")
def test_a_loop_that_is_awake_is_not_woken(
    counters: Counters, monkeypatch: pytest.MonkeyPatch
) -> None:
    woken: list[int] = []
    monkeypatch.setattr(loop_module.os, "eventfd_write", lambda fd, value: woken.append(value))
    loop = ServerLoop(counters)
    loop.call_soon(lambda: [loop.call_soon_threadsafe(int) for _ in range(5)])
    loop.call_later(0.01, loop.stop)
    loop.run_forever()
    loop.close()
    assert woken == []


def test_a_poller_beside_it(loop: ServerLoop) -> None:
    poller = make_poller(loop)
    ours, theirs = socket.socketpair()
    seen: list[int] = []

    def handle(events: int) -> None:
        seen.append(events)
        if events & READ:
            theirs.recv(100)
        poller.modify(theirs.fileno(), 0)
        done.set_result(None)

    async def watch() -> None:
        nonlocal done
        poller.add(theirs.fileno(), READ, handle)
        ours.send(b"x")
        await done
        done = loop.create_future()
        poller.modify(theirs.fileno(), READ | WRITE)
        await done
        poller.remove(theirs.fileno())
        poller.remove(theirs.fileno())
        ours.send(b"more")
        await asyncio.sleep(0.01)

    done: asyncio.Future[None] = loop.create_future()
    with ours, theirs:
        theirs.setblocking(False)
        loop.run_until_complete(watch())
        poller.close()
    assert seen == [READ, WRITE]


def test_loops_of_others_have_pollers_too() -> None:
    other = asyncio.SelectorEventLoop()
    poller = make_poller(other)
    assert isinstance(poller, EpollPoller | LoopPoller)
    poller.close()
    other.close()


def test_nothing_is_left_open(counters: Counters) -> None:
    before = os.listdir("/proc/self/fd") if os.path.exists("/proc") else []
    for _ in range(3):
        ServerLoop(counters).close()
    assert (os.listdir("/proc/self/fd") if before else []) == before


def test_selectors_without_a_timeout_do_not_wait(counters: Counters) -> None:
    for selector in (HeartbeatSelector(counters), ServerLoop(counters)):
        if isinstance(selector, ServerLoop):
            selector.close()
        else:
            assert selector.select(0) == selector.select(-1) == []
            selector.close()
    if hasattr(selectors, "EpollSelector"):
        epoll = loop_module.EpollSelector(counters)
        assert epoll.select(0) == epoll.select(-1) == []
        epoll.close()
