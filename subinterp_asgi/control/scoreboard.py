"""Counters of the workers in shared memory: written by each worker, read by anyone, no messages.

The board is one ``memoryview`` of unsigned 64-bit words. It begins with a slot of the supervisor's,
the header, and each worker has a slot of ``SLOT_WORDS`` words, of which it is the only writer, but
for the shares; aligned words are never torn, so that readers need no lock, but two words may be of
different moments. A slot is used again once its worker has ended; what that had counted is added to
the header first, so that sums over the board only grow.

Words of a worker's slot, by index; counters since the worker began, times in nanoseconds of
``time.monotonic_ns()``:

=====================  ============================================================================
``WORKER``             1 + the worker's number; 0: the slot is free (the supervisor's word)
``GENERATION``         the worker's generation (the supervisor's word)
``INBOX``              1 + the descriptor to hand sockets over through; 0: none (the supervisor's)
``ACCEPTING``          1 while the worker accepts connections
``SERVED``             connections, less those turned away; with ``limit_connections_total`` only
``CONNECTIONS_SHARE``  what the worker may take of that unasked; others set it to 0
``CONCURRENCY_SHARE``  the same of ``limit_concurrency_total``
``BUSY_SINCE``         the heartbeat: when the loop woke up last; 0 while it sleeps
``LAG``                how long the loop was held up lately at one time; it decays
``WORDS[row]``         each row of ``Totals``, gauges first; ``CONNECTIONS`` and so on
``STATUS`` + n         responses with a status of class n, 1 to 5
``TURN_SUM``           nanoseconds of all turns of the loop together
``TURNS`` + i          turns that took at most ``BOUNDS[i]``; the last: longer
``LATENCY_SUM``        microseconds from head to end of all responses measured
``LATENCY`` + i        responses, likewise
=====================  ============================================================================

The worker brings its words up to date each time before its loop waits for events; requests in
flight at once, with ``limit_concurrency_total``. Those below ``FIRST_COUNTER`` say how it is, the
others only grow. In the header, the counters are those of
workers that have ended, ``SLOTS_USED`` is the number of slots, header included, that have ever
been used, and ``FOLDS`` is odd while the counters of one are added to the header.
"""

from __future__ import annotations

import sys

from ..types import Any


def gauge(metric: str, text: str) -> Any:
    """Declare a row that says how a worker is; sums are over the workers that have not ended."""
    return "gauge", metric, text


def counter(metric: str, text: str) -> Any:
    """Declare a row that only grows; sums are over all workers that are and that were."""
    return "counter", metric, text


class Totals:
    """The one table of what is counted.

    A row is a word of each slot, an attribute of ``Counters``, its sum an attribute of ``Stats``
    and the metric that is named here: whoever adds one has only to count it somewhere.
    """

    __slots__ = ()

    connections: int = gauge("connections", "Open connections.")
    websockets: int = gauge("websockets", "Open WebSockets.")
    in_flight: int = gauge("requests_in_flight", "Requests without a complete response.")
    requests: int = counter("requests_total", "Requests begun, WebSockets included.")
    errors: int = counter("app_exceptions_total", "Exceptions that left the application.")
    accepted: int = counter("connections_accepted_total", "Connections accepted.")
    bytes_in: int = counter("received_bytes_total", "Octets received as HTTP or WebSocket.")
    bytes_out: int = counter("sent_bytes_total", "Octets sent.")
    logs_dropped: int = counter("log_records_dropped_total", "Log records that nobody took.")


def _rows(kind: str) -> dict[str, tuple[str, str, str]]:
    rows = ((name, getattr(Totals, name)) for name in Totals.__annotations__)
    return {name: row for name, row in rows if row[0] == kind}


ROWS = _rows("gauge") | _rows("counter")
"""Kind, metric and text of each row, by name, in the order of their words."""

WORKER, GENERATION, INBOX, ACCEPTING = range(4)
SERVED, CONNECTIONS_SHARE, CONCURRENCY_SHARE, BUSY_SINCE, LAG = range(4, 9)
WORDS = {name: word for word, name in enumerate(ROWS, LAG + 1)}
"""The word of each row; those below are what code and tests name."""
CONNECTIONS, WEBSOCKETS, IN_FLIGHT = (WORDS[n] for n in ("connections", "websockets", "in_flight"))
REQUESTS, ERRORS, ACCEPTED = (WORDS[n] for n in ("requests", "errors", "accepted"))
BYTES_IN, BYTES_OUT, LOGS_DROPPED = (WORDS[n] for n in ("bytes_in", "bytes_out", "logs_dropped"))
STATUS = LAG + 1 + len(ROWS)  # of class 0, which there is none of

BOUNDS = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075),
    *(0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
)
"""Seconds: those that OpenTelemetry advises for requests, and two below them."""

TURN_SUM = STATUS + 6
TURNS = TURN_SUM + 1
LATENCY_SUM = TURNS + len(BOUNDS) + 1
LATENCY = LATENCY_SUM + 1

FIRST_COUNTER = LAG + 1 + len(_rows("gauge"))
SLOTS_USED = 0
FOLDS = 1

SLOT_WORDS = -(-(LATENCY + len(BOUNDS) + 1) // 8) * 8
"""A slot fills cache lines, so that workers on different cores don't slow each other down."""

type Slot = memoryview[int]

_TRIES = 1000  # to sum while nothing is folded; nobody shall wait for a supervisor that is stopped

_attached: tuple[Slot, int] | None = None


def new_board(slots: int) -> Slot:
    """Allocate a board with as many slots besides the header, all zero."""
    board = memoryview(bytearray((slots + 1) * SLOT_WORDS * 8)).cast("Q")
    board[SLOTS_USED] = 1
    return board


def reserve_board(slots: int) -> Slot:
    """As ``new_board()``, for many slots: one that is never used takes no memory, only a place."""
    import mmap  # for supervisors only

    size = (slots + 1) * SLOT_WORDS * 8
    if sys.platform == "win32":
        reserved = mmap.mmap(-1, size)
    else:
        # Private: what a forked child does to it is nobody else's business.
        reserved = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        if sys.platform == "linux":
            reserved.madvise(mmap.MADV_NOHUGEPAGE)
    board = memoryview(reserved).cast("Q")
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


def of_all(board: Slot, word: int) -> Slot:
    """One word of all slots, also of free ones, where it is 0."""
    return board[SLOT_WORDS + word : board[SLOTS_USED] * SLOT_WORDS : SLOT_WORDS]


def slots_in_use(board: Slot) -> list[Slot]:
    """The slots of workers that have not ended."""
    used = (slot_of(board, index) for index in range(1, board[SLOTS_USED]))
    return [slot for slot in used if slot[WORKER]]


def counted(board: Slot) -> list[int]:
    """All counters, summed over the board, in a list indexed as a slot is; the rest is 0."""
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


def snapshot(board: Slot) -> tuple[list[int], dict[int, list[int]]]:
    """As ``counted()``, gauges too; and copies of the slots of workers that have not ended.

    Copies, by the slots' numbers, since a slot may be given up at any time.
    """
    sums = counted(board)
    slots = {index: slot_of(board, index).tolist() for index in range(1, board[SLOTS_USED])}
    slots = {index: slot for index, slot in slots.items() if slot[WORKER]}
    for word in range(LAG + 1, FIRST_COUNTER):
        sums[word] = sum(slot[word] for slot in slots.values())
    return sums, slots


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
