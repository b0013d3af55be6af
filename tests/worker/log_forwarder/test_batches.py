"""What is logged when there is room in the pipe: batches, levels, threads, the end."""

from __future__ import annotations

import asyncio
import logging
import logging.config
import threading

import pytest

from subinterp_asgi.control.counters import Counters
from subinterp_asgi.control.scoreboard import LOGS_DROPPED, slot_of
from subinterp_asgi.worker import log_forwarder
from subinterp_asgi.worker.log_forwarder import LogForwarder
from tests.support import wait_until

from .pipes import LINE, Pipe, run, until

# --- when there is room


def test_without_a_loop_each_record_goes_at_once(logger: logging.Logger, pipe: Pipe) -> None:
    logger.info("one")
    assert pipe.read() == ["one"]
    logger.info("two")
    assert pipe.read() == ["one", "two"]


def test_what_is_logged_in_one_turn_of_the_loop_goes_together(
    forwarder: LogForwarder, logger: logging.Logger, pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed = []
    flush = forwarder.flush
    monkeypatch.setattr(forwarder, "flush", lambda: (flushed.append(1), flush()))

    async def main() -> None:
        for turn in range(3):
            for number in range(20):
                logger.info("%d.%d", turn, number)
            assert len(pipe.writes) == turn
            await asyncio.sleep(0)
            assert len(pipe.writes) == len(flushed) == turn + 1

    run(forwarder, main)
    assert pipe.read() == [f"{turn}.{number}" for turn in range(3) for number in range(20)]


def test_a_warning_goes_at_once_and_takes_along_what_came_before(
    forwarder: LogForwarder, logger: logging.Logger, pipe: Pipe
) -> None:
    async def main() -> None:
        logger.info("before")
        logger.warning("the loop is about to hang")
        assert pipe.read() == ["before", "the loop is about to hang"]
        logger.info("after")

    run(forwarder, main)
    assert pipe.read()[2:] == ["after"]


def test_what_another_thread_logs_goes_at_once(
    forwarder: LogForwarder, logger: logging.Logger, pipe: Pipe
) -> None:
    async def main() -> None:
        logger.info("before")
        thread = threading.Thread(target=logger.info, args=("elsewhere",), name="other")
        thread.start()
        thread.join()
        assert pipe.read() == ["before", "elsewhere"]

    run(forwarder, main)
    assert [record.threadName for record in pipe.records] == ["own", "other"]


def test_a_loop_that_ends_before_its_turn_does_not_keep_the_batch(
    forwarder: LogForwarder, logger: logging.Logger, pipe: Pipe
) -> None:
    loop = asyncio.SelectorEventLoop()
    forwarder.use_loop(loop, 0)

    def last_words() -> None:
        logger.info("one")
        raise SystemExit

    loop.call_soon(last_words)
    with pytest.raises(SystemExit):
        loop.run_forever()
    assert pipe.read() == []
    logger.info("two")  # nobody runs the loop now
    assert pipe.read() == ["one", "two"]
    loop.close()
    logger.info("three")
    assert pipe.read() == ["one", "two", "three"]


def test_a_loop_of_the_applications_own_is_none_to_rely_on(
    forwarder: LogForwarder, logger: logging.Logger, pipe: Pipe
) -> None:
    async def main() -> None:
        logger.info("elsewhere")
        assert pipe.read() == ["elsewhere"]

    asyncio.run(main())


def test_levels(forwarder: LogForwarder, logger: logging.Logger, pipe: Pipe) -> None:
    logger.debug("too fine")
    logger.info("fine")
    assert pipe.read() == ["fine"]


def test_threads_do_not_mix_their_records(
    forwarder: LogForwarder, logger: logging.Logger, pipe: Pipe, counters: Counters
) -> None:
    def work(name: int) -> None:
        for number in range(200):
            logger.info("%d %d %s", name, number, LINE)

    async def main() -> None:
        threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
        for thread in threads:
            thread.start()
        work(4)
        await until(lambda: len(pipe.read()) == 5 * 200)
        for thread in threads:
            thread.join()

    run(forwarder, main)
    per_thread: dict[str, list[int]] = {}
    for message in pipe.read():
        name, number, line = message.split()
        assert line == LINE
        per_thread.setdefault(name, []).append(int(number))
    assert per_thread == {str(name): list(range(200)) for name in range(5)}
    assert counters.logs_dropped == 0


# --- on the root logger


def test_attaching(root: logging.Logger, forwarder: LogForwarder, pipe: Pipe) -> None:
    forwarder.attach()
    forwarder.attach()
    assert root.handlers.count(forwarder) == 1
    logging.getLogger("any").info("words")
    logging.getLogger("any").debug("too fine")
    assert pipe.read() == ["words"]
    root.setLevel(logging.ERROR)
    forwarder.attach()
    assert root.level == logging.ERROR  # as the application has set it
    forwarder.end()
    assert forwarder not in root.handlers


@pytest.mark.parametrize("disable", [True, False])
def test_an_application_that_configures_logging(
    disable: bool, root: logging.Logger, forwarder: LogForwarder, pipe: Pipe
) -> None:
    ours = logging.getLogger("subinterp_asgi.error")
    forwarder.attach()
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": disable,
            "handlers": {"null": {"class": "logging.NullHandler"}},
            "root": {"handlers": ["null"], "level": "INFO"},
        }
    )
    ours.error("not now")
    forwarder.attach()
    ours.error("ours")
    logging.getLogger("the_app").info("theirs")
    assert pipe.read() == ["ours", "theirs"]


def test_logging_shutdown_is_survived(
    root: logging.Logger, forwarder: LogForwarder, pipe: Pipe
) -> None:
    """Which is what ``dictConfig()`` calls for all handlers that there are."""
    forwarder.attach()
    logging.shutdown()
    logging.getLogger("any").warning("words")
    assert pipe.read() == ["words"]


# --- the end


def test_at_the_end_everything_is_sent(
    forwarder: LogForwarder, logger: logging.Logger, pipe: Pipe, counters: Counters
) -> None:
    async def main() -> None:
        for number in range(5000):
            logger.info("%d", number)

    run(forwarder, main)
    reader = threading.Thread(
        target=lambda: wait_until(lambda: len(pipe.read()) == 5000), name="reader"
    )
    reader.start()
    forwarder.end()
    reader.join()
    assert pipe.messages == [str(number) for number in range(5000)]
    assert counters.logs_dropped == 0


def test_a_host_that_makes_no_room_does_not_hold_up_the_end(
    forwarder: LogForwarder,
    logger: logging.Logger,
    pipe: Pipe,
    counters: Counters,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(log_forwarder, "_END_TIMEOUT", 0.05)
    for number in range(15_000):
        logger.info("%d %s", number, LINE)
    forwarder.end()
    assert slot_of(counters.board, 1)[LOGS_DROPPED] == counters.logs_dropped
    received = [message for message in pipe.read() if message.endswith(LINE)]
    assert len(received) + counters.logs_dropped == 15_000


def test_after_the_end_nothing_is_written(
    forwarder: LogForwarder, logger: logging.Logger, pipe: Pipe
) -> None:
    """The descriptor's number may be another file's by then."""
    forwarder.end()
    logger.error("late")
    forwarder.flush()
    forwarder.end()
    assert pipe.writes == []
