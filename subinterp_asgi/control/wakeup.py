"""How the two sides wake each other: descriptors that become readable.

Queues between interpreters can only be polled, which costs a hundred wake-ups a second and answers
after 10 ms. So each queue has a ``Wakeup`` beside it. A ``WatchdogLine`` reaches a worker whose
loop is held up and reads no queue.

All interpreters of a process share its descriptors. An application may close those that are not its
own, as with ``os.closerange()``: what is here then neither fails nor touches who has got the number
since, so that this can be told and all can end.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import sys

from ..types import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

READ = 1  # POLLIN, EPOLLIN
WRITE = 4  # POLLOUT, EPOLLOUT
LACKING = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
"""Errors of a system that has no descriptor, or memory, to give."""


def ready(fd: int, events: int, timeout: float | None = 0.0) -> int:
    """Return what a descriptor is ready for, now or within as many seconds."""
    if sys.platform != "win32" and hasattr(select, "poll"):
        poll = select.poll()
        poll.register(fd, events)
        found = poll.poll(None if timeout is None else timeout * 1000)
        return found[0][1] if found else 0
    readable, writable, _ = select.select(  # (which elsewhere refuses descriptors from 1024 on)
        [fd] if events & READ else [], [fd] if events & WRITE else [], [], timeout
    )
    return (READ if readable else 0) | (WRITE if writable else 0)


def close(fd: int) -> None:
    """Close a descriptor, unless an application has done so."""
    with _unless_lost():
        os.close(fd)


@contextlib.contextmanager
def _unless_lost() -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        if exc.errno != errno.EBADF:
            raise


def _identity(fd: int) -> tuple[int, int] | None:
    """What a descriptor stands for, as far as the system tells; ``None``: it is closed."""
    try:
        found = os.fstat(fd)
    except OSError:
        return None
    return found.st_dev, found.st_ino


class _Pair:
    """A reading and a writing descriptor, which may be one and the same.

    Args:
        numbers: Borrowed from another pair, which must outlive this one; by default a new pair, to
            be closed with ``close()``.
    """

    def __init__(self, numbers: tuple[int, int] | None = None) -> None:
        self._closed = False
        self.numbers = self._open() if numbers is None else numbers
        self._identities = {fd: _identity(fd) for fd in self.numbers}

    def _open(self) -> tuple[int, int]:
        numbers = os.pipe()
        os.set_blocking(numbers[1], False)
        return numbers

    @property
    def lost(self) -> bool:
        """Whether an application has closed them, which are not its own."""
        return not self._closed and any(
            before is None or _identity(fd) != before for fd, before in self._identities.items()
        )

    def close(self) -> None:
        """Close the descriptors; once, since their numbers may be others' afterwards."""
        if not self._closed:
            lost, self._closed = self.lost, True
            if not lost:
                for fd in self._identities:
                    os.close(fd)

    def _write(self, data: bytes) -> None:
        """Write all or nothing, which is the same to who reads."""
        if not (self._closed or self.lost):
            with _unless_lost(), contextlib.suppress(BlockingIOError):
                os.write(self.numbers[1], data)


class Wakeup(_Pair):
    """A flag that one thread sets and another waits for, as a descriptor; a ``threading.Event``."""

    def _open(self) -> tuple[int, int]:
        if sys.platform == "linux" and hasattr(os, "eventfd"):
            fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
            return fd, fd
        numbers = super()._open()
        os.set_blocking(numbers[0], False)
        return numbers

    def set(self) -> None:
        """Make the reading descriptor readable. Safe in any thread and in signal handlers."""
        # Eight octets are what an eventfd wants; a full pipe is readable anyway.
        self._write(b"\1\0\0\0\0\0\0\0")

    def clear(self) -> None:
        """Make it not readable; do this before looking for what it announces."""
        with contextlib.suppress(BlockingIOError):
            os.read(self.numbers[0], 4096)

    def wait(self, timeout: float | None = None) -> None:
        """Block this thread until it is set, or for as many seconds."""
        ready(self.numbers[0], READ, timeout)

    def fileno(self) -> int:
        """The reading descriptor."""
        return self.numbers[0]


class Channel:
    """A queue with a wakeup: ``put()`` sets it, whoever gets may wait for it."""

    def __init__(self, queue: Any, wakeup: Wakeup) -> None:
        self._queue = queue
        self.wakeup = wakeup

    def put(self, item: tuple[str, ...]) -> None:
        """Put an item and wake who waits for it."""
        self._queue.put(item)
        self.wakeup.set()

    def get_nowait(self) -> Any:
        """Get an item, or raise ``queue.Empty``."""
        return self._queue.get_nowait()


class WatchdogLine(_Pair):
    """A pipe by which a supervisor reaches the watchdog of a worker whose loop is held up.

    What is asked names the heartbeat that the supervisor saw (the slot's ``BUSY_SINCE``), and is
    void if the loop has gone on since. Closed once the worker has ended.
    """

    REPORT = b"r"
    INTERRUPT = b"i"
    DUMP = b"d"
    QUIT = b"q"

    def report(self, busy_since: int) -> None:
        """Ask where the worker is held up; ``stuck`` or ``debugged`` may answer."""
        self._send(self.REPORT, busy_since)

    def interrupt(self, busy_since: int) -> None:
        """Have ``WorkerInterrupted`` raised where the application holds the worker up.

        Code in C that waits can't be interrupted: there it is raised when that returns.
        """
        self._send(self.INTERRUPT, busy_since)

    def dump(self) -> None:
        """Ask for the stacks of all threads and tasks, whatever they do; ``dump`` answers."""
        self._send(self.DUMP, 0)

    def quit(self) -> None:
        """Tell the watchdog to end; the worker's own part."""
        self._send(self.QUIT, 0)

    def receive(self) -> tuple[bytes, int]:
        """Block this thread until something is asked; return what, and of which heartbeat.

        Nothing (``b""``): nobody will ask any more.
        """
        data = b""
        with _unless_lost():
            data = os.read(self.numbers[0], 9)
        return data[:1], int.from_bytes(data[1:], "little")

    def _send(self, request: bytes, busy_since: int) -> None:
        # A pipe takes so few octets as a whole or not at all. A full one is not read by anyone.
        self._write(request + busy_since.to_bytes(8, "little"))
