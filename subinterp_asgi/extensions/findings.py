"""What the doctor tells: a report with findings."""

from __future__ import annotations

from dataclasses import dataclass

from ..types import Literal

type Outcome = Literal[
    "crashed",
    "import failed",
    "refused",
    "refused when used",
    "foreseen otherwise",
    "speed-up lost",
    "unknown",
    "daemon threads",
    "private copy",
    "pure twin",
    "native",
]
type RunOutcome = Literal["imported", "failed", "crashed"]

OUTCOMES: tuple[Outcome, ...] = Outcome.__value__
"""From the worst on. With the first four the application does not work, or not all of it."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What becomes of one module in a worker."""

    module: str
    distribution: str | None
    version: str | None
    outcome: Outcome
    reason: str
    chain: tuple[str, ...]
    """The modules that lead to it, from the application's on; each imports the next."""
    cures: tuple[str, ...] = ()
    twin: str | None = None
    """The ``.py`` beside a refused module: source that does the same."""
    path: str | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """What was found of an application; the worst comes first."""

    app: str
    python: str
    modules: int
    findings: tuple[Finding, ...]
    run: RunOutcome | None = None
    """What came of importing it, if that was asked for."""

    @property
    def refused(self) -> bool:
        """Whether a worker can't start with it, or fails later."""
        return any(finding.outcome in OUTCOMES[:4] for finding in self.findings)
