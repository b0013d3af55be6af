"""The command line: choose cases, choose a target, run, report, exit code."""

import argparse
import asyncio
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from conformance import own, report, runner
from conformance.cases import catalogue
from conformance.cases.model import Case, Level
from conformance.client.lab import Target


def main(argv: Sequence[str] | None = None) -> int:
    """Run the suite; 0 when every demand held, 1 when one was broken, 2 for wrong usage."""
    parser = _parser()
    options = parser.parse_args(argv)
    try:
        levels = [Level(word.strip().upper()) for word in options.level.split(",")]
    except ValueError as error:
        parser.error(f"--level: {error}")
    cases = catalogue.select(catalogue.all_cases(), options.only, levels)
    if not cases:
        parser.error("no case matches")
    if options.list:
        print(report.listing(cases))
        return 0
    try:
        if options.url:
            target = Target.from_url(options.url, options.cafile)
            return _run(target, options.url, cases, options)
        with own.server(options.workers, options.tls) as server:
            target = Target.from_url(server.url, options.cafile)
            code = _run(target, server.url, cases, options)
        return max(code, _shutdown_verdict(server, options))
    except (runner.Unreachable, ValueError, OSError) as error:
        print(f"conformance: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m conformance",
        description="Check an ASGI server's HTTP/1.1 and ASGI behaviour.",
        epilog="Without --url this project's own server is started and checked.",
    )
    parser.add_argument("--url", help="a running server that serves conformance.apps:app")
    parser.add_argument(
        "--only",
        metavar="GLOB",
        action="append",
        default=[],
        help="only cases whose id matches (may be repeated)",
    )
    parser.add_argument("--level", default="must,should,may", help="levels to run, by comma")
    parser.add_argument("--list", action="store_true", help="show the cases and leave")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all results to FILE")
    parser.add_argument(
        "--must-only", action="store_true", help="let only broken MUSTs set the exit code"
    )
    parser.add_argument(
        "--timeout",
        type=float,
        default=3.0,
        metavar="S",
        help="longest wait for one answer (default 3)",
    )
    parser.add_argument(
        "--jobs", type=int, default=8, metavar="N", help="cases that run at a time (default 8)"
    )
    parser.add_argument(
        "--workers", type=int, default=2, metavar="N", help="workers of the own server (default 2)"
    )
    parser.add_argument(
        "--tls",
        nargs=2,
        metavar=("CERT", "KEY"),
        help="let the own server speak TLS with these files",
    )
    parser.add_argument("--cafile", help="verify an https target against these certificates")
    parser.add_argument("-v", "--verbose", action="store_true", help="show every case")
    return parser


def _run(target: Target, url: str, cases: Sequence[Case], options: argparse.Namespace) -> int:
    settings = runner.Settings(options.timeout, options.jobs)
    began = time.monotonic()
    results = asyncio.run(runner.run(target, cases, settings))
    seconds = time.monotonic() - began
    name = asyncio.run(runner.server_name(target, options.timeout))
    if text := report.failures(results, options.verbose):
        print(text + "\n")
    print(f"{url}  {name}".rstrip())
    print(report.table(results))
    print(report.verdict_line(results, seconds))
    if options.json:
        report.write_json(options.json, results, url, name)
    return int(runner.failed(results, options.must_only))


def _shutdown_verdict(server: own.OwnServer, options: argparse.Namespace) -> int:
    """The one statement that only a stopped server shows: every worker's app is told."""
    told = server.shutdown_reports()
    if told == [{"type": "lifespan.shutdown"}] * options.workers:
        print(f"lifespan.shutdown reached the app in all {options.workers} workers")
        return 0
    print(f"FAIL lifespan.shutdown: {options.workers} workers, the app was told {told}")
    return 1
