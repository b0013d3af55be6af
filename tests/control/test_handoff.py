"""Which worker a connection is passed on to, and how it gets there."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from time import monotonic_ns

import pytest

from subinterp_asgi.control import handoff
from subinterp_asgi.control.counters import Counters
from subinterp_asgi.control.handoff import SLACK
from subinterp_asgi.control.scoreboard import (
    ACCEPTING,
    BUSY_SINCE,
    CONNECTIONS,
    INBOX,
    SLOTS_USED,
    WORKER,
    new_board,
    slot_of,
)
from tests.support import nothing_left


class Workers:
    """A board of several workers, and their inboxes."""

    def __init__(self, count: int) -> None:
        self.board = new_board(count)
        self.board[SLOTS_USED] = count + 1
        self.inboxes = [os.pipe() for _ in range(count)]
        for index, (reading, writing) in enumerate(self.inboxes):
            os.set_blocking(reading, False)
            os.set_blocking(writing, False)
            words = slot_of(self.board, index + 1)
            words[WORKER] = index + 1
            words[ACCEPTING] = 1
            words[INBOX] = writing + 1
        self.counters = Counters(
            self.board, 1
        )  # the first one's, which has a connection to pass on

    def set(self, worker: int, word: int, value: int) -> None:
        slot_of(self.board, worker + 1)[word] = value

    def pass_on(self, *connections: int) -> int | None:
        """Try it with so many connections; return the number of the worker that got it."""
        self.counters.connections = connections[0]
        for worker, count in enumerate(connections):
            self.set(worker, CONNECTIONS, count)
        passed = handoff.pass_on(self.counters, 77)
        found = [n for n, (reading, _) in enumerate(self.inboxes) if handoff.receive(reading)]
        assert len(found) == passed
        return found[0] if found else None

    def close(self) -> None:
        for pipe in self.inboxes:
            for fd in pipe:
                os.close(fd)


@pytest.fixture
def workers() -> Iterator[Workers]:
    with nothing_left():
        workers = Workers(3)
        yield workers
        workers.close()


def test_equals_keep_what_they_have(workers: Workers) -> None:
    assert workers.pass_on(0, 0, 0) is None
    assert workers.pass_on(50, 50, 50) is None


def test_the_slack_is_kept_and_no_more(workers: Workers) -> None:
    assert workers.pass_on(SLACK, 0, 0) is None
    assert workers.pass_on(SLACK + 2, 0, 9) == 1  # (9 // 8 of 0, and 1 more than the slack)


@pytest.mark.parametrize("own", [8, 64, 1000, 100_000])
def test_the_slack_grows_with_the_numbers(workers: Workers, own: int) -> None:
    """At rest nobody has more than an eighth, and four, beyond another."""
    fewest = next(n for n in range(own, -1, -1) if workers.pass_on(own, n, own) is not None)
    assert own > fewest + fewest / 8 + SLACK - 1
    assert own <= fewest + 1 + (fewest + 1) / 8 + SLACK + 1


def test_who_has_the_fewest_gets_it(workers: Workers) -> None:
    assert workers.pass_on(100, 20, 30) == 1
    assert workers.pass_on(100, 30, 20) == 2


def test_nobody_passes_on_to_himself(workers: Workers) -> None:
    workers.set(1, ACCEPTING, 0)
    workers.set(2, ACCEPTING, 0)
    assert workers.pass_on(100, 0, 0) is None


def test_who_does_not_accept_is_given_nothing(workers: Workers) -> None:
    workers.set(1, ACCEPTING, 0)
    assert workers.pass_on(100, 0, 50) == 2


def test_who_has_no_inbox_is_given_nothing(workers: Workers) -> None:
    workers.set(1, INBOX, 0)
    assert workers.pass_on(100, 0, 100) is None


def test_who_may_be_frozen_is_given_nothing(workers: Workers) -> None:
    workers.set(1, BUSY_SINCE, monotonic_ns() - 1_000_000_000)
    assert workers.pass_on(100, 0, 50) == 2
    workers.set(1, BUSY_SINCE, monotonic_ns())  # busy, as all are at times
    assert workers.pass_on(100, 0, 50) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux is asked")
def test_what_lies_in_an_inbox_counts(workers: Workers) -> None:
    """Its owner may not have had its turn; it must not be buried meanwhile."""
    workers.counters.connections = 20
    passed = 0
    while handoff.pass_on(workers.counters, 77):
        passed += 1
    found = [handoff.receive(reading) for reading, _ in workers.inboxes]
    assert [len(fds) for fds in found] == [0, 14, 14]
    assert passed == 28


def test_a_full_inbox_refuses_and_loses_nothing(workers: Workers) -> None:
    _, writing = workers.inboxes[1]
    count = 0
    while handoff.send(writing, count):
        count += 1
    assert count >= 1024
    workers.counters.connections = 100_000
    workers.set(2, CONNECTIONS, 100_000)
    assert not handoff.pass_on(workers.counters, 77)
    found: list[int] = []
    while more := handoff.receive(workers.inboxes[1][0]):
        found += more
    assert found == list(range(count))


def test_one_that_is_left_is_known_to_have_been_counted(workers: Workers) -> None:
    """Else it would be counted twice, or not at all for a moment, and counts never shrink."""
    workers.pass_on(0, 3, 1)  # which sets how many they have
    assert handoff.leave(workers.counters, 77)
    assert handoff.receive(workers.inboxes[1][0]) == []
    (number,) = handoff.receive(workers.inboxes[2][0])
    assert number < 0
    assert handoff.descriptor(number) == 77
    assert handoff.descriptor(77) == 77


def test_an_empty_inbox_has_nothing(workers: Workers) -> None:
    assert handoff.receive(workers.inboxes[0][0]) == []


def test_a_socket_arrives_as_what_it_was(workers: Workers) -> None:
    reading, writing = workers.inboxes[0]
    ours, theirs = socket.socketpair()
    with ours:
        assert handoff.send(writing, theirs.detach())
        (fd,) = handoff.receive(reading)
        with socket.socket(fileno=fd) as received:
            ours.sendall(b"hello")
            assert received.recv(9) == b"hello"
