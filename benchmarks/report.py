"""From samples to tables, as text or Markdown, and to JSON.

A ratio compares two servers' visits of the same round, and what is printed is the median of those:
a machine that is slow for a while is slow for both.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.rounds import Row, Sample
from benchmarks.servers import BARE, OURS
from benchmarks.workloads import Workload

type Figure = Callable[[Sample], float]
type Results = Sequence[tuple[Workload, Sequence[Row]]]

FIGURES: dict[str, Figure] = {
    "rate": lambda sample: sample.rate,
    "cpu": lambda sample: sample.cpu,
    "p50": lambda sample: sample.p50,
    "p99": lambda sample: sample.p99,
    "memory": lambda sample: sample.memory,
}


@dataclass(frozen=True, slots=True)
class Table:
    """A caption, a head and rows of cells; the first column is text, the others are figures."""

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()

    def text(self) -> str:
        """Aligned columns."""
        widths = [max(map(len, column)) for column in zip(self.head, *self.rows, strict=True)]
        lines = [self.caption, self._line(self.head, widths), "-" * (sum(widths) + 2 * len(widths))]
        lines += [self._line(row, widths) for row in self.rows]
        return "\n".join(lines + [f"  {note}" for note in self.notes]) + "\n"

    @staticmethod
    def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
        first, *others = (
            f"{cell:{'>' if number else '<'}{width}}"
            for number, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        return "  ".join([first, *others]).rstrip()

    def markdown(self) -> str:
        """The same as a table of Markdown."""
        lines = [f"**{self.caption}**", "", _pipes(self.head)]
        lines += [_pipes(["---", *["---:"] * (len(self.head) - 1)]), *map(_pipes, self.rows)]
        lines += ["", *(f"{note}  " for note in self.notes)]
        return "\n".join(lines).rstrip() + "\n"


def _pipes(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def median(row: Row, figure: str) -> float:
    """The median of a figure over the rounds."""
    return statistics.median(map(FIGURES[figure], row.samples))


def ratio(ours: Row | None, other: Row | None, figure: str) -> float | None:
    """The median of our figure by the other's, round by round; None where there is nothing."""
    if ours is None or other is None or not ours.samples or not other.samples:
        return None
    value = FIGURES[figure]
    pairs = zip(ours.samples, other.samples, strict=True)
    quotients = [value(a) / value(b) for a, b in pairs if value(a) and value(b)]
    return statistics.median(quotients) if quotients else None


def find(rows: Sequence[Row], peer: str, case: str) -> Row | None:
    """The row of a server in a case."""
    return next((row for row in rows if (row.peer, row.case) == (peer, case)), None)


def table(workload: Workload, rows: Sequence[Row]) -> Table:
    """A workload's table: figures, and what ours is of each other's.

    Where there are several cases, each is also compared with the same server's first.
    """
    several = len(workload.cases) > 1
    first = workload.cases[0].label
    head = [
        "server",
        "req/s",
        "CPU us/req",
        "p50 ms",
        "p99 ms",
        "PSS MB",
        "ours/its CPU",
        "ours/its p99",
    ]
    if several:
        head += [f"CPU / {first}", f"req/s / {first}"]
    lines, notes = [], []
    for row in rows:
        label = f"{row.peer}, {row.case}" if row.case else row.peer
        if not row.samples:
            lines.append([label, "n/a", *[""] * (len(head) - 2)])
            notes.append(f"{label}: {row.problem}")
            continue
        ours = find(rows, OURS, row.case) if row.peer != OURS else None
        line = [
            label,
            f"{median(row, 'rate'):.0f}",
            f"{median(row, 'cpu'):.1f}",
            _latency(median(row, "p50")),
            _latency(median(row, "p99")),
            f"{median(row, 'memory') / 1e6:.1f}",
            _quotient(ratio(ours, row, "cpu")),
            _quotient(ratio(ours, row, "p99")),
        ]
        if several:
            base = find(rows, row.peer, first) if row.case != first else None
            line += [_quotient(ratio(row, base, "cpu")), _quotient(ratio(row, base, "rate"))]
        lines.append(line)
        if errors := sum(sample.errors for sample in row.samples):
            notes.append(f"{label}: {errors} requests failed")
        if row.bytes_per_idle is not None:
            notes.append(f"{label}: {row.bytes_per_idle / 1024:.1f} KiB for each idle connection")
    if workload.bare and (added := _added(rows)):
        notes.append(added)
    return Table(f"{workload.title} (--workloads {workload.name})", head, lines, notes)


def _added(rows: Sequence[Row]) -> str | None:
    """What servers add to their floors, and what ours is of the other's, round by round."""
    added = []
    for peer, loop in BARE.items():
        server, bare = find(rows, peer, ""), find(rows, loop, "")
        if server is None or bare is None or not server.samples or not bare.samples:
            return None
        pairs = zip(server.samples, bare.samples, strict=True)
        added.append([served.cpu - called.cpu for served, called in pairs])
    figures = ", ".join(
        f"{peer} {statistics.median(each):.1f} us" for peer, each in zip(BARE, added, strict=True)
    )
    quotient = statistics.median(ours / other for ours, other in zip(*added, strict=True))
    return f"added to the bare application: {figures}; ours/its {quotient:.2f}"


def summary(results: Results) -> Table:
    """One line for each case: our CPU per request, and what that is of everybody else's."""
    none = {OURS, *BARE.values()}
    peers = dict.fromkeys(row.peer for _, rows in results for row in rows if row.peer not in none)
    lines = []
    for workload, rows in results:
        for case in workload.cases:
            ours = find(rows, OURS, case.label)
            cells = [f"{median(ours, 'cpu'):.1f}" if ours and ours.samples else "n/a"]
            for peer in peers:
                other = find(rows, peer, case.label)
                failed = other is not None and not other.samples
                cells.append("n/a" if failed else _quotient(ratio(ours, other, "cpu")))
            name = f"{workload.name}, {case.label}" if case.label else workload.name
            lines.append([name, *cells])
    notes = ["an empty cell: not visited (--peers all visits all); n/a: see the table above"]
    caption = "CPU per request: ours in microseconds, then ours by each other's"
    return Table(caption, ["workload", OURS, *peers], lines, notes)


def _latency(value: float) -> str:
    return f"{value:.2f}" if value else ""  # wrk can't always tell


def _quotient(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def write_json(path: Path, about: dict[str, object], results: Results, extra: object) -> None:
    """Write everything: each sample, the medians and the ratios."""
    content = {
        **about,
        "workloads": [
            {
                "name": workload.name,
                "title": workload.title,
                "servers": [_as_json(row, rows) for row in rows],
            }
            for workload, rows in results
        ],
        "distribution": extra,
    }
    path.write_text(json.dumps(content, indent=1) + "\n")


def _as_json(row: Row, rows: Sequence[Row]) -> dict[str, object]:
    ours = find(rows, OURS, row.case)
    return {
        **asdict(row),
        "median": {name: median(row, name) for name in FIGURES} if row.samples else None,
        "ours/its": {name: ratio(ours, row, name) for name in FIGURES},
    }
