"""Counters of the workers in shared memory: written by each worker, read by anyone, no messages.

The board is one ``memoryview`` of unsigned 64-bit words. It begins with a slot of the supervisor's,
the header, and each worker has a slot of ``SLOT_WORDS`` words, of which it is the only writer;
aligned words are never torn, so that readers need no lock, but two words may be of different
moments. A slot is used again once its worker has ended; what that had counted is added to the
header first, so that sums over the board only grow.

Words of a worker's slot, by index; counters since the worker began, times in nanoseconds of
``time.monotonic_ns()``:

================  ==================================================================
``WORKER``        1 + the worker's number; 0: the slot is free (the supervisor's word)
``GENERATION``    the worker's generation (the supervisor's word)
``INBOX``         1 + the descriptor to hand sockets over through; 0: none (the supervisor's)
``ACCEPTING``     1 while the worker accepts connections
``BUSY_SINCE``    the heartbeat: when the loop woke up last; 0 while it sleeps
``LAG``           how long the loop was held up lately at one time; it decays
``CONNECTIONS``   open connections
``WEBSOCKETS``    open WebSockets
``IN_FLIGHT``     requests whose response is not complete, WebSockets included
``ACCEPTED``      connections accepted
``REQUESTS``      requests whose head was complete
``ERRORS``        exceptions that left the application
``BYTES_IN``      octets received, as HTTP or WebSocket
``BYTES_OUT``     octets sent
``LOGS_DROPPED``  log records that could not be forwarded
``STATUS`` + n    responses with a status of class n, 1 to 5
``LATENCY_SUM``   microseconds from head to end of all responses measured
``LATENCY`` + i   responses that took at most ``LATENCY_BOUNDS[i]``; the last: longer
================  ==================================================================

The worker brings its words up to date each time before its loop waits for events. Those below
``FIRST_COUNTER`` say how it is, the others only grow. In the header, the counters are those of
workers that have ended, ``SLOTS_USED`` is the number of slots, header included, that have ever
been used, and ``FOLDS`` is odd while the counters of one are added to the header.
"""

from __future__ import annotations

(
    WORKER,
    GENERATION,
    INBOX,
    ACCEPTING,
    BUSY_SINCE,
    LAG,
    CONNECTIONS,
    WEBSOCKETS,
    IN_FLIGHT,
    ACCEPTED,
    REQUESTS,
    ERRORS,
    BYTES_IN,
    BYTES_OUT,
    LOGS_DROPPED,
    STATUS,  # of class 0, which there is none of
) = range(16)
LATENCY_SUM = STATUS + 6
LATENCY = LATENCY_SUM + 1

FIRST_COUNTER = ACCEPTED
SLOTS_USED = 0
FOLDS = 1

LATENCY_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Seconds."""

SLOT_WORDS = 40
"""A slot fills cache lines, so that workers on different cores don't slow each other down."""

type Slot = memoryview[int]

_TRIES = 1000  # to sum while nothing is folded; nobody shall wait for a supervisor that is stopped

_attached: tuple[Slot, int] | None = None


def new_board(slots: int) -> Slot:
    """Allocate a board with as many slots besides the header, all zero."""
    board = memoryview(bytearray((slots + 1) * SLOT_WORDS * 8)).cast("Q")
    board[SLOTS_USED] = 1
    return board


def private_board() -> tuple[Slot, int]:
    """A board for one worker that has no supervisor, and the number of its slot there."""
    board = new_board(1)
    board[SLOTS_USED] = 2
    board[SLOT_WORDS + WORKER] = board[SLOT_WORDS + GENERATION] = 1
    return board, 1


def slot_of(board: Slot, index: int) -> Slot:
    """The words of one slot, from 1, or of the header, 0; writing to them writes to the board."""
    return board[index * SLOT_WORDS : (index + 1) * SLOT_WORDS]


def slots_in_use(board: Slot) -> list[Slot]:
    """The slots of workers that have not ended."""
    used = (slot_of(board, index) for index in range(1, board[SLOTS_USED]))
    return [slot for slot in used if slot[WORKER]]


def counted(board: Slot) -> list[int]:
    """All counters, summed over the board, in a list that is indexed as a slot is.

    What is no counter is 0 in it.
    """
    sums: list[int] = []
    for _ in range(_TRIES):
        folds = board[FOLDS]
        sums = [0] * SLOT_WORDS
        for slot in (slot_of(board, 0), *slots_in_use(board)):
            for word in range(FIRST_COUNTER, SLOT_WORDS):
                sums[word] += slot[word]
        if folds % 2 == 0 and board[FOLDS] == folds:
            break
    return sums


def fold(board: Slot, index: int) -> None:
    """Add the counters of a worker that has ended to the header, and free its slot.

    For the supervisor only. Who sums at the same time sees them once, neither twice nor not at all:
    of a sum that went back Prometheus would think that all had been counted anew.
    """
    header, slot = slot_of(board, 0), slot_of(board, index)
    header[FOLDS] += 1
    for word in range(FIRST_COUNTER, SLOT_WORDS):
        header[word] += slot[word]
    slot[:] = memoryview(bytes(SLOT_WORDS * 8)).cast("Q")
    header[FOLDS] += 1


def attach(board: Slot, index: int) -> None:
    """Set board and slot of the worker that will run in this interpreter."""
    global _attached
    _attached = (board, index)


def attached() -> tuple[Slot, int]:
    """What was set by ``attach()``, or a private board and its only slot."""
    return private_board() if _attached is None else _attached
