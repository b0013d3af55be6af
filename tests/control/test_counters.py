"""What readers of the scoreboard see of a worker that is at work."""

from __future__ import annotations

import sys
import threading
from time import monotonic

from subinterp_asgi.control import scoreboard
from subinterp_asgi.control.counters import Counters
from subinterp_asgi.control.interpreters import Interpreter
from subinterp_asgi.control.scoreboard import BUSY_SINCE, LATENCY_SUM, REQUESTS, SLOT_WORDS, slot_of

FLUSH = """
from subinterp_asgi.control.counters import Counters
counters = Counters(board, 1)
while not board[0]:  # the test says so
    for _ in range(100):
        counters.requests += 1
        counters.flush()
"""


def test_counts_never_go_back() -> None:
    """In parallel, a reader sees any moment of a writer; none may be between two counts."""
    board = scoreboard.new_board(1)
    board[0] = 0
    interpreter = Interpreter()
    interpreter.adopt_path(tuple(sys.path))
    interpreter.prepare({"board": board})
    writer = threading.Thread(target=interpreter.execute, args=(FLUSH,))
    writer.start()
    word = SLOT_WORDS + REQUESTS
    while not board[word]:
        pass
    last = backwards = 0
    deadline = monotonic() + 0.5
    while monotonic() < deadline:
        for _ in range(1000):
            seen = board[word]
            if seen < last:
                backwards += 1
            last = seen
    board[0] = 1
    writer.join()
    interpreter.close()
    assert backwards == 0
    assert last > 100


def test_flush_writes_its_words_and_no_others() -> None:
    board = scoreboard.new_board(2)
    for word in range(len(board)):
        board[word] = 99
    counters = Counters(board, 1)
    counters.requests = 5
    counters.flush(busy_since=7)
    slot = slot_of(board, 1)
    assert (slot[BUSY_SINCE], slot[REQUESTS]) == (7, 5)
    assert all(value == 99 for value in slot[:BUSY_SINCE])
    assert all(value == 99 for value in slot[LATENCY_SUM:])
    for other in (0, 2):
        assert all(value == 99 for value in slot_of(board, other))
