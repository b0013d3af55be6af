"""What may have been meant by a name that nobody knows. Loaded for a mistake only."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def suggestion(
    name: str, known: Iterable[str], cutoff: float = 0.6, *, instead: Iterable[str] = ()
) -> str:
    """Which of those that are known may be meant, to be put after what is wrong with a name.

    ``instead`` is named where none is alike.
    """
    close = get_close_matches(name, list(known), 3, cutoff) or list(instead)
    return f"; did you mean {' or '.join(close)}?" if close else ""
