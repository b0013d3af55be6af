"""The line to a watchdog, and what the watchdog does with it in a thread that no server is in."""

from __future__ import annotations

import _thread
import ctypes  # noqa: F401  (libffi opens a descriptor, once, when it is first loaded)
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from subinterp_asgi.control.counters import Counters
from subinterp_asgi.control.launch import Runtime
from subinterp_asgi.control.scoreboard import new_board
from subinterp_asgi.control.wakeup import WatchdogLine
from subinterp_asgi.errors import SubinterpASGIError, WorkerInterrupted
from subinterp_asgi.worker.interpreter.watchdog import Watchdog
from tests.support import nothing_left, wait_until


@pytest.fixture(autouse=True)
def leaves_nothing() -> Iterator[None]:
    with nothing_left():
        yield


@pytest.fixture
def line() -> Iterator[WatchdogLine]:
    line = WatchdogLine()
    yield line
    line.close()


# --- the line


def test_requests_arrive_in_order_with_their_heartbeats(line: WatchdogLine) -> None:
    line.report(1)
    line.interrupt(2**64 - 1)
    line.quit()
    assert [line.receive() for _ in range(3)] == [
        (WatchdogLine.REPORT, 1),
        (WatchdogLine.INTERRUPT, 2**64 - 1),
        (WatchdogLine.QUIT, 0),
    ]


def test_receiving_blocks(line: WatchdogLine) -> None:
    received: list[Any] = []
    thread = threading.Thread(target=lambda: received.append(line.receive()))
    thread.start()
    thread.join(0.05)
    assert thread.is_alive()
    line.report(7)
    thread.join(20)
    assert received == [(WatchdogLine.REPORT, 7)]


def test_borrowed_numbers_reach_the_same_pipe(line: WatchdogLine) -> None:
    WatchdogLine(line.numbers).report(5)
    assert line.receive() == (WatchdogLine.REPORT, 5)


def test_a_full_pipe_blocks_nobody_and_tears_no_request(line: WatchdogLine) -> None:
    for _ in range(10_000):  # of nine octets each; a pipe takes 65,536
        line.report(3)
    received = 0
    os.set_blocking(line.numbers[0], False)
    while True:
        try:
            assert line.receive() == (WatchdogLine.REPORT, 3)
        except BlockingIOError:
            break
        received += 1
    assert 400 < received < 10_000


def test_after_close_nothing_is_sent() -> None:
    line = WatchdogLine()
    line.close()
    reused = os.pipe()  # most likely of the same numbers
    try:
        os.set_blocking(reused[0], False)
        line.report(1)
        line.quit()
        line.close()
        with pytest.raises(BlockingIOError):
            os.read(reused[0], 100)
    finally:
        for fd in reused:
            os.close(fd)


def test_its_numbers_travel_in_the_runtime() -> None:
    from subinterp_asgi import Config

    runtime = Runtime(watchdog=(5, 6))
    assert Runtime.split(runtime.join(Config()))[1] == runtime


# --- the exception


def test_the_exception_is_not_swallowed_by_those_who_swallow_everything() -> None:
    assert not issubclass(WorkerInterrupted, Exception)
    assert not issubclass(WorkerInterrupted, SubinterpASGIError)
    assert "held up" in str(WorkerInterrupted())


# --- the watchdog


class Watched:
    """A thread with a watchdog, that runs a function where a worker would run its loop.

    The function is given something to call when it has begun, and something to wait for.
    """

    def __init__(self, function: Callable[[Any, threading.Event], None], line: WatchdogLine):
        self.counters = Counters(new_board(1), 1)
        self.counters.flush(123)
        self.statuses: queue.Queue[tuple[str, ...]] = queue.Queue()
        self.raised: BaseException | None = None
        self._begun, self._over = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, args=(function, line))
        self._thread.start()
        assert self._begun.wait(20)

    def _run(self, function: Callable[[Any, threading.Event], None], line: WatchdogLine) -> None:
        watchdog = Watchdog(line, self.counters, self.statuses, daemon=True)
        try:
            function(self._begun.set, self._over)
        except BaseException as exc:
            self.raised = exc
        finally:
            watchdog.close(20)

    def join(self) -> None:
        self._over.set()
        self._thread.join(20)
        assert not self._thread.is_alive()


def where_it_is(begun: Any, over: threading.Event) -> None:
    begun()
    over.wait(20)


def test_a_stack_is_told_only_of_the_heartbeat_that_is_asked_about(line: WatchdogLine) -> None:
    watched = Watched(where_it_is, line)
    line.report(122)  # it has gone on since
    line.report(0)  # it was asleep
    line.report(123)
    status, text = watched.statuses.get(timeout=20)
    assert status == "stuck"
    assert "in where_it_is\n    over.wait(20)\n" in text
    assert watched.statuses.empty()
    watched.counters.flush()  # asleep
    line.report(123)
    line.report(0)
    watched.join()
    assert watched.statuses.empty()


def test_code_of_nobody_that_expects_it_is_not_interrupted(line: WatchdogLine) -> None:
    def spin(begun: Any, over: threading.Event) -> None:
        begun()
        while not over.is_set():
            sum(range(100))

    watched = Watched(spin, line)
    line.interrupt(123)
    line.report(123)  # read after the watchdog has given up
    watched.statuses.get(timeout=20)
    watched.join()
    assert watched.raised is None


def test_the_thread_sleeps_while_nothing_is_asked(line: WatchdogLine) -> None:
    watched = Watched(where_it_is, line)
    (thread,) = (t for t in threading.enumerate() if t.name == "asgi-watchdog")

    def switches() -> int:
        with open(f"/proc/self/task/{thread.native_id}/status") as status:
            return sum(int(x.split()[1]) for x in status if "ctxt_switches" in x)

    def settled() -> bool:
        before = switches()
        time.sleep(0.2)
        return switches() == before

    wait_until(settled, "the watchdog to be at rest")
    watched.join()


def test_threads_that_execute_no_python_code_are_passed_over(line: WatchdogLine) -> None:
    watched = Watched(where_it_is, line)
    before = _thread._count()
    lock = _thread.allocate_lock()
    lock.acquire()
    _thread.start_new_thread(lock.acquire, ())  # later than the other: it is met first
    wait_until(lambda: _thread._count() > before, "a thread without a frame")
    line.report(123)
    assert "in where_it_is\n" in watched.statuses.get(timeout=20)[1]
    lock.release()
    watched.join()
    wait_until(lambda: _thread._count() < before, "both threads to end")


def test_surrogates_in_a_stack_can_be_sent(line: WatchdogLine) -> None:
    names: dict[str, Any] = {}
    source = "def f(begun, over):\n    begun()\n    over.wait(20)\n"
    exec(compile(source, "odd\udc80name", "exec"), names)
    watched = Watched(names["f"], line)
    line.report(123)
    text = watched.statuses.get(timeout=20)[1]
    assert r"odd\udc80name" in text
    text.encode()
    watched.join()


def test_a_queue_that_fails_costs_no_later_report(line: WatchdogLine) -> None:
    watched = Watched(where_it_is, line)
    put, failed = watched.statuses.put, threading.Event()

    def fail(item: Any) -> None:
        failed.set()
        raise RuntimeError("the queue is gone")

    watched.statuses.put = fail  # type: ignore[method-assign,assignment]
    line.report(123)
    assert failed.wait(20)
    watched.statuses.put = put  # type: ignore[method-assign]
    line.report(123)
    assert watched.statuses.get(timeout=20)[0] == "stuck"
    watched.join()
