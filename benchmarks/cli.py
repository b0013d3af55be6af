"""The command line of ``python -m benchmarks``: what to measure, then the tables."""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks import distribution, report, rounds
from benchmarks.load import WrkMissingError, wrk_version
from benchmarks.measure import Cores
from benchmarks.process import make_certificate
from benchmarks.report import Table
from benchmarks.servers import BEFORE, OURS, PEERS, earlier
from benchmarks.workloads import QUICK, QUICK_PEERS, select, workloads

_DISTRIBUTION = "distribution"


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; returns an exit status."""
    parser = make_parser()
    arguments = parser.parse_args(argv)
    names: list[str] | None = arguments.workloads
    peers: list[str] | None = arguments.peers
    if arguments.quick:
        names, peers = names or [*QUICK, _DISTRIBUTION], peers or list(QUICK_PEERS)
    spread = names is None or _DISTRIBUTION in names
    if names is not None:
        names = [name for name in names if name != _DISTRIBUTION]
    try:
        chosen = select(names, workloads(arguments.workers))
        seconds, number = arguments.seconds, 1 if arguments.quick else arguments.rounds
        before = arguments.before is not None
        plan = rounds.plan(chosen, peers, number, seconds, before=before)
        if sys.platform != "linux":
            raise NotImplementedError("processor time and memory are read from Linux's /proc")
        tools = [f"CPython {platform.python_version()}", wrk_version()]
    except ValueError as exc:
        parser.error(str(exc))
    except (WrkMissingError, NotImplementedError) as exc:
        print(f"Error: {exc}", file=sys.stderr)
        return 1
    visited = dict.fromkeys(name for names in plan.peers.values() for name in names)
    cores = Cores()
    about = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "command": f"python -m benchmarks {' '.join(argv or sys.argv[1:])}".strip(),
        "tools": tools,
        "servers": {name: PEERS[name].version for name in visited if name in PEERS},
        "machine": f"{_processor()}, Linux {platform.release()}",
        "pinning": cores.note,
        "rounds": plan.rounds,
        "seconds": plan.seconds,
    }
    return _measure(arguments, plan, cores, about, spread)


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the options."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure this server beside others: requests per second, processor time for "
        "each, latency, memory.",
        epilog=f"servers: {', '.join(PEERS)}. "
        f"workloads: {', '.join(workloads())}, {_DISTRIBUTION}.",
    )
    parser.add_argument(
        "--peers", type=_list, metavar="A,B", help="servers beside ours; all: everywhere all"
    )
    parser.add_argument("--workloads", type=_list, metavar="X,Y", help="only these")
    parser.add_argument("--rounds", type=_positive, default=5, help="visits of each (default: 5)")
    parser.add_argument(
        "--seconds", type=_positive, default=1, help="how long a visit is (default: 1)"
    )
    parser.add_argument(
        "--workers", type=_positive, default=2, help="how many several workers are (default: 2)"
    )
    parser.add_argument(
        "--quick", action="store_true", help="one round of little, to see that it works"
    )
    parser.add_argument(
        "--before", type=Path, metavar="FOLDER", help="also another checkout of this project"
    )
    parser.add_argument("--markdown", action="store_true", help="print tables as Markdown")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    return parser


def _list(text: str) -> list[str]:
    return [item for item in text.replace(" ", ",").split(",") if item]


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a number from 1, not {text!r}")
    return int(text)


def _measure(
    arguments: argparse.Namespace,
    plan: rounds.Plan,
    cores: Cores,
    about: dict[str, object],
    spread: bool,
) -> int:
    began = time.monotonic()
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # servers get stopped
    _allow_many_files()

    def show(table: Table) -> None:
        print(table.markdown() if arguments.markdown else table.text(), flush=True)

    _print_head(about)
    results = []
    spreads: list[distribution.Spread] = []
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as folder:
        files = make_certificate(Path(folder))
        if arguments.before is not None:
            PEERS[BEFORE] = earlier(arguments.before, files)
        for workload, rows in rounds.run(plan, cores, files):
            results.append((workload, rows))
            show(report.table(workload, rows))
        if spread:
            counts = [2] if arguments.quick else [2, 4]
            spreads = distribution.run([OURS], counts, cores, files)
            show(distribution.table(spreads))
    if results:
        show(report.summary(results))
    print(f"{time.monotonic() - began:.0f} seconds", file=sys.stderr)
    if arguments.json:
        report.write_json(arguments.json, about, results, [asdict(each) for each in spreads])
    # That others can't do something is a finding; that we can't is a failure.
    failed = [row for _, rows in results for row in rows if row.peer == OURS and row.problem]
    return 1 if failed or any(each.problem for each in spreads) else 0


def _print_head(about: dict[str, object]) -> None:
    for name, value in about.items():
        if isinstance(value, dict):
            value = "; ".join(f"{key} ({note})" if note else key for key, note in value.items())
        elif isinstance(value, list):
            value = ", ".join(value)
        print(f"{name}: {value}")
    print(flush=True)


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return f"{os.cpu_count()} x {line.partition(':')[2].strip()}"
    return f"{os.cpu_count()} x {platform.machine()}"


def _allow_many_files() -> None:
    """Let this process and all servers open as many connections as the system allows."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
