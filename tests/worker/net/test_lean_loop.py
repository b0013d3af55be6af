"""The loop's own way to run callbacks and hear from threads: what asyncio's does, for less."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import gc
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from subinterp_asgi.worker.net.lean_loop import LEAN, LeanLoop

pytestmark = pytest.mark.skipif(not LEAN, reason="this Python has asyncio's loop")


@pytest.fixture
def loop() -> Iterator[LeanLoop]:
    loop = LeanLoop()
    yield loop
    loop.close()


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


class Failure(Exception):
    pass


def fail(exc: BaseException) -> None:
    raise exc


def turns(loop: LeanLoop) -> None:
    """Let it run what is ready, and what that adds."""
    for _ in range(3):
        loop.call_soon(loop.stop)
        loop.run_forever()


# --- callbacks


def test_callbacks_run_in_order_and_not_if_they_were_cancelled(loop: LeanLoop) -> None:
    ran: list[int] = []
    handles = [loop.call_soon(ran.append, number) for number in range(4)]
    handles[1].cancel()
    loop.call_soon(handles[3].cancel)  # too late
    loop.call_soon(ran.append, 4)
    turns(loop)
    assert ran == [0, 2, 3, 4]
    assert handles[1].cancelled()
    assert "cancelled" in repr(handles[1])


def test_one_callback_cancels_the_next(loop: LeanLoop) -> None:
    ran: list[int] = []
    loop.call_soon(lambda: second.cancel())
    second = loop.call_soon(ran.append, 2)
    turns(loop)
    assert ran == []


def test_what_a_callback_adds_waits_for_the_next_turn(loop: LeanLoop) -> None:
    looked: list[int] = []
    select = loop._selector.select

    def look(timeout: float | None) -> Any:
        looked.append(len(ran))
        return select(timeout)

    ran: list[str] = []
    loop._selector.select = look
    loop.call_soon(lambda: (ran.append("a"), loop.call_soon(ran.append, "b")))
    turns(loop)
    assert ran == ["a", "b"]
    assert looked[:2] == [0, 1]


def test_an_exception_goes_to_the_handler_and_others_go_on(loop: LeanLoop) -> None:
    told: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: told.append(context))
    ran: list[int] = []
    handle = loop.call_soon(fail, failure := Failure())
    loop.call_soon(ran.append, 1)
    turns(loop)
    assert ran == [1]
    assert [(context["exception"], context["handle"]) for context in told] == [(failure, handle)]
    assert "Exception in callback" in told[0]["message"]
    assert "fail" in told[0]["message"]


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
def test_these_leave_the_loop(loop: LeanLoop, kind: type[BaseException]) -> None:
    loop.call_soon(fail, kind())
    with pytest.raises(kind):
        loop.run_forever()


def test_contexts_are_those_of_the_caller_or_given(loop: LeanLoop) -> None:
    variable = contextvars.ContextVar("variable", default=0)
    seen: list[int] = []
    given = contextvars.copy_context()
    given.run(variable.set, 2)
    variable.set(1)
    loop.call_soon(lambda: seen.append(variable.get()))
    loop.call_soon(lambda: seen.append(variable.get()), context=given)
    loop.call_soon_threadsafe(lambda: seen.append(variable.get()), context=given)
    variable.set(3)
    turns(loop)
    assert seen == [1, 2, 2]


def test_what_a_callback_was_given_is_let_go(loop: LeanLoop) -> None:
    class Thing:
        pass

    def look() -> None:
        gone.append(reference())

    gone: list[object] = []
    thing = Thing()
    reference = weakref.ref(thing)
    loop.call_soon(lambda _: None, thing)
    loop.call_soon(look)
    del thing
    turns(loop)
    assert gone == [None]


def test_timers_run_in_order_and_cancelled_ones_are_dropped(loop: LeanLoop) -> None:
    ran: list[float] = []
    now = loop.time()
    for delay in (0.003, 0.001, 0.002):
        loop.call_at(now + delay, ran.append, delay)
    far = [loop.call_later(1000, ran.append, 1000) for _ in range(300)]
    for timer in far[:-1]:
        timer.cancel()
    loop.call_at(now + 0.004, loop.stop)
    loop.run_forever()
    assert ran == [0.001, 0.002, 0.003]
    assert (
        len(loop._scheduled) == 1
    )  # they would hold what they were given for a quarter of an hour


def test_debugging_is_asyncios(loop: LeanLoop, caplog: pytest.LogCaptureFixture) -> None:
    loop.set_debug(True)
    loop.slow_callback_duration = 0
    assert loop.run_until_complete(loop.run_in_executor(None, int, "17")) == 17
    with pytest.raises(TypeError, match="coroutines cannot be used"):
        loop.call_soon(asyncio.sleep)
    assert "Executing" in caplog.text


def test_a_closed_loop_says_so(loop: LeanLoop, pool: ThreadPoolExecutor) -> None:
    loop.close()
    calls: list[Callable[[], object]] = [
        lambda: loop.call_soon(int),
        lambda: loop.call_soon_threadsafe(int),
        lambda: loop.run_in_executor(pool, int),
    ]
    for call in calls:
        with pytest.raises(RuntimeError, match="closed"):
            call()


# --- jobs


def test_results_and_exceptions_of_jobs(loop: LeanLoop, pool: ThreadPoolExecutor) -> None:
    async def ask() -> None:
        assert await loop.run_in_executor(pool, int, "17") == 17
        assert await loop.run_in_executor(None, threading.get_ident) != threading.get_ident()
        assert await asyncio.shield(loop.run_in_executor(pool, int)) == 0
        failure = Failure()
        with pytest.raises(Failure) as raised:
            await loop.run_in_executor(pool, fail, failure)
        assert raised.value is failure
        with pytest.raises(asyncio.CancelledError):
            await loop.run_in_executor(pool, fail, concurrent.futures.CancelledError())

    loop.run_until_complete(ask())


def test_cancelling_keeps_a_job_from_beginning(loop: LeanLoop, pool: ThreadPoolExecutor) -> None:
    async def cancel() -> None:
        first = loop.run_in_executor(pool, go_on.wait)
        second = loop.run_in_executor(pool, ran.append, 2)
        assert second.cancel("why")
        assert not second.cancel()
        with pytest.raises(asyncio.CancelledError, match="why"):
            await second
        assert first.cancel()  # it has begun: it goes on, and nobody hears of it
        go_on.set()
        await loop.run_in_executor(pool, ran.append, 3)
        assert first.cancelled()

    go_on, ran = threading.Event(), list[int]()
    loop.run_until_complete(cancel())
    assert ran == [3]


def test_an_executor_that_drops_its_jobs_cancels_them(loop: LeanLoop) -> None:
    async def drop() -> None:
        pool = ThreadPoolExecutor(1)
        first = loop.run_in_executor(pool, go_on.wait)
        second = loop.run_in_executor(pool, int)
        pool.shutdown(wait=False, cancel_futures=True)
        go_on.set()
        assert await first is True
        with pytest.raises(asyncio.CancelledError):
            await second

    go_on = threading.Event()
    loop.run_until_complete(drop())


def test_an_executor_may_do_its_jobs_at_once(loop: LeanLoop) -> None:
    class AtOnce(concurrent.futures.Executor):
        def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
            future: concurrent.futures.Future[Any] = concurrent.futures.Future()
            future.set_result(fn(*args, **kwargs))
            return future

    async def ask() -> None:
        future = loop.run_in_executor(AtOnce(), int, "17")
        assert future.done()
        assert await future == 17

    loop.run_until_complete(ask())


def test_a_job_that_outlives_its_loop_is_not_heard(pool: ThreadPoolExecutor) -> None:
    failed: list[object] = []
    hook, threading.excepthook = threading.excepthook, failed.append
    try:
        go_on = threading.Event()
        loop = LeanLoop()
        future = loop.run_in_executor(pool, go_on.wait)
        loop.close()
        go_on.set()
        assert pool.submit(int).result() == 0
    finally:
        threading.excepthook = hook
    assert not future.done()
    assert failed == []


def test_jobs_leave_nothing_to_the_garbage_collector(
    loop: LeanLoop, pool: ThreadPoolExecutor
) -> None:
    class Thing:
        pass

    async def ask() -> None:
        references = [weakref.ref(await loop.run_in_executor(pool, Thing))]
        future = loop.run_in_executor(pool, Thing)
        references.append(weakref.ref(future))
        await future
        del future
        await loop.run_in_executor(pool, int)  # (the thread lets go of what it did before)
        assert [reference() for reference in references] == [None, None]

    gc.disable()
    try:
        loop.run_until_complete(ask())
    finally:
        gc.enable()


def test_timeouts_and_tasks_are_as_ever(loop: LeanLoop, pool: ThreadPoolExecutor) -> None:
    async def ask() -> None:
        go_on = threading.Event()
        task = asyncio.current_task()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await loop.run_in_executor(pool, go_on.wait)
        go_on.set()
        assert asyncio.current_task() is task
        async with asyncio.TaskGroup() as group:
            jobs = [group.create_task(asyncio.to_thread(int, str(n))) for n in range(20)]
        assert [job.result() for job in jobs] == list(range(20))

    loop.run_until_complete(ask())


# --- threads that can't be had


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether the system refuses threads."""
    refused = [False]
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if refused[0]:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    return refused


def test_a_job_waits_for_the_threads_that_there_are(loop: LeanLoop, refused: list[bool]) -> None:
    gate = threading.Event()

    async def run() -> list[str]:
        first = loop.run_in_executor(None, lambda: str(gate.wait(30)))
        refused[0] = True
        second = loop.run_in_executor(None, str, "second")
        gate.set()
        refused[0] = False
        return [await first, await second]

    assert loop.run_until_complete(run()) == ["True", "second"]
    loop.run_until_complete(loop.shutdown_default_executor())


@pytest.mark.parametrize("debug", [False, True])
def test_a_job_that_was_refused_is_never_done(
    loop: LeanLoop, refused: list[bool], debug: bool
) -> None:
    """Or else who asks again has it done twice."""
    done: list[str] = []
    loop.set_debug(debug)

    async def run() -> None:
        refused[0] = True
        for _ in range(3):
            with pytest.raises(RuntimeError, match="can't start new thread"):
                await loop.run_in_executor(None, done.append, "refused")
        refused[0] = False
        await loop.run_in_executor(None, done.append, "done")

    loop.run_until_complete(run())
    loop.run_until_complete(loop.shutdown_default_executor())
    assert done == ["done"]
