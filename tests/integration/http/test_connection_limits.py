"""What bounds a worker: connections, requests, and time for those nobody waits for."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import errno
import socket
from pathlib import Path
from typing import Any, cast

import pytest

from ..rawclient import Response, post, request
from ..serving import Gate, Notes, respond, serving


def refused(response: Response) -> bool:
    """Whether it is the answer of a server that is too busy; if it is, check its form."""
    if response.status != 503:
        return False
    retry_after = response.get(b"retry-after")
    assert retry_after is not None
    assert int(retry_after) > 0
    assert response.closes
    assert response.body
    return True


class Gates:
    """An application whose requests wait, each at a gate named by its path; "/" does not."""

    def __init__(self) -> None:
        self.calls = 0
        self._gates: dict[str, Gate] = {}

    def __getitem__(self, path: str) -> Gate:
        return self._gates.setdefault(path, Gate())

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.calls += 1
        if scope["path"] != "/":
            await self[scope["path"]].wait()
        await respond(send, scope["path"].encode())


# --- limit_connections, and for a worker alone the same: limit_connections_total

limit_connections = pytest.mark.parametrize(
    "limit", ["limit_connections", "limit_connections_total"]
)


@limit_connections
def test_limit_connections(limit: str) -> None:
    app = Gates()
    with serving(app, **{limit: 3}) as server, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(server.connect()) for _ in range(3)]
        for client in clients:
            client.assert_open()
        calls = app.calls
        for _ in range(5):
            with server.connect() as late:
                late.try_send(post(b"/", bytes(1_000_000)))  # it need not be read for the answer
                assert refused(late.response())
                late.assert_closed()
        assert app.calls == calls
        for client in clients:
            client.assert_open()
        clients.pop().close()
        server.wait_for_connections(2)
        with server.connect() as client:
            client.assert_open()


@limit_connections
def test_connections_that_were_turned_away_do_not_count(
    limit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They stay until their clients have read the answer, which some never do."""
    monkeypatch.setattr("subinterp_asgi.worker.net.connection.LINGER_TIME", 600.0)
    monkeypatch.setattr("subinterp_asgi.worker.net.connection.LINGER_SILENCE", 600.0)
    with serving(Gates(), **{limit: 1}) as server, contextlib.ExitStack() as stack:
        first = server.connect()
        first.assert_open()
        for _ in range(3):
            late = stack.enter_context(server.connect())
            assert refused(late.response())
        first.close()
        server.wait_for_connections(3)
        with server.connect() as client:
            client.assert_open()


def test_connections_that_were_turned_away_give_their_descriptors_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """When there are no others left."""
    monkeypatch.setattr("subinterp_asgi.worker.net.connection.LINGER_TIME", 600.0)
    monkeypatch.setattr("subinterp_asgi.worker.net.connection.LINGER_SILENCE", 600.0)

    class Listener:
        def accept(self) -> None:
            raise OSError(errno.EMFILE, "no descriptor is left")

    with serving(Gates(), limit_connections=1) as server, contextlib.ExitStack() as stack:
        first = stack.enter_context(server.connect())
        first.assert_open()
        for _ in range(3):
            late = stack.enter_context(server.connect())
            assert refused(late.response())
        server.wait_for_connections(4)
        acceptor = server.worker._acceptor
        server.call(lambda: acceptor._accept_one(cast("socket.socket", Listener())))
        assert server.connections == 1
        first.assert_open()


# --- limit_concurrency, and for a worker alone the same: limit_concurrency_total

limit_concurrency = pytest.mark.parametrize(
    "limit", ["limit_concurrency", "limit_concurrency_total"]
)


@limit_concurrency
def test_limit_concurrency(limit: str) -> None:
    app = Gates()
    with serving(app, **{limit: 2}) as server, contextlib.ExitStack() as stack:
        idle = [stack.enter_context(server.connect()) for _ in range(3)]
        for client in idle:
            client.assert_open()  # (in flight is what counts, not connections)
        busy = [stack.enter_context(server.connect()) for _ in range(2)]
        for number, client in enumerate(busy):
            client.send(request(b"GET", b"/%d" % number))
            app[f"/{number}"].wait_reached()
        calls = app.calls
        for method in (b"GET", b"HEAD"):
            client = idle.pop()
            client.send(request(method, b"/"))
            response = client.response(method)
            response.body = response.body or b"(HEAD)"
            assert refused(response)
            client.assert_closed()
        with server.connect() as late:
            late.try_send(post(b"/", bytes(1_000_000)))
            assert refused(late.response())
        assert app.calls == calls
        app["/0"].open()
        assert busy[0].response().body == b"/0"
        idle.pop().assert_open()  # there is room again
        app["/1"].open()
        assert busy[1].response().body == b"/1"
        for client in busy:
            client.assert_open()


@limit_concurrency
def test_a_pipelined_request_too_many(limit: str) -> None:
    """It is refused in its turn, which comes when the one before it is done: so it never is."""
    app = Gates()
    with serving(app, **{limit: 1}) as server, server.connect() as client:
        client.send(request(b"GET", b"/0"), request(b"GET", b"/1"))
        app["/0"].open()
        assert client.response().body == b"/0"
        app["/1"].open()
        assert client.response().body == b"/1"


@pytest.mark.parametrize("end", ["raises", "says nothing", "begins", "leaves", "resets", "exits"])
@limit_concurrency
def test_every_end_makes_room(limit: str, end: str) -> None:
    gate = Gate()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/":
            await respond(send, b"hello")
        elif end == "raises":
            raise RuntimeError("on purpose")
        elif end == "exits":
            raise SystemExit(3)
        elif end == "begins":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"begun", "more_body": True})
        elif end != "says nothing":
            gate._reached.set()
            while (await receive())["type"] != "http.disconnect":
                pass

    with serving(app, **{limit: 1}) as server:
        for _ in range(3):
            with server.connect() as client:
                client.send(request(b"GET", b"/end"))
                if end in ("leaves", "resets"):
                    gate.wait_reached()
                    (client.reset if end == "resets" else client.close)()
                else:
                    client.wait_for_end()
            server.wait_for_connections(0)
            server.wait_until_idle()
            with server.connect() as client:
                client.assert_open()


@limit_concurrency
def test_what_an_application_does_after_its_response_does_not_count(limit: str) -> None:
    gate = Gate()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await respond(send, b"hello")
        if scope["path"] == "/background":
            await gate.wait()

    with serving(app, **{limit: 1}) as server, server.connect() as client:
        assert client.get(b"/background").body == b"hello"
        gate.wait_reached()
        client.assert_open()
        gate.open()


@limit_concurrency
def test_what_comes_after_the_body_counts(limit: str) -> None:
    gate = Gate()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/":
            await respond(send, b"hello")
            return
        await send({"type": "http.response.start", "status": 200, "trailers": True})
        await send({"type": "http.response.body", "body": b"hello"})
        await gate.wait()
        await send({"type": "http.response.trailers", "headers": [(b"a", b"b")]})

    with serving(app, **{limit: 1}) as server, server.connect() as client:
        client.send(request(b"GET", b"/trailers", b"TE: trailers"))
        gate.wait_reached()
        with server.connect() as late:
            late.send(request(b"GET", b"/"))
            assert refused(late.response())
        gate.open()
        assert client.response().trailers == [(b"a", b"b")]
        client.assert_open()


@limit_concurrency
def test_a_file_counts_until_it_is_sent(limit: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(1 << 24))

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/":
            await respond(send, b"hello")
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.pathsend", "path": str(path)})

    with serving(app, send_buffer=65536, **{limit: 1}) as server, server.connect() as client:
        client.send(request(b"GET", b"/file"))
        client.head()
        with server.connect() as late:
            late.send(request(b"GET", b"/"))
            assert refused(late.response())
        client.read_exactly(1 << 24)
        server.wait_until_idle()
        client.assert_open()


# --- timeout_disconnect_grace


class Endless:
    """An application that goes on whether its client is there or not.

    Args:
        begin: It begins a response first,
        complete: or completes one,
        listen: or waits to hear that the client is gone.

    Attributes:
        gate: Where it waits.
        ends: How calls ended.
    """

    def __init__(
        self, *, begin: bool = False, complete: bool = False, listen: bool = False
    ) -> None:
        self.gate = Gate()
        self.ends = Notes()
        self._begin = begin
        self._complete = complete
        self._listen = listen

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if self._complete:
            await respond(send, b"done")
        elif self._begin:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"begun", "more_body": True})
        while self._listen and (await receive())["type"] != "http.disconnect":
            pass
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.ends("cancelled")
            raise
        self.ends("returned")


@pytest.mark.parametrize("begin", [False, True])
@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("grace", [0.0, 0.1])
def test_a_call_nobody_waits_for_is_cancelled(begin: bool, how: str, grace: float) -> None:
    app = Endless(begin=begin)
    with serving(app, timeout_disconnect_grace=grace) as server:
        client = server.connect()
        client.send(request(b"GET", b"/"))
        app.gate.wait_reached()
        getattr(client, how)()
        assert app.ends.wait() == ["cancelled"]
        server.wait_until_idle()
        server.wait_for_connections(0)


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("grace", [None, 600.0])
def test_a_call_that_may_go_on(how: str, grace: float | None) -> None:
    app = Endless(listen=True)
    with serving(app, timeout_disconnect_grace=grace) as server:
        client = server.connect()
        client.send(request(b"GET", b"/"))
        getattr(client, how)()
        app.gate.wait_reached()
        app.gate.open()
        assert app.ends.wait() == ["returned"]
        server.wait_until_idle()


def test_a_call_that_ends_by_itself_in_time() -> None:
    """Nothing is left that could cancel a later one."""
    ends = Notes()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        ends("told")

    with serving(app, timeout_disconnect_grace=600.0) as server:
        client = server.connect()
        client.send(request(b"GET", b"/"))
        client.close()
        assert ends.wait() == ["told"]
        server.wait_until_idle()
        left = [h for h in server.call(lambda: list(server.loop._scheduled)) if not h.cancelled()]
        assert not [handle for handle in left if handle.when() > server.loop.time() + 300]


def test_what_follows_a_whole_response_is_not_cancelled() -> None:
    app = Endless(complete=True)
    with serving(app, timeout_disconnect_grace=0.0) as server:
        with server.connect() as client:
            assert client.get().body == b"done"
            app.gate.wait_reached()
        server.wait_for_connections(0)
        app.gate.open()
        assert app.ends.wait() == ["returned"]


def test_a_client_that_only_sends_no_more_gets_its_answer_in_time() -> None:
    app = Gates()
    with (
        serving(app, timeout_disconnect_grace=600.0) as server,
        server.connect() as client,
    ):
        client.send(request(b"GET", b"/0"))
        client.half_close()
        app["/0"].open()
        assert client.response().body == b"/0"
        client.assert_closed()


# --- lifespan_context


ORIGIN: contextvars.ContextVar[str] = contextvars.ContextVar("ORIGIN", default="nobody")


async def with_context(scope: Any, receive: Any, send: Any) -> None:
    """Each request reports the variable and then sets it."""
    if scope["type"] == "lifespan":
        ORIGIN.set("lifespan")
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                assert ORIGIN.get() == "lifespan"  # no request has changed it
                return
    seen = ORIGIN.get()
    ORIGIN.set(scope["path"])
    await asyncio.sleep(0)
    assert ORIGIN.get() == scope["path"]
    await respond(send, seen.encode())


@pytest.mark.parametrize(("option", "expected"), [(True, b"lifespan"), (False, b"nobody")])
def test_lifespan_context(option: bool, expected: bytes) -> None:
    with (
        serving(with_context, lifespan="on", lifespan_context=option) as server,
        server.connect() as one,
        server.connect() as other,
    ):
        for _ in range(3):
            one.send(request(b"GET", b"/1"), request(b"GET", b"/2"))
            other.send(request(b"GET", b"/3"))
            assert [one.response().body, one.response().body] == [expected] * 2
            assert other.response().body == expected


def test_lifespan_context_without_a_lifespan() -> None:
    with (
        serving(with_context, lifespan="off", lifespan_context=True) as server,
        server.connect() as client,
    ):
        assert client.get().body == client.get().body == b"nobody"
