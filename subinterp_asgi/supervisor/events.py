"""What happens to a supervisor and its workers, as typed events.

They are delivered in the host's interpreter: to ``on_event`` in a thread of the supervisor's, to
iterators in whichever thread asks them. Never in a signal handler, and never while the supervisor
holds a lock.
"""

from __future__ import annotations

import queue
import threading
import weakref
from collections.abc import Callable
from dataclasses import field, replace
from time import monotonic

from ..config.records import dataclass
from ..types import Self
from . import host_log
from .states import GenerationState, SupervisorState, WorkerState

_CALLBACK_TIME = 5.0  # seconds that a callback may still take once the supervisor has ended


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something happened; ``at`` says when, by ``time.monotonic()``."""

    at: float = field(default_factory=monotonic)


@dataclass(frozen=True, slots=True, kw_only=True)
class SupervisorChanged(Event):
    """The supervisor has another state."""

    state: SupervisorState


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationChanged(Event):
    """A generation has another state; the reason says why, if it failed."""

    generation: int
    state: GenerationState
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerEvent(Event):
    """Something happened to a worker."""

    worker_id: int
    generation: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerChanged(WorkerEvent):
    """A worker has another state."""

    state: WorkerState


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerDied(WorkerEvent):
    """A worker ended although nobody had asked it to, or could not start.

    ``error`` is a line, then a traceback where there is one. ``restart_in``: seconds until it is
    replaced; ``None``: it is not.
    """

    error: str
    restart_in: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerStuck(WorkerEvent):
    """A worker's loop has not come round for too long.

    ``stack``: where its thread is, as a Python stack, or a line that says why that is not known.
    """

    seconds: float
    stack: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LifespanFailed(WorkerEvent):
    """A worker's lifespan has raised while it served; ``error``: a line, then a traceback."""

    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerRecycled(WorkerEvent):
    """A worker is being replaced because, as the option ``reason`` says, it has served enough."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerAbandoned(WorkerEvent):
    """A worker did not end. It is left alone and keeps its memory, until it ends by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaled(Event):
    """The number of workers was changed."""

    before: int
    after: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FilesChanged(Event):
    """Files of the application's have changed, so that it is reloaded."""

    files: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReloadFailed(Event):
    """A reload was given up; the workers that were there go on."""

    generation: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TLSReloaded(Event):
    """Workers were told to read TLS files again; with ``ssl_reload``, since ``files`` changed."""

    files: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TLSReloadFailed(Event):
    """The TLS files can't be used; new connections get the certificate of before."""

    files: tuple[str, ...]
    reason: str


class EventStream:
    """The events from now on, for one consumer. Iteration ends when the supervisor has ended."""

    def __init__(self, hub: EventHub) -> None:
        self._hub = hub
        self._queue: queue.SimpleQueue[Event | None] = queue.SimpleQueue()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Event:
        event = self.get()
        if event is None:
            raise StopIteration
        return event

    def get(self, timeout: float | None = None) -> Event | None:
        """Return the next event; ``None`` if there will be no more.

        Raises:
            TimeoutError: It did not come.
        """
        try:
            event = self._queue.get(timeout=timeout)
        except queue.Empty:
            raise TimeoutError(f"no event within {timeout:g} s") from None
        if event is None:
            self._queue.put(None)  # the end stays the end
        return event

    def put(self, event: Event | None) -> None:
        """Add an event, or the end; the hub's."""
        self._queue.put(event)

    def close(self) -> None:
        """Take no more events."""
        self._hub.forget(self)
        self._queue.put(None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


class EventHub:
    """Passes events on; ``emit()`` never blocks.

    The callback is called in a thread of its own; what it raises is logged.
    """

    def __init__(self, callback: Callable[[Event], object] | None) -> None:
        self._callback = callback
        # One that was dropped, without having been closed, is not to collect events for ever.
        self._streams: weakref.WeakSet[EventStream] = weakref.WeakSet()
        self._thread: threading.Thread | None = None
        self._lock = threading.Condition()
        self._ended = False
        self._last = 0.0
        self._emitted = 0
        self._seen = 0  # by the callback

    def start(self) -> None:
        """Begin to call the callback."""
        if self._callback is not None:
            stream = self.stream()
            self._thread = threading.Thread(
                target=self._deliver, args=(stream,), name="asgi-events", daemon=True
            )
            self._thread.start()

    def stream(self) -> EventStream:
        """Make an iterator over the events from now on."""
        stream = EventStream(self)
        with self._lock:
            if self._ended:
                stream.put(None)
            else:
                self._streams.add(stream)
        return stream

    def emit(self, event: Event) -> None:
        """Pass an event on."""
        with self._lock:
            if event.at < self._last:  # another thread was faster
                event = replace(event, at=self._last)
            self._last = event.at
            self._emitted += 1
            for stream in self._streams:
                stream.put(event)

    def flush(self, timeout: float) -> None:
        """Wait until the callback has seen all events until now."""
        if self._thread is not None and self._thread is not threading.current_thread():
            with self._lock:
                emitted = self._emitted
                self._lock.wait_for(lambda: self._seen >= emitted, timeout)

    def forget(self, stream: EventStream) -> None:
        """Pass no more events to a stream."""
        with self._lock:
            self._streams.discard(stream)

    def close(self) -> None:
        """End all streams, and wait until the callback has seen all."""
        with self._lock:
            self._ended = True
            streams = tuple(self._streams)
            self._streams.clear()
        for stream in streams:
            stream.put(None)
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(_CALLBACK_TIME)

    def _deliver(self, stream: EventStream) -> None:
        assert self._callback is not None
        for event in stream:
            try:
                self._callback(event)
            except BaseException as exc:  # such as pytest.fail()'s; later events are not its
                host_log.log("error", "on_event failed", exc)
            with self._lock:
                self._seen += 1
                self._lock.notify_all()
