"""Reads what `wstest` has written, judges it, and shows it.

Autobahn has a verdict on what was echoed (`behavior`) and one on how the connection ended
(`behaviorClose`).  Here both must be OK or INFORMATIONAL: not even NON-STRICT will do.
"""

import json
import re
import textwrap
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

OK = "OK"
INFORMATIONAL = "INFORMATIONAL"
_GOOD = (OK, INFORMATIONAL)

GROUPS = {
    "1": "Framing",
    "2": "Pings and pongs",
    "3": "Reserved bits",
    "4": "Opcodes",
    "5": "Fragmentation",
    "6": "UTF-8",
    "7": "Closing",
    "9": "Limits, performance",
    "10": "Automatic fragmentation",
    "12": "Compression, payloads",
    "13": "Compression, parameters",
}

_TAG = re.compile(r"<[^>]*>")
_SHOWN = 500  # characters of each text in a failure; some payloads are 128 KiB


class Unusable(Exception):
    """There is no report, or one that can't be judged."""


@dataclass(frozen=True, slots=True)
class Result:
    """One case's verdicts.

    Attributes:
        id: Such as `9.1.6`.
        behavior: Autobahn's verdict on the messages.
        closing: Its verdict on the end of the connection.
        close_code: The server's close code, if it sent one.
        seconds: How long it took.
        file: Where the report has more on it.
    """

    id: str
    behavior: str
    closing: str
    close_code: int | None
    seconds: float
    file: Path

    @property
    def group(self) -> str:
        """The first number of its id."""
        return self.id.partition(".")[0]

    @property
    def passed(self) -> bool:
        """Whether both verdicts will do."""
        return self.behavior in _GOOD and self.closing in _GOOD

    @property
    def verdict(self) -> str:
        """The two verdicts in one word, the worse of them."""
        for word in (self.behavior, self.closing):
            if word not in _GOOD:
                return word
        return INFORMATIONAL if INFORMATIONAL in (self.behavior, self.closing) else OK


def read(folder: Path, agent: str, cases: Sequence[str]) -> list[Result]:
    """Read a report, in the order of the cases.

    Args:
        folder: Where wstest wrote it.
        agent: What it calls the server.
        cases: The ids of the cases that were to be run.

    Raises:
        Unusable: There is none, or a case is missing in it: a server that has gone fails none.
    """
    index = folder / "index.json"
    try:
        document = json.loads(index.read_text(encoding="utf-8"))
        found = {
            case: Result(
                case,
                str(entry["behavior"]),
                str(entry["behaviorClose"]),
                entry["remoteCloseCode"],
                entry["duration"] / 1000,
                folder / entry["reportfile"],
            )
            for case, entry in document.get(agent, {}).items()
        }
    except FileNotFoundError:
        raise Unusable("wstest wrote no report") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Unusable(f"{index} is not a report of wstest: {error!r}") from None
    if not found:
        raise Unusable("wstest's report is empty: could the server be reached?")
    if missing := [case for case in cases if case not in found]:
        shown = ", ".join(missing[:10]) + (", ..." if len(missing) > 10 else "")
        raise Unusable(f"{len(missing)} of {len(cases)} cases were not run: {shown}")
    return [found[case] for case in sorted(found, key=_number)]


def _number(case: str) -> list[int]:
    return [int(part) for part in case.split(".")]


def failures(results: Sequence[Result]) -> str:
    """A paragraph per case that did not pass: what was to happen, and what did."""
    return "\n".join(_failure(result) for result in results if not result.passed)


def _failure(result: Result) -> str:
    try:
        details: dict[str, Any] = json.loads(result.file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        details = {}
    code = "no close code" if result.close_code is None else f"close code {result.close_code}"
    blocks = [f"FAIL {result.id}  behavior {result.behavior}, closing {result.closing}, {code}"]
    for label, key in (
        ("case", "description"),
        ("expected", "expectation"),
        ("got", "result"),
        ("messages", "received"),
        ("closing", "resultClose"),
        ("", "wasNotCleanReason"),
    ):
        if value := details.get(key):
            text = " ".join(_TAG.sub(" ", str(value)).split())
            if len(text) > _SHOWN:
                text = text[:_SHOWN] + " ..."
            head = f"    {label + ':' if label else '':<10}"
            blocks.append(textwrap.fill(text, 96, initial_indent=head, subsequent_indent=" " * 14))
    return "\n".join(blocks)


def table(results: Sequence[Result]) -> str:
    """A Markdown table: a row per group, with what its cases came to, and one of totals."""
    lines = [
        "| group | cases | OK | informational | other | seconds |",
        "|---|---|---|---|---|---|",
    ]
    for group in dict.fromkeys(result.group for result in results):
        mine = [result for result in results if result.group == group]
        lines.append(_row(f"{group} {GROUPS.get(group, '')}".rstrip(), mine))
    lines.append(_row("all", results))
    return "\n".join(lines)


def _row(name: str, results: Sequence[Result]) -> str:
    verdicts = Counter(result.verdict for result in results)
    other = ", ".join(f"{n} {word}" for word, n in sorted(verdicts.items()) if word not in _GOOD)
    seconds = sum(result.seconds for result in results)
    cells = (
        name,
        len(results),
        verdicts[OK],
        verdicts[INFORMATIONAL],
        other or 0,
        f"{seconds:.0f}",
    )
    return "| " + " | ".join(map(str, cells)) + " |"


def verdict_line(results: Sequence[Result], seconds: float) -> str:
    """One closing line with the counts."""
    verdicts = Counter(result.verdict for result in results)
    counts = ", ".join(f"{n} {word}" for word, n in verdicts.most_common())
    return f"{len(results)} Autobahn cases in {seconds:.0f} s: {counts}"


def write_json(path: Path, results: Sequence[Result], url: str) -> None:
    """Write all results to `path`."""
    document = {
        "target": url,
        "totals": dict(Counter(result.verdict for result in results)),
        "cases": [
            {
                "id": result.id,
                "behavior": result.behavior,
                "behaviorClose": result.closing,
                "closeCode": result.close_code,
                "seconds": round(result.seconds, 3),
            }
            for result in results
        ],
    }
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
