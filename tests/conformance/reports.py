"""Reports as `wstest` writes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from conformance.autobahn import cli as autobahn

AGENT = autobahn.AGENT

type Verdicts = dict[str, tuple[str, str]]


def entry(case: str, behavior: str = "OK", closing: str = "OK", **other: Any) -> dict[str, Any]:
    """What wstest's index says of a case."""
    file = f"server_case_{case.replace('.', '_')}.json"
    return {
        "behavior": behavior,
        "behaviorClose": closing,
        "duration": 1500,
        "remoteCloseCode": 1000,
        "reportfile": file,
    } | other


def write_report(folder: Path, verdicts: Verdicts) -> None:
    index = {case: entry(case, *words) for case, words in verdicts.items()}
    (folder / "index.json").write_text(json.dumps({AGENT: index}))


BAD = [
    "NON-STRICT",
    "FAILED",
    "UNCLEAN",
    "WRONG CODE",
    "FAILED BY CLIENT",
    "UNIMPLEMENTED",
    "NO_CLOSE",
    "a word of its future",
]
