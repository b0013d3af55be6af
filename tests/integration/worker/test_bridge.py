"""The bridge, with a worker and queues that have only what is documented."""

from __future__ import annotations

import asyncio
import logging

import pytest

from subinterp_asgi.bootstrap import _iic_bridge, _run_worker_with_iic
from subinterp_asgi.control.wakeup import Channel, Wakeup

from .driving import BrokenQueue, FakeQueue, FakeWorker, run, until

pytestmark = pytest.mark.usefixtures("leaves_nothing")


def test_the_bridge_ends_with_a_shutdown() -> None:
    worker, commands, statuses = FakeWorker(), FakeQueue(("shutdown",), ("later",)), FakeQueue()
    run(lambda: _iic_bridge(worker, commands, statuses))
    assert worker.calls[-1] == "shutdown"
    assert statuses.items == [("draining",)]
    assert commands.items == [("later",)]


def test_the_bridge_drains_once_and_tells_when_it_is_idle() -> None:
    worker, commands, statuses = FakeWorker(), FakeQueue(), FakeQueue()
    worker.idle = False

    async def main() -> None:
        bridge = asyncio.create_task(_iic_bridge(worker, commands, statuses))
        commands.put(("drain",))
        await until(lambda: statuses.items)
        commands.put(("drain",))
        await until(lambda: not commands.items)
        assert worker.calls == ["drain"]
        assert statuses.items == [("draining",)]
        worker.idle = True
        await until(lambda: len(statuses.items) == 2)
        looks = commands.looks
        await until(lambda: commands.looks > looks)  # it says so once only
        assert statuses.items == [("draining",), ("idle",)]
        commands.put(("shutdown",))
        await bridge

    run(main)
    assert worker.calls == ["drain", "shutdown"]
    assert statuses.items == [("draining",), ("idle",)]


def test_the_bridge_logs_commands_it_does_not_know(caplog: pytest.LogCaptureFixture) -> None:
    worker, statuses = FakeWorker(), FakeQueue()
    with caplog.at_level(logging.ERROR):
        run(lambda: _iic_bridge(worker, FakeQueue(("dance", "tango"), ("shutdown",)), statuses))
    assert "('dance', 'tango')" in caplog.text
    assert worker.calls[-1] == "shutdown"


def test_a_queue_with_a_doorbell_is_not_looked_at_in_between() -> None:
    worker, commands, statuses = FakeWorker(), FakeQueue(), FakeQueue()
    bell = Wakeup()
    rung = Channel(commands, bell)

    async def main() -> None:
        bridge = asyncio.create_task(_iic_bridge(worker, rung, statuses))
        await until(lambda: commands.looks)
        looks = commands.looks
        await asyncio.sleep(0.3)  # time for several looks of one that polls
        assert commands.looks == looks
        rung.put(("shutdown",))
        await bridge

    run(main)
    bell.close()
    assert worker.calls[-1] == "shutdown"


def test_a_command_that_rang_before_the_bridge_listened_is_seen() -> None:
    worker, commands, statuses = FakeWorker(), FakeQueue(("shutdown",)), FakeQueue()
    bell = Wakeup()  # and is silent
    run(lambda: _iic_bridge(worker, Channel(commands, bell), statuses))
    bell.close()
    assert worker.calls[-1] == "shutdown"


def test_the_worker_runs_until_it_is_told_to_shut_down() -> None:
    worker, commands, statuses = FakeWorker(), FakeQueue(), FakeQueue()

    async def main() -> None:
        running = asyncio.create_task(_run_worker_with_iic(worker, commands, statuses))
        await until(lambda: "serve" in worker.calls)
        commands.put(("drain",))
        await until(lambda: ("idle",) in statuses.items)
        commands.put(("shutdown",))
        await running

    run(main)
    assert worker.calls == ["serve", "drain", "shutdown", "served"]


def test_each_shutdown_is_passed_on_since_the_second_one_forces() -> None:
    worker, commands, statuses = FakeWorker(), FakeQueue(), FakeQueue()
    worker.ends_on_shutdown = False

    async def main() -> None:
        running = asyncio.create_task(_run_worker_with_iic(worker, commands, statuses))
        for count in (1, 2):
            commands.put(("shutdown",))
            await until(lambda: worker.calls.count("shutdown") == count)  # noqa: B023
        assert not running.done()
        assert worker.result is not None
        worker.result.set_result(None)
        await running

    run(main)
    assert worker.calls[-1] == "served"


def test_a_worker_that_ends_by_itself_ends_the_bridge() -> None:
    worker = FakeWorker()

    async def main() -> None:
        running = asyncio.create_task(_run_worker_with_iic(worker, FakeQueue(), FakeQueue()))
        await until(lambda: worker.result)
        assert worker.result is not None
        worker.result.set_result(None)
        await running

    run(main)


def test_what_the_worker_raises_is_raised() -> None:
    worker = FakeWorker()

    async def main() -> None:
        running = asyncio.create_task(_run_worker_with_iic(worker, FakeQueue(), FakeQueue()))
        await until(lambda: worker.result)
        assert worker.result is not None
        worker.result.set_exception(LookupError("words"))
        with pytest.raises(LookupError, match="words"):
            await running

    run(main)


def test_a_broken_queue_ends_the_worker_since_nobody_could_command_it() -> None:
    worker = FakeWorker()

    async def main() -> None:
        with pytest.raises(RuntimeError, match="the queue is gone"):
            await _run_worker_with_iic(worker, BrokenQueue(), FakeQueue())

    run(main)
    assert worker.calls == ["serve", "served"]


def test_cancellation_ends_both() -> None:
    worker = FakeWorker()

    async def main() -> None:
        running = asyncio.create_task(_run_worker_with_iic(worker, FakeQueue(), FakeQueue()))
        await until(lambda: worker.result)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    run(main)
    assert worker.calls == ["serve", "served"]


def test_a_question_goes_to_who_answers_if_there_is_one() -> None:
    worker, asked = FakeWorker(), []
    questions = [("ask", 1, "{}"), ("shutdown",)]
    worker.on_question = None
    run(lambda: _iic_bridge(worker, FakeQueue(*questions), FakeQueue()))
    worker.on_question = lambda number, text: asked.append((number, text))
    run(lambda: _iic_bridge(worker, FakeQueue(*questions), FakeQueue()))
    assert asked == [(1, "{}")]
