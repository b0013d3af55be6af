"""NiceGUI from private copies, in a real browser: what is pressed there is done in the worker."""

from __future__ import annotations

import ctypes  # noqa: F401  (from its first use on, libffi keeps a descriptor)
import shutil
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from subinterp_asgi import Supervisor
from tests.support import nothing_left

APP = "tests.field.copies.apps.nicegui_app:app"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DEADLINE = 60_000.0  # milliseconds

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="apt-get install chromium")


def use(browser: Browser, url: str) -> None:
    """Press all that there is, on a page of its own."""
    complaints: list[str] = []
    page = browser.new_page()
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.set_default_timeout(DEADLINE)
    page.goto(url)
    page.get_by_label("name").fill("Zoë")
    for count in range(1, 4):
        page.get_by_text("greet").click()
        expect(page.get_by_text(str(count), exact=True)).to_be_visible(timeout=DEADLINE)
    expect(page.get_by_text("Grüezi Zoë")).to_be_visible(timeout=DEADLINE)
    page.get_by_text("add").click()
    expect(page.get_by_text("tea")).to_be_visible(timeout=DEADLINE)
    page.close()
    assert complaints == []


def test_what_is_pressed_is_done(tmp_path: Path) -> None:
    with (
        nothing_left(),
        # One worker: it keeps what a page shows, and the page comes back to it.
        Supervisor(APP, workers=1, port=0, access_log=False, extensions="private") as server,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox"], timeout=DEADLINE
        )
        for _ in range(2):
            use(browser, server.url)
            mapped = Path("/proc/self/maps").read_text()
            assert "/memfd:_pydantic_core." in mapped
            server.reload()
        browser.close()
