"""Connections that go from one worker to another while nothing is being said on them.

The kernel spreads connections over sockets by chance, or gives them to whoever is faster; with a
few long-lived connections neither is even, so that a worker with many passes a new one on to a
worker with few. And one that retires leaves those to others that wait for a request.

All workers are in one process, where the number of a descriptor means the same to all, so that four
octets in a pipe are enough to hand a socket over.
Each worker's pipe, its *inbox*, is the supervisor's, and outlives the worker: what one leaves in it
another finds there.
"""

from __future__ import annotations

import os
import sys
from struct import Struct
from time import monotonic_ns

from ..types import TYPE_CHECKING
from .scoreboard import ACCEPTING, BUSY_SINCE, CONNECTIONS, INBOX, SLOT_WORDS, SLOTS_USED

if TYPE_CHECKING:
    from .counters import Counters

SLACK = 4
"""Connections, and an eighth of the other's, that a worker may have more than another one."""
_HELD_UP = 20_000_000
"""Nanoseconds from which on a busy worker is given nothing: it may be frozen."""

_ANY = 1 << 62
_number = Struct("@i")
_BATCH = 64
_FIONREAD = 0x541B  # Linux' number for it (termios, which has it, costs an import)


def pass_on(counters: Counters, fd: int) -> bool:
    """Pass an accepted socket to a worker that has far fewer connections, if there is one.

    If it was passed on, its descriptor is the other worker's.
    """
    most = (counters.connections - SLACK) * 8 // 9
    return most >= 0 and _pass_to_less_than(most, counters, fd)


def leave(counters: Counters, fd: int) -> bool:
    """Pass a socket to the worker that has the fewest connections, if there is another one at all.

    As ``pass_on()``, but the other worker must not count it as accepted once more.
    """
    return _pass_to_less_than(_ANY, counters, ~fd)


def descriptor(number: int) -> int:
    """What a number out of an inbox stands for; below 0 one that was counted already."""
    return number if number >= 0 else ~number


def _pass_to_less_than(most: int, counters: Counters, number: int) -> bool:
    board, own = counters.board, counters.index
    chosen = 0
    for slot in range(1, board[SLOTS_USED]):
        base = slot * SLOT_WORDS
        inbox = board[base + INBOX]
        if slot != own and inbox and board[base + ACCEPTING] and board[base + CONNECTIONS] < most:
            busy_since = board[base + BUSY_SINCE]
            if not busy_since or monotonic_ns() - busy_since < _HELD_UP:
                waiting = _waiting(inbox - 1)
                connections = board[base + CONNECTIONS] + waiting
                if waiting >= 0 and connections < most:
                    most, chosen = connections, inbox
    return chosen > 0 and send(chosen - 1, number)


def _waiting(inbox: int) -> int:
    """How many descriptors lie in an inbox, which its owner has not counted yet; -1: unknown."""
    if sys.platform == "linux":
        try:
            from fcntl import ioctl  # not before it is needed
        except (ImportError, OSError):
            return -1  # an import opens files, and descriptors may have run out
        found: int = _number.unpack(ioctl(inbox, _FIONREAD, bytes(_number.size)))[0]
        return found // _number.size
    else:
        return 0


def send(inbox: int, number: int) -> bool:
    """Put a number into an inbox, see ``descriptor()``; ``False`` if there is no room."""
    try:
        os.write(inbox, _number.pack(number))
    except BlockingIOError:
        return False
    return True


def receive(inbox: int) -> list[int]:
    """Take numbers out of an inbox; the descriptors are the caller's to close."""
    try:
        data = os.read(inbox, _BATCH * _number.size)
    except BlockingIOError:
        return []
    return [number for (number,) in _number.iter_unpack(data)]
