"""Which worker gets which connection: few at a time and many, short ones and those that stay.

The kernel wakes whom it likes when a connection comes; a server whose first worker takes them all
has one worker. Every response names its worker, so what is counted is what clients got.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from benchmarks.load import HTTPLoad, background
from benchmarks.measure import Cores
from benchmarks.process import Server, Unfit
from benchmarks.report import Table
from benchmarks.servers import PEERS, Files, Setup

SHORT, KEPT = 600, 64
_AT_ONCE = 16
_TRIES = 3
_REQUEST = b"GET /who HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: %b\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Spread:
    """How many connections each worker got, most first, in each try; 0 for one that got none."""

    peer: str
    workers: int
    what: str = ""
    tries: tuple[tuple[int, ...], ...] = ()
    problem: str | None = None

    @property
    def busiest(self) -> float:
        """What the busiest worker got in the worst try, by its fair share."""
        return max(counts[0] * self.workers / sum(counts) for counts in self.tries)


def run(peers: Sequence[str], workers: Sequence[int], cores: Cores, files: Files) -> list[Spread]:
    """Count, for each server and number of workers."""
    spreads: list[Spread] = []
    for name in peers:
        for count in workers:
            try:
                spreads += _of_server(name, count, cores, files)
            except (Unfit, OSError) as problem:
                spreads.append(Spread(name, count, problem=str(problem)))
    return spreads


def table(spreads: Sequence[Spread]) -> Table:
    """Print the counts, tries apart."""
    lines, notes = [], []
    for spread in spreads:
        label = f"{spread.peer}, {spread.workers} workers"
        if spread.problem:
            lines.append([label, "n/a", ""])
            notes.append(f"{label}: {spread.problem}")
        else:
            counts = "; ".join(" ".join(map(str, each)) for each in spread.tries)
            lines.append([f"{label}, {spread.what}", counts, f"{spread.busiest:.2f}"])
    head = ["server", "connections of each worker", "busiest by fair share"]
    return Table("Connections by worker (--workloads distribution)", head, lines, notes)


def _of_server(name: str, workers: int, cores: Cores, files: Files) -> Iterator[Spread]:
    if missing := PEERS[name].missing:
        raise Unfit(missing)
    server = Server(PEERS[name], Setup(workers=workers, pinned=False), cores, files)
    try:
        server.wait()
        HTTPLoad().check(server)
        time.sleep(1.0)  # the first worker answers before the last is up
        for what, tries in _patterns(server, files):
            yield Spread(name, workers, what, tuple(_complete(count, workers) for count in tries))
    finally:
        server.stop()


def _complete(counter: Counter[bytes], workers: int) -> tuple[int, ...]:
    counts = sorted(counter.values(), reverse=True)
    return (*counts, *[0] * (workers - len(counts)))


def _patterns(server: Server, files: Files) -> Iterator[tuple[str, list[Counter[bytes]]]]:
    port = server.port
    yield f"{SHORT} short, one at a time", [_short(port, 1)]
    yield f"{SHORT} short, {_AT_ONCE} at a time", [_short(port, _AT_ONCE)]
    yield f"{KEPT} kept, one at a time", _several(lambda: _kept(port, together=False))
    yield f"{KEPT} kept, all at once", _several(lambda: _kept(port, together=True))
    with background(server, HTTPLoad(), files.folder):
        time.sleep(0.3)  # until it presses
        yield f"{SHORT} short, under load", [_short(port, _AT_ONCE)]
        yield f"{KEPT} kept, under load", _several(lambda: _kept(port, together=False))


def _several(count: Callable[[], Counter[bytes]]) -> list[Counter[bytes]]:
    return [count() for _ in range(_TRIES)]


def _short(port: int, at_once: int) -> Counter[bytes]:
    with ThreadPoolExecutor(at_once) as pool:
        return Counter(pool.map(_ask_once, [port] * SHORT))


def _ask_once(port: int) -> bytes:
    with _connect(port) as sock:
        return _ask(sock, b"close")


def _kept(port: int, *, together: bool) -> Counter[bytes]:
    """Open connections that stay; ``together``: all before the first request."""
    with contextlib.ExitStack() as stack:
        answers = []
        opened = []
        for _ in range(KEPT):
            sock = stack.enter_context(_connect(port))
            opened.append(sock)
            if not together:
                answers.append(_ask(sock, b"keep-alive"))
        if together:
            answers = [_ask(sock, b"keep-alive") for sock in opened]
        return Counter(answers)


def _connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=10)


def _ask(sock: socket.socket, connection: bytes) -> bytes:
    """Return who answers."""
    sock.sendall(_REQUEST % connection)
    data = b""
    while True:
        piece = sock.recv(4096)
        data += piece
        head, end, body = data.partition(b"\r\n\r\n")
        if not piece or (end and len(body) >= _content_length(head)):
            return body


def _content_length(head: bytes) -> int:
    lines = head.lower().split(b"\r\n")
    return int(next(line[15:] for line in lines if line.startswith(b"content-length:")))
