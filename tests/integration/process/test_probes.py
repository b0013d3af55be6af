"""The probes of a real load balancer, answered at ``health_path``."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from tests.support import wait_until

from ..serving import respond, serving
from .proxies import HAPROXY, behind, haproxy_statistics


async def app(scope: Any, receive: Any, send: Any) -> None:
    await respond(send, b"not found", 404)


def told(folder: Path) -> tuple[str, str] | None:
    """What HAProxy says of the server: its status, and that of the last probe, if it answers."""
    if not (statistics := haproxy_statistics(folder)):
        return None
    (server,) = (
        row for row in csv.DictReader(statistics.splitlines()) if row["svname"] == "server"
    )
    return server["status"], server["check_status"]


@pytest.mark.parametrize(
    ("path", "probe"),
    [
        ("/", "option httpchk"),  # OPTIONS / HTTP/1.0
        ("/health", "option httpchk /health"),
        ("/health", "option httpchk GET /health"),
        ("/health", "option httpchk HEAD /health"),
        ("/health", "option httpchk HEAD /health HTTP/1.0"),
    ],
)
def test_haproxy(path: str, probe: str, tmp_path: Path) -> None:
    with (
        serving(app, health_path=path, drain_delay=600.0) as served,
        behind(HAPROXY, tmp_path, served.address[1], probe),
    ):
        wait_until(lambda: told(tmp_path) == ("UP", "L7OK"), "HAProxy finds the server healthy")
        served.call(served.worker.drain)
        wait_until(lambda: told(tmp_path) == ("DOWN", "L7STS"), "HAProxy looks elsewhere")
