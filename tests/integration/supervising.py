"""Supervisors for tests: made with one call, watched by their events, and ended in any case."""

from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import pytest

from subinterp_asgi import Supervisor
from subinterp_asgi.errors import ShutdownFailedError, SubinterpASGIError
from subinterp_asgi.supervisor.events import (
    Event,
    EventStream,
    GenerationChanged,
    SupervisorChanged,
    WorkerChanged,
)
from subinterp_asgi.supervisor.process import exit_guard
from subinterp_asgi.supervisor.states import (
    GenerationState,
    SupervisorState,
    WorkerState,
    may_follow,
)
from tests.support import Pending, get, wait_until

from .apps.pool import App
from .rawclient import RawClient, request

APP = "tests.integration.apps.pool:App"

both = pytest.mark.parametrize("isolation", ["interpreter", "thread"])


class Servers:
    """Makes supervisors, and checks at the end what their events were."""

    def __init__(self) -> None:
        self._made: list[tuple[Supervisor, EventStream]] = []

    def make(self, app: Any = None, isolation: str = "thread", **options: Any) -> Supervisor:
        """Make one with a free port; in threads, which is fast, unless it matters.

        Args:
            app: An application factory, or the path of one; by default ``App``.
            isolation: What the workers run in.
            options: Options.
        """
        if app is None:
            app = App if isolation == "thread" else APP
        defaults = {"port": 0, "isolation": isolation, "access_log": False, "factory": True}
        server = Supervisor(app, **defaults | options)
        self._made.append((server, server.events()))
        return server

    def start(self, app: Any = None, isolation: str = "thread", **options: Any) -> Supervisor:
        """Make one and start it."""
        server = self.make(app, isolation, **options)
        server.start()
        return server

    def close(self) -> None:
        """End all, and check their events."""
        for server, _ in self._made:
            with_no_grace(server)
        for server, stream in self._made:
            if server.state is SupervisorState.NEW:
                server.stop()
            check_course(list(stream))
        assert not exit_guard._watched


def with_no_grace(server: Supervisor) -> None:
    """Stop a supervisor that may have been stopped or have failed."""
    had_ended = server.state in (SupervisorState.STOPPED, SupervisorState.FAILED)
    try:
        server.stop(0)
    except ShutdownFailedError as exc:  # which is told each time
        if not had_ended:
            pytest.fail(f"its shutdown failed: {exc}")
    except SubinterpASGIError as exc:
        pytest.fail(f"it could not be stopped: {exc}")


def check_course(events: list[Event]) -> None:
    """Check that times don't go back, and that each state may follow the one before."""
    assert [event.at for event in events] == sorted(event.at for event in events)
    states = [event.state for event in events if isinstance(event, SupervisorChanged)]
    for old, new in pairwise([SupervisorState.NEW, *states]):
        assert may_follow(old, new), states
    _check_generations([event for event in events if isinstance(event, GenerationChanged)])
    _check_workers([event for event in events if isinstance(event, WorkerChanged)])


def _check_generations(events: list[GenerationChanged]) -> None:
    for number in {event.generation for event in events}:
        states = [event.state for event in events if event.generation == number]
        assert states[0] is GenerationState.STARTING, (number, states)
        for old, new in pairwise(states):
            assert may_follow(old, new), (number, states)
        assert states[-1] in (GenerationState.ENDED, GenerationState.FAILED), (number, states)


def _check_workers(events: list[WorkerChanged]) -> None:
    """Follow all workers; those of one number and generation at the same time are alike."""
    live: dict[tuple[int, int], list[WorkerState]] = {}
    for event in events:
        states = live.setdefault((event.worker_id, event.generation), [])
        # Of several it is who had come furthest.
        states.sort(key=list(WorkerState).index, reverse=True)
        before = next((old for old in states if may_follow(old, event.state)), None)
        if before is not None:
            states.remove(before)
        elif event.state is not WorkerState.STARTING:
            spare = event.worker_id >= 0 and may_follow(WorkerState.SPARE, event.state)
            assert spare, (event, states)
        if event.state not in (WorkerState.STOPPED, WorkerState.FAILED):
            states.append(event.state)
    left = {key: states for key, states in live.items() if states and key[0] >= 0}
    assert left == {}, "no end was announced"


class Heard:
    """Keeps events; for ``on_event``."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.threads: set[str] = set()

    def __call__(self, event: Event) -> None:
        self.threads.add(threading.current_thread().name)
        self.events.append(event)

    def of[E: Event](self, kind: type[E]) -> list[E]:
        """Those of a kind."""
        return [event for event in tuple(self.events) if isinstance(event, kind)]

    def wait_for[E: Event](self, kind: type[E], count: int = 1, **values: Any) -> list[E]:
        """Wait until there are so many of a kind, with such values, and return these."""

        def found() -> list[E]:
            return [
                event
                for event in self.of(kind)
                if all(getattr(event, name) == value for name, value in values.items())
            ]

        wait_until(lambda: len(found()) >= count, f"{count} {kind.__name__} {values}")
        return found()


class Background:
    """A call in a thread of its own."""

    def __init__(self, function: Callable[[], object]) -> None:
        self._function = function
        self._outcome: list[Any] = []
        self._thread = threading.Thread(target=self._call, name="test-caller", daemon=True)
        self._thread.start()

    def _call(self) -> None:
        try:
            self._outcome.append(self._function())
        except BaseException as exc:
            self._outcome.append(exc)

    @property
    def running(self) -> bool:
        """Whether it has not returned."""
        return self._thread.is_alive()

    def outcome(self, timeout: float = 30.0) -> Any:
        """Wait for its end; return the result, or the exception in place of one."""
        self._thread.join(timeout)
        assert self._outcome, "the call did not return"
        return self._outcome[0]


def in_turn(make: Callable[[int], Any]) -> Callable[[], Any]:
    """A factory that is told how often it was called: 1 for the first worker, and so on."""
    numbers = count(1)
    return lambda: make(next(numbers))


def generations(server: Supervisor) -> list[int]:
    """The generation of each worker."""
    return [info.generation for info in server.workers]


def who(server: Supervisor) -> str:
    """The name of a worker that answers."""
    answer = get(server.url, "/who")
    assert answer.status == 200
    return answer.text


def all_names(server: Supervisor, count: int) -> set[str]:
    """Ask until so many different workers have answered."""
    names: set[str] = set()

    def ask() -> bool:
        names.add(who(server))
        return len(names) >= count

    wait_until(ask, f"{count} workers to answer")
    return names


def in_flight(server: Supervisor, path: Path, action: str = "until") -> Pending:
    """Send a request that lasts until the file exists; return once that has begun."""
    pending = Pending(server.url, f"/{action}{path}")
    begun = Path(f"{path}.begun")
    wait_until(begun.exists, "the request to be begun")
    begun.unlink()
    return pending


def status_of(pending: Pending) -> int:
    """The status that a request was answered with."""
    answer = pending.result()
    assert not isinstance(answer, Exception), answer
    return answer.status


def connect(server: Supervisor) -> RawClient:
    """Connect to the first address."""
    host, port = server.addresses[0]
    return RawClient(host if port is None else (host, port))


def freeze_all(server: Supervisor, path: Path, count: int, *actions: bytes) -> list[RawClient]:
    """Freeze all workers, which don't go on before the file exists; return the connections.

    Args:
        server: The supervisor.
        path: The file.
        count: How many workers there are.
        actions: What they do instead of ``freeze``.
    """
    clients: dict[bytes, RawClient] = {}

    def try_another() -> bool:
        client = connect(server)
        name = client.get(b"/who").body
        if name in clients:
            client.close()
        else:
            clients[name] = client
        return len(clients) == count

    wait_until(try_another, "a connection to each worker")
    for number, client in enumerate(clients.values()):
        action = actions[number] if number < len(actions) else b"freeze"
        client.send(request(b"GET", b"/" + action + bytes(path)))
        begun = Path(f"{path}.begun")
        wait_until(begun.exists)
        begun.unlink()
    return list(clients.values())
