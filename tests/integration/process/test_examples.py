"""The examples, each as its docstring says to run it."""

from __future__ import annotations

import os
import re
import signal
import urllib.parse
from collections.abc import Iterator

import httpx
import pytest

from subinterp_asgi import Supervisor

from ...support import ROOT, get, nothing_left
from ..command import Command

pytest.importorskip("starlette")
pytest.importorskip("python_multipart")

SITE_ROUTES = {"/", "/json", "/stream", "/events", "/upload", "/sync"}


def test_embed() -> None:
    with Command(module="examples.embed", cwd=ROOT) as command:
        assert command.wait() == 0, command.stderr
    serving, answer, stopped = command.stdout.splitlines()
    assert re.fullmatch(r"serving on http://127\.0\.0\.1:\d+ with 2 workers", serving)
    assert answer == "200 Hello from /embedded"
    assert stopped == "stopped"
    assert "Traceback" not in command.stderr


def test_bare() -> None:
    with Command("examples.bare:app", "--port", "0", cwd=ROOT) as command:
        answer = get(command.url, "/gr%C3%BCezi")
        assert (answer.status, answer.text) == (200, "Hello from /grüezi\n")
        command.send(signal.SIGTERM)
        assert command.wait() == 0


@pytest.fixture(scope="module")
def site() -> Iterator[httpx.Client]:
    with (
        nothing_left(),
        Supervisor("examples.site:app", workers=2, port=0, access_log=False) as server,
        httpx.Client(base_url=server.url, verify=False, trust_env=False, timeout=60) as client,
    ):
        yield client


def test_site_page_lists_every_route(site: httpx.Client) -> None:
    page = site.get("/")
    assert page.headers["content-type"].startswith("text/html")
    listed = {
        urllib.parse.unquote(path) for path in re.findall(r'<dt><a href="([^"]+)"', page.text)
    }
    assert listed == SITE_ROUTES, "a new route needs a test here"
    assert f"of process {os.getpid()}" in page.text


def test_site_json(site: httpx.Client) -> None:
    first, second = (site.get("/json").json() for _ in range(2))
    assert first["pid"] == os.getpid()
    assert first["interpreter"] != 0
    assert first["interpreter"] == first["started_in"]
    # The same connection, hence the same worker.
    assert second["interpreter"] == first["interpreter"]
    assert second["hits"] == first["hits"] + 1


def test_site_stream(site: httpx.Client) -> None:
    answer = site.get("/stream", params={"lines": 3})
    assert answer.text == "line 1 of 3\nline 2 of 3\nline 3 of 3\n"


def test_site_events(site: httpx.Client) -> None:
    answer = site.get("/events", params={"count": 1})
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert re.fullmatch(
        r"id: 1\ndata: \d\d:\d\d:\d\d, event 1 of 1\n\nevent: end\ndata: that was all\n\n",
        answer.text,
    )


def test_site_upload(site: httpx.Client) -> None:
    assert site.get("/upload").status_code == 405
    form = site.post("/upload", data={"title": "four"}, files={"file": b"x" * 300_000})
    assert form.json() == {"fields": {"title": 4, "file": 300_000}, "size": 300_004}
    assert site.post("/upload", content=b"y" * 300_000).json() == {"size": 300_000}


def test_site_sync(site: httpx.Client) -> None:
    answer = site.get("/sync").json()
    assert answer["interpreter"] != 0
    assert "AnyIO" in answer["thread"], "not on the loop's thread"
