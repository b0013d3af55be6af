"""What a case is: who demands it, what is sent, and everything that is allowed in return.

Two kinds of case share `Case`: a `WireCase` is pure data, played by
`conformance.cases.exchange`; a `ProbeCase` is a coroutine that drives the probe application.
"""

import enum
import itertools
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from conformance.client.responses import Response

if TYPE_CHECKING:
    from conformance.client.lab import Lab

Statuses = frozenset[int]


class Level(enum.StrEnum):
    """How strongly the specification demands it (RFC 2119 words)."""

    MUST = "MUST"
    SHOULD = "SHOULD"
    MAY = "MAY"


class End(enum.Enum):
    """What has to become of the connection after the responses."""

    CLOSED = "closed"
    OPEN = "open"
    ANY = "open or closed"


class Check(Protocol):
    """A look at the responses of an accepted exchange; returns what is wrong, or None."""

    def __call__(self, responses: Sequence[Response], /) -> str | None: ...


# -- steps -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Send:
    """Write these octets in one piece."""

    data: bytes


@dataclass(frozen=True, slots=True)
class SendEach:
    """Write `data` in pieces of `size` octets, giving the server a chance to run between."""

    data: bytes
    size: int = 1


@dataclass(frozen=True, slots=True)
class Read:
    """Wait for one final response before going on."""


@dataclass(frozen=True, slots=True)
class ReadInterim:
    """Wait for an interim response with this status before going on."""

    status: int = 100


@dataclass(frozen=True, slots=True)
class Quiet:
    """Require silence for a moment."""

    seconds: float = 0.2


@dataclass(frozen=True, slots=True)
class HalfClose:
    """End the client's sending direction."""


Step = Send | SendEach | Read | ReadInterim | Quiet | HalfClose


# -- outcomes ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Answers:
    """Exactly these final responses, in order, and then the connection's end as stated."""

    statuses: tuple[Statuses, ...]
    end: End = End.ANY
    checks: tuple[Check, ...] = ()

    def __str__(self) -> str:
        return f"{row(map(_shown, self.statuses))} then {self.end.value}"


@dataclass(frozen=True, slots=True)
class Dropped:
    """The connection closed without any response."""

    def __str__(self) -> str:
        return "closed without a reply"


@dataclass(frozen=True, slots=True)
class Waits:
    """No response yet: the server may take the message as unfinished."""

    def __str__(self) -> str:
        return "no reply yet"


Outcome = Answers | Dropped | Waits


OK: Statuses = frozenset(range(200, 300))
CLIENT_ERROR: Statuses = frozenset(range(400, 500))


def refused(*statuses: int, end: End = End.CLOSED) -> Answers:
    """One response with one of `statuses` (400 if none is given), and nothing after it."""
    return Answers((frozenset(statuses or (400,)),), end)


def too_large(*statuses: int) -> tuple[Outcome, ...]:
    """A limit was reached: one of `statuses`, or a reply lost because the rest was unread."""
    return (refused(*statuses), Dropped())


def served(*checks: Check, end: End = End.OPEN, count: int = 1) -> Answers:
    """`count` successful responses."""
    return Answers((OK,) * count, end, checks)


def row(words: Iterable[str]) -> str:
    """Join words, repeated ones counted: `200 x3, 400`."""
    runs = [(word, len(list(group))) for word, group in itertools.groupby(words)]
    return ", ".join(word if count == 1 else f"{word} x{count}" for word, count in runs)


def _shown(statuses: Statuses) -> str:
    if statuses >= frozenset(range(200, 300)):
        others = sorted(statuses - frozenset(range(200, 300)))
        return "/".join(["2xx", *map(str, others)])
    if statuses >= frozenset(range(400, 500)):
        others = sorted(statuses - frozenset(range(400, 500)))
        return "/".join(["4xx", *map(str, others)])
    return "/".join(map(str, sorted(statuses)))


# -- cases -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One requirement: `id` is `topic.name`, `section` the sentence's place."""

    id: str
    section: str
    level: Level
    requirement: str

    @property
    def topic(self) -> str:
        """The part of the id that names the case's table."""
        return self.id.partition(".")[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class WireCase(Case):
    """Octets to send and the outcomes allowed.  `methods` frames responses (HEAD has none)."""

    steps: tuple[Step, ...]
    allowed: tuple[Outcome, ...]
    methods: tuple[str, ...] = field(default=())

    def method(self, index: int) -> str:
        """The method that the response number `index` answers."""
        return self.methods[index] if index < len(self.methods) else "GET"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeCase(Case):
    """A coroutine that talks to the probe application; it raises Mismatch or Skip."""

    check: Callable[["Lab"], Awaitable[None]]


class Table:
    """The cases of one topic, in the order of their definition."""

    def __init__(self, topic: str, section: str) -> None:
        self.topic = topic
        self.section = section
        self.cases: list[Case] = []

    def wire(
        self,
        name: str,
        level: Level,
        requirement: str,
        send: bytes | Sequence[Step],
        allowed: Outcome | Sequence[Outcome],
        *,
        section: str = "",
        methods: Sequence[str] = (),
    ) -> None:
        """Add a case of octets and allowed outcomes."""
        steps: tuple[Step, ...] = (Send(send),) if isinstance(send, bytes) else tuple(send)
        outcomes = (allowed,) if isinstance(allowed, (Answers, Dropped, Waits)) else tuple(allowed)
        self.cases.append(
            WireCase(
                id=f"{self.topic}.{name}",
                section=section or self.section,
                level=level,
                requirement=requirement,
                steps=steps,
                allowed=outcomes,
                methods=tuple(methods),
            )
        )

    def probe(
        self, name: str, level: Level, requirement: str, *, section: str = ""
    ) -> Callable[[Callable[["Lab"], Awaitable[None]]], Callable[["Lab"], Awaitable[None]]]:
        """Add the decorated coroutine as a case."""

        def add(check: Callable[["Lab"], Awaitable[None]]) -> Callable[["Lab"], Awaitable[None]]:
            self.cases.append(
                ProbeCase(
                    id=f"{self.topic}.{name}",
                    section=section or self.section,
                    level=level,
                    requirement=requirement,
                    check=check,
                )
            )
            return check

        return add
