"""The command line: which cases, against which server, and the exit code."""

import argparse
import contextlib
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from conformance import own
from conformance.autobahn import report, wstest

NOT_INSTALLED = 3
AGENT = "server"

# What --quick leaves out. In group 9: messages of 4 MiB and more, and those which come in fragments
# of 16 KiB or less or in pieces of 256 octets or less. In groups 12 and 13: the more expensive half
# of the 18 sizes of messages and fragments, with each sort of data and each offer.
_LARGE_SIZES = (7, 8, 9, 10, 14, 15, 16, 17, 18)
LARGE = (
    *(f"9.{kind}.{size}" for kind in (1, 2) for size in (4, 5, 6)),
    *(f"9.{kind}.{size}" for kind in (3, 4) for size in (1, 2, 3, 4, 5)),
    *(f"9.{kind}.{size}" for kind in (5, 6) for size in (1, 2, 3)),
    *(f"12.{data}.{size}" for data in range(1, 6) for size in _LARGE_SIZES),
    *(f"13.{offer}.{size}" for offer in range(1, 8) for size in _LARGE_SIZES),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the suite.

    Returns:
        0 when every case was OK or INFORMATIONAL, 1 when one was not, 2 when the run was not
        possible or broke off, 3 when there is no wstest (0 with `--optional`).
    """
    options = _parser().parse_args(argv)
    try:
        program = wstest.find()
    except wstest.Missing as error:
        print(f"SKIPPED: no WebSocket was tested.\n{error}", file=sys.stderr)
        return 0 if options.optional else NOT_INSTALLED
    try:
        with contextlib.ExitStack() as stack:
            folder = options.report or Path(stack.enter_context(tempfile.TemporaryDirectory()))
            if options.url:
                return _run(program, options.url, folder, options)
            with own.echo_server(options.workers) as server:
                url = server.url.replace("http", "ws", 1)
                code = _run(program, url, folder, options)
                served = [worker.requests for worker in server.workers]
            print(f"WebSockets served by each of {len(served)} workers: {served}")
            return code
    except (wstest.Failed, report.Unusable, OSError) as error:
        print(f"autobahn: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m conformance.autobahn",
        description="Run the Autobahn test suite against a WebSocket server.",
        epilog="Without --url this project's own server is started and tested.",
    )
    parser.add_argument(
        "--url", help="a running server that echoes messages: ws://127.0.0.1:9001 or wss://"
    )
    parser.add_argument(
        "--cases",
        type=_patterns,
        default=("*",),
        metavar="LIST",
        help="the cases to run, by comma, such as '1.*,7.*' (default: all)",
    )
    parser.add_argument(
        "--quick", action="store_true", help="leave out the large half of groups 9, 12 and 13"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all results to FILE")
    parser.add_argument(
        "--report", type=Path, metavar="DIR", help="keep wstest's own report (index.html) in DIR"
    )
    parser.add_argument(
        "--workers", type=int, default=2, metavar="N", help="workers of the own server (default 2)"
    )
    parser.add_argument(
        "--limit",
        type=float,
        default=3600.0,
        metavar="S",
        help="seconds that the whole run may take (default 3600)",
    )
    parser.add_argument(
        "--optional", action="store_true", help="without wstest say so and exit with 0, not with 3"
    )
    return parser


def _patterns(text: str) -> tuple[str, ...]:
    patterns = tuple(word for part in text.split(",") if (word := part.strip()))
    if not patterns:
        raise argparse.ArgumentTypeError("no case named")
    return patterns


def _run(program: str, url: str, folder: Path, options: argparse.Namespace) -> int:
    job = wstest.Job(url, AGENT, options.cases, LARGE if options.quick else ())
    began = time.monotonic()
    with _progress() as progress:
        cases = wstest.run(program, job, folder, options.limit, progress)
    results = report.read(folder, AGENT, cases)
    if text := report.failures(results):
        print(text + "\n")
    print(url)
    print(report.table(results))
    print(report.verdict_line(results, time.monotonic() - began))
    if options.json:
        report.write_json(options.json, results, url)
    return int(not all(result.passed for result in results))


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """Show each group when it begins: a full run takes many minutes."""
    shown: list[str] = []

    def show(case: str) -> None:
        group = case.partition(".")[0]
        if group not in shown:
            print(f" {group}" if shown else f"groups: {group}", end="", file=sys.stderr, flush=True)
            shown.append(group)

    try:
        yield show
    finally:
        if shown:
            print(file=sys.stderr)
