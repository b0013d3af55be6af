"""Counters of the workers in shared memory: written by each worker, read by anyone, no messages.

The board is one ``memoryview`` of unsigned 64-bit words. Each worker has a slot of ``SLOT_WORDS``
words, of which it is the only writer; aligned words are never torn, so that readers need no lock,
but two words may be of different moments. Words of a slot, by index:

=============  =====================================================
``REQUESTS``     requests whose head was complete, since the worker began
``CONNECTIONS``  open connections
=============  =====================================================
"""

from __future__ import annotations

REQUESTS, CONNECTIONS = range(2)

SLOT_WORDS = 8
"""A slot fills a cache line, so that workers on different cores don't slow each other down."""

type Slot = memoryview[int]

_attached: Slot | None = None


def new_board(slots: int) -> Slot:
    """Allocate a board, all zero."""
    return memoryview(bytearray(slots * SLOT_WORDS * 8)).cast("Q")


def slot_of(board: Slot, index: int) -> Slot:
    """The words of one slot; writing to them writes to the board."""
    return board[index * SLOT_WORDS : (index + 1) * SLOT_WORDS]


def attach(slot: Slot) -> None:
    """Set the slot of the worker that will run in this interpreter."""
    global _attached
    _attached = slot


def attached() -> Slot:
    """The slot set by ``attach()``, or a private one if there is none."""
    return new_board(1) if _attached is None else _attached
