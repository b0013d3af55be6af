"""The same names as ``supervisor.events``, for those who import them from here."""

from .supervisor.events import (
    Event,
    EventHub,
    EventStream,
    GenerationChanged,
    ReloadFailed,
    Scaled,
    SupervisorChanged,
    WorkerAbandoned,
    WorkerChanged,
    WorkerDied,
    WorkerEvent,
    WorkerRecycled,
    WorkerStuck,
)

__all__ = [
    "Event",
    "EventHub",
    "EventStream",
    "GenerationChanged",
    "ReloadFailed",
    "Scaled",
    "SupervisorChanged",
    "WorkerAbandoned",
    "WorkerChanged",
    "WorkerDied",
    "WorkerEvent",
    "WorkerRecycled",
    "WorkerStuck",
]
