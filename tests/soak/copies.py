"""Extension modules from private copies, in use: FastAPI with validation errors and callbacks.

Four workers answer clients that know each answer beforehand, and are reloaded all the while. It is
run in a process of its own, which a crash would end.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from subinterp_asgi import Supervisor
from subinterp_asgi.supervisor.policy.recycling import resident_memory

APP = "tests.frameworks.apps.fastapi_shop.app:app"
REUSABLE = "tests.soak.shop:app"
WORKERS = 4
CLIENTS = 8
TIMEOUT = 60.0
NOBODYS_TOKEN = f"eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJhZGEifQ.{'A' * 86}"
"""Of somebody called ada, with a signature of zeros."""


def main(seconds: float, reloads: int, *, reuse: bool = False) -> int:
    """Serve and ask for so long, and reload so often meanwhile; return the exit status.

    ``reuse``: use interpreters again.
    """
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TEST_DATABASE"] = os.path.join(folder, "db.sqlite3")
        # A machine that is busy otherwise is no fault. What hangs, a client waits for in vain.
        patient: dict[str, Any] = {"timeout_worker_healthcheck": 0}
        patient |= {"startup_timeout": 300, "shutdown_timeout": 120}
        with Supervisor(
            REUSABLE if reuse else APP,
            workers=WORKERS,
            port=0,
            access_log=False,
            extensions="private",
            reuse_interpreters=reuse,
            **patient,
        ) as server:
            return _run(server, seconds, reloads)


def _run(server: Supervisor, seconds: float, reloads: int) -> int:
    until = time.monotonic() + seconds
    ended = threading.Event()
    clients = [_Client(server.url, seed, until, ended) for seed in range(CLIENTS)]
    for client in clients:
        client.start()
    memory = []
    for _ in range(reloads):
        server.reload()
        memory.append(resident_memory() or 0)
        pause = max(0.0, until - time.monotonic()) / (reloads + 1 - len(memory))
        if ended.wait(pause):
            break
    for client in clients:
        client.join()
    asked = sum((client.asked for client in clients), Counter())
    mebibytes = [octets / 2**20 for octets in memory]
    grown = (mebibytes[-1] - mebibytes[0]) / max(1, len(memory) - 1) / WORKERS
    say(
        f"{sum(asked.values())} requests {dict(asked)}, {len(memory)} reloads of {WORKERS} "
        f"workers; MiB after each {', '.join(f'{each:.0f}' for each in mebibytes)}: {grown:.1f} "
        "for each reload and worker"
    )
    problems = [problem for client in clients for problem in client.problems]
    for problem in problems:
        say(f"  {problem}")
    return 1 if problems or not asked else 0


class _Client(threading.Thread):
    def __init__(self, url: str, seed: int, until: float, ended: threading.Event) -> None:
        super().__init__(name=f"test-client-{seed}")
        parts = urlsplit(url)
        assert parts.hostname is not None
        self._connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=TIMEOUT)
        self._rng = random.Random(seed)
        self._until = until
        self._ended = ended
        self.asked: Counter[str] = Counter()
        self.problems: list[str] = []

    def run(self) -> None:
        actions = [self._span, self._error, self._pets, self._lengths, self._orjson, self._token]
        try:
            while time.monotonic() < self._until and not (self.problems or self._ended.is_set()):
                action = self._rng.choice(actions)
                action()
                self.asked[action.__name__.removeprefix("_")] += 1
        except Exception as exc:
            self.problems.append(f"{type(exc).__name__}: {exc}")
        finally:
            self._connection.close()
            if self.problems:
                self._ended.set()

    def _ask(
        self,
        method: str,
        path: str,
        body: Any,
        status: int,
        expected: Any,
        more: dict[str, str] | None = None,
    ) -> None:
        text = None if body is None else json.dumps(body)
        fields = {"content-type": "application/json", **(more or {})}
        if self._rng.random() < 0.05:
            fields["connection"] = "close"
        self._connection.request(method, path, text, fields)
        response = self._connection.getresponse()
        found = json.loads(response.read() or b"null")
        if response.status != status or expected(found) is not True:
            self.problems.append(f"{method} {path} {text}: {response.status} {found}")

    def _span(self) -> None:
        day = self._rng.randrange(10, 29)
        begin, end = f"2026-01-{day}T00:00:00Z", f"2026-02-{day}T00:00:00Z"
        wanted = {"begin": begin[:10], "end": end}
        self._ask("POST", "/span", {"begin": begin, "end": end}, 200, wanted.__eq__)

    def _error(self) -> None:
        price = -self._rng.randrange(1, 1000)
        body = {"name": "curse", "price": price, "colour": "blue", "maker": {"name": "x"}}

        def expected(found: Any) -> bool:
            said = {".".join(map(str, error["loc"])): error for error in found["detail"]}
            return (
                said["body.name"]["msg"] == "Value error, must not be a curse"
                and said["body.price"]["input"] == price
                and {*said} == {"body.name", "body.price", "body.colour", "body.maker.name"}
            )

        self._ask("POST", "/wares/1", body, 422, expected)

    def _pets(self) -> None:
        depth = self._rng.randrange(1, 30)
        pet: Any = {"kind": "cat", "lives": depth}
        for _ in range(depth):
            pet = {"kind": "dog", "friends": [pet, {"kind": "cat", "lives": 1}]}
        self._ask("POST", "/pets", [pet] * 3, 200, ([pet] * 3).__eq__)

    def _lengths(self) -> None:
        numbers = [float(self._rng.randrange(1000)) for _ in range(self._rng.randrange(500))]
        wanted = {"lengths": numbers, "sum": sum(numbers)}
        self._ask("POST", "/lengths", numbers, 200, lambda found: found == wanted)

    def _orjson(self) -> None:
        self._ask("GET", "/orjson", None, 200, lambda found: found["text"] == "grüezi")

    def _token(self) -> None:
        self._ask("GET", "/accounts/me", None, 401, lambda found: found["detail"] != "")
        fields = {"authorization": f"Bearer {NOBODYS_TOKEN}"}
        self._ask("GET", "/accounts/me", None, 401, lambda found: found["detail"] != "", fields)


def run(seconds: float, reloads: int, report: Callable[[str], None], *, reuse: bool) -> bool:
    """Have it run in a process of its own; return whether all was well.

    Each reload leaves tens of megabytes for each worker, unless interpreters are used again.
    """
    source = (
        "from tests.soak import copies; "
        f"raise SystemExit(copies.main({seconds}, {reloads}, reuse={reuse}))"
    )
    done = subprocess.run([sys.executable, "-X", "faulthandler", "-c", source], check=False)
    if done.returncode:
        report(f"  it ended with status {done.returncode}")
    return not done.returncode


def say(line: str) -> None:
    print(textwrap.shorten(line, 2000), flush=True)
