"""Everything at once: under mixed load, at random, workers crash, stick, are replaced and scaled.

Two servers live through it: one embedded in this process, told through the API, and a process of
the command line, told by signals. At the end every request is accounted for (see ``journal``), and
descriptors, threads and interpreters are as many as before.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes  # noqa: F401  (libffi opens a descriptor, once, when it is first loaded)
import logging
import os
import random
import re
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from itertools import chain
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from subinterp_asgi import Supervisor
from subinterp_asgi.errors import ReloadError, StartupError, StateError
from subinterp_asgi.supervisor import events
from subinterp_asgi.testing import faults
from tests.integration.command import Command
from tests.integration.rawclient import request
from tests.support import nothing_left

from .clients import Connection, Load, Records
from .journal import Journal, Totals, judge

INTERVAL = 0.3
"""Seconds from one fault to the next."""
DEADLINE = 60.0
"""Seconds that anything else may take."""
MOST_WORKERS = 4

OPTIONS: dict[str, Any] = {
    "port": 0,
    "workers": 2,
    "restart_limit": 1_000_000,
    "restart_window": 1.0,
    "restart_delay": 0.05,
    "timeout_worker_healthcheck": 1.0,
    "timeout_linger": 2.0,
    "timeout_keep_alive": DEADLINE,
    "timeout_graceful_shutdown": DEADLINE,
    "shutdown_timeout": DEADLINE,
}
APP = "tests.soak.app:app"


def flags(**changes: Any) -> list[str]:
    """The options as the command takes them."""
    pairs = ((f"--{name.replace('_', '-')}", str(v)) for name, v in (OPTIONS | changes).items())
    return [*chain.from_iterable(pairs), "--metrics-path=/metrics"]


_EXPECTED = re.compile(
    r"worker \d+ (died|did not end well): (SystemExit: crashed|InjectedFault: as) .*test"
    r"|worker \d+ is stuck for "
    r"|the ASGI application held the worker up for .* and was interrupted"
    r"|CPython 3\.13 does not give back"
    r"|workers in threads share the modules of this interpreter"
)
"""What may be logged as an error, or a warning."""

type Action = Callable[[random.Random], Awaitable[None]]


class Embedded:
    """A ``Supervisor`` in this process.

    Attributes:
        done: What was done how often.
        problems: What went wrong that no client has noticed.
    """

    def __init__(self, isolation: str, journal: Path) -> None:
        self.done: Counter[str] = Counter()
        self.problems: list[str] = []
        self._server = Supervisor(
            APP,
            isolation=isolation,
            log_forwarding=True,
            on_event=self._on_event,
            **OPTIONS,
        )
        self._access: list[str] = []
        self._changing = False
        self._journal = journal

    async def start(self, load: Callable[[tuple[str, int]], Load]) -> Load:
        access = logging.getLogger("subinterp_asgi.access")
        access.setLevel(logging.INFO)
        access.propagate = False
        access.addHandler(_Collector(self._take_access))
        logging.getLogger().addHandler(_Collector(self._take_error, logging.WARNING))
        await asyncio.to_thread(self._server.start)
        (host, port), *_ = self._server.addresses
        assert port is not None
        self._load = load((host, port))
        return self._load

    def _take_access(self, record: logging.LogRecord) -> None:
        self._access.append(record.getMessage())

    def _take_error(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if not _EXPECTED.match(text):
            self.problems.append(f"logged: {text} {record.exc_info or record.exc_text or ''}")

    def _on_event(self, event: events.Event) -> None:
        if isinstance(event, events.WorkerEvent) and not isinstance(event, events.WorkerChanged):
            self.done[type(event).__name__] += 1
        if isinstance(event, events.WorkerAbandoned):
            self.problems.append(f"{event}")

    @property
    def actions(self) -> list[Action]:
        return [self._crash, self._freeze, self._stick, self._reload, self._scale]

    def busy(self, action: Action) -> bool:
        """Whether such a thing is still being done, so that another one would only wait."""
        return self._changing and action in (self._reload, self._scale)

    async def _crash(self, rng: random.Random) -> None:
        self._fault(faults.crash_worker, worker_id=self._some_worker(rng))

    async def _freeze(self, rng: random.Random) -> None:
        self._fault(
            faults.freeze_worker,
            seconds=rng.uniform(0.1, 1.6),
            worker_id=self._some_worker(rng),
            interruptible=rng.random() < 0.5,
        )

    def _fault(self, function: Callable[..., object], **arguments: Any) -> None:
        try:
            function(self._server, **arguments)
        except StateError:
            self.done["in vain"] += 1  # it does not serve at the moment
        else:
            self.done[function.__name__] += 1

    def _some_worker(self, rng: random.Random) -> int:
        return rng.randrange(len({worker.id for worker in self._server.workers}))

    async def _stick(self, rng: random.Random) -> None:
        self.done["stick"] += 1
        await self._load.once("stick")

    async def _reload(self, rng: random.Random) -> None:
        strategy = rng.choice(("all", "rolling"))
        canary = rng.choice((0, 0, 0.3))
        if rng.random() < 0.2:
            faults.fail_next_reload(self._server)
        await self._change("reload", lambda: self._server.reload(strategy=strategy, canary=canary))

    async def _scale(self, rng: random.Random) -> None:
        workers = rng.randint(1, MOST_WORKERS)
        await self._change("scale", lambda: self._server.scale(workers))

    async def _change(self, name: str, function: Callable[[], object]) -> None:
        self._changing = True
        try:
            await asyncio.to_thread(function)
            self.done[name] += 1
        except (ReloadError, StartupError) as exc:
            self.done[f"{name} failed"] += 1
            if not re.search("crashed by a test|as a test wants it|loop was held up", str(exc)):
                self.problems.append(f"{name}: {exc}")
        finally:
            self._changing = False

    async def finish(self, records: Records) -> Totals:
        await asyncio.to_thread(self._server.stop)
        for logger in (logging.getLogger(), logging.getLogger("subinterp_asgi.access")):
            for handler in [h for h in logger.handlers if isinstance(h, _Collector)]:
                logger.removeHandler(handler)
        stats = self._server.stats()
        if stats.in_flight or stats.connections or stats.websockets or stats.workers:
            self.problems.append(f"there should be nothing: {stats}")
        return Totals(
            accepted=stats.accepted,
            requests=stats.requests,
            errors=stats.errors,
            responses=stats.responses,
            logs_dropped=stats.logs_dropped,
            access=self._access,
        )


class _Collector(logging.Handler):
    def __init__(self, take: Callable[[logging.LogRecord], None], level: int = 0) -> None:
        super().__init__(level)
        self.emit = take  # type: ignore[method-assign,assignment]


class CommandLine:
    """A process of the command line. Its faults are requests, its changes are signals."""

    def __init__(self, journal: Path) -> None:
        self.done: Counter[str] = Counter()
        self.problems: list[str] = []
        self._command = Command(
            APP,
            *flags(),
            environment={"SOAK_JOURNAL": str(journal)},
        )
        self._changing = False
        self._workers = OPTIONS["workers"]
        self._before: tuple[Counter[str], int] = (Counter(), 0)

    async def start(self, load: Callable[[tuple[str, int]], Load]) -> Load:
        url = await asyncio.to_thread(lambda: self._command.url)
        parts = urlsplit(url)
        assert parts.hostname is not None
        assert parts.port is not None
        self._address = (parts.hostname, parts.port)
        self._load = load(self._address)
        # What is kept for later, the listeners of workers there were, is there from now on.
        while self._workers < MOST_WORKERS:
            await self._scale_by(1)
        await self._shrink()
        self._before = await self._held()
        return self._load

    async def _shrink(self) -> None:
        while self._workers > 1:
            await self._scale_by(-1)

    async def _held(self) -> tuple[Counter[str], int]:
        """Descriptors by kind, and threads, once they have not changed for a while."""

        def count() -> tuple[Counter[str], int]:
            base, kinds = f"/proc/{self._command.pid}", Counter[str]()
            for number in os.listdir(f"{base}/fd"):
                with contextlib.suppress(OSError):  # it is gone by now
                    kinds[os.readlink(f"{base}/fd/{number}").split(":")[0]] += 1
            for kind in [kind for kind in kinds if "libffi" in kind]:
                del kinds[kind]  # open from the first use of ctypes on, for an interruption
            return kinds, len(os.listdir(f"{base}/task"))

        before, since = count(), time.monotonic()
        deadline = since + DEADLINE
        while time.monotonic() < min(since + 2.0, deadline):
            await asyncio.sleep(0.05)
            now = count()
            if now != before:
                before, since = now, time.monotonic()
        return before

    @property
    def actions(self) -> list[Action]:
        return [self._crash, self._freeze, self._stick, self._hang_up, self._scale]

    def busy(self, action: Action) -> bool:
        return self._changing and action in (self._hang_up, self._scale)

    async def _crash(self, rng: random.Random) -> None:
        self.done["crash"] += 1
        await self._load.once("crash")

    async def _freeze(self, rng: random.Random) -> None:
        self.done["freeze"] += 1
        kind = rng.choice((faults.FREEZE, faults.FREEZE_IN_C))
        await self._load.once("freeze", f"{kind}:{rng.uniform(0.1, 1.6):.2f}")

    async def _stick(self, rng: random.Random) -> None:
        self.done["stick"] += 1
        await self._load.once("stick")

    async def _hang_up(self, rng: random.Random) -> None:
        await self._signal(signal.SIGHUP, r"Generation \d+ serves|Error: ")

    async def _scale(self, rng: random.Random) -> None:
        await self._scale_by(
            1
            if self._workers == 1
            else -1
            if self._workers == MOST_WORKERS
            else rng.choice((-1, 1))
        )

    async def _scale_by(self, number: int) -> None:
        name = "SIGTTIN" if number > 0 else "SIGTTOU"
        answer = await self._signal(signal.Signals[name], rf"{name}: (\d+) workers? instead of")
        self._workers = int(answer[1])  # if none of the new ones crashes as it starts

    async def _signal(self, number: signal.Signals, answer: str) -> re.Match[str]:
        """Send a signal and wait for a line that answers it."""
        self._changing = True
        seen = len(self._command.lines)
        self.done[number.name] += 1
        self._command.send(number)
        deadline = time.monotonic() + DEADLINE
        while time.monotonic() < deadline and self._command.running(0):
            for line in self._command.lines[seen:]:
                if found := re.match(answer, line):
                    self._changing = False
                    return found
            await asyncio.sleep(0.01)
        raise AssertionError(f"no {answer!r} after {number.name}:\n{self._command.stderr}")

    async def finish(self, records: Records) -> Totals:
        await self._shrink()
        left = await self._held()
        if left != self._before:
            self.problems.append(
                f"descriptors and threads: {left}, they were {self._before} at the beginning"
            )
        counts = await self._counts(records)
        self._command.send(signal.SIGTERM)
        status = await asyncio.to_thread(self._command.wait, DEADLINE)
        if status or self._command.stdout:
            self.problems.append(f"exit status {status}, {self._command.stdout!r}")
        lines = self._command.lines
        self._check_log([line for line in lines if not line.startswith("INFO: ")])
        return Totals(
            accepted=counts["connections_accepted_total"],
            requests=counts["requests_total"],
            errors=counts["app_exceptions_total"],
            responses={n: counts[f'responses_total{{class="{n}xx"}}'] for n in range(1, 6)},
            logs_dropped=0,
            access=[line for line in lines if _ACCESS.match(line)],
        )

    async def _counts(self, records: Records) -> dict[str, int]:
        connection = await Connection.open(records, self._address)
        connection.writer.write(request(b"GET", b"/metrics", b"Connection: close"))
        _, fields = await connection.head()
        page = await connection.reader.readexactly(int(fields[b"content-length"]))
        await connection.close()
        lines = re.findall(r"^subinterp_asgi_(\S+) (\d+)$", page.decode(), re.MULTILINE)
        return {name: int(value) for name, value in lines}

    def _check_log(self, lines: list[str]) -> None:
        """Look for complaints; what is indented belongs to the one before."""
        for line in lines:
            if re.match("ERROR|WARNING", line) and not _EXPECTED.search(line):
                self.problems.append(f"logged: {line}")
            elif line.startswith("Error: ") and "crashed by a test" not in line:
                self.problems.append(f"said: {line}")

    def kill(self) -> None:
        self._command.__exit__(None, None, None)


_ACCESS = re.compile(r'INFO: \S+:\d+ - "(?!GET /metrics)')


async def _torment(target: Embedded | CommandLine, seconds: float, rng: random.Random) -> Records:
    """Start it, have things happen to it for a while under load, and let that end."""
    records = Records()
    load = await target.start(lambda address: Load(records, address, rng))
    load.start()
    end = time.monotonic() + seconds
    running: set[asyncio.Task[None]] = set()
    while time.monotonic() < end:
        await asyncio.sleep(INTERVAL)
        action = rng.choice(target.actions)
        if not target.busy(action):
            running.add(asyncio.ensure_future(action(rng)))
        for task in [task for task in running if task.done()]:
            running.remove(task)
            task.result()
    await asyncio.gather(*running)
    await load.stop()
    return records


def run(seconds: float, seed: int, kind: str, report: Callable[[str], None]) -> bool:
    """Run it; return whether all went well.

    Args:
        seconds: For how long.
        seed: Of what is done when. (Nobody can repeat what happens.)
        kind: ``"interpreter"``, ``"thread"`` or ``"command"``.
        report: Takes lines.
    """
    with tempfile.TemporaryDirectory() as directory:
        journal = Path(directory, "journal")
        journal.touch()
        os.environ["SOAK_JOURNAL"] = str(journal)

        async def main() -> tuple[Embedded | CommandLine, Records, Totals]:
            target = CommandLine(journal) if kind == "command" else Embedded(kind, journal)
            try:
                records = await _torment(target, seconds, random.Random(seed))
                return target, records, await target.finish(records)
            finally:
                if isinstance(target, CommandLine):
                    target.kill()

        with nothing_left():
            target, records, totals = asyncio.run(main())
        verdict = judge(records, Journal(journal), totals)
    problems = target.problems + verdict.problems
    report(f"{kind}: {verdict.summary}; {dict(target.done)}")
    for problem in problems[:40]:
        report(f"  {problem}")
    if len(problems) > 40:
        report(f"  ... and {len(problems) - 40} more")
    return not problems
