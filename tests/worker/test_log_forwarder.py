"""The worker's side of log forwarding: batches, a pipe that is full, the end."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import logging.config
import os
import re
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from subinterp_asgi.control import log_records
from subinterp_asgi.control.counters import Counters
from subinterp_asgi.control.scoreboard import LOGS_DROPPED, new_board, slot_of
from subinterp_asgi.worker import access_log, log_forwarder
from subinterp_asgi.worker.log_forwarder import MAX_WAITING, LogForwarder
from tests.support import nothing_left, wait_until

LINE = "x" * 100


class Pipe:
    """A pipe, and what was read from it."""

    def __init__(self) -> None:
        self.read_fd, self.write_fd = os.pipe()
        os.set_blocking(self.read_fd, False)
        os.set_blocking(self.write_fd, False)
        self.buffer = bytearray()
        self.records: list[logging.LogRecord] = []
        self.writes: list[int] = []

    def read(self) -> list[str]:
        """Read what there is; return all messages so far."""
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self.read_fd, 65536):
                self.buffer += data
                taken = log_records.take(self.buffer)
                self.records += [log_records.rebuild(fields, "own") for fields in taken]
        return self.messages

    @property
    def messages(self) -> list[str]:
        return [record.getMessage() for record in self.records]

    def reported(self) -> list[int]:
        """What reports of dropped records say."""
        found = [re.search(r": (\d+) log record\(s\) were dropped here", m) for m in self.messages]
        return [int(match[1]) for match in found if match]

    def fill(self) -> int:
        """Leave no room, not for an octet; return how much that took."""
        count = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                count += os.write(self.write_fd, b"\0" * 4096)
        return count

    def drain(self, count: int) -> None:
        """Take what ``fill()`` has put in."""
        while count:
            count -= len(os.read(self.read_fd, count))

    def close(self) -> None:
        os.close(self.read_fd)
        os.close(self.write_fd)


@pytest.fixture(autouse=True)
def leaves_nothing() -> Iterator[None]:
    with nothing_left():
        yield


@pytest.fixture
def pipe(leaves_nothing: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pipe]:
    pipe = Pipe()
    write = os.write

    def counting_write(fd: int, data: bytes) -> int:
        count = write(fd, data)
        if fd == pipe.write_fd:
            pipe.writes.append(count)
        return count

    monkeypatch.setattr(os, "write", counting_write)
    yield pipe
    monkeypatch.undo()
    pipe.close()


@pytest.fixture
def counters() -> Counters:
    return Counters(new_board(1), 1)


@pytest.fixture
def forwarder(pipe: Pipe, counters: Counters) -> Iterator[LogForwarder]:
    forwarder = LogForwarder(pipe.write_fd, "info", counters)
    yield forwarder
    pipe.read()
    forwarder.end()


@pytest.fixture
def logger(forwarder: LogForwarder) -> Iterator[logging.Logger]:
    """A logger that nobody else has heard of."""
    logger = logging.Logger("test", logging.DEBUG)  # noqa: LOG001
    logger.addHandler(forwarder)
    return logger


@pytest.fixture
def root(monkeypatch: pytest.MonkeyPatch) -> logging.Logger:
    """Loggers as in a fresh interpreter, but for pytest's handlers."""
    root = logging.RootLogger(logging.WARNING)
    manager = logging.Manager(root)
    monkeypatch.setattr(logging, "root", root)
    monkeypatch.setattr(logging.Logger, "root", root)
    monkeypatch.setattr(logging.Logger, "manager", manager)
    monkeypatch.setattr(logging, "_handlers", {})
    monkeypatch.setattr(logging, "_handlerList", [])
    return root


def run(forwarder: LogForwarder, main: Callable[[], Any], worker_id: int = 4) -> None:
    """Run a coroutine function on a loop that the forwarder knows."""
    loop = asyncio.SelectorEventLoop()
    forwarder.use_loop(loop, worker_id)
    try:
        loop.run_until_complete(main())
    finally:
        loop.close()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


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


# --- when there is none


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


# --- the access log

REQUEST = (("192.0.2.7", 4711), "GET", "/a?b=%20c", "1.1", 404, 0.01234)


@pytest.fixture
def access(root: logging.Logger, monkeypatch: pytest.MonkeyPatch) -> logging.Logger:
    """The loggers of the access log, among others that nobody else has heard of."""
    root.setLevel(logging.INFO)
    monkeypatch.setattr(access_log, "package_logger", logging.getLogger("subinterp_asgi"))
    monkeypatch.setattr(access_log, "access_logger", logging.getLogger("subinterp_asgi.access"))
    return access_log.access_logger


def test_access_records_that_are_made_by_the_host_are_the_same(
    access: logging.Logger, forwarder: LogForwarder, pipe: Pipe
) -> None:
    forwarder.attach()
    access_log.log_access(*REQUEST)
    forwarder.log_access(*REQUEST)
    pipe.read()
    made, forwarded = (dict(vars(record)) for record in pipe.records)
    assert 0 <= forwarded["created"] - made["created"] < 60
    for of_its_own in ("created", "msecs", "relativeCreated", "lineno"):
        del made[of_its_own], forwarded[of_its_own]
    assert forwarded == made
    assert forwarded["msg"] == '192.0.2.7:4711 - "GET /a?b=%20c HTTP/1.1" 404 Not Found 12.3ms'


def test_access_records_go_with_the_batch(
    access: logging.Logger, forwarder: LogForwarder, pipe: Pipe
) -> None:
    async def main() -> None:
        for _ in range(10):
            forwarder.log_access(*REQUEST)
        assert pipe.writes == []
        await asyncio.sleep(0)
        assert len(pipe.writes) == 1

    run(forwarder, main)
    assert len(pipe.read()) == 10


def test_access_records_are_dropped_as_others_are(
    access: logging.Logger, forwarder: LogForwarder, pipe: Pipe, counters: Counters
) -> None:
    for _ in range(15_000):
        forwarder.log_access(*REQUEST)
    assert forwarder._size <= MAX_WAITING
    dropped = counters.logs_dropped
    assert dropped > 0
    while forwarder._waiting or forwarder._unreported:
        pipe.read()
        forwarder.flush()
    assert len([text for text in pipe.read() if "GET" in text]) + dropped == 15_000
    assert pipe.reported() == [dropped]


def test_access_records_stop_when_the_application_says_so(
    access: logging.Logger, forwarder: LogForwarder, pipe: Pipe
) -> None:
    access.setLevel(logging.WARNING)
    forwarder.log_access(*REQUEST)
    assert pipe.read() == []


def test_after_the_end_no_access_record_is_written(
    access: logging.Logger, forwarder: LogForwarder, pipe: Pipe
) -> None:
    forwarder.end()
    forwarder.log_access(*REQUEST)
    assert pipe.writes == []


def _other_handler(access: logging.Logger) -> None:
    access.root.addHandler(logging.NullHandler())


@pytest.mark.parametrize(
    "configure",
    [
        _other_handler,
        lambda access: access.addHandler(logging.NullHandler()),
        lambda access: access.parent.addHandler(logging.NullHandler()),
        lambda access: access.setLevel(logging.DEBUG),
        lambda access: access.addFilter(str),
        lambda access: setattr(access, "propagate", False),
        lambda access: setattr(access.parent, "propagate", False),
        lambda access: access.root.handlers[0].addFilter(str),
        lambda access: access.root.handlers[0].setLevel(logging.WARNING),
    ],
)
def test_any_configuration_of_the_applications_has_access_records_made(
    configure: Callable[[Any], object], access: logging.Logger, forwarder: LogForwarder
) -> None:
    access.root.handlers.clear()  # of pytest's
    forwarder.attach()
    assert access_log.choose_access_log(True, forwarder) == forwarder.log_access
    assert access_log.choose_access_log(False, forwarder) == access_log.log_access
    configure(access)
    assert access_log.choose_access_log(True, forwarder) == access_log.log_access


# --- what the application does wrong


def test_nothing_is_raised_into_the_application(
    forwarder: LogForwarder,
    logger: logging.Logger,
    pipe: Pipe,
    counters: Counters,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*args: object) -> bytes:
        raise MemoryError

    logger.info("%d", "no number")
    with monkeypatch.context() as patch:
        patch.setattr(log_records, "encode", fail)
        logger.info("lost")
    assert counters.logs_dropped == 1
    logger.info("next")
    assert pipe.read()[0].startswith("%d (can't be formatted")
    assert pipe.messages[-1] == "next"
    assert pipe.reported() == [1]


def test_a_destructor_that_logs_while_records_are_written(
    forwarder: LogForwarder, logger: logging.Logger, pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = forwarder._sent

    def sent(count: int) -> None:
        monkeypatch.setattr(forwarder, "_sent", original)
        logger.error("inner")
        original(count)

    monkeypatch.setattr(forwarder, "_sent", sent)
    logger.error("outer")
    assert pipe.read() == ["outer", "inner"]


def test_a_message_that_logs_while_it_is_formatted(logger: logging.Logger, pipe: Pipe) -> None:
    class Chatty:
        def __str__(self) -> str:
            logger.info("inner")
            return "outer"

    logger.info("%s", Chatty())
    assert pipe.read() == ["inner", "outer"]


def test_a_descriptor_that_is_gone_loses_records_and_nothing_else(counters: Counters) -> None:
    read_fd, write_fd = os.pipe()
    os.set_blocking(write_fd, False)
    os.close(read_fd)
    forwarder = LogForwarder(write_fd, "info", counters)
    logger = logging.Logger("test")  # noqa: LOG001
    logger.addHandler(forwarder)
    for _ in range(3):
        logger.info("lost")
    assert counters.logs_dropped == 3
    forwarder.end()
    assert counters.slot[LOGS_DROPPED] == 3
    os.close(write_fd)


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
