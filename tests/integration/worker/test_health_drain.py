"""Health fails in time before a worker drains, for as long as load balancers need."""

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
from subinterp_asgi.worker.worker import WorkerState
from tests.support import get, nothing_left, wait_until

from ..rawclient import request
from ..serving import Gate, respond, serving
from ..supervising import Background, Heard, Servers, in_flight
from .driving import APP, Drive, FakeQueue, FakeWorker, refuses, run, until
from .health import HEALTH, LONG, app, check_health, drain

# --- drain


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


def test_one_that_leaves_goes_on_until_it_is_told_to_drain() -> None:
    """Then at once: who has told it has waited for ``drain_delay``."""
    options = {**HEALTH, "drain_delay": LONG, "timeout_linger": LONG}
    with serving(app, **options) as served, served.connect() as client:
        check_health(client)
        for _ in range(2):
            served.call(served.worker.leave)
            check_health(client, 503)
            with served.connect() as late:
                assert late.get(b"/a").body == b"app:/a"
            assert served.worker.accepting
        drain(served)
        assert served.worker.state is WorkerState.DRAINING
        assert client.get(b"/b").closes


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

    def leave(self) -> None:
        self.calls.append("leave")

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


def test_the_bridge_tells_of_no_drain_that_is_to_come_later() -> None:
    worker, commands, statuses = DelayingWorker(), FakeQueue(), FakeQueue()

    async def main() -> None:
        bridge = asyncio.create_task(_iic_bridge(worker, commands, statuses))
        commands.put(("drain", "later"))
        await until(lambda: worker.calls)
        looks = commands.looks
        await until(lambda: commands.looks > looks)
        assert not statuses.items
        worker.accepting = False
        commands.put(("drain",))
        await until(lambda: len(statuses.items) == 2)
        commands.put(("shutdown",))
        await bridge

    run(main)
    assert worker.calls == ["leave", "drain", "shutdown"]
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


@pytest.mark.parametrize("how", ["drain", "leave"])
def test_a_drain_before_it_serves_has_no_delay(how: str) -> None:
    """No load balancer has seen it yet."""

    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as sock:
            worker = Worker(app, Config(lifespan="off", drain_delay=LONG), sock)
            getattr(worker, how)()
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
