"""FastAPI with asynchronous SQLAlchemy, whose greenlets are threads here: under load, reloaded."""

from __future__ import annotations

import ctypes  # noqa: F401  (libffi opens a descriptor, once, when it is first loaded)
import json
import random
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from subinterp_asgi import Supervisor
from subinterp_asgi.errors import StartupError

from ..support import get, nothing_left, run_script, wait_until
from . import mariadb, postgresql

for module in ("fastapi", "sqlalchemy", "sqlmodel", "aiosqlite", "greenlet"):
    pytest.importorskip(module)

APP = "tests.frameworks.apps.bank_app:app"
TOTAL = 10_000
CREATE_TABLES = """
    import asyncio
    from tests.frameworks.apps import bank_app
    asyncio.run(bank_app.create_tables())
"""


def create_tables(folder: Path, url: str) -> None:
    """With the real greenlet, in a process of its own."""
    done = run_script(folder, CREATE_TABLES, environment={"BANK_URL": url})
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def postgres() -> Iterator[postgresql.PostgreSQL]:
    with postgresql.running() as server:
        yield server


@pytest.fixture(scope="module")
def maria() -> Iterator[mariadb.MariaDB]:
    with mariadb.running() as server:
        yield server


@pytest.fixture
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    driver = request.param
    if driver == "aiosqlite":
        url = f"sqlite+aiosqlite:///{tmp_path}/bank.db"
        create_tables(tmp_path, url)
        yield url
        return
    pytest.importorskip(driver)
    name = "maria" if driver == "aiomysql" else "postgres"
    database: mariadb.MariaDB | postgresql.PostgreSQL = request.getfixturevalue(name)
    database.clear()
    url = database.url(driver)
    create_tables(tmp_path, url)
    yield url
    wait_until(lambda: database.connections() == 0, "the workers' connections to end")


all_drivers = pytest.mark.parametrize(
    "url",
    [
        "aiosqlite",
        "psycopg",
        pytest.param("asyncpg", marks=pytest.mark.once),
        pytest.param("aiomysql", marks=pytest.mark.once),
    ],
    indirect=True,
)


class Clients:
    """Threads that ask for this and that, and know every answer."""

    def __init__(self, url: str, number: int) -> None:
        self.wrong: list[str] = []
        self.right: Counter[str] = Counter()
        self._url = url
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(seed,), daemon=True) for seed in range(number)
        ]

    def __enter__(self) -> Clients:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive(), "a client waits for ever"

    def _run(self, seed: int) -> None:
        chance = random.Random(seed)
        with httpx.Client(base_url=self._url, trust_env=False, timeout=60) as client:
            while not self._over.is_set():
                method, path, expected = self._choose(chance)
                try:
                    answer = client.request(method, path)
                except Exception as exc:
                    self.wrong.append(f"{path}: {exc!r}")
                    continue
                got = answer.status_code, answer.json()
                if got in expected:
                    self.right[path.partition("?")[0].split("/")[1]] += 1
                else:
                    self.wrong.append(f"{path}: {got}")

    def _choose(self, chance: random.Random) -> tuple[str, str, list[Any]]:
        number = chance.randrange(1, 10**6)
        source, target = chance.sample(range(10), 2)
        amount = chance.randrange(1, 600)
        moved = {"moved": amount}
        echoed = {"first": number, "sync": [number, number, True, 5], "left": -number}
        loaded = {"same": True, "eager": True, "lazy": True}
        wrong = "True select nothing from nowhere"
        return chance.choice(
            [
                (
                    "POST",
                    f"/transfer?source={source}&target={target}&amount={amount}",
                    [(200, moved), (409, {"detail": "not enough"})],
                ),
                ("GET", "/total", [(200, TOTAL)]),
                ("GET", f"/echo/{number}", [(200, echoed)]),
                ("GET", f"/entries/{source}", [(200, loaded)]),
                ("GET", "/conflict", [(200, "IntegrityError went on")]),
                ("GET", "/wrong", [(200, wrong)]),
                ("GET", "/timeout", [(200, "timed out")]),
                ("GET", "/stream", [(200, list(range(10)))]),
                ("POST", f"/note?words=n{number}", [(200, {"same": True, "text": f"n{number}"})]),
            ]
        )


@all_drivers
@pytest.mark.timeout(240)
def test_under_load_and_reloads(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BANK_URL", url)
    options: dict[str, Any] = {"extensions": "private", "access_log": False}
    with nothing_left(), Supervisor(APP, workers=2, port=0, **options) as server:
        with Clients(server.url, 8) as clients:
            for _ in range(2):
                before = sum(clients.right.values())
                wait_until(lambda b=before: sum(clients.right.values()) > b + 50, timeout=60)
                server.reload()
            before = sum(clients.right.values())
            wait_until(lambda b=before: sum(clients.right.values()) > b + 50, timeout=60)
        assert clients.wrong == []
        assert len(clients.right) == 9, clients.right
        assert json.loads(get(server.url, "/total").body) == TOTAL
        seen = [json.loads(get(server.url, "/whoami").body) for _ in range(10)]
        assert 0 not in {answer["interpreter"] for answer in seen}
        assert sum(answer["greenlets"] for answer in seen) > 0


def test_where_it_is_not_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The error names what would do."""
    monkeypatch.setenv("BANK_URL", f"sqlite+aiosqlite:///{tmp_path}/bank.db")
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "greenletful.py").write_text("import greenlet\n")
    with nothing_left(), pytest.raises(StartupError) as refusal:
        Supervisor("greenletful:app", port=0).start()
    first_line = str(refusal.value).splitlines()[0]
    assert "'greenlet._greenlet' of greenlet " in first_line
    assert "extensions='private' takes threads instead (experimental)" in first_line
