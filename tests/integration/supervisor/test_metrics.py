"""Metrics over HTTP: on the application's listeners or beside them, for one worker and for all."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from subinterp_asgi import Config
from subinterp_asgi.control import scoreboard
from subinterp_asgi.control.launch import Runtime
from subinterp_asgi.control.scoreboard import (
    ACCEPTED,
    BYTES_IN,
    BYTES_OUT,
    CONNECTIONS,
    GENERATION,
    WORKER,
)
from tests.control.test_prometheus import Samples, labelled, parse
from tests.support import get, nothing_left, wait_until

from ..pki import Pki, TLSClient
from ..rawclient import RawClient, post, request
from ..serving import Gate, Served, access_log, respond, serving
from ..worker.driving import CALL, Drive, OwnBackend
from ..worker.health import HEALTH, LONG, check_health, drain

METRICS: dict[str, Any] = {"metrics_path": "/metrics"}
BESIDE: dict[str, Any] = {"metrics_bind": "127.0.0.1:0"}
"""``serving()`` opens the listener; where, is its business."""


async def app(scope: Any, receive: Any, send: Any) -> None:
    path = scope["path"]
    if path == "/broken":
        raise ValueError("broken")
    await respond(send, b"app:" + path.encode(), 404 if path == "/missing" else 200)


def scrape(client: RawClient, path: bytes = b"/metrics") -> Samples:
    response = client.get(path)
    assert response.status == 200
    assert response.get(b"content-type") == b"text/plain; version=0.0.4; charset=utf-8"
    return parse(response.body)


def responses(samples: Samples) -> dict[str, float]:
    return {
        dict(labels)["class"]: value
        for labels, value in labelled(samples, "responses_total").items()
        if value
    }


# --- on the application's listeners


def test_a_workers_own_counts_are_exact() -> None:
    with serving(app, **METRICS) as served, served.connect() as client:
        for path in (b"/", b"/missing", b"/"):
            client.get(path)
        with served.connect() as other:
            assert other.get(b"/broken").status == 500
            other.assert_closed()
        samples = scrape(client)
        assert samples["requests_total", ()] == 4
        assert responses(samples) == {"2xx": 2, "4xx": 1, "5xx": 1}
        assert samples["app_exceptions_total", ()] == 1
        assert samples["connections_accepted_total", ()] == 2
        assert samples["requests_in_flight", ()] == 0
        assert samples["request_duration_seconds_count", ()] == 4
        assert samples["request_duration_seconds_sum", ()] > 0
        assert samples["workers", ()] == samples["workers_accepting", ()] == 1


def test_what_is_in_flight() -> None:
    gate = Gate()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await gate.wait()
        await respond(send)

    with serving(slow, **METRICS) as served, served.connect() as client:
        client.send(request(b"GET", b"/"))
        gate.wait_reached()
        with served.connect() as other:
            samples = scrape(other)
            assert samples["requests_in_flight", ()] == samples["requests_total", ()] == 1
            assert samples["connections", ()] == 2
            assert samples["request_duration_seconds_count", ()] == 0
        gate.open()
        client.response()
        assert scrape(client)["request_duration_seconds_count", ()] == 1


def test_scrapes_are_neither_counted_nor_logged() -> None:
    with (
        access_log() as lines,
        serving(app, **METRICS, access_log=True) as served,
        served.connect() as client,
    ):
        client.get(b"/")
        client.send(request(b"GET", b"/metrics") * 3)
        for _ in range(3):
            assert parse(client.response().body)["requests_total", ()] == 1
    assert len(lines) == 1


def test_head_and_other_methods() -> None:
    with serving(app, **METRICS) as served, served.connect() as client:
        client.send(request(b"HEAD", b"/metrics"))
        response = client.response(b"HEAD")
        assert response.status == 200
        assert int(response.get(b"content-length") or 0) > 1000
        client.send(post(b"/metrics", b"data"))
        assert client.response().status == 405
        assert scrape(client)["requests_total", ()] == 0


def test_a_worker_that_leaves_still_tells() -> None:
    options = {**HEALTH, **METRICS, "drain_delay": LONG}
    with serving(app, **options) as served, served.connect() as client:
        drain(served)
        check_health(client, 503)
        assert scrape(client)["workers_accepting", ()] == 1


# --- beside the application


def connect_beside(served: Served) -> RawClient:
    return RawClient(served.metrics_address)


def test_a_listener_for_nothing_else() -> None:
    """Each answer closes: the next probe shall not wait for a worker that is held up since."""
    with serving(app, **HEALTH, **BESIDE) as served:
        with connect_beside(served) as client:
            assert scrape(client)["requests_total", ()] == 0
            client.assert_closed()
        with connect_beside(served) as client:
            check_health(client, closes=True)
            client.assert_closed()
        for data, status in (
            (request(b"GET", b"/"), 404),
            (request(b"GET", b"/metrics/"), 404),
            (request(b"GET", b"/missing"), 404),
            (post(b"/", b"data"), 404),
            (post(b"/metrics", b"data"), 405),
        ):
            with connect_beside(served) as client:
                client.send(data)
                response = client.response()
                assert (response.status, response.closes) == (status, True)
                client.assert_closed()
        with connect_beside(served) as client:
            client.send(request(b"HEAD", b"/"))
            assert client.response(b"HEAD").status == 404


def test_then_metrics_are_there_only_and_health_is_on_both() -> None:
    options = {**HEALTH, **BESIDE, "metrics_path": "/numbers"}
    with serving(app, **options) as served:
        with served.connect() as client:
            check_health(client)
            assert client.get(b"/numbers").body == b"app:/numbers"
            assert client.get(b"/metrics").body == b"app:/metrics"
        with connect_beside(served) as client:
            samples = scrape(client, b"/numbers")
            assert samples["requests_total", ()] == 2
            assert samples["request_duration_seconds_count", ()] == 2
        with connect_beside(served) as client:
            assert client.get(b"/metrics").status == 404


def test_what_happens_there_is_nowhere_counted() -> None:
    with (
        access_log() as lines,
        serving(app, **HEALTH, **BESIDE, access_log=True) as served,
        contextlib.ExitStack() as stack,
    ):
        clients = [stack.enter_context(connect_beside(served)) for _ in range(4)]
        first, *more = map(scrape, clients[1:])
        clients[0].get(b"/")
        counters = served.worker._counters
        counters.flush()
        assert [counters.slot[word] for word in (ACCEPTED, BYTES_IN, BYTES_OUT, CONNECTIONS)] == [
            0
        ] * 4
        for samples in (first, *more):
            assert not any(
                value
                for (name, _), value in samples.items()
                if not name.startswith(("worker_", "workers", "generation", "loop_lag_"))
            )
        assert lines == []


def test_limits_and_tls_and_the_proxy_protocol_are_not_for_it(tmp_path: Path) -> None:
    pki = Pki(tmp_path)
    options = {**BESIDE, "ssl_certfile": pki.server, "limit_connections": 1}
    with (
        serving(app, **options) as served,
        TLSClient(served.address, pki.client()) as client,
        contextlib.ExitStack() as stack,
    ):
        assert client.get(b"/").body == b"app:/"
        scrapers = [stack.enter_context(connect_beside(served)) for _ in range(3)]
        for scraper in scrapers:
            samples = scrape(scraper)
            assert samples["requests_total", ()] == 1
            assert samples["request_duration_seconds_count", ()] == 1
    with serving(app, **BESIDE, proxy_protocol=True) as served, connect_beside(served) as client:
        scrape(client)


def test_its_connections_have_deadlines() -> None:
    with serving(app, **BESIDE, timeout_header=0.05) as served, connect_beside(served) as client:
        client.send(b"GET /metr")
        assert client.response().status == 408
        client.assert_closed()


def test_it_drains_with_the_worker() -> None:
    options = {**HEALTH, **BESIDE, "timeout_linger": 0.05, "timeout_keep_alive": LONG}
    with serving(app, **options) as served:
        with connect_beside(served) as idle, connect_beside(served) as half:
            half.send(b"GET /health HT")
            wait_until(lambda: len(served.worker._ports[1].connections) == 2)
            drain(served)
            idle.assert_closed()
            assert not served.idle
            half.send(b"TP/1.1\r\nHost: a\r\n\r\n")
            response = half.response()
            assert (response.status, response.closes) == (503, True)
            half.assert_closed()
        served.wait_until_idle()
        with contextlib.suppress(OSError), connect_beside(served) as late:
            late.sock.settimeout(0.1)
            late.send(request(b"GET", b"/health"))
            assert late.receive() == b""


def test_it_serves_on_for_the_delay() -> None:
    with serving(app, **HEALTH, **BESIDE, drain_delay=LONG) as served:
        with connect_beside(served) as client:
            check_health(client, closes=True)
        with connect_beside(served) as early, connect_beside(served) as client:
            drain(served)
            check_health(early, 503, closes=True)
            assert scrape(client)["workers_accepting", ()] == 1


def test_a_scrape_that_is_half_received_does_not_keep_a_worker_for_ever() -> None:
    options = {**BESIDE, "timeout_graceful_shutdown": 0.1, "timeout_linger": 0.05}
    with serving(app, **options) as served, connect_beside(served) as client:
        client.send(b"GET /metrics HT")
        wait_until(lambda: not served.idle)
        served.call(served.worker.shutdown)
        client.wait_for_end()
        wait_until(lambda: served.worker.state.value == "stopped")


# --- workers in interpreters of their own


@contextlib.contextmanager
def two_workers(config: Config, *, beside: bool = False) -> Iterator[tuple[list[Drive], Any]]:
    """Two workers that share a board, and perhaps a listener for metrics."""
    board = scoreboard.new_board(2)
    port: socket.socket | None = None
    runtime = [Runtime(), Runtime()]
    if beside:
        port = socket.create_server(("127.0.0.1", 0))
        runtime = [
            Runtime(metrics_listeners=((os.dup(port.fileno()), int(port.family)),))
            for _ in range(2)
        ]

    class OnBoard(OwnBackend):
        def __init__(self, names: dict[str, Any]) -> None:
            super().__init__(names)
            slot = board[scoreboard.SLOTS_USED]
            words = scoreboard.slot_of(board, slot)
            words[WORKER], words[GENERATION] = slot, 1
            board[scoreboard.SLOTS_USED] = slot + 1
            self._interpreter.prepare({"board": board, "slot": slot})

    attach = "from subinterp_asgi.control import scoreboard\nscoreboard.attach(board, slot)\n"
    try:
        with nothing_left():
            drives = [
                Drive(OnBoard, config_json=runtime[i].join(config), source=attach + CALL)
                for i in range(2)
            ]
            for drive in drives:
                drive.wait_for("serving")
            yield drives, port and port.getsockname()
            for drive in drives:
                drive.tell("shutdown")
                assert drive.finish() == ["started", "serving", "draining", "stopped"]
    finally:
        if port is not None:
            port.close()


def quiet(**options: Any) -> Config:
    return Config(access_log=False, log_level="critical", shutdown_timeout=10, **options)


def test_each_worker_answers_for_all() -> None:
    with two_workers(quiet(**METRICS)) as (drives, _):
        for drive, count in zip(drives, (3, 5), strict=True):
            for _ in range(count):
                assert get(drive.url).text == "ok"

        def scraped(drive: Drive) -> Samples:
            return parse(get(drive.url, "/metrics").body)

        for drive in drives:
            # The other one flushes its counts before it sleeps, which may be a moment later.
            wait_until(lambda: scraped(drive)["requests_total", ()] == 8)  # noqa: B023
            wait_until(lambda: scraped(drive)["request_duration_seconds_count", ()] == 8)  # noqa: B023
            samples = scraped(drive)
            assert responses(samples) == {"2xx": 8}
            assert samples["workers", ()] == samples["workers_accepting", ()] == 2
            assert {
                dict(labels)["worker"] for labels in labelled(samples, "worker_busy_seconds")
            } == {
                "0",
                "1",
            }


def test_the_listener_is_closed_if_the_application_can_not_be_imported() -> None:
    sock = socket.create_server(("127.0.0.1", 0))
    name = os.readlink(f"/proc/self/fd/{sock.fileno()}")
    runtime = Runtime(metrics_listeners=((sock.detach(), int(sock.family)),))
    with nothing_left():
        drive = Drive(app="no.such:app", config_json=runtime.join(quiet(**BESIDE)))
        drive.sockets.add(name)
        assert "no module" in drive.error().lower()


def test_a_listener_that_workers_share() -> None:
    with two_workers(quiet(**HEALTH, **BESIDE), beside=True) as (drives, address):
        for drive in drives:
            get(drive.url)
            assert get(drive.url, "/metrics").text == "ok"  # the application's
        url = f"http://{address[0]}:{address[1]}"
        assert get(url, "/health").status == 200
        wait_until(lambda: parse(get(url, "/metrics").body)["requests_total", ()] == 4)
