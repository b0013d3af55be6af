"""The states of supervisors, generations and workers, and which may follow which."""

from __future__ import annotations

from enum import Enum

from ..errors import StateError


class SupervisorState(Enum):
    """The stages of a supervisor's life."""

    NEW = "new"
    STARTING = "starting"
    SERVING = "serving"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"
    """It could not start, or its workers died more often than ``restart_limit`` allows."""


class GenerationState(Enum):
    """The stages of a generation: the workers that were started together, by start or reload."""

    STARTING = "starting"
    SERVING = "serving"
    RETIRING = "retiring"
    """Another generation has taken its place."""
    ENDED = "ended"
    FAILED = "failed"
    """It could not start, or was rolled back."""


class WorkerState(Enum):
    """What a worker was last known to do; ``FAILED`` also if it ended without a word."""

    STARTING = "starting"
    SPARE = "spare"
    """Its application is imported, and it waits to be needed."""
    SERVING = "serving"
    STUCK = "stuck"
    """Its loop has not come round for ``timeout_worker_healthcheck``."""
    DRAINING = "draining"
    IDLE = "idle"
    STOPPED = "stopped"
    FAILED = "failed"


_S, _G, _W = SupervisorState, GenerationState, WorkerState

_AFTER: dict[Enum, tuple[Enum, ...]] = {
    _S.NEW: (_S.STARTING, _S.STOPPED),
    _S.STARTING: (_S.SERVING, _S.STOPPING, _S.FAILED),
    _S.SERVING: (_S.STOPPING, _S.FAILED),
    _S.STOPPING: (_S.STOPPED, _S.FAILED),
    _G.STARTING: (_G.SERVING, _G.FAILED, _G.ENDED),
    _G.SERVING: (_G.RETIRING, _G.ENDED, _G.FAILED),
    _G.RETIRING: (_G.ENDED,),
    _G.FAILED: (_G.ENDED,),
    _W.STARTING: (_W.SPARE, _W.SERVING, _W.DRAINING, _W.STOPPED, _W.FAILED),
    _W.SPARE: (_W.SERVING, _W.DRAINING, _W.STOPPED, _W.FAILED),
    _W.SERVING: (_W.STUCK, _W.DRAINING, _W.STOPPED, _W.FAILED),
    _W.STUCK: (_W.SERVING, _W.DRAINING, _W.IDLE, _W.STOPPED, _W.FAILED),
    _W.DRAINING: (_W.STUCK, _W.IDLE, _W.STOPPED, _W.FAILED),
    _W.IDLE: (_W.STOPPED, _W.FAILED),
}
"""Nothing follows those that are missing."""


def may_follow(old: Enum, new: Enum) -> bool:
    """Whether a state may come after another one."""
    return new in _AFTER.get(old, ())


def follow[State: Enum](old: State, new: State) -> State:
    """Return the new state; ``StateError``: it can't come after the old one."""
    if not may_follow(old, new):
        raise StateError(f"{old} can't be followed by {new}")
    return new
