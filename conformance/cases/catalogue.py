"""All cases of the suite, and their selection by id and level."""

import fnmatch
from collections import Counter
from collections.abc import Collection, Sequence

from conformance.cases import asgi, http1
from conformance.cases.model import Case, Level


def all_cases() -> list[Case]:
    """Every case, HTTP/1.1 first; ids are unique."""
    cases = [case for table in (*http1.TABLES, *asgi.TABLES) for case in table.cases]
    doubled = [name for name, count in Counter(case.id for case in cases).items() if count > 1]
    if doubled:
        raise ValueError(f"case ids used twice: {doubled}")
    return cases


def select(
    cases: Sequence[Case], patterns: Sequence[str] = (), levels: Collection[Level] = tuple(Level)
) -> list[Case]:
    """The cases of these levels whose id matches one of the glob patterns."""
    return [
        case
        for case in cases
        if case.level in levels
        and (not patterns or any(fnmatch.fnmatchcase(case.id, glob) for glob in patterns))
    ]
