"""A worker's place: its number, its inbox, who fills it and who will.

It outlives the workers that fill it, one after the other, and two while one is being replaced. It
changes by its verbs only, which are the reconciler's and the rollout's to use.
"""

from __future__ import annotations

import contextlib
import os

from ...control import handoff
from ...control.wakeup import close
from .handle import WorkerHandle

_POSIX = os.name == "posix"


class Slot:
    """A worker's place.

    Attributes:
        lent_to: The neighbours that accept for it.
        inbox: Pipe through which other workers hand sockets over, reading and writing end.
    """

    __slots__ = ("_current", "_incoming", "_restart_at", "inbox", "index", "lent_to")

    def __init__(self, index: int) -> None:
        self.index = index
        self._current: WorkerHandle | None = None
        self._incoming: WorkerHandle | None = None
        self._restart_at: float | None = None
        self.lent_to: set[WorkerHandle] = set()
        self.inbox: tuple[int, int] | None = None
        if _POSIX:
            self.inbox = os.pipe()
            for fd in self.inbox:
                os.set_blocking(fd, False)

    @property
    def current(self) -> WorkerHandle | None:
        """The worker that fills it, which may have died."""
        return self._current

    @property
    def incoming(self) -> WorkerHandle | None:
        """The worker that will replace that one once it serves."""
        return self._incoming

    @property
    def restart_at(self) -> float | None:
        """When the next replacement is due (``time.monotonic()``), or ``None``."""
        return self._restart_at

    @property
    def handles(self) -> list[WorkerHandle]:
        """Those that fill it or will."""
        return [handle for handle in (self._current, self._incoming) if handle is not None]

    @property
    def settled(self) -> bool:
        """Whether no replacement is on its way or due."""
        return self._incoming is None and self._restart_at is None

    def fill(self, handle: WorkerHandle) -> None:
        """Take a new worker: at once if the slot is empty, or else once it serves."""
        self._restart_at = None
        if self._current is None:
            self._current = handle
        else:
            self._incoming = handle

    def prepare(self, handle: WorkerHandle) -> None:
        """Take a new worker, which is to wait for ``promote()`` even if the slot is empty."""
        self._incoming = handle

    def promote(self) -> WorkerHandle | None:
        """Let the incoming worker take its place; return who had that."""
        old, self._current, self._incoming = self._current, self._incoming, None
        self._restart_at = None
        return old

    def vacate(self, handle: WorkerHandle) -> None:
        """Forget a worker that fills the slot or was to."""
        if handle is self._current:
            self._current = None
        elif handle is self._incoming:
            self._incoming = None

    def restart_later(self, at: float) -> None:
        """Have the next worker started at a time (``time.monotonic()``)."""
        self._restart_at = at

    def clear(self) -> list[WorkerHandle]:
        """Empty it, for nobody is wanted here; return who was there."""
        handles = self.handles
        self._current = self._incoming = self._restart_at = None
        return handles

    def close(self) -> None:
        """Release the inbox and what is left in it."""
        if self.inbox is not None:
            with contextlib.suppress(OSError):  # an application has closed it
                while left := handoff.receive(self.inbox[0]):
                    for number in left:
                        close(handoff.descriptor(number))
            for fd in self.inbox:
                close(fd)
            self.inbox = None
