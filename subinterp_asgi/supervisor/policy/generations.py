"""The generations of a supervisor: the workers started together, by the start or by a reload."""

from __future__ import annotations

import threading
from collections.abc import Callable

from ..events import Event, GenerationChanged
from ..states import GenerationState, follow

_OVER = (GenerationState.ENDED, GenerationState.FAILED)


class Generations:
    """Which generations there are and what has become of them, which it says in events."""

    def __init__(self, emit: Callable[[Event], None]) -> None:
        self._emit = emit
        self._lock = threading.Lock()
        self.last = 0  # number of the last that was begun
        self._states: dict[int, GenerationState] = {}

    def begin(self) -> int:
        """Return the number of a new one, which is starting."""
        with self._lock:
            self.last = number = self.last + 1
            self._states[number] = GenerationState.STARTING
        self._emit(GenerationChanged(generation=number, state=GenerationState.STARTING))
        return number

    def enter(self, number: int, state: GenerationState, reason: str = "") -> None:
        """Have one go on to another state, unless it is over, perhaps because all are."""
        with self._lock:
            if number not in self._states:
                return
            self._states[number] = follow(self._states[number], state)
            if state in _OVER:
                del self._states[number]
        self._emit(GenerationChanged(generation=number, state=state, reason=reason))

    def replace(self, number: int) -> list[int]:
        """Have one serve and those that served before retire; return those.

        There is more than one after a reload that has failed half-way.
        """
        before = [n for n, state in self._states.items() if state is GenerationState.SERVING]
        self.enter(number, GenerationState.SERVING)
        for old in before:
            self.enter(old, GenerationState.RETIRING)
        return before

    def end_all_but(self, living: set[int]) -> None:
        """End those that retire, and of which no worker is left."""
        for number, state in tuple(self._states.items()):
            if state is GenerationState.RETIRING and number not in living:
                self.enter(number, GenerationState.ENDED)

    def end(self) -> None:
        """All end: the supervisor does."""
        for number in tuple(self._states):
            self.enter(number, GenerationState.ENDED)
