"""A limit that counts once for all workers, by the scoreboard.

Each slot has two words for it: what its worker *holds*, a number of requests or connections,
written at once wherever it changes, and its *share*, how many it may hold without a look at others.
Claimed is the greater of both, in all slots together.

While no more is claimed than the limit, workers below their shares can't exceed it, and pay no more
than a comparison. Who has used up its share looks at all slots, and takes a new one of what nobody
claims. If there is nothing it sets all shares to 0: now only what is held counts, and all have to
look. So nothing is refused while less is held than the limit, whoever holds it.

Only its owner makes a share greater, and only uses it if no more is claimed than the limit once it
is written: of two that take the same places at the same time one sees the other. What was accepted
is not taken back, and each worker may accept one more before others see that: by so many a limit
can be exceeded.
"""

from __future__ import annotations

from _thread import allocate_lock

from ...control.scoreboard import ACCEPTING, of_all
from ...types import TYPE_CHECKING

if TYPE_CHECKING:
    from ...control.counters import Counters

_ANY = 1 << 62  # words end before integers


class TotalLimit:
    """What one worker knows of it; ``held`` and ``share`` are the words."""

    __slots__ = ("_board", "_fence", "_held", "_limit", "_share", "_slot")

    def __init__(self, counters: Counters, limit: int, *, held: int, share: int) -> None:
        self._board = counters.board
        self._slot = counters.slot
        self._limit = min(limit, _ANY)
        self._held = held
        self._share = share
        self._fence = allocate_lock()

    def hold(self, number: int) -> None:
        """This worker holds so many."""
        self._slot[self._held] = number

    def reached(self, number: int) -> bool:
        """Whether there is no room for one more, asked by a worker that holds so many itself."""
        return number >= self._slot[self._share] and self._look()

    def _look(self) -> bool:
        """Look at all slots; take a share, if there is one to be had."""
        held, shares = of_all(self._board, self._held), of_all(self._board, self._share)
        left = self._limit - sum(map(max, held, shares))
        if left > 0:
            own, workers = self._slot[self._held], sum(of_all(self._board, ACCEPTING)) or 1
            fair = max(self._limit // workers, own + left // workers)
            self._slot[self._share] = min(own + left, fair)
            self._order()
            if sum(map(max, held, shares)) > self._limit:
                self._slot[self._share] = 0
            return False
        shares[:] = memoryview(bytes(shares.nbytes)).cast("Q")
        self._order()
        # Twice: what moves from one worker to another meanwhile may be seen in both.
        return sum(held) >= self._limit and sum(held) >= self._limit

    def _order(self) -> None:
        """Let others see what was written before this one reads on, which processors put off."""
        with self._fence:
            pass
