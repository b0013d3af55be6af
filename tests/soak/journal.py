"""What three parties say of one run: the clients, the workers (see ``app``) and the server itself.

``judge()`` compares them to the last request. A request may be broken only by a crash of the worker
that held its connection, and all must have counted the same.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from subinterp_asgi.testing import faults

from .clients import Attempt, Link, Records

_ACCESS = re.compile(r'\S+:(\d+) - "[A-Z]+ /(\w+)/(\d+)/\S* HTTP/1.1" (\d+) ')


@dataclass
class Totals:
    """What the server has counted since its start, and logged."""

    accepted: int
    requests: int
    errors: int
    responses: dict[int, int]
    logs_dropped: int
    access: list[str]


class Journal:
    """What the workers have noted.

    Attributes:
        takes: By the client's port: who took each of its connections, in order. Several, where a
            retiring worker left an idle connection to another.
        crashes: When a worker was told to crash.
        interrupted: Numbers of the requests in which one was interrupted.
    """

    def __init__(self, path: Path) -> None:
        self.takes: dict[int, list[list[str]]] = defaultdict(list)
        self.crashes: dict[str, int] = {}
        self.interrupted: set[int] = set()
        left: list[tuple[int, str]] = []  # by retiring workers to others, which took them
        for line in sorted(path.read_text().splitlines(), key=lambda line: int(line.split()[1])):
            worker, at, what, about = line.split()
            if what == "took":
                self.takes[int(about)].append([worker])
            elif what == "left":
                left.append((int(about), worker))
            elif what == faults.CRASH:
                self.crashes.setdefault(worker, int(at))
            elif what == "interrupted":
                self.interrupted.add(int(about))
        for port, worker in left:
            takes = self.takes[port]
            at = next(at for at, holders in enumerate(takes) if holders[-1] == worker)
            if at + 1 < len(takes):
                takes[at] += takes.pop(at + 1)


@dataclass
class Verdict:
    """What was wrong, and a summary of what was not."""

    problems: list[str]
    summary: str


def judge(records: Records, journal: Journal, totals: Totals) -> Verdict:
    """Compare what everybody says."""
    holders, problems = _find_holders(records.links, journal)
    problems += [f"refused: {text}" for text in records.refused]
    for attempt in records.attempts:
        problems += _check_attempt(attempt, holders.get(id(attempt.link), []), journal)
    for link in records.links:
        took = holders.get(id(link), [])
        if not link.workers <= {*took}:
            problems.append(f"port {link.port} was taken by {took}, answered by {link.workers}")
        if link.dropped is not None and not _had_crashed(took, link.dropped, journal):
            problems.append(f"port {link.port}, of {took}, was closed without a word")
    problems += _check_counts(records, journal, totals)
    return Verdict(problems, _summarize(records, journal))


def _find_holders(links: list[Link], journal: Journal) -> tuple[dict[int, list[str]], list[str]]:
    """Tell which workers took which connection; a port may be that of several, in turn."""
    by_port: dict[int, list[Link]] = defaultdict(list)
    for link in links:
        by_port[link.port].append(link)
    holders, problems = {}, []
    for port, same in by_port.items():
        takes = journal.takes.get(port, [])
        if len(takes) != len(same):
            problems.append(f"port {port} had {len(same)} connections, {len(takes)} were taken")
        else:
            holders.update({id(link): took for link, took in zip(same, takes, strict=True)})
    unknown = journal.takes.keys() - by_port.keys()
    if unknown:
        problems.append(f"taken, but nobody's: {unknown}")
    return holders, problems


def _had_crashed(took: list[str], at: int, journal: Journal) -> bool:
    return any(journal.crashes.get(worker, at) < at for worker in took)


def _check_attempt(attempt: Attempt, took: list[str], journal: Journal) -> Iterator[str]:
    where = f"{attempt.kind} {attempt.number} on port {attempt.link.port}, taken by {took}"
    if attempt.error is not None:
        if attempt is not attempt.link.attempts[-1]:
            yield f"{where} was not the last: {attempt.error}"
        elif not _had_crashed(took, attempt.ended, journal):
            yield f"{where} is broken: {attempt.error}"
    elif attempt.status == 500:
        if attempt.number not in journal.interrupted:
            yield f"{where} had status 500"
    elif attempt.status != (101 if attempt.kind == "echo" else 200):
        yield f"{where} had status {attempt.status}"


def _check_counts(records: Records, journal: Journal, totals: Totals) -> Iterator[str]:
    lines: dict[int, list[int]] = defaultdict(list)
    for line in totals.access:
        if found := _ACCESS.search(line):
            lines[int(found[3])].append(int(found[4]))
        else:
            yield f"a strange line in the access log: {line}"
    for attempt in records.attempts:
        statuses = lines.pop(attempt.number, [])
        broken = attempt.error is not None
        fits = len(statuses) <= 1 if broken else statuses == [attempt.status]
        if not fits and not (totals.logs_dropped and not statuses):
            yield f"{attempt} is logged as {statuses}"
    if lines:
        yield f"logged, but nobody's: {dict(lines)}"
    logged = Counter(int(found[4]) // 100 for found in map(_ACCESS.search, totals.access) if found)
    dropped = totals.logs_dropped
    yield from _same(
        accepted=(totals.accepted, len(records.links)),
        requests=(totals.requests, len(totals.access) + dropped),
        responses=(sum(totals.responses.values()), totals.requests),
        errors=(totals.errors, len(journal.interrupted)),
    )
    if not dropped:
        counted = {kind: number for kind, number in totals.responses.items() if number}
        yield from _same(classes=(counted, dict(sorted(logged.items()))))


def _same(**pairs: tuple[object, object]) -> Iterable[str]:
    for name, (counted, expected) in pairs.items():
        if counted != expected:
            yield f"{name}: the server counted {counted}, but it were {expected}"


def _summarize(records: Records, journal: Journal) -> str:
    kinds = Counter(attempt.kind for attempt in records.attempts)
    broken = sum(attempt.error is not None for attempt in records.attempts)
    late = sum(attempt.late for attempt in records.attempts)
    slowest = max((a.ended - a.begun for a in records.attempts), default=0) / 1e9
    return (
        f"{len(records.attempts)} requests on {len(records.links)} connections ({dict(kinds)}); "
        f"{broken} broken by {len(journal.crashes)} crashes, "
        f"{len(journal.interrupted)} interrupted, {late} WebSockets told to go; "
        f"the slowest took {slowest:.1f} s"
    )
