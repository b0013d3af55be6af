"""Fixtures that several modules use."""

from __future__ import annotations

import logging
import logging.config
import os
from collections.abc import Iterator

import pytest

from subinterp_asgi.control.counters import Counters
from subinterp_asgi.control.scoreboard import new_board
from subinterp_asgi.worker.log_forwarder import LogForwarder
from tests.support import nothing_left

from .pipes import Pipe


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
