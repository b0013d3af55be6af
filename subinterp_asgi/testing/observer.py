"""What a test gets to know of the workers of its server, and asks of them."""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Mapping, Sequence
from time import monotonic
from typing import Any

from ..control.interpreters import Interpreter
from ..control.messages import CMD_ASK
from ..errors import CallFailedError, NoAnswerError, ShutdownIncompleteError, StateError
from ..supervisor.events import EventStream, WorkerDied
from ..supervisor.pool.handle import WorkerHandle
from ..supervisor.pool.reserve import Reserve
from ..supervisor.states import WorkerState
from ..supervisor.supervisor import Supervisor
from .interpreters import stock
from .records import AppError, Received

_MOST_REQUESTS = 1000
_MARGIN = 1.0  # seconds for an answer to come that a worker gives when time is over
_INJECTED = ("SystemExit: crashed by a test", "InjectedFault")
_LAST_WAIT = 5.0  # seconds
_ASKED = (WorkerState.SERVING, WorkerState.STUCK)


class Observer:
    """Collects what workers tell, and puts questions to them.

    Attributes:
        left: What the application has left behind.
    """

    def __init__(
        self,
        env: Mapping[str, str | None],
        reserve: Reserve | None = None,
        prelude: tuple[str, Any] | None = None,
    ) -> None:
        environment = {**os.environ, **env}
        self.environment = {k: v for k, v in environment.items() if v is not None}
        self.reserve = reserve
        self.prelude = prelude
        self.left: list[str] = []
        self._supervisor: Supervisor
        self._events: EventStream
        self._errors: list[AppError] = []
        self._checked = 0  # of the errors
        self._requests: deque[Received] = deque(maxlen=_MOST_REQUESTS)
        self._in_flight: dict[int, list[Received]] = {}
        self._answers: dict[int, dict[str, Any]] = {}
        self._last_number = 0

    def watch(self, supervisor: Supervisor) -> None:
        """Watch a supervisor, which is not started yet."""
        self._supervisor = supervisor
        self._events = supervisor.events()
        supervisor._observer = self

    # --- for the supervisor's pool

    def make_interpreter(self) -> Interpreter:
        """Return one that nobody has used."""
        return stock.take()

    def end_interpreter(self, interpreter: Interpreter) -> None:
        """See to it that one is closed."""
        stock.end(interpreter, later=self._supervisor._is_ending)

    def take_answer(self, worker_id: int, number: int, answer: str) -> None:
        """Take what a worker tells. Called by any thread, and quick."""
        what = json.loads(answer)
        if "error" in what:
            self._errors.append(_error(what["error"], worker_id))
        self.left += [f"{name} of worker {worker_id}" for name in what.get("left", ())]
        self._requests.extend(_received(each, worker_id) for each in what.get("requests", ()))
        if "in_flight" in what:
            self._in_flight[worker_id] = [_received(x, worker_id) for x in what["in_flight"]]
        if number:
            self._answers[number] = what

    # --- what is known

    def errors(self) -> list[AppError]:
        """All errors since ``reset()``, deaths of workers included."""
        while True:
            try:
                event = self._events.get(timeout=0)
            except TimeoutError:
                break
            if event is None:
                break
            if isinstance(event, WorkerDied) and not any(text in event.error for text in _INJECTED):
                self._errors.append(_death(event))
        return self._errors[:]

    def received(self) -> list[Received]:
        """All requests since ``reset()``, those last that are not done."""
        return [*self._requests, *(each for some in self._in_flight.values() for each in some)]

    def reset(self) -> None:
        """Forget all of it."""
        self.errors()
        self._errors.clear()
        self._checked = 0
        self._requests.clear()

    def unchecked(self) -> list[AppError]:
        """The errors that were not returned by this before."""
        checked, errors = self._checked, self.errors()
        self._checked = len(errors)
        return errors[checked:]

    # --- what is asked

    def settle(self, timeout: float) -> None:
        """Wait for workers that start or end, which would seem to hang if all were to end now."""
        with self._supervisor._changed:
            self._supervisor._changed.wait_for(
                lambda: (
                    not any(
                        handle.state not in _ASKED and not handle.exited
                        for handle in self._supervisor._handles()
                    )
                ),
                timeout,
            )

    def flush(self, timeout: float) -> None:
        """As ``LiveServer.flush()``."""
        answers = self._ask(self._workers(), {"flush": timeout}, timeout + _MARGIN)
        supervisor = self._supervisor
        if supervisor._logs is not None:
            supervisor._logs.flush(timeout)
        supervisor._hub.flush(timeout)
        busy = {handle.worker_id: a["busy"] for handle, a in answers.items() if a and a["busy"]}
        if busy:
            requests = ", ".join(request for some in busy.values() for request in some)
            raise NoAnswerError(
                f"still at work {timeout:g} s after their response: {requests}", tuple(busy)
            )

    def stop(self, timeout: float | None) -> None:
        """Stop the supervisor.

        With as little patience as tests have for requests, a machine that is busy may make a worker
        seem to hang that only had no turn yet: it is given time, which one that hangs costs.
        """
        supervisor = self._supervisor
        try:
            supervisor.stop(timeout)
        except ShutdownIncompleteError:
            deadline = monotonic() + _LAST_WAIT
            for handle in supervisor._handles():
                handle.thread.join(max(0.0, deadline - monotonic()))
            supervisor.stop(0)  # which raises it again, if it is still so
        finally:
            stock.work()

    def call(self, worker: int | str | None, question: dict[str, Any], timeout: float) -> Any:
        """As ``LiveServer.call()``."""
        handles = self._workers(worker)
        answers = self._ask(handles, question, timeout)
        return [_result(handle, answers[handle]) for handle in handles]

    def _workers(self, which: int | str | None = "all") -> list[WorkerHandle]:
        supervisor = self._supervisor
        with supervisor._changed:
            pool = supervisor._serving_pool("ask its workers")
            found = [h for h in pool.handles if h.state in _ASKED and not h.retiring]
        found.sort(key=lambda handle: handle.worker_id)
        if which != "all":
            found = [h for h in found if which in (None, h.worker_id)][:1]
            if not found:
                name = "no worker" if which is None else f"no worker {which!r}"
                raise StateError(f"{name} serves at the moment")
        return found

    def _ask(
        self, handles: Sequence[WorkerHandle], question: dict[str, Any], timeout: float
    ) -> dict[WorkerHandle, dict[str, Any] | None]:
        """Ask workers and return their answers; ``None`` of one that has ended meanwhile."""
        changed, text = self._supervisor._changed, json.dumps(question)
        numbers: dict[WorkerHandle, int] = {}
        with changed:
            for handle in handles:
                self._last_number += 1
                numbers[handle] = self._last_number
                handle.command(CMD_ASK, self._last_number, text)

            def missing() -> list[WorkerHandle]:
                return [
                    handle
                    for handle, number in numbers.items()
                    if number not in self._answers and not handle.exited
                ]

            changed.wait_for(lambda: not missing(), timeout)
            silent = tuple(handle.worker_id for handle in missing())
        answers = {handle: self._answers.pop(n, None) for handle, n in numbers.items()}
        if silent:
            names = ", ".join(map(str, silent))
            raise NoAnswerError(
                f"no answer of worker {names} within {timeout:g} s; its loop may be held up", silent
            )
        return answers


def _result(handle: WorkerHandle, answer: dict[str, Any] | None) -> Any:
    if answer is None:
        text = "has ended before it could answer"
        raise CallFailedError(text, "WorkerDied", handle.error or "", handle.worker_id)
    if failed := answer.get("failed"):
        text = f"{failed['type']}: {failed['message']}"
        raise CallFailedError(text, failed["type"], failed["traceback"], handle.worker_id)
    return answer["result"]


def _error(what: dict[str, Any], worker_id: int) -> AppError:
    return AppError(**{**what, "types": tuple(what["types"])}, worker_id=worker_id)


def _received(what: dict[str, Any], worker_id: int) -> Received:
    headers = tuple((name, value) for name, value in what["headers"])
    body = what["body"].encode("latin-1")
    return Received(**{**what, "headers": headers, "body": body}, worker_id=worker_id)


def _death(event: WorkerDied) -> AppError:
    line, _, traceback = event.error.partition("\n")
    kind, _, message = line.partition(": ")
    return AppError(
        type=kind,
        types=(kind,),
        message=f"the worker has died: {message or kind}",
        traceback=traceback,
        method=None,
        path=None,
        worker_id=event.worker_id,
    )
