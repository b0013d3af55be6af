"""The same names as ``supervisor.states``, for those who import them from here."""

from .supervisor.states import *  # noqa: F403
