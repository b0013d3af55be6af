"""The status page: what its JSON tells, and what a browser makes of it."""

from __future__ import annotations

import json
import shutil
import socket
import time
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect, sync_playwright

from subinterp_asgi import Supervisor
from subinterp_asgi.errors import ConfigError
from tests.support import connect, get, nothing_left, wait_until

from ..supervising import Servers, both, freeze_all
from .killing import kill

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DEADLINE = 30_000.0  # milliseconds
OPTIONS: dict[str, Any] = {
    "metrics_bind": "127.0.0.1:0",
    "health_path": "/health",
    "status_page": True,
}


def page_of(server: Supervisor) -> str:
    return server._listeners[1].url


def status(server: Supervisor) -> dict[str, Any]:
    answer = get(page_of(server), "/status.json")
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    shown: dict[str, Any] = json.loads(answer.body)
    return shown


@both
def test_what_is_told(servers: Servers, isolation: str) -> None:
    server = servers.start(isolation=isolation, workers=2, **OPTIONS)
    for _ in range(5):
        get(server.url)
    wait_until(lambda: status(server)["requests"] == 5)
    shown = status(server)
    assert shown["state"] == "serving"
    assert shown["memory"] > 1 << 20
    assert shown["responses"]["2xx"] == 5
    assert [(worker["id"], worker["state"]) for worker in shown["workers"]] == [
        (0, "serving"),
        (1, "serving"),
    ]
    assert sum(worker["requests"] for worker in shown["workers"]) == 5
    kinds = [event["kind"] for event in shown["events"]]
    assert "WorkerChanged" in kinds
    assert abs(shown["events"][-1]["at"] - time.time()) < 60
    kill(server)
    wait_until(lambda: any(event["kind"] == "WorkerDied" for event in status(server)["events"]))
    wait_until(lambda: [sample["requests"] for sample in status(server)["samples"]][-1] >= 5)


def test_what_else_is_answered_there(servers: Servers) -> None:
    """All that workers would answer, and also if none of them does."""
    server = servers.start(workers=2, **OPTIONS)
    url = page_of(server)
    assert get(url, "/health").text == "OK\n"
    assert b"subinterp_asgi_requests_total" in get(url, "/metrics").body
    assert get(url, "/nothing").status == 404
    page = get(url)
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["content-security-policy"].startswith("default-src 'none'")
    with connect_to(url) as sock:
        sock.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
        assert sock.recv(100).startswith(b"HTTP/1.1 405 ")
    assert get(server.url, "/status.json").text != ""  # the application's, as all else there


def connect_to(url: str) -> socket.socket:
    connection = connect(url)
    connection.connect()
    return connection.sock


def test_while_all_workers_are_held_up(servers: Servers, tmp_path: Path) -> None:
    server = servers.start(isolation="interpreter", workers=2, **OPTIONS)
    path = tmp_path / "file"
    frozen = freeze_all(server, path, 2)
    wait_until(lambda: get(page_of(server), "/health").status == 503)
    assert all(worker["busy"] > 0 for worker in status(server)["workers"])
    path.touch()
    for client in frozen:
        assert client.response().status == 200
        client.close()
    wait_until(lambda: get(page_of(server), "/health").status == 200)


def test_nowhere_to_be() -> None:
    with pytest.raises(ConfigError, match="needs metrics_bind"):
        Supervisor("shop:app", status_page=True)


@pytest.mark.once
@pytest.mark.skipif(CHROMIUM is None, reason="apt-get install chromium")
def test_in_a_browser() -> None:
    """Nothing is fetched from elsewhere, nothing is complained of, and figures move."""
    complaints: list[str] = []
    asked: list[str] = []
    options = {"port": 0, "access_log": False, "factory": True, "workers": 2, **OPTIONS}
    with (
        nothing_left(),
        Supervisor("tests.integration.apps.pool:App", **options) as server,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox"], timeout=DEADLINE
        )
        page = browser.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(page_of(server), timeout=DEADLINE)
        expect(page.locator("#workers tr")).to_have_count(2, timeout=DEADLINE)
        expect(page.locator("#plots svg")).to_have_count(6, timeout=DEADLINE)
        get(server.url)
        expect(page.locator("#summary")).to_contain_text(" 1 requests", timeout=DEADLINE)
        server.reload()
        expect(page.locator("#workers")).to_contain_text("2serving", timeout=DEADLINE)
        expect(page.locator("#events")).to_contain_text("GenerationChanged", timeout=DEADLINE)
        browser.close()
        assert complaints == []
        assert all(url.startswith(page_of(server)) for url in asked)
