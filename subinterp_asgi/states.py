"""The same names as ``supervisor.states``, for those who import them from here."""

from .supervisor.states import GenerationState, SupervisorState, WorkerState, follow, may_follow

__all__ = ["GenerationState", "SupervisorState", "WorkerState", "follow", "may_follow"]
