"""A generation of workers on its way: started beside the one that serves, then put in its place.

``start()``, ``reload()`` and ``scale()`` of the supervisor make a ``Rollout``, hand it to the
reconciler and wait. It goes on by ``step()``, in the supervisor's thread and with its lock held.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from time import monotonic

from ...config import Config
from ...errors import ReloadError, StartupError
from ..pool.handle import WorkerHandle
from ..pool.pool import Pool
from ..pool.selector import NEVER
from ..pool.slot import Slot
from ..process.limits import with_cure
from ..states import WorkerState
from .canary import Trial

type Course = Generator[float]
"""What a rollout does, as far as it can at once; it yields when to look again."""

START_MARGIN = 2.0
"""Seconds for a worker to report its own timeout before it is reported for it."""
_CANARY_INTERVAL = 0.1  # seconds between looks at a canary
_VERDICT_TIME = 1.0  # seconds to see whether others can start, once one could not

SHARED_APP = (
    "(workers in threads share one application object; if it can't be run by several, serve it "
    "with --workers 1 and without reloads, or with --factory, which makes one for each worker)"
)


class Rollout:
    """Starts a generation and, once it serves, retires the one before.

    Args:
        config: The options, of which ``reload_strategy`` and ``reload_canary`` say how to go on.
        slots: Where its workers are wanted.
        timeout: Seconds that requests of those before may take to end; ``None``: as they know.

    Attributes:
        candidates: Its workers that have not taken their places. Nobody else looks after them.
        retired: The workers that it has told to end.
        done: It is over.
        failure: Why it was given up, if it was.
    """

    def __init__(
        self,
        config: Config,
        pool: Pool,
        generation: int,
        slots: Sequence[Slot],
        timeout: float | None = None,
    ) -> None:
        self._config = config
        self._pool = pool
        self._slots = tuple(slots)
        self._timeout = timeout
        self._generation = generation
        self._before = pool.generation
        self._promoted = 0  # slots that the new generation serves
        self.candidates: set[WorkerHandle] = set()
        self.retired: list[WorkerHandle] = []
        self.done = False
        self.failure: Exception | None = None
        self._course = self._run()

    def step(self) -> float:
        """Go on as far as possible; return when to look again (``time.monotonic()``)."""
        try:
            return next(self._course)
        except StopIteration:
            self.done = True
        except Exception as exc:  # one that nobody has thought of is the caller's to see, too
            self.done, self.failure = True, exc
            if self._before:  # or else all workers are going to be ended
                self.give_up()
        return NEVER

    def give_up(self) -> None:
        """Retire the new workers that have not taken their places."""
        for slot in self._slots:
            if slot.incoming in self.candidates and slot.incoming is not None:
                slot.incoming.given_up = slot.incoming.state is not WorkerState.SERVING
                self._retire(slot.incoming)
                slot.vacate(slot.incoming)
        self.candidates.clear()
        self._pool.reserve.distrust()  # what is wrong may be what they have kept

    def reload_error(self, exc: StartupError) -> ReloadError:
        """Say what serves after a reload that was given up."""
        number, before, reason = self._generation, self._before, str(exc)
        if self._promoted:
            reason = (
                f"generation {number} serves in {self._promoted} of {len(self._pool.slots)} "
                f"workers only, generation {before} goes on in the others: {reason}"
            )
        else:
            reason = f"generation {number} does not serve, generation {before} goes on: {reason}"
        return ReloadError(reason, number, kind=exc.kind, cause=exc.cause)

    # --- its course

    def _run(self) -> Course:
        """Replace all workers.

        ``StartupError``: a new one could not start, or the canary did worse than the others.
        """
        slots = self._slots
        for slot in slots:
            if slot.incoming is not None:  # it would have replaced one of the old ones
                self._pool.retire(slot.incoming)
                slot.vacate(slot.incoming)
        if self._config.reload_canary:
            yield from self._start(slots[:1])
            yield from self._try(slots[0], self._config.reload_canary)
        if self._config.reload_strategy != "rolling":
            yield from self._start([slot for slot in slots if slot.incoming is None])
            self._promote(slots)
        else:
            for slot in slots:
                if slot.incoming is None:
                    yield from self._start([slot])
                self._promote([slot])

    def _start(self, slots: Sequence[Slot]) -> Course:
        """Start new workers and wait until all of them serve."""
        for slot in slots:
            try:
                handle = self._pool.start(slot, self._generation, reuse=True)
            except (OSError, RuntimeError, MemoryError) as exc:
                text = f"worker {slot.index} could not be started: {with_cure(exc)}"
                raise StartupError(text, slot.index, kind="resources") from exc
            self.candidates.add(handle)
            slot.prepare(handle)
        # (A canary too, which may have died since.)
        new = [slot.incoming for slot in self._slots if slot.incoming is not None]
        deadline = monotonic() + self._config.startup_timeout + START_MARGIN
        while True:
            failed = next((handle for handle in new if handle.state is WorkerState.FAILED), None)
            if failed is not None:
                yield from self._await_verdict(new)
                lacking = failed.error_kind == "resources"
                once = not lacking and self._only_once()
                reason = f", but another could {SHARED_APP}" if once else ""
                error = with_cure(failed.error) if lacking else failed.error
                text = f"worker {failed.worker_id} could not start{reason}: {error}"
                raise StartupError(
                    text, failed.worker_id, kind=failed.error_kind, cause=failed.error_cause
                )
            late = [handle for handle in new if handle.state is not WorkerState.SERVING]
            if not late:
                return
            if monotonic() >= deadline:
                raise StartupError(
                    f"worker {late[0].worker_id} did not start within "
                    f"startup_timeout={self._config.startup_timeout:g} s",
                    late[0].worker_id,
                    kind="timeout",
                )
            yield deadline

    def _await_verdict(self, new: Sequence[WorkerHandle]) -> Course:
        """Wait until it is known of all whether they can start, if that says something."""
        ends = monotonic() + _VERDICT_TIME
        while (
            self._pool.shares_app
            and any(handle.state is WorkerState.STARTING for handle in new)
            and monotonic() < ends
        ):
            yield ends

    def _only_once(self) -> bool:
        """Whether a worker has started with the very application that another could not."""
        return self._pool.shares_app and any(
            handle.state not in (WorkerState.STARTING, WorkerState.SPARE, WorkerState.FAILED)
            for handle in self._pool.handles
        )

    def _try(self, slot: Slot, seconds: float) -> Course:
        """Watch the canary for a while."""
        canary = slot.incoming
        assert canary is not None
        others = [other.current for other in self._pool.slots if other.current is not None]
        trial = Trial(canary, others)
        ends = monotonic() + seconds
        while (now := monotonic()) < ends:
            if canary.state is not WorkerState.SERVING:
                raise StartupError(
                    f"the canary is {canary.state.value}: {canary.error}", kind="canary"
                )
            due = min(ends, now + _CANARY_INTERVAL)
            yield due
            objection = trial.look(self._pool.handles, max(0.0, monotonic() - due))
            if objection:
                raise StartupError(objection, kind="canary")

    def _promote(self, slots: Sequence[Slot]) -> None:
        """Let the new workers take the places of the old ones, which retire."""
        self._pool.generation = self._generation
        self._promoted += len(slots)
        for slot in slots:
            old = slot.promote()
            if slot.current is not None:
                self.candidates.discard(slot.current)
            if old is not None and not old.exited:
                self._retire(old, keep=True)

    def _retire(self, handle: WorkerHandle, *, keep: bool = False) -> None:
        self._pool.retire(handle, keep=keep)
        self.retired.append(handle)
        if self._timeout is not None:
            handle.break_off_at = monotonic() + self._timeout
