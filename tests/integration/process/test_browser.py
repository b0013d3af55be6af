"""A real browser, and a page that chats with a Starlette application in an interpreter."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, sync_playwright

from subinterp_asgi import Supervisor

from ...support import nothing_left, wait_until

pytest.importorskip("starlette")

APP = "tests.integration.apps.chat:app"
# Playwright brings no browser of its own, only the means to drive one.
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DEADLINE = 30_000.0  # milliseconds

pytestmark = [
    pytest.mark.once,
    pytest.mark.skipif(CHROMIUM is None, reason="apt-get install chromium"),
]


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    """A page of the application; what the browser complains about fails the test."""
    options: dict[str, Any] = {"workers": 2, "port": 0, "access_log": False}
    with (
        nothing_left(),
        Supervisor(APP, log_level="critical", **options) as server,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox"], timeout=DEADLINE
        )
        page = browser.new_page()
        page.set_default_timeout(DEADLINE)
        page.goto(server.url)
        yield page
        browser.close()


def chat(page: Page, source: str) -> Any:
    """Run JavaScript that comes to an object; fail the test if that takes too long."""
    late = f"new Promise((_, reject) => setTimeout(reject, {DEADLINE}, new Error('too late')))"
    return page.evaluate(f"() => Promise.race([(async () => {{ {source} }})(), {late}])")


def test_texts_and_binaries(page: Page, tmp_path: Path) -> None:
    """Among them a megabyte of each; the browser's own code and reason reach the application."""
    journal = tmp_path / "journal"
    journal.touch()
    told = chat(
        page,
        f"""
        const octets = new Uint8Array(1 << 20);
        for (let i = 0; i < octets.length; i += 65536)
          crypto.getRandomValues(octets.subarray(i, i + 65536));
        const text = "grüße 😀 ".repeat(120000);
        const sent = ["hello", "", new Uint8Array([0, 1, 255]).buffer, octets.buffer, text];
        const told = await chat("/talk?journal={journal}", sent,
                                (socket) => socket.close(4000, "grüße"));
        const plain = (x) => typeof x === "string" ? x : Array.from(new Uint8Array(x)).join();
        told.same = told.received.map((x, i) => plain(x) === plain(sent[i]));
        told.kinds = told.received.map((x) => x.constructor.name);
        told.sizes = told.received.map((x) => x.length ?? x.byteLength);
        delete told.received;
        return told;
        """,
    )
    assert told.pop("extensions").startswith("permessage-deflate")
    assert told == {
        "opened": True,
        "protocol": "chat",
        "same": [True] * 5,
        "kinds": ["String", "String", "ArrayBuffer", "ArrayBuffer", "String"],
        "sizes": [5, 0, 3, 1 << 20, 9 * 120_000],
        "closed": {"code": 4000, "reason": "", "wasClean": True},
    }
    wait_until(journal.read_text)
    assert journal.read_text() == "4000 grüße\n"


@pytest.mark.parametrize(
    ("order", "closed"),
    [
        ("close 4321 grüße", {"code": 4321, "reason": "grüße", "wasClean": True}),
        ("close 1000 ", {"code": 1000, "reason": "", "wasClean": True}),
        ("raise", {"code": 1011, "reason": "", "wasClean": True}),
    ],
)
def test_the_application_closes(page: Page, order: str, closed: dict[str, Any]) -> None:
    told = chat(page, f"return chat('/talk', ['hello'], (socket) => socket.send('{order}'))")
    assert told["received"] == ["hello"]
    assert told["closed"] == closed


@pytest.mark.parametrize("path", ["/deny", "/refuse", "/no-such-route"])
def test_denial(page: Page, path: str) -> None:
    """Scripts are told nothing of the response."""
    told = chat(page, f"return chat('{path}', ['hello'], () => 0)")
    assert told["opened"] is False
    assert told["closed"] == {"code": 1006, "reason": "", "wasClean": False}


def test_many_at_once(page: Page) -> None:
    told = chat(
        page,
        """
        const messages = (n) => [...Array(20).keys()].map((i) => `${n}:${i}`);
        return Promise.all([...Array(12).keys()].map(
          (n) => chat("/talk", messages(n), (socket) => socket.close(1000))));
        """,
    )
    assert [one["received"] for one in told] == [[f"{n}:{i}" for i in range(20)] for n in range(12)]
    assert {one["closed"]["code"] for one in told} == {1000}


def test_the_server_stops(page: Page) -> None:
    """The page of another server, as it ends while the socket is open."""
    browser = page.context.browser
    assert browser is not None
    with Supervisor(APP, port=0, access_log=False) as server, browser.new_page() as other:
        other.goto(server.url)
        other.evaluate(
            "() => { window.told = chat('/talk', ['hello'], () => { window.ready = true; }); }"
        )
        other.wait_for_function("() => window.ready")
        server.stop()
        told = chat(other, "return window.told")
    assert told["received"] == ["hello"]
    assert told["closed"] == {"code": 1001, "reason": "", "wasClean": True}
