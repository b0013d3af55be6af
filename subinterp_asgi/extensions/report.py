"""The command ``subinterp-asgi doctor``: a report as a table or as JSON."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict

from ..errors import AppImportError
from .doctor import doctor
from .findings import OUTCOMES, Finding, Report

EXIT_FINE = 0
EXIT_REFUSED = 1
EXIT_USAGE = 2


def main(argv: Sequence[str], in_flags: Callable[[str], str] = str) -> int:
    """Run the command and return its exit status; ``in_flags`` puts options as people give them."""
    parser = argparse.ArgumentParser(
        prog="subinterp-asgi doctor",
        description="Say which extension modules that an application imports would be refused in "
        "a worker, without importing it unless --run is given. The status is 0 if none is, 1 if "
        "one is or the import fails, 2 on misuse.",
    )
    parser.add_argument("app", metavar="APP", help="Import path: package.module:attribute")
    parser.add_argument(
        "--app-dir", default=".", metavar="DIR", help="Directory put first on the import path."
    )
    parser.add_argument(
        "--extensions",
        choices=("pure", "private", "refuse"),
        default="pure",
        help="As for serving. (default: pure)",
    )
    parser.add_argument(
        "--hide-modules",
        action="append",
        default=[],
        metavar="NAME",
        help="As for serving; may be given more than once.",
    )
    parser.add_argument(
        "--run",
        action="store_true",
        help="Import it too, as a worker does, in a process of its own, and compare.",
    )
    parser.add_argument("--json", action="store_true", help="For machines, with every detail.")
    arguments = parser.parse_args(argv)
    try:
        found = doctor(
            arguments.app,
            path=[os.path.abspath(arguments.app_dir), *sys.path],
            extensions=arguments.extensions,
            hide_modules=arguments.hide_modules,
            run=arguments.run,
        )
    except AppImportError as exc:
        parser.error(str(exc))
    text = as_json(found) if arguments.json else "\n".join(map(in_flags, as_lines(found)))
    sys.stdout.write(text + "\n")
    return EXIT_REFUSED if found.refused else EXIT_FINE


def as_json(report: Report) -> str:
    """Return all that a report has, as a JSON object."""
    return json.dumps({**asdict(report), "refused": report.refused}, indent=2)


def as_lines(report: Report) -> Iterator[str]:
    """Yield a report for people: the worst first, and what loads only as a number."""
    yield f"{report.app} on CPython {report.python}: {report.modules} modules looked at"
    told = [finding for finding in report.findings if finding.outcome != "native"]
    for outcome in OUTCOMES:
        group = [finding for finding in told if finding.outcome == outcome]
        if not group:
            continue
        yield ""
        yield f"{outcome}:"
        # One for each distribution: the nearest.
        group.sort(key=lambda finding: len(finding.chain))
        by_distribution: dict[str, list[Finding]] = {}
        for finding in group:
            by_distribution.setdefault(finding.distribution or finding.module, []).append(finding)
        for first, *others in by_distribution.values():
            more = f" and {len(others)} more of it" if others else ""
            yield f"  {_name(first)}{more}: {first.reason}"
            yield f"    imported by {' -> '.join(first.chain)}"
            for cure in first.cures:
                yield f"    what would do: {cure}"
    yield ""
    native = len(report.findings) - len(told)
    yield f"{native} extension module{'s' * (native != 1)} will load."
    if report.run == "imported":
        how = "otherwise than" if any(map(_is_otherwise, told)) else "as"
        yield f"It was imported in an interpreter, {how} foreseen."
    if report.refused:
        yield "The application will not work in workers that are interpreters."
    elif any(finding.outcome == "unknown" for finding in told):
        yield "Nothing was found that would be refused; --run tells what becomes of the unknown."
    else:
        yield "Nothing was found that would be refused."


def _is_otherwise(finding: Finding) -> bool:
    return finding.outcome == "foreseen otherwise"


def _name(finding: Finding) -> str:
    if finding.distribution is None:
        return finding.module
    return f"{finding.module} ({finding.distribution} {finding.version})"
