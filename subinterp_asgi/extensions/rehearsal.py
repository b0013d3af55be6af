"""Has an application imported as in a worker, by a process of its own, and compares with findings.

A crash there costs nothing, and is a finding.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from .environment import Environment
from .findings import Finding, Outcome, RunOutcome

MOST_SECONDS = 120.0
"""How long an import may take."""

_PROGRAM = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from subinterp_asgi.worker.interpreter import trial
trial.main(sys.argv[2])
"""

_AS_FORESEEN: dict[str, set[Outcome]] = {
    "refused": {"refused", "refused when used", "speed-up lost"},
    "pure twin": {"pure twin"},
    "private copy": {"private copy"},
    "native": {"native", "unknown"},
    "broken": {"unknown"},
}
"""What happens to a module, and what the findings may have said."""


@dataclass(slots=True)
class Rehearsal:
    """What has happened."""

    outcome: RunOutcome
    reason: str
    modules: dict[str, tuple[str, str, str]] = field(default_factory=dict)
    """What became of each extension module, its file, and why."""


def rehearse(
    app: str, path: Sequence[str], extensions: str, hide_modules: Sequence[str]
) -> Rehearsal:
    """Import an application in an interpreter of a new process."""
    # (The package itself and the standard library need not be on the path that is looked through.)
    paths = list(dict.fromkeys([*map(os.path.abspath, path), *sys.path]))
    given = {"app": app, "extensions": extensions, "hide_modules": [*hide_modules]}
    texts = json.dumps(paths), json.dumps(given)
    status: int | None = None
    try:
        done = subprocess.run(
            [sys.executable, "-X", "faulthandler", "-c", _PROGRAM, *texts],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,  # the journal, which survives a crash, and needs no disk
            timeout=MOST_SECONDS,
            check=False,
        )
        journal, status = done.stdout, done.returncode
    except subprocess.TimeoutExpired as exc:
        journal = exc.stdout or b""
    return _judge([*_events(journal)], status)


def _events(journal: bytes) -> Iterator[list[str]]:
    for line in journal.splitlines(keepends=True):
        if line.endswith(b"\n"):
            with contextlib.suppress(ValueError):  # of something that Python imports when it starts
                if isinstance(event := json.loads(line), list):
                    yield event


def _judge(events: list[list[str]], status: int | None) -> Rehearsal:
    modules: dict[str, tuple[str, str, str]] = {}
    last = ""
    for event, name, *details in events:
        if event in _AS_FORESEEN:
            path, reason = (*details, "")[:2]
            modules[name] = (event, path, reason)
        elif event == "loading":
            last = f"; the last extension module it came to was {name!r}"
        elif event == "imported" and status == 0:
            return Rehearsal("imported", "", modules)
        elif event == "failed" and status == 0:
            return Rehearsal("failed", details[1], modules)
    if status is None:
        return Rehearsal("failed", f"it did not end within {MOST_SECONDS:g} s{last}", modules)
    if status < 0:
        name = signal.Signals(-status).name
        return Rehearsal("crashed", f"the process crashed ({name}){last}", modules)
    return Rehearsal("crashed", f"the process ended with status {status}{last}", modules)


def compare(
    findings: Sequence[Finding], happened: Rehearsal, environment: Environment, app: str
) -> Iterator[Finding]:
    """Yield findings anew, with what has happened, and where that was not foreseen."""
    if happened.outcome != "imported":
        chain = (app.partition(":")[0],)
        outcome: Outcome = "crashed" if happened.outcome == "crashed" else "import failed"
        yield Finding(chain[0], None, None, outcome, happened.reason, chain)
    foreseen = {found.module: found for found in findings if found.outcome != "daemon threads"}
    for found in findings:
        if found.outcome == "refused" and happened.outcome == "imported":
            # The run knows better.
            reason = f"{found.reason}; the application was imported all the same"
            yield replace(found, outcome="speed-up lost", reason=reason, cures=())
            if found.module not in happened.modules:
                yield _otherwise(found, "it was not imported")
        else:
            yield found
    for name, (event, path, reason) in happened.modules.items():
        known = foreseen.get(name)
        if known is None:
            if event == "native":
                continue
            module = environment.find(name)
            distribution, version = (module and environment.distribution(module)) or (None, None)
            known = Finding(name, distribution, version, "unknown", "nothing", (name,), path=path)
        elif known.outcome in _AS_FORESEEN[event]:
            continue
        yield _otherwise(known, event + (f": {reason}" if reason else ""))


def _otherwise(foreseen: Finding, happened: str) -> Finding:
    expected = foreseen.reason if foreseen.reason == "nothing" else foreseen.outcome
    return replace(
        foreseen,
        outcome="foreseen otherwise",
        reason=f"foreseen was: {expected}; when it was run: {happened}",
        cures=(),
    )
