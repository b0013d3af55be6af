"""Django: its ASGI handler with sync and async views and middleware, and SQLite.

asgiref starts a daemon thread at the end of each request that ran sync code, which an isolated
interpreter refuses: without the demotion of such threads each of them would end in an error.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from subinterp_asgi import Supervisor

from . import contract

pytest.importorskip("django")

APP = "tests.frameworks.apps.django_site.asgi:application"


@pytest.fixture(scope="module", autouse=True)
def site(environment: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The environment and the database, before any interpreter begins.

    Django sets TZ when it starts. The environment belongs to the process: two interpreters that add
    to it at the same time could crash it, while setting what is set already is harmless.
    """
    environment.setenv("TZ", "America/Chicago")
    environment.setenv("DJANGO_SETTINGS_MODULE", "tests.frameworks.apps.django_site.settings")
    environment.setenv("TEST_DATABASE", str(tmp_path_factory.mktemp("django") / "db.sqlite3"))
    subprocess.run(
        [sys.executable, "-m", "django", "migrate", "--run-syncdb", "--verbosity=0"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        check=True,
        timeout=60,
    )


class TestDjango(
    contract.Requests,
    contract.OwnInterpreters,
    contract.AbandonedDownloads,
    contract.AbandonedEvents,
    contract.ChunkedUploads,
):
    def test_middleware_of_both_kinds(self, client: httpx.Client) -> None:
        for path in ("/json", "/sync"):
            headers = client.get(path).headers
            assert headers["x-sync-middleware-on-loop"] == "False"
            assert headers["x-async-middleware-on-loop"] == "True"

    def test_database(self, server: Supervisor, client: httpx.Client) -> None:
        """Workers write to the same file at the same time, and each sees what the others wrote."""

        def add(number: int) -> str:
            answer = client.post(
                "/notes/add", data={"text": "shared"}, headers={"connection": "close"}
            )
            assert answer.status_code == 200, answer.text
            return answer.json()["worker"]

        writers: list[str] = []
        with ThreadPoolExecutor(8) as pool:
            while len(set(writers)) < 2 and len(writers) < 400:
                writers.extend(pool.map(add, range(16)))
        assert len(set(writers)) == 2
        answer = client.get("/notes").json()
        assert sorted(note["worker"] for note in answer["notes"]) == sorted(writers)
        count = client.get("/notes/count", params={"text": "shared"}).json()["count"]
        assert count == len(writers)

    def test_transaction_is_rolled_back(self, client: httpx.Client) -> None:
        assert client.post("/notes/add", data={"text": "roll back"}).status_code == 500
        answer = client.get("/notes/count", params={"text": "roll back"})
        assert answer.json() == {"count": 0}

    def test_session_is_shared_by_the_workers(self, client: httpx.Client) -> None:
        workers: set[str] = set()
        visits = 0
        deadline = time.monotonic() + 30
        while len(workers) < 2 and time.monotonic() < deadline:
            answer = client.get("/visit", headers={"connection": "close"}).json()
            visits += 1
            assert answer["visits"] == visits
            workers.add(answer["worker"])
        assert len(workers) == 2


def test_sync_code_needs_demoted_threads(
    server: Supervisor, capfd: pytest.CaptureFixture[str]
) -> None:
    """The option works both ways, and the default is not kept by accident."""
    refusal = "daemon threads are disabled"
    with httpx.Client(verify=False, trust_env=False) as client:
        assert client.get(f"{server.url}/sync").status_code == 200
        assert refusal not in capfd.readouterr().err
        with Supervisor(APP, port=0, state={"given": None}, daemon_threads="refuse") as refusing:
            # The refusal comes when the response is out already.
            client.get(f"{refusing.url}/sync")
        assert refusal in capfd.readouterr().err
