"""The results of a run, as a text table and as JSON."""

import json
import textwrap
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import conformance
from conformance.cases.model import Case, Level
from conformance.runner import Result, Verdict

_BAD = (Verdict.FAIL, Verdict.ERROR)


def listing(cases: Sequence[Case]) -> str:
    """One line per case: id, level, section, requirement."""
    width = max((len(case.id) for case in cases), default=0)
    lines = [
        f"{case.id:<{width}}  {case.level:<6}  {case.section}: {case.requirement}" for case in cases
    ]
    return "\n".join(lines)


def table(results: Sequence[Result]) -> str:
    """A row per topic with passes per level and failures, and a row of totals."""
    topics = list(dict.fromkeys(result.case.topic for result in results))
    width = max([len(topic) for topic in topics] + [5])
    head = f"{'topic':<{width}}" + "".join(f"{level:>12}" for level in Level) + f"{'skipped':>10}"
    lines = [head, "-" * len(head)]
    for topic in topics:
        lines.append(_row(topic, width, [r for r in results if r.case.topic == topic]))
    lines.append("-" * len(head))
    lines.append(_row("total", width, results))
    return "\n".join(lines)


def _row(name: str, width: int, results: Sequence[Result]) -> str:
    cells = []
    for level in Level:
        mine = [result for result in results if result.case.level is level]
        counted = [result for result in mine if result.verdict is not Verdict.SKIP]
        passed = sum(result.verdict is Verdict.PASS for result in counted)
        cells.append(f"{passed}/{len(counted)}" if counted else "-")
    skipped = sum(result.verdict is Verdict.SKIP for result in results)
    return f"{name:<{width}}" + "".join(f"{cell:>12}" for cell in cells) + f"{skipped or '-':>10}"


def failures(results: Sequence[Result], verbose: bool = False) -> str:
    """A paragraph per failed case, and with `verbose` a line for each other one."""
    blocks = []
    for result in results:
        case = result.case
        if result.verdict in _BAD:
            demand = textwrap.fill(
                case.requirement, 96, initial_indent="    ", subsequent_indent="    "
            )
            seen = textwrap.indent(result.detail.strip(), "    ! ")
            word = result.verdict.upper()
            blocks.append(f"{word} {case.id}  [{case.level}, {case.section}]\n{demand}\n{seen}")
        elif verbose:
            blocks.append(f"{result.verdict} {case.id}  {result.detail}".rstrip())
    return "\n".join(blocks)


def verdict_line(results: Sequence[Result], seconds: float) -> str:
    """One closing line with the counts."""
    counts = Counter(result.verdict for result in results)
    words = [f"{counts[verdict]} {verdict}" for verdict in Verdict if counts[verdict]]
    broken = Counter(result.case.level for result in results if result.verdict in _BAD)
    if broken:
        by_level = ", ".join(f"{broken[level]} {level}" for level in Level if broken[level])
        words.append(f"broken: {by_level}")
    return f"{len(results)} cases in {seconds:.1f} s: " + "; ".join(words)


def write_json(path: Path, results: Sequence[Result], url: str, server: str) -> None:
    """Write all results to `path`."""
    totals = {
        level: dict(Counter(str(r.verdict) for r in results if r.case.level is level))
        for level in Level
    }
    document = {
        "suite": conformance.__version__,
        "target": url,
        "server": server,
        "totals": totals,
        "cases": [
            {
                "id": result.case.id,
                "level": result.case.level,
                "section": result.case.section,
                "requirement": result.case.requirement,
                "verdict": result.verdict,
                "detail": result.detail,
                "seconds": round(result.seconds, 4),
            }
            for result in results
        ],
    }
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
