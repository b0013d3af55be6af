"""The visits: each server in turn, round after round, so that a change of the weather hits all.

Servers that need the same setup for several workloads stay up. Those that are not visited idle.
"""

from __future__ import annotations

import contextlib
import itertools
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from benchmarks import measure
from benchmarks.load import HTTPLoad, call_bare
from benchmarks.measure import Cores
from benchmarks.process import Server, Unfit
from benchmarks.servers import BARE, BEFORE, OURS, PEERS, Files, Setup
from benchmarks.workloads import Case, Workload

_SETTLE = 0.05  # seconds in which a server notices that its clients have gone


@dataclass(frozen=True, slots=True)
class Sample:
    """What one visit gave.

    Attributes:
        rate: Requests per second.
        cpu: Microseconds of processor time for each request.
        p50: Median latency in milliseconds.
        p99: What only one request in a hundred exceeds.
        memory: Proportional set size in bytes, right after.
        errors: Requests that failed.
    """

    rate: float
    cpu: float
    p50: float
    p99: float
    memory: float
    errors: int


@dataclass(slots=True)
class Row:
    """What a server did in one case.

    Attributes:
        peer: The server.
        case: The case's label.
        samples: One for each round.
        problem: Why it has none; those it had before are dropped.
        bytes_per_idle: What an idle connection costs, where there were some.
    """

    peer: str
    case: str
    samples: list[Sample] = field(default_factory=list)
    problem: str | None = None
    bytes_per_idle: float | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done: ``peers`` gives the servers for each workload by name."""

    workloads: Sequence[Workload]
    peers: dict[str, list[str]]
    rounds: int
    seconds: int


def plan(
    workloads: Sequence[Workload],
    peers: Sequence[str] | None,
    rounds: int,
    seconds: int,
    *,
    before: bool = False,
) -> Plan:
    """Decide who is visited for what.

    Args:
        workloads: What is to be done.
        peers: Servers instead of the workloads' own; ``all`` for all. Ours is always among them.
        before: Another checkout of this project is one of them, too.

    Raises:
        ValueError: There is no such server.
    """
    ours = [OURS, BEFORE] if before else [OURS]
    if peers is None:
        chosen = {workload.name: ours + list(workload.peers[1:]) for workload in workloads}
        return Plan(workloads, chosen, rounds, seconds)
    for name in peers:
        if name != "all" and name not in PEERS:
            raise ValueError(f"no server {name!r}: there are all, {', '.join(PEERS)}")
    others = [name for name in PEERS if name not in ours]
    names = others if "all" in peers else [name for name in others if name in peers]
    chosen = {
        workload.name: [
            *ours,
            # Who never could is not worth a line; who should and can't gets one.
            *(name for name in names if workload.unsuitable(PEERS[name]) is None),
        ]
        for workload in workloads
    }
    return Plan(workloads, chosen, rounds, seconds)


def run(what: Plan, cores: Cores, files: Files) -> Iterator[tuple[Workload, list[Row]]]:
    """Do it; yields each workload's rows when they are complete."""
    for _, group in itertools.groupby(what.workloads, key=lambda workload: workload.setups):
        workloads = list(group)
        peers = list(dict.fromkeys(name for w in workloads for name in what.peers[w.name]))
        with _pool(peers, workloads[0].setups, cores, files) as pool:
            for workload in workloads:
                yield workload, _visit_all(what, workload, pool, cores, files)


type Pool = dict[tuple[str, Setup], Server | Unfit]


@contextlib.contextmanager
def _pool(
    peers: Sequence[str], setups: frozenset[Setup], cores: Cores, files: Files
) -> Iterator[Pool]:
    """Servers of each peer with each setup, all up and warm; or why not."""
    pool: Pool = {}
    try:
        for name, setup in itertools.product(peers, setups):
            missing = PEERS[name].missing
            pool[name, setup] = (
                Unfit(missing) if missing else Server(PEERS[name], setup, cores, files)
            )
        for key, server in pool.items():
            if isinstance(server, Server):
                try:
                    _prepare(server, cores, files)
                except Unfit as problem:
                    pool[key] = problem
                    server.stop()
        yield pool
    finally:
        servers = [server for server in pool.values() if isinstance(server, Server)]
        for server in servers:
            server.terminate()  # all, so that they end at the same time
        for server in servers:
            server.stop()


def _prepare(server: Server, cores: Cores, files: Files) -> None:
    server.wait()
    warm = HTTPLoad(size=None)
    warm.check(server)
    with cores.used(cores.load if server.setup.pinned else cores.all):
        warm.press(server, 1, files.folder)
        if count := server.setup.idle_connections:
            before = measure.memory(server.pid)
            server.open_idle()
            server.bytes_per_idle = (measure.memory(server.pid) - before) / count


def _visit_all(what: Plan, workload: Workload, pool: Pool, cores: Cores, files: Files) -> list[Row]:
    visits: list[tuple[Row, Callable[[], Sample]]] = []
    rows = []
    for name, case in itertools.product(what.peers[workload.name], workload.cases):
        row = Row(name, case.label)
        rows.append(row)
        server = pool[name, case.setup]
        try:
            if isinstance(server, Unfit):
                raise server
            if unsuitable := workload.unsuitable(PEERS[name]):
                raise Unfit(unsuitable)
            server.check_alive()
            case.load.check(server)
        except Unfit as problem:
            row.problem = str(problem)
        else:
            row.bytes_per_idle = server.bytes_per_idle
            visits.append((row, partial(_visit, server, case, what.seconds, cores, files)))
    if workload.bare:
        for loop in BARE.values():
            rows.append(row := Row(loop, ""))
            visits.append((row, partial(_call_bare, loop, workload.cases[0], what.seconds, cores)))
    for number in range(what.rounds):
        # Each round begins with another one, so that nobody always comes after the same.
        begin = number % max(1, len(visits))
        for row, visit in visits[begin:] + visits[:begin]:
            if row.problem is None:
                try:
                    row.samples.append(visit())
                except Unfit as problem:
                    row.problem = str(problem)
                    row.samples.clear()
            _show_progress(workload, number + 1, what.rounds)
    return rows


def _visit(server: Server, case: Case, seconds: int, cores: Cores, files: Files) -> Sample:
    with cores.used(cores.load if server.setup.pinned else cores.all):
        server.refresh_idle()
        before = measure.cpu_seconds(server.pid)
        pressed = case.load.press(server, seconds, files.folder)
        time.sleep(_SETTLE)
        spent = measure.cpu_seconds(server.pid) - before
    server.check_alive()
    return Sample(
        rate=pressed.requests / pressed.seconds,
        cpu=spent / pressed.requests * 1e6,
        p50=pressed.p50,
        p99=pressed.p99,
        memory=measure.memory(server.pid),
        errors=pressed.errors,
    )


def _call_bare(loop: str, case: Case, seconds: int, cores: Cores) -> Sample:
    """Call a case's application without a server."""
    assert isinstance(case.load, HTTPLoad)
    with cores.used(cores.servers):
        pressed, cpu = call_bare(case.setup.app, case.load, loop, seconds)
    return Sample(pressed.requests / pressed.seconds, cpu, 0.0, 0.0, 0.0, 0)


def _show_progress(workload: Workload, number: int, rounds: int) -> None:
    if sys.stderr.isatty():
        done = number == rounds
        print(
            "\r\x1b[K" if done else f"\r{workload.name}: round {number} of {rounds} ",
            end="",
            file=sys.stderr,
            flush=True,
        )
