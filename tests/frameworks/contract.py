"""What every framework's application must answer; the test modules inherit what applies to them.

``Requests`` applies to all. The others are for frameworks that can run in interpreters, pass the
lifespan on, end a response that nobody reads, or take a body of unknown length.
"""

from __future__ import annotations

import hashlib
import os
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import websockets.exceptions
import websockets.sync.client

from subinterp_asgi import Supervisor

from ..integration.rawclient import RawClient, request
from ..support import wait_until
from .apps.common import CHUNK
from .conftest import GIVEN

FIVE_MEGABYTES = os.urandom(5 * 1024 * 1024)
DIGEST = {
    "size": len(FIVE_MEGABYTES),
    "sha256": hashlib.sha256(FIVE_MEGABYTES).hexdigest(),
}


class Requests:
    """Requests and responses of all the usual kinds."""

    def test_json(self, client: httpx.Client) -> None:
        answer = client.get("/json", params={"q": "käse & brot", "n": "1"})
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("application/json")
        assert answer.json() == {"path": "/json", "query": {"q": "käse & brot", "n": "1"}}
        document = {"text": "ünïcode 🐍", "list": [1, 2.5, None, True], "empty": {}}
        assert client.post("/json", json=document).json() == {"echo": document}

    def test_urlencoded_form(self, client: httpx.Client) -> None:
        answer = client.post("/form", data={"title": "a & b = c", "text": "naïve\r\nlines"})
        assert answer.status_code == 200, answer.text
        assert answer.json() == {
            "fields": {"title": "a & b = c", "text": "naïve\r\nlines"},
            "files": {},
        }

    def test_multipart_form_with_five_megabytes(self, client: httpx.Client) -> None:
        answer = client.post(
            "/form",
            data={"title": "a & b = c", "text": "naïve"},
            files={"file": ("data.bin", FIVE_MEGABYTES, "application/octet-stream")},
        )
        assert answer.status_code == 200, answer.text
        assert answer.json() == {
            "fields": {"title": "a & b = c", "text": "naïve"},
            "files": {"file": {"filename": "data.bin", **DIGEST}},
        }

    def test_upload_of_five_megabytes(self, client: httpx.Client) -> None:
        answer = client.post("/upload", content=FIVE_MEGABYTES)
        assert answer.status_code == 200, answer.text
        assert answer.json() == DIGEST

    def test_streaming_download(self, client: httpx.Client) -> None:
        received = hashlib.sha256()
        with client.stream("GET", "/download", params={"chunks": 80}) as answer:
            assert answer.status_code == 200
            # Streamed: nobody knew the length when the head was sent.
            assert "content-length" not in answer.headers
            assert answer.headers["transfer-encoding"] == "chunked"
            for piece in answer.iter_raw():
                received.update(piece)
        assert received.digest() == hashlib.sha256(CHUNK * 80).digest()

    def test_sync_endpoint_runs_in_a_pool(self, client: httpx.Client) -> None:
        assert client.get("/sync").json()["on_loop"] is False

    def test_state_of_the_supervisor(self, client: httpx.Client) -> None:
        assert client.get("/state").json()["given"] == GIVEN

    def test_redirect_with_cookies(self, client: httpx.Client) -> None:
        answer = client.get("/redirect")
        assert answer.status_code in (302, 303)
        assert answer.headers["location"] == "/cookies"
        assert len(answer.headers.get_list("set-cookie")) == 2
        assert client.get(answer.headers["location"]).json() == {"flavour": "oat", "size": "large"}

    def test_head(self, client: httpx.Client) -> None:
        answer = client.head("/cookies")
        assert answer.status_code in (200, 405)
        assert answer.content == b""
        assert client.get("/cookies").json() == {}, "the connection is still in step"

    def test_not_found(self, client: httpx.Client) -> None:
        assert client.get("/nowhere").status_code == 404

    def test_exception_becomes_a_500(
        self, client: httpx.Client, capfd: pytest.CaptureFixture[str]
    ) -> None:
        answer = client.get("/error")
        assert answer.status_code == 500
        assert "secret" not in answer.text
        assert client.get("/json").status_code == 200

    def test_both_workers_serve(self, server: Supervisor, client: httpx.Client) -> None:
        assert len(calls_by(client, "thread" if server.in_threads else "interpreter")) == 2
        assert all(worker.requests > 0 for worker in server.workers)


class OwnInterpreters:
    """Each worker is an interpreter, with its own copy of every module."""

    def test_globals_differ_between_workers(self, server: Supervisor, client: httpx.Client) -> None:
        calls = calls_by(client, "interpreter")
        assert len(calls) == 2
        assert 0 not in calls, "the main interpreter served"
        markers = {}
        for interpreter, answers in calls.items():
            assert {answer["pid"] for answer in answers} == {os.getpid()}
            # A counter that two interpreters shared would show gaps, or repeat itself.
            numbers = sorted(answer["call"] for answer in answers)
            assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
            (markers[interpreter],) = {answer["marker"] for answer in answers}
        assert len(set(markers.values())) == 2

    def test_main_interpreter_never_imported_the_application(
        self, request: pytest.FixtureRequest, server: Supervisor
    ) -> None:
        assert request.module.APP.partition(":")[0] not in sys.modules


class Lifespan:
    """The framework passes the lifespan to the application, which opens a resource in it."""

    def test_state_of_the_lifespan(self, client: httpx.Client) -> None:
        assert client.get("/state").json()["same_worker"] is True

    def test_each_worker_ran_its_own(self, server: Supervisor, journal: Path) -> None:
        opened = [line for line in journal.read_text().splitlines() if line.startswith("opened ")]
        assert len(set(opened)) == 2, "each line names an interpreter and a thread"

    def test_shutdown(
        self, request: pytest.FixtureRequest, server: Supervisor, journal: Path
    ) -> None:
        before = journal.read_text().splitlines()
        options = getattr(request.module, "OPTIONS", {})
        with Supervisor(request.module.APP, port=0, state={"given": GIVEN}, **options):
            pass
        # (The lines of requests of other tests may come late.)
        lines = journal.read_text().splitlines()[len(before) :]
        opened, closed = (line for line in lines if line.startswith(("opened ", "closed ")))
        assert opened.startswith("opened ")
        assert closed == opened.replace("opened", "closed")


class AbandonedDownloads:
    """The framework ends a response when nobody is left to read it."""

    def test_download_that_is_given_up_half_way(self, client: httpx.Client, journal: Path) -> None:
        ended = journal.read_text().count("download-ended")
        # More than any socket buffers: the application is still sending when the client leaves.
        with client.stream("GET", "/download", params={"chunks": 1_000_000}) as answer:
            assert next(answer.iter_raw())
        wait_until(lambda: journal.read_text().count("download-ended") > ended)


class AbandonedEvents:
    """The framework ends a stream that waits for something to send when its client is gone."""

    @pytest.mark.parametrize("how", ["close", "reset"])
    def test_events_that_nobody_waits_for(
        self, server: Supervisor, journal: Path, how: str
    ) -> None:
        ended = journal.read_text().count("events-ended")
        for _ in range(10):
            ask_and_leave(server, "/events", how, first=b"first")
        wait_until(lambda: journal.read_text().count("events-ended") == ended + 10)


class Background:
    """What is to be done after a response is done, whether the client has it or not."""

    @pytest.mark.parametrize("path", ["/background", "/events"])
    @pytest.mark.parametrize("how", ["close", "reset"])
    def test_client_that_has_left(
        self, server: Supervisor, journal: Path, how: str, path: str
    ) -> None:
        done = journal.read_text().count("followed-up")
        for _ in range(10):
            ask_and_leave(server, path, how, first=b"first" if path == "/events" else b"")
        wait_until(lambda: journal.read_text().count("followed-up") == done + 10)


def ask_and_leave(server: Supervisor, path: str, how: str, *, first: bytes) -> None:
    """Send a request, read the beginning of the response if there is one, and leave."""
    host, port = server.addresses[0]
    assert port is not None
    client = RawClient((host, port))
    client.send(request(b"GET", path.encode()))
    if first:
        client.read_until(first)
    getattr(client, how)()


class ChunkedUploads:
    """The framework reads bodies whose length was not announced."""

    def test_chunked_upload(self, client: httpx.Client) -> None:
        def pieces() -> Iterator[bytes]:
            for start in range(0, len(FIVE_MEGABYTES), 100_000):
                yield FIVE_MEGABYTES[start : start + 100_000]

        answer = client.post("/upload", content=pieces())
        assert answer.request.headers["transfer-encoding"] == "chunked"
        assert answer.json() == DIGEST


class WebSockets:
    """WebSockets, for frameworks that have them: ``/ws`` echoes, and closes on demand."""

    def test_websocket(self, server: Supervisor) -> None:
        url = server.url.replace("http://", "ws://") + "/ws"
        with websockets.sync.client.connect(
            url,
            subprotocols=[websockets.Subprotocol("talk"), websockets.Subprotocol("chat")],
            max_size=None,
            proxy=None,
        ) as client:
            assert client.subprotocol == "chat"
            for message in ("grüße 😀", b"\0\xff", "a" * 200_000, FIVE_MEGABYTES):
                client.send(message)
                assert client.recv(20) == message
            client.send("close")
            with pytest.raises(websockets.exceptions.ConnectionClosed) as caught:
                client.recv(20)
            assert caught.value.rcvd is not None
            assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (4001, "enough")
        with websockets.sync.client.connect(url, proxy=None) as client:
            assert client.subprotocol is None
            client.send("hello")
            assert client.recv(20) == "hello"  # and leaves

    def test_websocket_denied(self, server: Supervisor) -> None:
        url = server.url.replace("http://", "ws://") + "/ws-denied"
        with pytest.raises(websockets.exceptions.InvalidStatus) as caught:
            websockets.sync.client.connect(url, proxy=None)
        assert caught.value.response.status_code == 403


def calls_by(client: httpx.Client, key: str) -> dict[Any, list[dict[str, Any]]]:
    """Call /whoami on new connections until two workers have answered; group what they said."""
    answers: dict[Any, list[dict[str, Any]]] = defaultdict(list)

    def call(_: int) -> dict[str, Any]:
        answer = client.get("/whoami", headers={"connection": "close"})
        return answer.json()

    deadline = time.monotonic() + 30
    with ThreadPoolExecutor(8) as pool:
        while len(answers) < 2 and time.monotonic() < deadline:
            for answer in pool.map(call, range(16)):
                answers[answer[key]].append(answer)
    return answers
