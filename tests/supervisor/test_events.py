"""The hub that passes events on: to streams, to a callback, to nobody."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from subinterp_asgi.supervisor import events
from subinterp_asgi.supervisor.events import (
    Event,
    EventHub,
    FilesChanged,
    GenerationChanged,
    LifespanFailed,
    ReloadFailed,
    Scaled,
    SupervisorChanged,
    TLSReloaded,
    TLSReloadFailed,
    WorkerAbandoned,
    WorkerChanged,
    WorkerDied,
    WorkerEvent,
    WorkerRecycled,
    WorkerStuck,
)
from subinterp_asgi.supervisor.states import GenerationState, SupervisorState, WorkerState
from tests.support import nothing_left, running_threads, wait_until

EVENTS: list[Event] = [
    SupervisorChanged(state=SupervisorState.STARTING),
    GenerationChanged(generation=1, state=GenerationState.FAILED, reason="no luck"),
    WorkerChanged(worker_id=0, generation=1, state=WorkerState.SERVING),
    WorkerDied(worker_id=0, generation=1, error="SystemExit", restart_in=None),
    WorkerStuck(worker_id=0, generation=1, seconds=1.5, stack="..."),
    LifespanFailed(worker_id=0, generation=1, error="LookupError"),
    WorkerRecycled(worker_id=0, generation=1, reason="workers_lifetime"),
    WorkerAbandoned(worker_id=0, generation=1),
    Scaled(before=1, after=2),
    FilesChanged(files=("shop/web.py",)),
    ReloadFailed(generation=2, reason="no luck"),
    TLSReloaded(files=("fullchain.pem",)),
    TLSReloadFailed(files=(), reason="ssl_certfile: no luck"),
]


def number(value: int) -> Scaled:
    """An event that can be told apart from others."""
    return Scaled(before=0, after=value)


def numbers(stream: Iterator[Event]) -> list[int]:
    return [event.after for event in stream if isinstance(event, Scaled)]


@pytest.fixture(autouse=True)
def leaves_nothing() -> Iterator[None]:
    with nothing_left():
        yield


# --- events


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_events_are_frozen_and_know_when_they_were(event: Event) -> None:
    assert isinstance(event, Event)
    assert 0 < event.at <= time.monotonic()
    for field in dataclasses.fields(event):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(event, field.name, None)
    with pytest.raises((AttributeError, TypeError)):
        event.note = "mine"  # type: ignore[attr-defined]
    assert dataclasses.replace(event) == event
    assert hash(event) == hash(dataclasses.replace(event))


def test_every_kind_is_tried_here() -> None:
    def kinds(kind: type[Event]) -> set[type[Event]]:
        return {kind}.union(*(kinds(sub) for sub in kind.__subclasses__()))

    # (A dataclass with slots is made anew from the class that was written, which stays about.)
    made = {kind for kind in kinds(Event) if getattr(events, kind.__name__) is kind}
    assert made - {Event, WorkerEvent} == {type(event) for event in EVENTS}


# --- streams


def test_each_stream_has_all_from_its_beginning_on() -> None:
    hub = EventHub(None)
    hub.emit(number(0))  # nobody hears it
    first = hub.stream()
    hub.emit(number(1))
    second = hub.stream()
    hub.emit(number(2))
    hub.close()
    assert numbers(first) == [1, 2]
    assert numbers(second) == [2]


def test_an_ended_stream_stays_ended() -> None:
    hub = EventHub(None)
    stream = hub.stream()
    hub.close()
    assert list(stream) == []
    assert list(stream) == []
    assert stream.get() is None
    assert stream.get(timeout=0) is None


def test_a_stream_of_a_closed_hub_is_ended() -> None:
    hub = EventHub(None)
    hub.close()
    assert list(hub.stream()) == []


def test_what_is_emitted_after_the_end_is_dropped() -> None:
    hub = EventHub(None)
    stream = hub.stream()
    hub.close()
    hub.emit(number(1))
    assert list(stream) == []


def test_get_waits_for_as_long_as_it_is_told_to() -> None:
    hub = EventHub(None)
    stream = hub.stream()
    with pytest.raises(TimeoutError, match=r"no event within 0\.01 s"):
        stream.get(timeout=0.01)
    hub.emit(number(1))
    event = stream.get(timeout=20)
    assert isinstance(event, Scaled)
    hub.close()


def test_a_waiting_iteration_ends_with_the_hub() -> None:
    hub = EventHub(None)
    stream = hub.stream()
    seen: list[int] = []
    thread = threading.Thread(target=lambda: seen.extend(numbers(stream)))
    thread.start()
    hub.emit(number(1))
    hub.close()
    thread.join(20)
    assert not thread.is_alive()
    assert seen == [1]


def test_a_closed_stream_gets_no_more_and_ends_after_what_it_had() -> None:
    hub = EventHub(None)
    with hub.stream() as stream:
        hub.emit(number(1))
    hub.emit(number(2))
    assert numbers(stream) == [1]
    stream.close()
    hub.close()
    assert list(stream) == []


def test_times_never_go_back() -> None:
    """Although who was first to make an event may be second to emit it."""
    hub = EventHub(None)
    stream = hub.stream()
    first, second = number(1), number(2)
    hub.emit(dataclasses.replace(second, at=first.at + 1))
    hub.emit(first)
    hub.close()
    assert [event.at for event in stream] == [first.at + 1] * 2
    assert first.at < second.at


def test_events_of_many_threads_come_whole_and_in_one_order() -> None:
    hub = EventHub(None)
    streams = [hub.stream(), hub.stream()]
    start = threading.Barrier(4)

    def emit(first: int) -> None:
        start.wait()
        for n in range(first, first + 500):
            hub.emit(number(n))

    threads = [threading.Thread(target=emit, args=(k * 1000,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    hub.close()
    one, other = (list(stream) for stream in streams)
    assert one == other
    assert sorted(numbers(iter(one))) == [k * 1000 + n for k in range(4) for n in range(500)]
    assert [event.at for event in one] == sorted(event.at for event in one)


# --- the callback


def hearing(callback: Callable[[Event], object]) -> EventHub:
    hub = EventHub(callback)
    hub.start()
    return hub


def test_the_callback_is_called_in_turn_in_a_thread_of_its_own() -> None:
    seen: list[tuple[int, str]] = []

    def callback(event: Event) -> None:
        assert isinstance(event, Scaled)
        seen.append((event.after, threading.current_thread().name))

    hub = hearing(callback)
    for n in range(5):
        hub.emit(number(n))
    hub.close()  # which waits until all were seen
    assert seen == [(n, "asgi-events") for n in range(5)]


def test_without_a_callback_there_is_no_thread() -> None:
    before = running_threads()
    hub = EventHub(None)
    hub.start()
    assert running_threads() == before
    hub.close()


def test_emit_does_not_wait_for_the_callback() -> None:
    gate = threading.Event()
    seen: list[Event] = []

    def callback(event: Event) -> None:
        assert gate.wait(20)
        seen.append(event)

    hub = hearing(callback)
    for n in range(1000):
        hub.emit(number(n))
    assert seen == []
    gate.set()
    hub.close()
    assert len(seen) == 1000


def test_what_a_callback_raises_is_logged_and_harmless(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[Event] = []

    def callback(event: Event) -> None:
        seen.append(event)
        raise LookupError("the host's mistake")

    hub = hearing(callback)
    hub.emit(number(1))
    hub.emit(number(2))
    hub.close()
    assert len(seen) == 2
    failures = [r for r in caplog.records if r.name == "subinterp_asgi.error"]
    assert [r.getMessage() for r in failures] == ["on_event failed"] * 2
    assert all(r.exc_info and isinstance(r.exc_info[1], LookupError) for r in failures)


def test_a_callback_may_close_the_hub() -> None:
    seen: list[Event] = []

    def callback(event: Event) -> None:
        seen.append(event)
        hub.close()

    hub = hearing(callback)
    hub.emit(number(1))
    wait_until(lambda: hub._thread is not None and not hub._thread.is_alive())
    assert len(seen) == 1


def test_a_callback_that_never_returns_is_not_waited_for_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(events, "_CALLBACK_TIME", 0.01)
    gate = threading.Event()
    hub = hearing(lambda _: gate.wait(20))
    hub.emit(number(1))
    hub.close()
    assert hub._thread is not None
    assert hub._thread.is_alive()
    assert hub._thread.daemon
    gate.set()
