"""A pipe that is full: records wait, are dropped and counted, and nobody else waits."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import logging.config
import re
import threading
from typing import Any

import pytest

from subinterp_asgi.control.counters import Counters
from subinterp_asgi.worker.log_forwarder import MAX_WAITING, LogForwarder

from .pipes import LINE, Pipe, run, until


def test_a_full_pipe_makes_records_wait_and_nobody_else(
    forwarder: LogForwarder, logger: logging.Logger, pipe: Pipe, counters: Counters
) -> None:
    async def main() -> None:
        filled = pipe.fill()
        for number in range(1000):
            logger.info("%d", number)
            if number % 100 == 0:
                await asyncio.sleep(0)  # goes on turning
        pipe.drain(filled)
        await until(lambda: len(pipe.read()) == 1000)

    run(forwarder, main)
    assert pipe.messages == [str(number) for number in range(1000)]
    assert counters.logs_dropped == 0


def test_the_loop_sleeps_while_the_pipe_is_full(
    forwarder: LogForwarder, logger: logging.Logger, pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts = []

    async def main() -> None:
        filled = pipe.fill()
        logger.info("waits")
        await asyncio.sleep(0)
        original = forwarder._write
        monkeypatch.setattr(forwarder, "_write", lambda fd: (attempts.append(1), original(fd))[1])
        for _ in range(20):
            logger.info("waits")
            await asyncio.to_thread(logger.info, "waits")
            await asyncio.sleep(0.001)
        assert attempts == []
        pipe.drain(filled)
        await until(lambda: len(pipe.read()) == 41)
        loop: Any = asyncio.get_running_loop()
        assert not loop.remove_writer(pipe.write_fd)
        await loop.shutdown_default_executor()

    run(forwarder, main)


def test_the_loop_sees_to_what_another_thread_could_not_write(
    forwarder: LogForwarder, logger: logging.Logger, pipe: Pipe
) -> None:
    async def main() -> None:
        filled = pipe.fill()
        thread = threading.Thread(target=logger.info, args=("elsewhere",))
        thread.start()
        thread.join()
        pipe.drain(filled)
        await until(lambda: pipe.read() == ["elsewhere"])

    run(forwarder, main)


def test_memory_is_bounded_and_each_dropped_record_is_counted(
    forwarder: LogForwarder, logger: logging.Logger, pipe: Pipe, counters: Counters
) -> None:
    logged = 20_000

    async def main() -> None:
        for number in range(logged):
            logger.info("%d %s", number, LINE)
            assert forwarder._size <= MAX_WAITING
            if number % 500 == 0:
                await asyncio.sleep(0)
        dropped = counters.logs_dropped
        assert 0 < dropped < logged
        await until(lambda: pipe.read() and not forwarder._waiting)
        assert counters.logs_dropped == dropped

    run(forwarder, main)
    numbers = [int(message.split()[0]) for message in pipe.read() if message.endswith(LINE)]
    assert len(numbers) + counters.logs_dropped == logged
    assert numbers == sorted(set(numbers))
    assert pipe.reported() == [counters.logs_dropped]


def test_a_report_stands_where_the_gap_is(
    forwarder: LogForwarder, logger: logging.Logger, pipe: Pipe, counters: Counters
) -> None:
    async def main() -> None:
        logged = 0
        for _ in range(3):
            while not forwarder._unreported:
                logger.info("%d %s", logged, LINE)
                logged += 1
            # Many more, of which none must slip in between.
            for _ in range(2000):
                logger.info("%d", logged)
                logged += 1
            await until(lambda: pipe.read() and not forwarder._unreported)
        logger.info("%d", logged)
        await until(lambda: pipe.read()[-1] == str(logged))

    run(forwarder, main)
    expected = 0
    for message in pipe.messages:
        if match := re.match(r"worker 4: (\d+) log record", message):
            expected += int(match[1])
        else:
            assert int(message.split()[0]) == expected
            expected += 1
    assert len(pipe.reported()) == 3
    assert sum(pipe.reported()) == counters.logs_dropped
    report = pipe.records[pipe.messages.index(next(m for m in pipe.messages if "dropped" in m))]
    assert (report.name, report.levelno) == ("subinterp_asgi.error", logging.WARNING)


def test_a_record_that_is_too_large_is_dropped_and_reported(
    forwarder: LogForwarder, logger: logging.Logger, pipe: Pipe, counters: Counters
) -> None:
    logger.info("before")
    logger.info("too much", extra={f"n{number}": "x" * 400_000 for number in range(4)})
    logger.info("after")
    messages = pipe.read()
    assert [messages[0], messages[-1]] == ["before", "after"]
    assert pipe.reported() == [1]
    assert counters.logs_dropped == 1


def test_the_largest_records_get_through(
    forwarder: LogForwarder, logger: logging.Logger, pipe: Pipe, counters: Counters
) -> None:
    text = "ä" * 200_000

    async def main() -> None:
        logger.info(text)
        logger.info("next")
        await until(lambda: len(pipe.read()) == 2)

    run(forwarder, main)
    assert pipe.messages == [text, "next"]
    assert counters.logs_dropped == 0


@pytest.mark.parametrize("size", [4096, 8192, 65536])
def test_pipes_of_any_size(
    size: int, forwarder: LogForwarder, logger: logging.Logger, pipe: Pipe
) -> None:
    fcntl.fcntl(pipe.write_fd, fcntl.F_SETPIPE_SZ, size)

    async def main() -> None:
        for number in range(300):
            logger.info("%d %s", number, LINE * (number % 7))
        await until(lambda: len(pipe.read()) == 300)

    run(forwarder, main)
    assert [int(message.split()[0]) for message in pipe.messages] == list(range(300))
