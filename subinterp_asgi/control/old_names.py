"""Classes of this package by the names that they had before, for code written for those."""

from __future__ import annotations

from .wakeup import Channel, Wakeup


class Doorbell(Wakeup):
    """A ``Wakeup``."""

    ring = Wakeup.set
    silence = Wakeup.clear


class RungQueue(Channel):
    """A ``Channel``."""

    @property
    def doorbell(self) -> Wakeup:
        """Its wakeup."""
        return self.wakeup
