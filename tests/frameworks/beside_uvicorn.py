"""Answers of an application in workers beside those that it gives under uvicorn."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from ..support import ROOT, wait_until

type Exchange = tuple[str, str, dict[str, Any]]

NOT_COMPARED = {"date", "server", "connection", "x-worker"}


@contextlib.contextmanager
def uvicorn(app: str, directory: Path, environment: Mapping[str, str]) -> Iterator[str]:
    """Serve an application with uvicorn in a process of its own; yields the URL."""
    pytest.importorskip("uvicorn")
    log = directory / "uvicorn.log"
    with (
        log.open("wb") as output,
        subprocess.Popen(
            [sys.executable, "-m", "uvicorn", app, "--port", "0", "--no-access-log"],
            env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        ) as process,
    ):
        try:
            wait_until(
                lambda: process.poll() is not None or "running on http" in log.read_text(),
                "uvicorn to serve",
                timeout=60,
            )
            found = re.search(r"running on (http://\S+)", log.read_text())
            assert found, log.read_text()
            yield found[1]
        finally:
            process.terminate()
            process.wait(20)


def new_client(url: str, *, keep_alive: bool = True) -> httpx.Client:
    """Return a client with one connection, which stays with one worker, or with one a request.

    uvicorn closes connections after an application's exception without saying so.
    """
    return httpx.Client(
        base_url=url,
        headers={"host": "shop.test", "user-agent": "test"},
        limits=httpx.Limits(
            max_connections=1, max_keepalive_connections=int(keep_alive), keepalive_expiry=None
        ),
        verify=False,
        trust_env=False,
        timeout=60,
    )


@contextlib.contextmanager
def client_of_each(url: str, path: str, workers: int = 2) -> Iterator[dict[str, httpx.Client]]:
    """Yield a client of each worker, by what the application says in ``x-worker``."""
    found: dict[str, httpx.Client] = {}
    with contextlib.ExitStack() as stack:

        def all_found() -> bool:
            client = stack.enter_context(new_client(url))
            found.setdefault(client.get(path).headers["x-worker"], client)
            return len(found) == workers

        wait_until(all_found, "each worker to answer")
        yield found


def ask(
    client: httpx.Client, exchanges: Sequence[Exchange], worker: str | None = None
) -> list[tuple[str, int, list[tuple[str, str]], Any]]:
    """Send requests in their order; return what can be compared of the answers."""
    return [_ask(client, exchange, worker) for exchange in exchanges]


def _ask(
    client: httpx.Client, exchange: Exchange, worker: str | None
) -> tuple[str, int, list[tuple[str, str]], Any]:
    method, target, arguments = exchange
    client.cookies.clear()
    answer = client.request(method, target, **arguments)
    assert answer.headers.get("x-worker", worker) in (worker, "0"), "another worker answered"
    fields = sorted(
        (name, value)
        for name, value in answer.headers.multi_items()
        if name.lower() not in NOT_COMPARED
    )
    body: Any = answer.content
    if "json" in answer.headers.get("content-type", ""):
        with contextlib.suppress(ValueError):  # some say so of what is none
            body = json.loads(answer.content)
    return f"{method} {target}", answer.status_code, fields, body
