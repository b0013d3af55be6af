"""A service for as long as it is told: everything that happens to one in years, at a calm rate.

The command serves, its lines go to a small file system that gets full, and now and then it is
reloaded, replaced by a new process, scaled, stopped and let go on, or one of its workers crashes,
freezes, is held up or has served long enough. Clients of a port and of a Unix socket check every
answer. A request may only be lost by a crash, at most as many as there were connections; processes,
threads, descriptors and memory are as many at the end as at the beginning.

As root the lines go to a tmpfs, in a mount namespace of its own; else the file is only cut.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter, deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from subinterp_asgi.testing import faults
from tests.integration.rawclient import request
from tests.support import ROOT, free_port

from .chaos import APP, DEADLINE, OPTIONS, flags
from .clients import Broken, Connection, Link, Load, Records

INTERVAL = 5.0
"""Seconds from one event to the next, on average."""
SAMPLE = 10.0
"""Seconds from one look at memory, threads and descriptors to the next."""
REPORT = 600.0
"""Seconds from one line of the report to the next."""
CLIENTS = 16
UPGRADES = 100
"""One of so many events is an upgrade: memory would be new with each."""
RECYCLING = {"limit_max_requests": 2000, "limit_max_requests_jitter": 500}
"""Options: a worker has served long enough after about two minutes."""
LOG_SIZE = 1 << 16
"""Octets of the file system that takes the log."""
GROWTH = 0.25
"""Part of the memory by which the last third of the time may have more than the first."""
AFTER_CRASH = 10 * 10**9
"""Nanoseconds after a crash in which clients notice it."""
_PR_SET_CHILD_SUBREAPER = 36
_DESCRIPTORS, _MEMORY = 1, 2
"""Places in a sample."""


class Ledger(Records):
    """Counts what clients have seen, and keeps only what went wrong."""

    def __init__(self) -> None:
        super().__init__()
        self.links = _Nothing()
        self.attempts = _Nothing()
        self.kinds: Counter[str] = Counter()
        self.late = 0
        self.by_crash = 0
        self.lost: list[str] = []
        self.slowest = 0.0
        self.crashes: deque[int] = deque(maxlen=100)

    def settle(self, link: Link) -> None:
        if link.dropped is not None:
            self._blame_crash(link.dropped, f"port {link.port} was closed without a word")
        elif link.attempts:
            attempt = link.attempts[-1]
            self.kinds[attempt.kind] += 1
            self.late += attempt.late
            self.slowest = max(self.slowest, (attempt.ended - attempt.begun) / 1e9)
            if attempt.error is not None:
                self._blame_crash(attempt.ended, f"{attempt.kind} {attempt.error}")
            elif attempt.status != _EXPECTED.get(attempt.kind, 200):
                self.lost.append(f"{attempt.kind} had status {attempt.status}")
        link.attempts.clear()

    def _blame_crash(self, at: int, what: str) -> None:
        if any(0 <= at - crash < AFTER_CRASH for crash in self.crashes):
            self.by_crash += 1
        else:
            self.lost.append(f"{time.strftime('%H:%M:%S')} {what}")


_EXPECTED = {"echo": 101, "stick": 500}


class _Nothing(list[Any]):
    def append(self, item: Any) -> None:
        pass


class _Clients(Load):
    """Clients that think between requests, so that all together send ``rate`` a second."""

    def __init__(
        self, records: Ledger, port: int, path: str, rng: random.Random, rate: float
    ) -> None:
        super().__init__(records, ("127.0.0.1", port), rng)
        self._path = path
        self._ledger = records
        self._thought = 2 * CLIENTS / rate

    def start(self) -> None:
        kinds = {
            self._keep_alive: 5,
            self._upload: 2,
            self._stream: 2,
            self._fresh: 2,
            self._websocket: 2,
            self._slow_sender: 1,
            self._slow_reader: 1,
            self._slow: 1,
        }
        for kind, count in kinds.items():
            for _ in range(count):
                rng = random.Random(self._rng.random())
                self._tasks.append(asyncio.create_task(self._repeat(kind, rng)))

    async def _open(self) -> Connection:
        try:
            return await Connection.open(
                self.records, self._rng.choice((self._address, self._path))
            )
        except OSError as exc:
            self._ledger.lost.append(f"{time.strftime('%H:%M:%S')} refused: {exc}")
            await asyncio.sleep(1.0)
            raise Broken from None

    async def _several(self, rng: random.Random, pause: float, *arguments: object) -> None:
        await super()._several(rng, self._thought, *arguments)

    async def _fresh(self, rng: random.Random) -> None:
        await super()._fresh(rng)
        await asyncio.sleep(rng.uniform(0, self._thought))

    async def _websocket(self, rng: random.Random) -> None:
        await super()._websocket(rng)
        await asyncio.sleep(rng.uniform(0, self._thought))

    async def _slow_sender(self, rng: random.Random) -> None:
        """Send a request octet by octet, in some four seconds: timeout_header is ten."""
        connection = await self._open()
        octets = request(b"GET", b"/hello/0/slowly", b"Connection: close")
        await self._alone(connection, "hello", octets, pause=4.0 / len(octets))

    async def _slow_reader(self, rng: random.Random) -> None:
        """Read 400 KB in some five seconds, into a buffer that holds little."""
        sock = socket.socket()
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        await asyncio.get_running_loop().sock_connect(sock, self._address)
        reader, writer = await asyncio.open_connection(sock=sock, limit=8192)
        connection = Connection(self.records, reader, writer)
        await self._alone(connection, "stream", request(b"GET", b"/stream/0/400"), read_pause=0.1)

    async def _alone(
        self,
        connection: Connection,
        kind: str,
        octets: bytes,
        pause: float = 0,
        read_pause: float = 0,
    ) -> None:
        attempt = self.records.begin(kind, connection.link)
        try:
            async with asyncio.timeout(60):
                for octet in octets if pause else ():
                    connection.writer.write(bytes([octet]))
                    await connection.writer.drain()
                    await asyncio.sleep(pause)
                if not pause:
                    connection.writer.write(octets)
                attempt.status, _ = await connection.head()
                received = b""
                while not received.endswith((b"slowly", b"\r\n0\r\n\r\n")):
                    piece = await connection.reader.read(8192)
                    if not piece:
                        raise ConnectionError(f"the response ended after {len(received)} octets")
                    received += piece
                    await asyncio.sleep(read_pause)
        except (OSError, asyncio.IncompleteReadError) as exc:
            attempt.error = f"{type(exc).__name__}: {exc}"
        finally:
            attempt.ended = time.monotonic_ns()
            await connection.close()
            self._ledger.settle(connection.link)


class _Service:
    """The command, whichever process it is at the moment; they are this one's to wait for."""

    def __init__(self, port: int, path: str, log: Path) -> None:
        value = f"{os.getpid()}.{port}"
        self._token = f"SOAK_DAY={value}".encode()
        self.log = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        self.main = subprocess.Popen(
            [
                *(sys.executable, "-m", "subinterp_asgi", APP, *flags(**RECYCLING)),
                f"--bind=127.0.0.1:{port}",
                f"--bind=unix:{path}",
            ],
            cwd=ROOT,
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "SOAK_DAY": value,
                "SOAK_JOURNAL": os.devnull,
            },
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=self.log,
        ).pid

    def pids(self) -> list[int]:
        """Its processes that have not ended."""
        found = []
        for entry in os.listdir("/proc"):
            with contextlib.suppress(OSError):
                if entry.isdigit() and self._token in Path("/proc", entry, "environ").read_bytes():
                    found.append(int(entry))
        return found

    def held(self) -> tuple[int, int, float]:
        """Threads, descriptors, and memory (PSS) in MB."""
        base = Path("/proc", str(self.main))
        for line in (base / "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                memory = int(line.split()[1]) / 1000
        return len(os.listdir(base / "task")), len(os.listdir(base / "fd")), memory


class _Day:
    def __init__(self, seconds: float, seed: int, rate: float, report: Callable[[str], None]):
        self._seconds = seconds
        self._rng = random.Random(seed)
        self._rate = rate
        self._report = report
        self._done: Counter[str] = Counter()
        self._problems: list[str] = []
        self._samples: list[tuple[int, int, float]] = []
        self._workers = OPTIONS["workers"]

    async def run(self, folder: Path) -> bool:
        port, path = free_port(), str(folder / "socket")
        self._service = _Service(port, path, folder / "log")
        try:
            await self._until(lambda: _serves(port), "it serves")
            await asyncio.sleep(1.0)
            began = self._service.held()
            ledger = self._ledger = Ledger()
            self._load = _Clients(ledger, port, path, self._rng, self._rate)
            self._load.start()
            watching = asyncio.create_task(self._watch())
            end = time.monotonic() + self._seconds
            while time.monotonic() < end and not watching.done():
                await asyncio.sleep(self._rng.uniform(0, 2 * INTERVAL))
                await self._rng.choices(*self._events())[0]()
            if watching.done():
                await watching
            watching.cancel()
            await self._load.stop()
            await self._check_end(began)
        finally:
            for pid in self._service.pids():
                os.kill(pid, signal.SIGKILL)
        return self._say_end()

    def _events(self) -> tuple[list[Callable[[], Any]], list[float]]:
        often, seldom = 1.0, 7.0 / (UPGRADES - 1)
        weights: dict[Callable[[], Any], float] = {
            self._reload: often,
            self._crash: often,
            self._freeze: often,
            self._stick: often,
            self._pause: often,
            self._scale: often,
            self._empty_log: often,
            self._upgrade: seldom,
        }
        return list(weights), list(weights.values())

    async def _reload(self) -> None:
        self._done["reload"] += 1
        os.kill(self._service.main, signal.SIGHUP)
        await asyncio.sleep(3.0)  # nobody hears of its end: the log may be full

    async def _crash(self) -> None:
        self._done["crash"] += 1
        self._ledger.crashes.append(time.monotonic_ns())
        await self._load.once("crash")

    async def _freeze(self) -> None:
        self._done["freeze"] += 1
        kind = self._rng.choice((faults.FREEZE, faults.FREEZE_IN_C))
        await self._load.once("freeze", f"{kind}:{self._rng.uniform(0.1, 1.6):.2f}")

    async def _stick(self) -> None:
        self._done["stick"] += 1
        await self._load.once("stick")

    async def _pause(self) -> None:
        self._done["pause"] += 1
        os.kill(self._service.main, signal.SIGSTOP)
        await asyncio.sleep(self._rng.uniform(0.5, 3.0))
        os.kill(self._service.main, signal.SIGCONT)

    async def _scale(self) -> None:
        self._done["scale"] += 1
        more = self._workers <= OPTIONS["workers"]
        self._workers += 1 if more else -1
        os.kill(self._service.main, signal.SIGTTIN if more else signal.SIGTTOU)
        await asyncio.sleep(1.0)

    async def _empty_log(self) -> None:
        """Cut the log, as who rotates logs; until then it was full for a while, or is."""
        try:
            os.write(self._service.log, b"\n")
        except OSError:
            self._done["log cut when full"] += 1
        else:
            self._done["log cut"] += 1
        os.truncate(self._service.log, 0)

    async def _upgrade(self) -> None:
        self._done["upgrade"] += 1
        old = self._service.main
        os.kill(old, signal.SIGUSR2)
        await self._until(lambda: _ended(old), f"process {old} is replaced")
        self._workers = OPTIONS["workers"]
        (self._service.main,) = self._service.pids()

    async def _watch(self) -> None:
        reported = time.monotonic()
        while True:
            await asyncio.sleep(SAMPLE)
            with contextlib.suppress(OSError):  # a process that has just been replaced
                self._samples.append(self._service.held())
            if time.monotonic() >= reported + REPORT:
                reported += REPORT
                self._report(self._figures())

    async def _until(self, holds: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + DEADLINE
        while not holds():
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {DEADLINE:g} s: {what}")
            await asyncio.sleep(0.05)

    async def _check_end(self, began: tuple[int, int, float]) -> None:
        while self._workers > OPTIONS["workers"]:
            await self._scale()
        # What it keeps of those that it had: their places, with a listener and a pipe each.
        threads, descriptors = began[0] + 2, began[1] + 12

        def quiet() -> bool:
            now = self._service.held()
            return now[0] <= threads and now[1] <= descriptors

        try:
            await self._until(quiet, f"as many threads and descriptors as before, {began}")
        except AssertionError as exc:
            self._problems.append(f"{exc}; they are {self._service.held()}")
        if len(pids := self._service.pids()) != 1:
            self._problems.append(f"processes: {pids}")
        os.kill(self._service.main, signal.SIGTERM)
        status = -1

        def ended() -> bool:
            nonlocal status
            pid, status = os.waitpid(self._service.main, os.WNOHANG)
            return pid != 0

        await self._until(ended, "it ends")
        if status or self._service.pids():
            self._problems.append(f"exit status {status}, processes left {self._service.pids()}")
        first, _, last = self._in_thirds(_MEMORY)
        if len(self._samples) // 3 > 10 and last > first * (1 + GROWTH):
            self._problems.append(f"memory has grown from {first:.1f} to {last:.1f} MB")
        if self._ledger.by_crash > self._done["crash"] * CLIENTS:
            self._problems.append("crashes have broken more requests than there were")

    def _in_thirds(self, what: int) -> list[float]:
        """What there was in the first, the second and the last third of the time: medians."""
        found = [sample[what] for sample in self._samples]
        third = max(1, len(found) // 3)
        thirds = found[:third], found[third:-third], found[-third:]
        return [statistics.median(part or [0.0]) for part in thirds]

    def _figures(self) -> str:
        ledger = self._ledger
        thirds = {
            what: ", ".join(f"{part:.4g}" for part in self._in_thirds(what))
            for what in (_DESCRIPTORS, _MEMORY)
        }
        threads, descriptors, memory = zip(*self._samples or [(0, 0, 0.0)], strict=True)
        return (
            f"{time.strftime('%H:%M:%S')}: {ledger.kinds.total()} requests "
            f"({dict(ledger.kinds)}), lost {len(ledger.lost)}, broken by crashes "
            f"{ledger.by_crash}, WebSockets told to go {ledger.late}, slowest "
            f"{ledger.slowest:.1f} s; {dict(self._done)}; memory in thirds "
            f"{thirds[_MEMORY]} MB, at most {max(memory):.1f}; threads up to {max(threads)}; "
            f"descriptors {thirds[_DESCRIPTORS]}, up to {max(descriptors)}"
        )

    def _say_end(self) -> bool:
        self._report(self._figures())
        problems = self._problems + [f"lost: {text}" for text in self._ledger.lost]
        for problem in problems[:40]:
            self._report(f"  {problem}")
        return not problems


def _serves(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def _ended(pid: int) -> bool:
    """Whether a process has ended, which is this one's child or has become it."""
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return not Path("/proc", str(pid)).exists()


def run(seconds: float, seed: int, rate: float, report: Callable[[str], None]) -> bool:
    """Run it; return whether all went well.

    Args:
        seconds: For how long.
        seed: Of what is done when. (Nobody can repeat what happens.)
        rate: Requests a second, roughly, of all clients.
        report: Takes lines.
    """
    # Whoever is left without a parent, as the new process of an upgrade, becomes a child of this.
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    with tempfile.TemporaryDirectory() as directory:
        if os.geteuid() == 0:
            os.unshare(os.CLONE_NEWNS)
            subprocess.run(["mount", "--make-rprivate", "/"], check=True)
            size = f"size={LOG_SIZE}"
            subprocess.run(["mount", "-t", "tmpfs", "-o", size, "soak", directory], check=True)
        else:
            report("not root: the log's file system will not be full")
        try:
            return asyncio.run(_Day(seconds, seed, rate, report).run(Path(directory)))
        finally:
            if os.geteuid() == 0:
                subprocess.run(["umount", "--lazy", directory], check=True)
