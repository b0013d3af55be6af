"""Remembering what parsing or rendering gave, by the octets that it came from."""

from __future__ import annotations

from collections.abc import Hashable

from ..types import Any


class Cache(dict[Any, Any]):
    """A dictionary that forgets all before the sum of all sizes, ``size``, is above ``limit``.

    Peers choose what is remembered, hence the bound.
    """

    __slots__ = ("_limit", "_seen", "size")

    MAX_SEEN = 2048

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._limit = limit
        self._seen: set[int] = set()
        self.size = 0

    def remember(self, key: Hashable, value: object, size: int) -> None:
        """Keep a value whose key is not there yet; ``size`` counts towards the limit."""
        if self.size + size > self._limit:
            self.clear()
        self.size += size
        self[key] = value

    def clear(self) -> None:
        """Forget all."""
        super().clear()
        self.size = 0

    def seen_before(self, key: Hashable) -> bool:
        """Whether somebody has asked this for a key of late.

        For values of which most are never wanted again: to keep those costs more than it saves.
        """
        digest = hash(key)
        if digest in self._seen:
            return True
        if len(self._seen) >= self.MAX_SEEN:
            self._seen.clear()
        self._seen.add(digest)
        return False
