"""One accepted socket: non-blocking reads and writes, backpressure, deadlines, and how it ends.

A ``Connection`` moves bytes; what they mean is its session's business (``asgi.http`` and, after an
upgrade, others). It knows neither HTTP nor ASGI.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
from collections import deque
from time import monotonic

from ...control.wakeup import ready
from ...errors import ClientDisconnected, WorkerInterrupted
from ...types import TYPE_CHECKING, Address
from .poller import READ, WRITE, octets_queued

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, Protocol

    from ...config import Config
    from ...control.counters import Counters
    from .poller import Poller

    class Session(Protocol):
        """What a connection calls: the protocol spoken on it."""

        def data_received(self, data: bytes) -> None:
            """Octets came."""

        def eof_received(self) -> None:
            """The peer will send no more; it may still read."""

        def connection_lost(self) -> None:
            """The connection is closed. Called exactly once."""

        def timed_out(self) -> None:
            """What ``Connection.expect_within()`` was told of has not come in time."""

        def drain(self) -> None:
            """The worker is ending: finish what was begun, start nothing new."""

        def break_off(self) -> None:
            """The worker waits no longer: give up what is not finished."""

        @property
        def idle(self) -> bool:
            """Whether nothing is begun."""

        @property
        def movable(self) -> bool:
            """Whether another worker could go on: nothing is begun, and nothing has come since."""

    class Registry(Protocol):
        """Where accepted sockets are kept while they are open, and what they have in common."""

        config: Config
        counters: Counters
        poller: Poller

        def answered(self) -> None:
            """One has been given its last answer, and waits for its end."""

        def discard(self, accepted: Any, /) -> None:
            """Forget one."""


logger = logging.getLogger("subinterp_asgi.error")

READ_SIZE = 65536 + 2048
"""A body or a message of 64 KiB and its head come together; 128 KiB would be mapped each time."""
HIGH_WATER = 65536
"""Octets waiting to be written from which on ``drained()`` waits; and waiting to be parsed, from
which on sessions pause reading."""
FILE_PART = 1 << 20
"""Octets of a file given to the kernel at once."""
LINGER_SILENCE = 5.0
"""Seconds for which a client that has had its last answer may send nothing before it is left."""
LINGER_TIME = 30.0
"""Seconds after which it is left even though it is still sending. How much it sends is not bounded:
many clients, and proxies, read no answer before all of their request is out."""
LOOKS = 16
"""How often a socket is read before its deadline is judged; this is more than the longest head."""
NEVER = float("inf")

waste = bytearray(READ_SIZE)
"""Where that goes which nobody wants, of all connections, in whatever threads these are."""

# Some file systems don't support it.
_CANT_SENDFILE = frozenset((errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP))


class Accepted:
    """An accepted socket: watched by a poller, with a deadline.

    It lingers at its end if the peer has had its last answer, and may still be sending.

    Attributes:
        closed: The socket is closed, or another's; nothing can be read or written.
        deadline: When something must have come, by ``monotonic()``, or ``NEVER``.
    """

    __slots__ = (
        "_fd",
        "_linger_end",
        "_poller",
        "_registry",
        "_sock",
        "_watching",
        "closed",
        "deadline",
    )

    would_block: tuple[type[OSError], ...] = (BlockingIOError, InterruptedError)
    """What the socket raises if it has nothing to read, or no room to write."""

    def __init__(self, sock: socket.socket, registry: Registry) -> None:
        self._sock = sock
        self._fd = sock.fileno()
        self._registry = registry
        self._poller = registry.poller
        self.deadline = NEVER
        self._linger_end = 0.0  # when to be gone at the latest; 0 before the last answer is out
        self.closed = False
        self._watching = READ
        self._poller.add(self._fd, READ, self.on_events)

    def on_events(self, events: int) -> None:
        """Called by the poller."""
        raise NotImplementedError

    def abort(self) -> None:
        """Close now."""
        raise NotImplementedError

    def look(self) -> bool:
        """Do now what the socket is ready for, without a poller; return whether it was."""
        if self.closed or not (events := ready(self._fd, self._watching)):
            return False
        self.on_events(events)
        return True

    @property
    def answered(self) -> bool:
        """Whether the last answer is out, and only the peer's end is waited for."""
        return self._linger_end > 0

    def _watch_for(self, events: int) -> None:
        """Tell the poller what is wanted now, if that has changed."""
        if events != self._watching and not self.closed:
            self._watching = events
            self._poller.modify(self._fd, events)

    def _linger(self) -> None:
        """Wait for the peer's end, now that the sending half is closed."""
        now = monotonic()
        self._linger_end = now + LINGER_TIME
        self.deadline = now + min(LINGER_SILENCE, LINGER_TIME)
        self._watch_for(READ)
        self._registry.answered()

    def _discard(self) -> bool:
        """Take from the peer what it still sends, once; return whether something was there."""
        try:
            size = self._sock.recv_into(waste)
        except self.would_block:
            return False
        except OSError:
            size = 0
        if size:
            self.deadline = min(monotonic() + LINGER_SILENCE, self._linger_end)
        else:
            self.abort()
        return True


class Connection(Accepted):
    """An accepted socket on which a session speaks.

    Attributes:
        session: Receiver of what happens on the connection.
        client: Address of the peer, or ``None`` for a Unix socket.
        server: Address that it connected to.
        tls: What ASGI's ``tls`` extension says of it, or ``None`` without TLS.
        at_eof: The peer will send no more.
    """

    __slots__ = (
        "_corked",
        "_counters",
        "_flushing",
        "_out",
        "_out_size",
        "_paused",
        "_queued",
        "_recv",
        "_send",
        "_then_close",
        "_write_deadline",
        "_write_timeout",
        "at_eof",
        "client",
        "server",
        "session",
        "tls",
    )

    session: Session
    _can_gather = hasattr(socket.socket, "sendmsg")

    def __init__(
        self,
        sock: socket.socket,
        registry: Registry,
        client: Address | None,
        server: Address | None,
    ) -> None:
        self._recv = sock.recv
        self._send: Callable[[bytes | memoryview], int] = sock.send
        self._counters = registry.counters
        self.client = client
        self.server = server
        self.tls: dict[str, Any] | None = None
        self._write_timeout = registry.config.timeout_write or NEVER
        self._write_deadline = NEVER
        self._queued = -1  # octets not taken yet when the clock looked last; -1: it did not
        self._out: deque[memoryview | bytes] | None = None
        self._out_size = 0
        self._corked = False
        self._flushing: asyncio.Event | None = None  # somebody waits for room
        self._paused = False
        self.at_eof = False
        # What to do once all is written: None (nothing), "close" or "linger".
        self._then_close: str | None = None
        super().__init__(sock, registry)

    # --- reading

    def on_events(self, events: int) -> None:
        """Called by the poller."""
        try:
            if events & WRITE:
                self._flush()
                if self.closed:
                    return
            if events & ~WRITE:
                if self._watching & READ:
                    self.read_available()
                elif not events & (READ | WRITE):
                    self.abort()  # an error or hang-up: nothing can be sent any more
        except (Exception, WorkerInterrupted) as exc:
            self._drop(exc)

    def read_available(self) -> bool:
        """Read once, if something is there; return whether there was."""
        if self._linger_end:
            return self._discard()
        try:
            data = self._recv(READ_SIZE)
        except self.would_block:
            return False
        except OSError:
            self.abort()
            return True
        if data:
            self._counters.bytes_in += len(data)
            self.session.data_received(data)
        else:
            self.at_eof = True
            self._watch()
            self.session.eof_received()
        return True

    def pause_reading(self) -> None:
        """Leave further octets to the kernel's buffer, and so to the peer."""
        if not self._paused:
            self._paused = True
            self._watch()

    def resume_reading(self) -> None:
        """Undo ``pause_reading()``."""
        if self._paused:
            self._paused = False
            self._watch()

    def call_soon(self, callback: Callable[[], None]) -> None:
        """Call a function of the session's once other connections have had their turn.

        Not if the connection is closed by then.
        """
        asyncio.get_running_loop().call_soon(self._call, callback)

    def _call(self, callback: Callable[[], None]) -> None:
        if not self.closed:
            try:
                callback()
            except (Exception, WorkerInterrupted) as exc:
                self._drop(exc)

    def _drop(self, exc: BaseException) -> None:
        """Give the connection up: this is a defect of this package's, or there is no memory.

        It must cost this connection only, which is closed first: perhaps it has what is lacking.
        """
        self.abort()
        if isinstance(exc, MemoryError):
            logger.error("there is not enough memory; the connection is dropped")
        else:
            logger.error("internal error; the connection is dropped", exc_info=exc)

    # --- writing

    @property
    def closing(self) -> bool:
        """Whether the connection is closed, or will be once all is written."""
        return self.closed or self._then_close is not None

    @property
    def congested(self) -> bool:
        """Whether so much waits to be written that ``drained()`` should be awaited."""
        return self._out_size > HIGH_WATER

    def write(self, data: bytes) -> None:
        """Write now what the kernel takes and keep the rest.

        ``ClientDisconnected``, of this and what else writes: the connection is closed, or broke.
        """
        if self.closed:
            raise ClientDisconnected("the connection is closed")
        if self._out is not None:
            self._out.append(data)
            self._out_size += len(data)
            if self._corked and self._out_size > HIGH_WATER:
                self.uncork()
            return
        try:
            sent = self._send(data)
        except self.would_block:
            sent = 0
        except OSError as exc:
            self.abort()
            raise ClientDisconnected("the client is gone") from exc
        self._counters.bytes_out += sent
        if sent != len(data):
            self._out = deque((memoryview(data)[sent:],))
            self._out_size = len(data) - sent
            self._expect_room()
            self._watch()

    def write_apart(self, parts: Sequence[bytes]) -> None:
        """Write several pieces without putting them together first, which for big ones would cost
        more than all else."""
        self.uncork()
        if self.closed or self._out is not None or not self._can_gather:
            for part in parts:
                self.write(part)
            return
        try:
            sent = self._sock.sendmsg(parts)  # type: ignore[attr-defined, unused-ignore]  # Windows
        except self.would_block:
            sent = 0
        except OSError as exc:
            self.abort()
            raise ClientDisconnected("the client is gone") from exc
        self._counters.bytes_out += sent
        out: deque[memoryview | bytes] = deque()
        for part in parts:
            if rest := memoryview(part)[sent:]:
                out.append(rest)
                self._out_size += len(rest)
            sent = max(0, sent - len(part))
        if out:
            self._out = out
            self._expect_room()
            self._watch()

    def cork(self) -> None:
        """Collect what is written until ``uncork()``, to send it at once."""
        if self._out is None:
            self._out = deque()
            self._corked = True

    def uncork(self) -> None:
        """Send what was collected."""
        if self._corked:
            self._corked = False
            if self.closed or not self._out:
                self._out = None
                return
            data = b"".join(self._out)
            self._out = None
            self._out_size = 0
            # The writers have returned already: who writes next will see that it is gone.
            with contextlib.suppress(ClientDisconnected):
                self.write(data)

    async def drained(self) -> None:
        """Wait until there is room to write again."""
        while self.congested and not self.closed:
            await self._flush_event()
        if self.closed:
            raise ClientDisconnected("the client is gone")

    async def send_file(self, file: int, offset: int, count: int) -> int:
        """Send a part of a file after what was written; return how many octets there were of it.

        The file's descriptor can be read at any position. It may be shorter than it has to be.
        """
        done = 0
        self.uncork()
        await self._flushed()
        while done < count:
            try:
                sent = self._send_file_part(file, offset + done, min(count - done, FILE_PART))
            except BlockingIOError:
                # Nothing is left to write, but to be told when there is room again.
                self._out = deque()
                self._expect_room()
                self._watch()
                await self._flushed()
                continue
            except (ConnectionError, TimeoutError) as exc:
                self.abort()
                raise ClientDisconnected("the client is gone") from exc
            if not sent:
                break
            done += sent
            if done < count:
                await asyncio.sleep(0)  # a fast reader must not keep all others waiting
            await self._flushed()
        return done

    def _send_file_part(self, file: int, offset: int, count: int) -> int:
        if hasattr(os, "sendfile"):
            try:
                sent: int = os.sendfile(self._fd, file, offset, count)
            except OSError as exc:
                if exc.errno not in _CANT_SENDFILE:
                    raise
            else:
                self._counters.bytes_out += sent
                return sent
        return self._copy_file_part(file, offset, count)

    def _copy_file_part(self, file: int, offset: int, count: int) -> int:
        if hasattr(os, "pread"):
            data = os.pread(file, min(count, HIGH_WATER), offset)
        else:
            os.lseek(file, offset, os.SEEK_SET)
            data = os.read(file, min(count, HIGH_WATER))
        if data:
            self.write(data)
        return len(data)

    async def _flushed(self) -> None:
        """Wait until all is written."""
        while self._out is not None and not self.closed:
            await self._flush_event()
        if self.closed:
            raise ClientDisconnected("the client is gone")

    async def _flush_event(self) -> None:
        if self._flushing is None:
            self._flushing = asyncio.Event()
        await self._flushing.wait()

    def _flush(self) -> None:
        out = self._out
        while out:
            piece = out[0]
            try:
                sent = self._send(piece)
            except self.would_block:
                return
            except OSError:
                self.abort()
                return
            self._expect_room()
            self._counters.bytes_out += sent
            self._out_size -= sent
            if sent == len(piece):
                out.popleft()
            else:
                out[0] = memoryview(piece)[sent:]
        self._out = None
        self._write_deadline = NEVER
        if self._then_close is not None:
            self._finish()
            return
        self._watch()
        if not self.congested:
            self._wake_drain_waiters()

    def _wake_drain_waiters(self) -> None:
        if self._flushing is not None:
            self._flushing.set()
            self._flushing = None

    # --- ending

    def close(self, *, linger: bool = False) -> None:
        """Close once everything is written.

        ``linger`` if the peer may still be sending. Closing with octets unread would reset the
        connection, and a reset may destroy the last answer before the peer has read it (RFC 9112
        section 9.6), so first only the sending half is closed, and what comes is discarded until
        the peer closes too, is silent, or has had its time.
        """
        if self.closed or self._then_close is not None:
            return
        self._then_close = "linger" if linger and not self.at_eof else "close"
        self.deadline = NEVER
        self.uncork()
        if self._out is None:
            self._finish()
        else:
            self._watch()

    def abort(self) -> None:
        """Close now; what was not written is lost."""
        if self.closed:
            return
        self.closed = True
        self._poller.remove(self._fd)
        self._registry.discard(self)  # before the peer sees it, who may come again at once
        self._sock.close()
        self._out = None
        self._out_size = 0
        self._wake_drain_waiters()
        session = self.session
        del self.session  # a cycle, which would keep both until the next garbage collection
        session.connection_lost()

    def reset(self) -> None:
        """Close so that the peer sees an error, not a clean end (RFC 9112 section 8).

        Needed where the end of the connection would look like the end of the message.
        """
        if not self.closed:
            with contextlib.suppress(OSError):
                self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            self.abort()

    def _finish(self) -> None:
        if self._then_close != "linger" or self._linger_end:
            self.abort()
            return
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError:
            self.abort()
            return
        self._paused = False
        self._linger()

    # --- the end of the worker

    @property
    def idle(self) -> bool:
        """Whether nothing would be lost if the connection were closed now."""
        return self.answered or (self._out is None and self.session.idle)

    def drain(self) -> None:
        """Finish what was begun, start nothing new."""
        if not self.closing:
            self.session.drain()

    def break_off(self) -> None:
        """Give up what is not finished."""
        if not self.closing:
            self.session.break_off()

    def move(self, pass_on: Callable[[int], bool]) -> None:
        """Leave the socket to another worker, if there is nothing that only this one knows of it.

        ``pass_on()`` is called with the descriptor, and tells whether another worker has it now.
        """
        if self.closing or self._out is not None or not self.session.movable:
            return
        self._poller.remove(self._fd)  # first: the other may be at it at once
        if not pass_on(self._fd):
            self._poller.add(self._fd, READ, self.on_events)
            return
        self._sock.detach()
        self.closed = True
        self._registry.discard(self)
        del self.session

    # --- deadlines

    def expect_within(self, seconds: float) -> None:
        """Have ``session.timed_out()`` called in a while, or ``NEVER``; the last call counts."""
        self.deadline = monotonic() + seconds

    def check_deadlines(self, now: float) -> None:
        """Called by the worker's timer."""
        if self.closed:
            return
        if self._write_deadline != NEVER:
            self._note_progress(now)
        if now < self.deadline and now < self._write_deadline:
            return
        # The worker may have been held up, and what was due may wait in the socket since long ago.
        # The poller may have no turn for it yet, so it is looked at here.
        looks = 0
        while looks < LOOKS and self.look() and now >= self.deadline:
            looks += 1
        self._judge(now)

    def _judge(self, now: float) -> None:
        if self.closed:
            return
        if now >= self._write_deadline:
            self.reset()  # the client does not read; what it may still read is not all
        elif now >= self.deadline:
            self.deadline = NEVER
            if self._linger_end:
                self.abort()
            else:
                self.session.timed_out()

    def _expect_room(self) -> None:
        """Begin to count the time in which the peer takes nothing."""
        self._write_deadline = monotonic() + self._write_timeout
        self._queued = -1

    def _note_progress(self, now: float) -> None:
        """Put the write deadline off if the peer has taken something since the last look.

        The kernel asks for more only when a good part of its buffer is free, which may be megabytes
        and a slow peer's minutes. Where it can't be asked how much it still keeps, that is
        nevertheless all there is to go by.
        """
        before, self._queued = self._queued, octets_queued(self._fd)
        if before not in (-1, self._queued):
            self._write_deadline = now + self._write_timeout

    def _watch(self) -> None:
        """Tell the poller what is wanted now, if that has changed."""
        closing = self._then_close is not None and not self._linger_end
        wanted = 0 if self._paused or self.at_eof or closing else READ
        if self._out is not None and not self._corked:
            wanted |= WRITE
        self._watch_for(wanted)
