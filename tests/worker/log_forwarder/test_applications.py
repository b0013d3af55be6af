"""Access records, and what applications do with logging, right or wrong."""

from __future__ import annotations

import asyncio
import logging
import logging.config
import os
from collections.abc import Callable
from typing import Any

import pytest

from subinterp_asgi.control import log_records
from subinterp_asgi.control.counters import Counters
from subinterp_asgi.control.scoreboard import LOGS_DROPPED
from subinterp_asgi.worker import access_log
from subinterp_asgi.worker.log_forwarder import MAX_WAITING, LogForwarder

from .pipes import Pipe, run

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
    expected = '192.0.2.7:4711 - "GET /a?b=%20c HTTP/1.1" 404 Not Found 12.3ms'
    assert pipe.messages == [expected] * 2
    assert forwarded["args"][:4] == ("192.0.2.7:4711", "GET", "/a?b=%20c", "1.1")


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
    assert set(pipe.read()) == {"inner", "outer"}
    assert pipe.messages[-1] == "outer"


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
