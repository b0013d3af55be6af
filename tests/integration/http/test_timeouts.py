"""Time: how long heads, bodies, idle connections and unread responses may take.

No test measures; each waits for what a timeout must bring about, or looks at when it is due.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
import threading
from pathlib import Path
from time import monotonic
from typing import Any, cast

import pytest

from subinterp_asgi.control.wakeup import READ, WRITE, ready
from subinterp_asgi.worker.net.connection import NEVER, Connection
from subinterp_asgi.worker.worker import WorkerState
from tests.support import wait_until

from ..rawclient import TIMEOUT, RawClient, chunked, post, request
from ..serving import Gate, Notes, Served, read_body, respond, serving

SHORT = 0.08


async def hello(scope: Any, receive: Any, send: Any) -> None:
    await respond(send, b"hello")


async def echo(scope: Any, receive: Any, send: Any) -> None:
    await respond(send, await read_body(receive))


def only_connection(served: Served) -> Connection:
    served.wait_for_connections(1)
    connection = served.call(lambda: next(iter(served.worker._connections)))
    assert isinstance(connection, Connection)
    return connection


# --- timeout_header


def test_client_that_sends_nothing() -> None:
    """There is no request to answer, so the connection is just closed."""
    with serving(hello, timeout_header=SHORT) as served, served.connect() as client:
        client.assert_closed()
        served.wait_for_connections(0)


@pytest.mark.parametrize("sent", [b"G", b"GET / HTTP/1.1\r\n", request(b"GET", b"/")[:-1]])
def test_head_that_does_not_arrive(sent: bytes) -> None:
    """RFC 9110 section 15.5.9."""
    with serving(hello, timeout_header=SHORT) as served, served.connect() as client:
        client.send(sent)
        response = client.response()
        assert response.status == 408
        assert response.closes
        client.assert_closed()


def test_head_that_dribbles() -> None:
    """The bound is on the whole head: an octet now and then buys no time."""
    with serving(hello, timeout_header=3600.0) as served, served.connect() as client:
        connection = only_connection(served)
        due = connection.deadline
        assert monotonic() < due < NEVER
        for octet in (b"G", b"E", b"T"):
            before = served.call(lambda: connection.session._parser.buffered)  # type: ignore[attr-defined]
            client.send(octet)
            wait_until(
                lambda before=before: served.call(
                    lambda: connection.session._parser.buffered > before  # type: ignore[attr-defined]
                )
            )
            assert connection.deadline == due


def test_next_head_that_does_not_arrive() -> None:
    """From its first octet on; the time before that is the idle connection's."""
    options = {"timeout_header": SHORT, "timeout_keep_alive": 3600.0}
    with serving(hello, **options) as served, served.connect() as client:
        assert client.get().status == 200
        client.send(b"GET / HT")
        assert client.response().status == 408
        client.assert_closed()


def test_next_head_behind_a_slow_response() -> None:
    """The time that the application takes is not the client's."""
    gate = Gate()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/slow":
            await gate.wait()
        await respond(send)

    with serving(app, timeout_header=3600.0) as served, served.connect() as client:
        client.send(request(b"GET", b"/slow") + b"GET / HTTP/1.1\r\n")
        gate.wait_reached()
        connection = only_connection(served)
        assert served.call(lambda: connection.deadline) == NEVER
        gate.open()
        client.response()
        wait_until(lambda: served.call(lambda: connection.deadline) < NEVER)
        client.send(b"Host: a\r\n\r\n")
        assert client.response().status == 200


def test_no_bound_on_heads() -> None:
    with serving(hello, timeout_header=0) as served, served.connect() as client:
        connection = only_connection(served)
        client.send(b"GET / HT")
        wait_until(lambda: served.call(lambda: connection.session._parser.buffered))  # type: ignore[attr-defined]
        assert connection.deadline == NEVER


def test_an_empty_line_begins_no_head() -> None:
    options = {"timeout_header": 3600.0, "timeout_keep_alive": SHORT}
    with serving(echo, **options) as served, served.connect() as client:
        client.send(post(b"/", b"body") + b"\r\n")
        assert client.response().body == b"body"
        client.assert_closed()


# --- timeout_keep_alive


def test_idle_connection_is_closed() -> None:
    with serving(hello, timeout_keep_alive=SHORT) as served, served.connect() as client:
        assert client.get().status == 200
        client.assert_closed()
        served.wait_for_connections(0)


def test_idle_time_begins_anew_with_each_response() -> None:
    with serving(hello, timeout_keep_alive=3600.0) as served, served.connect() as client:
        connection = only_connection(served)
        client.get()
        first = served.call(lambda: connection.deadline)
        client.get()
        assert first < served.call(lambda: connection.deadline) < NEVER


def test_connection_with_a_request_in_flight_is_not_idle() -> None:
    gate = Gate()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await gate.wait()
        await respond(send, b"late")

    with serving(app, timeout_keep_alive=SHORT) as served, served.connect() as client:
        client.send(request(b"GET", b"/"))
        gate.wait_reached()
        connection = only_connection(served)
        assert served.call(lambda: connection.deadline) == NEVER
        gate.open()
        assert client.response().body == b"late"
        client.assert_closed()


# --- timeout_body


@pytest.mark.parametrize("coded", [True, False])
def test_body_that_does_not_arrive(coded: bool) -> None:
    notes = Notes()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        notes((await receive()).get("body"))
        notes((await receive())["type"])
        await respond(send)
        notes("unheard")

    framing = b"Transfer-Encoding: chunked" if coded else b"Content-Length: 10"
    with serving(app, timeout_body=SHORT) as served, served.connect() as client:
        client.send(request(b"POST", b"/", framing))
        client.send(chunked(b"abc", last=False) if coded else b"abc")
        response = client.response()
        assert response.status == 408
        assert response.closes
        client.assert_closed()
        assert notes.wait(3) == [b"abc", "http.disconnect", "unheard"]
        served.wait_until_idle()
    assert served.records.messages == []


def test_body_that_does_not_arrive_after_the_response_has_begun() -> None:
    notes = Notes()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"begun", "more_body": True})
        notes((await receive())["type"])

    with serving(app, timeout_body=SHORT) as served, served.connect() as client:
        client.send(request(b"POST", b"/", b"Content-Length: 10"))
        assert client.head().status == 200
        assert client.read_to_end() == b"5\r\nbegun\r\n"
        assert notes.wait() == ["http.disconnect"]


def test_body_that_does_not_arrive_while_a_stream_goes_to_an_old_client() -> None:
    """Where the end of the connection is the end of the response, a clean end would be a lie."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"begun", "more_body": True})
        await receive()

    with serving(app, timeout_body=SHORT) as served, served.connect() as client:
        client.send(request(b"POST", b"/", b"Content-Length: 10", version=b"1.0"))
        with pytest.raises(ConnectionResetError):
            client.response()


def test_old_client_that_reads_too_late() -> None:
    """It must not take what was sent before it was given up for the whole."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(1000):
            body = b"x" * 1_000_000
            await send({"type": "http.response.body", "body": body, "more_body": True})

    with serving(app, timeout_write=SHORT) as served, served.connect() as client:
        client.send(request(b"GET", b"/", version=b"1.0"))
        served.wait_for_connections(1)
        served.wait_for_connections(0)
        with pytest.raises(ConnectionResetError):
            client.response()


def test_body_time_counts_only_while_the_application_waits() -> None:
    gate, notes = Gate(), Notes()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        call = asyncio.ensure_future(receive())
        await asyncio.sleep(0)
        call.cancel()
        notes("no longer waiting")
        await gate.wait()
        await respond(send, b"fine")

    with serving(app, timeout_body=3600.0) as served, served.connect() as client:
        client.send(request(b"POST", b"/", b"Content-Length: 10") + b"abc")
        gate.wait_reached()
        connection = only_connection(served)
        assert served.call(lambda: connection.deadline) == NEVER
        gate.open()
        assert client.response().body == b"fine"


def test_body_time_begins_anew_with_each_piece() -> None:
    notes = Notes()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        more = True
        while more:
            message = await receive()
            more = message["more_body"]
            notes(message["body"])
        await respond(send)

    with serving(app, timeout_body=3600.0) as served, served.connect() as client:
        client.send(request(b"POST", b"/", b"Content-Length: 3"))
        connection = only_connection(served)
        wait_until(lambda: served.call(lambda: connection.deadline) < NEVER)
        deadlines = [served.call(lambda: connection.deadline)]
        for number, octet in enumerate((b"a", b"b"), 1):
            client.send(octet)
            notes.wait(number)
            deadlines.append(served.call(lambda: connection.deadline))
        assert deadlines == sorted(set(deadlines))
        client.send(b"c")
        client.response()


def test_rest_of_an_unread_body_that_does_not_arrive() -> None:
    with serving(hello, timeout_body=SHORT) as served, served.connect() as client:
        client.send(post(b"/", b"abcdef")[:-3])
        assert client.response().body == b"hello"
        client.assert_closed()


def test_no_bound_on_bodies() -> None:
    notes = Notes()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        notes("waiting")
        await read_body(receive)
        await respond(send)

    with serving(app, timeout_body=0) as served, served.connect() as client:
        client.send(post(b"/", b"abc")[:-1])
        notes.wait()
        connection = only_connection(served)
        assert served.call(lambda: connection.deadline) == NEVER
        client.send(b"c")
        assert client.response().status == 200


# --- timeout_write


def test_client_that_does_not_read() -> None:
    notes = Notes()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        try:
            for _ in range(1000):
                body = b"x" * 1_000_000
                await send({"type": "http.response.body", "body": body, "more_body": True})
        except OSError as exc:
            notes(exc)

    with serving(app, timeout_write=SHORT) as served, served.connect() as client:
        client.send(request(b"GET", b"/"))
        notes.wait()
        served.wait_for_connections(0)


def test_client_that_does_not_read_the_end() -> None:
    """The application is long done."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await respond(send, b"x" * 50_000_000)

    with serving(app, timeout_write=SHORT) as served, served.connect() as client:
        client.send(request(b"GET", b"/"))
        client.head()
        served.wait_for_connections(0)


def test_no_bound_on_writing() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await respond(send, b"x" * 20_000_000)

    with serving(app, timeout_write=0) as served, served.connect() as client:
        client.send(request(b"GET", b"/"))
        connection = only_connection(served)
        wait_until(lambda: connection.congested)
        assert connection._write_deadline == NEVER
        assert len(client.response().body) == 20_000_000


def read_slowly(client: RawClient, seconds: float) -> int:
    """Take a little again and again for so long, much less than the kernel keeps for a client;
    return how much it was."""
    end, pause, octets = monotonic() + seconds, threading.Event(), 0
    while monotonic() < end:
        octets += len(client.sock.recv(4096))
        pause.wait(0.02)
    return octets


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells what is not taken yet")
@pytest.mark.parametrize("then", ["reads the rest", "stops"])
@pytest.mark.parametrize("way", ["body", "stream", "file", "unix"])
def test_client_that_reads_slowly(tmp_path: Path, way: str, then: str) -> None:
    """The kernel has no room for more for longer than ``timeout_write``, but the client reads."""
    size, length = 16_000_000, b"16000000"
    file = tmp_path / "file"
    if way == "file":
        file.write_bytes(bytes(size))

    async def app(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-length", length)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        if way == "file":
            await send({"type": "http.response.pathsend", "path": str(file)})
            return
        pieces = 160 if way == "stream" else 1
        with contextlib.suppress(OSError):
            for left in reversed(range(pieces)):
                body = {"type": "http.response.body", "body": bytes(size // pieces)}
                await send(body | {"more_body": left > 0})

    options: dict[str, Any] = {"timeout_write": 1.0}
    if way == "unix":
        options |= {"family": socket.AF_UNIX, "path": str(tmp_path / "socket")}
    with serving(app, **options) as served, served.connect(receive_buffer=16384) as client:
        client.send(request(b"GET", b"/"))
        have = read_slowly(client, 2.0)
        assert served.connections == 1
        if then == "stops":
            served.wait_for_connections(0)
            return
        client.sock.settimeout(TIMEOUT)
        while data := client.receive():
            have += len(data)
            if have > size:
                break
        assert have > size


# --- time in which the worker was held up


@pytest.mark.parametrize("own_loop", [True, False])
@pytest.mark.parametrize("number", [1, 300])  # (more than are taken from a poller at once)
@pytest.mark.parametrize("what", ["request", "head", "body", "reading"])
def test_what_came_while_the_worker_was_held_up_is_in_time(
    what: str, number: int, own_loop: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Deadlines are judged by what is in the sockets, not by what was taken out of them."""
    monkeypatch.setattr("subinterp_asgi.worker.net.connections._tick_interval", lambda config: 0.1)
    if number > 1:
        resource = pytest.importorskip("resource")
        if resource.getrlimit(resource.RLIMIT_NOFILE)[0] < 3 * number:
            pytest.skip("too few descriptors for so many clients")
    held_up, go_on = threading.Event(), threading.Event()
    large = bytes(1 << 20 if number > 1 else 8 << 20)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/hold-up":
            held_up.set()
            go_on.wait(TIMEOUT)
        await respond(send, large if scope["path"] == "/large" else await read_body(receive))

    options = dict.fromkeys(("timeout_header", "timeout_body", "timeout_write"), 3600.0)
    options["timeout_keep_alive"] = 3600.0
    first, then = {
        "request": (b"", post(b"/", b"body")),
        "head": (post(b"/", b"body")[:10], post(b"/", b"body")[10:]),
        "body": (post(b"/", b"body")[:-3], b"ody"),
        "reading": (request(b"GET", b"/large"), b""),
    }[what]
    with (
        serving(app, own_loop=own_loop, send_buffer=65536, **options) as served,
        served.connect() as nuisance,
        contextlib.ExitStack() as stack,
    ):
        clients = [stack.enter_context(served.connect(receive_buffer=65536)) for _ in range(number)]
        served.wait_for_connections(number + 1)
        connections = cast("list[Connection]", list(served.worker._connections))
        for client in clients:
            client.send(first)
        begun = {
            "request": lambda _: True,
            "head": lambda connection: connection.session._parser.buffered,
            "body": lambda connection: connection.session._exchange,
            "reading": lambda connection: connection._out_size,
        }[what]
        wait_until(lambda: served.call(lambda: sum(map(bool, map(begun, connections)))) >= number)
        nuisance.send(request(b"GET", b"/hold-up"))
        assert held_up.wait(TIMEOUT)
        for client in clients:
            client.send(then)
        if what == "reading":

            def there_is_room() -> bool:
                for client in clients:
                    if ready(client.sock.fileno(), READ):
                        client.buffer += client.sock.recv(1 << 20)
                return all(ready(connection._fd, WRITE) for connection in connections)

            wait_until(there_is_room)
        for connection in connections:  # all is due
            connection.deadline = min(connection.deadline, monotonic())
            if connection._write_deadline != NEVER:
                connection._write_deadline = monotonic()
        timer = served.worker._connections._timer
        assert timer is not None
        wait_until(lambda: served.loop.time() > timer.when())
        go_on.set()
        bodies = [client.response().body for client in clients]
        assert bodies == [large if what == "reading" else b"body"] * number


def test_requests_that_came_before_idle_connections_are_closed() -> None:
    """So late that the worker, which is leaving, has not looked yet."""
    with serving(hello) as served, served.connect() as client, served.connect() as other:
        assert client.get().status == other.get().status == 200

        def close_idle() -> None:
            client.send(request(b"GET", b"/"))
            served.worker._connections.close_idle()

        served.call(close_idle)
        assert client.response().status == 200
        other.assert_closed()


# --- the clock


def test_no_clock_without_connections() -> None:
    """An idle worker makes no wake-ups."""
    with serving(hello) as served:
        with served.connect() as client:
            client.get()
            assert served.call(lambda: served.worker._connections._timer) is not None
        served.wait_for_connections(0)
        wait_until(lambda: served.call(lambda: served.worker._connections._timer) is None)


@pytest.mark.parametrize(
    "option", ["timeout_header", "timeout_body", "timeout_write", "timeout_keep_alive"]
)
def test_the_clock_ticks_as_often_as_the_shortest_timeout_needs(option: str) -> None:
    with serving(hello, **{option: 0.4}) as served:
        wait_until(lambda: served.worker.state is WorkerState.SERVING)
        assert served.worker._connections._tick_interval <= 0.1
