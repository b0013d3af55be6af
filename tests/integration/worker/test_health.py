"""Health is answered by the worker, in between the application's requests, and fails in time."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from pathlib import Path
from typing import Any

import pytest

from subinterp_asgi import Config, Worker
from subinterp_asgi.bootstrap import _iic_bridge, _run_worker_with_iic
from subinterp_asgi.control.wakeup import Channel, Wakeup
from subinterp_asgi.supervisor import states
from subinterp_asgi.supervisor.events import WorkerChanged
from subinterp_asgi.worker.asgi.http import DISCARD_SIZE
from subinterp_asgi.worker.worker import WorkerState
from tests.support import get, nothing_left, wait_until

from ..rawclient import RawClient, chunked, post, request
from ..serving import Gate, Served, access_log, respond, serving
from ..supervising import Background, Heard, Servers, in_flight
from .test_bootstrap import APP, Drive, FakeQueue, FakeWorker, refuses, run, until

HEALTH: dict[str, Any] = {"health_path": "/health"}
LONG = 600.0
"""Seconds that no test takes."""


async def app(scope: Any, receive: Any, send: Any) -> None:
    assert scope["path"] != "/health"
    await respond(send, b"app:" + scope["path"].encode())


def check_health(client: RawClient, status: int = 200, *, closes: bool = False) -> None:
    response = client.get(b"/health")
    assert (response.status, response.closes) == (status, closes)


# --- without the application


def test_health_is_not_the_applications_business() -> None:
    with serving(app, **HEALTH) as served, served.connect() as client:
        response = client.get(b"/health")
        assert response.status == 200
        assert response.body == b"OK\n"
        assert response.get(b"content-type") == b"text/plain; charset=utf-8"
        assert response.get(b"cache-control") == b"no-store"
        assert response.get(b"date")
        assert not response.closes
        assert client.get(b"/health/").body == b"app:/health/"


def test_without_the_option_it_is() -> None:
    async def echo(scope: Any, receive: Any, send: Any) -> None:
        await respond(send, scope["path"].encode())

    with serving(echo) as served, served.connect() as client:
        assert client.get(b"/health").body == b"/health"
        assert client.get(b"/metrics").body == b"/metrics"
        assert served.worker._server_state.endpoints is None
        assert not served.worker._server_state.timed


def test_head() -> None:
    with serving(app, **HEALTH) as served, served.connect() as client:
        client.send(request(b"HEAD", b"/health"), request(b"GET", b"/next"))
        response = client.response(b"HEAD")
        assert response.status == 200
        assert response.get(b"content-length") == b"3"
        assert client.response().body == b"app:/next"


def test_other_methods() -> None:
    with serving(app, **HEALTH) as served, served.connect() as client:
        client.send(post(b"/health", b"some data"))
        response = client.response()
        assert response.status == 405
        assert response.get(b"allow") == b"GET, HEAD"
        check_health(client)


def test_the_root_path_is_not_part_of_it() -> None:
    with serving(app, **HEALTH, root_path="/mounted") as served, served.connect() as client:
        check_health(client)
        assert client.get(b"/a").body == b"app:/mounted/a"


def test_in_a_pipeline() -> None:
    paths = [b"/a", b"/health", b"/b", b"/health", b"/health", b"/c"] * 10
    with serving(app, **HEALTH) as served, served.connect() as client:
        client.send(b"".join(request(b"GET", path) for path in paths))
        for path in paths:
            response = client.response()
            assert response.body == (b"OK\n" if path == b"/health" else b"app:" + path)
        check_health(client)


def test_behind_a_request_that_takes_its_time() -> None:
    gate = Gate()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await gate.wait()
        await respond(send, b"slow")

    with serving(slow, **HEALTH) as served, served.connect() as client:
        client.send(request(b"GET", b"/slow") + request(b"GET", b"/health"))
        gate.wait_reached()
        with served.connect() as other:
            check_health(other)
        gate.open()
        assert client.response().body == b"slow"
        assert client.response().body == b"OK\n"


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("coding", ["length", "chunked"])
def test_a_body_is_passed_over(coding: str, whole: bool) -> None:
    body = b"GET /evil HTTP/1.1\r\nHost: a\r\n\r\n" * 50
    data = (
        request(b"GET", b"/health", b"Content-Length: %d" % len(body)) + body
        if coding == "length"
        else request(b"GET", b"/health", b"Transfer-Encoding: chunked") + chunked(body)
    )
    with serving(app, **HEALTH) as served, served.connect() as client:
        end = len(data) if whole else len(data) - 20
        client.send(data[:end])
        assert client.response().body == b"OK\n"
        client.send(data[end:] + request(b"GET", b"/next"))
        assert client.response().body == b"app:/next"


def test_a_body_too_long_to_be_passed_over_ends_the_connection() -> None:
    size = DISCARD_SIZE + 1
    with serving(app, **HEALTH) as served, served.connect() as client:
        client.send(request(b"GET", b"/health", b"Content-Length: %d" % size))
        response = client.response()
        assert (response.status, response.closes) == (200, True)
        client.assert_closed()


def test_a_client_that_waits_to_send_its_body_need_not() -> None:
    lines = (b"Content-Length: 5", b"Expect: 100-continue")
    with serving(app, **HEALTH) as served, served.connect() as client:
        response = client.get(b"/health", *lines)
        assert (response.status, response.closes) == (200, True)
        client.assert_closed()


def test_close_on_request() -> None:
    with serving(app, **HEALTH) as served, served.connect() as client:
        assert client.get(b"/health", b"Connection: close").closes
        client.assert_closed()


def test_http_1_0() -> None:
    with serving(app, **HEALTH) as served:
        with served.connect() as client:
            assert client.get(b"/health", version=b"1.0").body == b"OK\n"
            client.assert_closed()
        with served.connect() as client:
            for _ in range(2):
                kept = client.get(b"/health", b"Connection: keep-alive", version=b"1.0")
                assert kept.get(b"connection") == b"keep-alive"


def test_a_client_that_has_closed_its_sending_half() -> None:
    with serving(app, **HEALTH) as served, served.connect() as client:
        client.send(request(b"GET", b"/health") * 2)
        client.half_close()
        assert client.response().status == client.response().status == 200
        client.assert_closed()


def test_an_upgrade_is_not_taken_up() -> None:
    lines = (
        b"Connection: Upgrade",
        b"Upgrade: websocket",
        b"Sec-WebSocket-Version: 13",
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    )
    with serving(app, **HEALTH) as served, served.connect() as client:
        assert client.get(b"/health", *lines).body == b"OK\n"
        check_health(client)


# --- beside the counts


def test_it_is_neither_counted_nor_logged() -> None:
    with (
        access_log() as lines,
        serving(app, **HEALTH, access_log=True) as served,
        served.connect() as client,
    ):
        client.get(b"/a")
        for _ in range(3):
            check_health(client)
        client.send(post(b"/health", b"x"))
        assert client.response().status == 405
        client.get(b"/b")
        wait_until(lambda: len(lines) == 2)  # which is after a response was sent
        counters = served.worker._counters
        assert counters.requests == 2
        assert counters.statuses == [0, 0, 2, 0, 0, 0]


def test_it_is_answered_where_requests_are_turned_away() -> None:
    gate = Gate()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await gate.wait()
        await respond(send, b"slow")

    with serving(slow, **HEALTH, limit_concurrency=1) as served, served.connect() as client:
        client.send(request(b"GET", b"/"))
        gate.wait_reached()
        with served.connect() as other:
            check_health(other)
            check_health(other)
            assert other.get(b"/").status == 503
        gate.open()
        assert client.response().body == b"slow"


# --- drain


def drain(served: Served, **options: bool) -> None:
    served.call(lambda: served.worker.drain(**options))


def test_it_fails_once_the_worker_drains() -> None:
    with serving(app, **HEALTH, timeout_linger=LONG) as served, served.connect() as client:
        check_health(client)
        drain(served)
        response = client.get(b"/health")
        assert (response.status, response.closes) == (503, True)
        assert response.body == b"Draining\n"
        client.assert_closed()


def test_a_pipeline_while_draining() -> None:
    """As with requests: what comes after a response that announces a close is not answered."""
    gate = Gate()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await gate.wait()
        await respond(send, b"slow")

    with serving(slow, **HEALTH) as served, served.connect() as client:
        client.send(request(b"GET", b"/") + request(b"GET", b"/health"))
        gate.wait_reached()
        drain(served)
        gate.open()
        assert client.response().closes
        client.assert_closed()


def test_it_does_not_fail_if_another_worker_takes_over() -> None:
    """The server goes on: nobody has to look for another."""
    options = {**HEALTH, "drain_delay": LONG, "timeout_linger": LONG}
    with serving(app, **options) as served, served.connect() as client:
        check_health(client)
        drain(served, restarting=True)
        assert served.worker.state.value == "draining"
        check_health(client, 200, closes=True)


def test_all_goes_on_for_a_while_after_it_began_to_fail() -> None:
    gate = Gate()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/slow":
            await gate.wait()
        await respond(send, scope["path"].encode())

    # The end of serving() forces the shutdown, which waits no longer.
    with (
        serving(slow, **HEALTH, drain_delay=LONG) as served,
        served.connect() as client,
        served.connect() as other,
    ):
        client.send(request(b"GET", b"/slow"))
        gate.wait_reached()
        check_health(other)
        drain(served)
        assert served.worker.accepting
        for _ in range(2):
            check_health(other, 503)
            response = other.get(b"/a")
            assert (response.body, response.closes) == (b"/a", False)
        with served.connect() as late:
            check_health(late, 503)
            assert late.get(b"/b").body == b"/b"
        gate.open()
        response = client.response()
        assert (response.body, response.closes) == (b"/slow", False)
        assert client.get(b"/c").body == b"/c"
        assert served.worker.state.value == "serving"


def test_then_it_drains() -> None:
    told: list[str] = []
    with serving(app, **HEALTH, drain_delay=0.05) as served, served.connect() as client:
        served.worker.on_draining = lambda: told.append(served.worker.state.value)
        check_health(client)
        drain(served)
        client.assert_closed()  # after timeout_linger
        assert told == ["draining"]
        assert not served.worker.accepting
        served.wait_until_idle()
        with contextlib.suppress(OSError), served.connect() as late:
            late.sock.settimeout(0.1)
            late.send(request(b"GET", b"/health"))
            assert late.receive() == b""


def test_a_shutdown_leaves_the_time_that_load_balancers_need() -> None:
    with serving(app, **HEALTH, drain_delay=LONG) as served, served.connect() as client:
        check_health(client)
        served.call(served.worker.shutdown)
        check_health(client, 503)
        with served.connect() as late:
            assert late.get(b"/a").body == b"app:/a"


def test_a_shutdown_alone_comes_to_its_end() -> None:
    with serving(app, **HEALTH, drain_delay=0.05) as served:
        with served.connect() as client:
            check_health(client)
        served.call(served.worker.shutdown)
        wait_until(lambda: served.worker.state.value == "stopped")


def test_a_second_shutdown_does_not_wait() -> None:
    with serving(app, **HEALTH, drain_delay=LONG) as served, served.connect() as client:
        check_health(client)
        drain(served)
        drain(served)
        served.call(served.worker.shutdown)
        check_health(client, 503)
        served.call(served.worker.shutdown)
        wait_until(lambda: served.worker.state.value == "stopped")


# --- what the supervisor is told


class DelayingWorker(FakeWorker):
    """Accepts until ``delay_over()``, or a second shutdown."""

    def __init__(self) -> None:
        super().__init__()
        self.accepting = True
        self.on_draining: Any = None

    def delay_over(self) -> None:
        self.accepting = False
        self.on_draining()

    def shutdown(self) -> None:
        if self.accepting and "shutdown" in self.calls:
            self.delay_over()
        super().shutdown()


def test_the_bridge_tells_of_a_drain_when_it_is_true() -> None:
    worker, commands, statuses = DelayingWorker(), FakeQueue(), FakeQueue()

    async def main() -> None:
        bridge = asyncio.create_task(_iic_bridge(worker, commands, statuses))
        commands.put(("drain",))
        await until(lambda: worker.calls)
        looks = commands.looks
        await until(lambda: commands.looks > looks)
        assert not statuses.items  # not that it is idle, either
        worker.delay_over()
        assert statuses.items == [("draining",)]
        await until(lambda: len(statuses.items) == 2)
        commands.put(("shutdown",))
        await bridge

    run(main)
    assert worker.calls == ["drain", "shutdown"]
    assert statuses.items == [("draining",), ("idle",)]


def test_the_bridge_waits_for_no_ring_to_see_that_the_delay_is_over() -> None:
    worker, statuses = DelayingWorker(), FakeQueue()
    bell = Wakeup()
    commands = Channel(FakeQueue(), bell)

    async def main() -> None:
        bridge = asyncio.create_task(_iic_bridge(worker, commands, statuses))
        commands.put(("drain",))
        await until(lambda: worker.calls)
        worker.delay_over()
        await until(lambda: len(statuses.items) == 2)
        assert statuses.items == [("draining",), ("idle",)]
        commands.put(("shutdown",))
        await bridge

    run(main)
    bell.close()


def test_the_bridge_passes_a_second_shutdown_on_during_the_delay() -> None:
    worker, commands, statuses = DelayingWorker(), FakeQueue(), FakeQueue()
    worker.ends_on_shutdown = False

    async def main() -> None:
        running = asyncio.create_task(_run_worker_with_iic(worker, commands, statuses))
        commands.put(("shutdown",))
        await until(lambda: "shutdown" in worker.calls)
        assert not statuses.items
        commands.put(("shutdown",))
        await until(lambda: statuses.items)
        assert statuses.items == [("draining",)]
        assert worker.result is not None
        worker.result.set_result(None)
        await running

    run(main)


def drive(**options: Any) -> Drive:
    config = Config(
        **HEALTH, access_log=False, log_level="critical", shutdown_timeout=10, **options
    )
    driven = Drive(app=APP, config=config)
    driven.wait_for("serving")
    return driven


def test_a_worker_in_an_interpreter_drains_after_the_delay() -> None:
    with nothing_left():
        driven = drive(drain_delay=0.1)
        assert get(driven.url, "/health").status == 200
        driven.tell("drain")
        driven.wait_for("idle")
        assert refuses(driven.url)
        driven.tell("shutdown")
        assert driven.finish() == ["started", "serving", "draining", "idle", "stopped"]


def test_a_worker_in_an_interpreter_shuts_down_after_the_delay() -> None:
    with nothing_left():
        driven = drive(drain_delay=0.1)
        driven.tell("shutdown")
        assert driven.finish() == ["started", "serving", "draining", "stopped"]


def test_a_worker_in_an_interpreter_serves_during_the_delay_until_it_is_forced() -> None:
    def health() -> int:
        return get(driven.url, "/health").status

    with nothing_left():
        driven = drive(drain_delay=LONG)
        driven.tell("drain")
        wait_until(lambda: health() == 503)
        driven.tell("shutdown")
        assert get(driven.url, "/").text == "ok"
        assert driven.collect() == ["started", "serving"]
        driven.tell("shutdown")
        assert driven.finish() == ["started", "serving", "draining", "stopped"]


def test_a_drain_before_it_serves_has_no_delay() -> None:
    """No load balancer has seen it yet."""

    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as sock:
            worker = Worker(app, Config(lifespan="off", drain_delay=LONG), sock)
            worker.drain()
            serving = asyncio.create_task(worker.serve())
            await until(lambda: worker.state is WorkerState.DRAINING)
            worker.shutdown()
            await serving

    run(main)


@pytest.mark.parametrize("fate", ["well", "dead", "frozen"])
def test_a_supervisor_serves_all_during_the_delay(
    servers: Servers, tmp_path: Path, fate: str
) -> None:
    """Who comes to the queue of a worker that can't accept any more included."""
    heard = Heard()
    server = servers.start(workers=2, drain_delay=LONG, on_event=heard, **HEALTH)
    stopping = Background(server.stop)
    wait_until(lambda: get(server.url, "/health").status == 503)
    path = tmp_path / "file"
    if fate == "dead":
        get(server.url, "/die")
        heard.wait_for(WorkerChanged, state=states.WorkerState.FAILED)
    elif fate == "frozen":
        in_flight(server, path, "freeze")
    for _ in range(16):
        assert get(server.url, "/who").status == 200
    assert get(server.url, "/health").status == 503
    assert stopping.running
    path.touch()
    server.stop(0)
    assert stopping.outcome() is None
