"""The same names as ``supervisor.events``, for those who import them from here."""

from .supervisor.events import *  # noqa: F403
