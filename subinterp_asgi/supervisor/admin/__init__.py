"""The supervisor's door on ``metrics_bind``: answers when no worker does, and a status page."""

from .door import Admin as Admin
