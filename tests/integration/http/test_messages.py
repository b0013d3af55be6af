"""The conversation with the application: message order, what it may send, contexts, scopes."""

from __future__ import annotations

import asyncio
import contextvars
import socket
from pathlib import Path
from typing import Any

import pytest

from subinterp_asgi.errors import ASGIProtocolError, SubinterpASGIError

from ..rawclient import post, request
from ..serving import Gate, Notes, read_body, respond, serving

START = {"type": "http.response.start", "status": 200, "headers": []}
BODY = {"type": "http.response.body", "body": b"x"}
MORE = {"type": "http.response.body", "body": b"x", "more_body": True}

# --- what may not be sent

UNSENDABLE: dict[str, list[Any]] = {
    "body before a start": [BODY],
    "start twice": [START, START],
    "start after the body has begun": [START, MORE, START],
    "start after the end": [START, BODY, START],
    "body after the end": [START, BODY, BODY],
    "empty body after the end": [START, BODY, {"type": "http.response.body"}],
    "unknown type": [{"type": "http.response.hello"}],
    "unknown type after a start": [START, {"type": "http.request"}],
    "type of another protocol": [{"type": "websocket.accept"}],
    "start without a status": [{"type": "http.response.start"}],
    "status that is none": [START | {"status": 42}],
    "interim status": [START | {"status": 100}],
    "status that is a str": [START | {"status": "200"}],
    "name that is a str": [START | {"headers": [("x", b"y")]}],
    "value that is a str": [START | {"headers": [(b"x", "y")]}],
    "value that splits the response": [START | {"headers": [(b"x", b"y\r\nset-cookie: z")]}],
    "value of Connection that does": [START | {"headers": [(b"connection", b"y\r\nz: z")]}],
    "name that splits the response": [START | {"headers": [(b"x\r\ny", b"z")]}],
    "value with NUL": [START | {"headers": [(b"x", b"\0")]}],
    "length that is none": [START | {"headers": [(b"content-length", b"x")]}],
    "body that is a str": [START, BODY | {"body": "x"}],
    "body that is a list": [START, BODY | {"body": [b"x"]}],
    "body that is None": [START, BODY | {"body": None}],
    "later body that is a str": [START, MORE, BODY | {"body": "x"}],
    "more than its length": [START | {"headers": [(b"content-length", b"0")]}, BODY],
    "more than its length, in the end": [
        START | {"headers": [(b"content-length", b"1")]},
        MORE,
        BODY,
    ],
}


@pytest.mark.parametrize("messages", UNSENDABLE.values(), ids=UNSENDABLE)
def test_messages_that_are_refused(messages: list[Any]) -> None:
    """A typed error for the application; for the client 500, a break or a whole response."""
    notes = Notes()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        *before, last = messages
        for message in before:
            await send(message)
        try:
            await send(last)
        except ASGIProtocolError as exc:
            notes(exc)
            raise

    with serving(app) as served, served.connect() as client:
        client.send(request(b"GET", b"/"))
        (error,) = notes.wait()
        assert isinstance(error, SubinterpASGIError)
        complete = messages[:2] == [START, BODY]
        begun = len(messages) == 3
        if complete:
            assert client.response().status == 200
            assert client.get().status == 200
        elif begun:
            assert client.head().status == 200
            client.wait_for_end()
        else:
            response = client.response()
            assert response.status == 500
            assert response.all(b"set-cookie") == []
            client.assert_closed()
    assert len(served.records.messages) in (1, 2)


def test_an_application_may_make_good_what_was_refused() -> None:
    """The refused message has had no effect."""
    notes = Notes()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        wrong = [START | {"status": 7}, START | {"headers": [(b"x", b"\n")]}, BODY, {"type": "x"}]
        for message in wrong:
            try:
                await send(message)
            except ASGIProtocolError:
                notes("refused")
        await respond(send, b"good", 201)

    with serving(app) as served, served.connect() as client:
        response = client.get()
        assert (response.status, response.body) == (201, b"good")
        assert len(notes.wait(4)) == 4
        assert client.get().status == 201


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
@pytest.mark.parametrize("more", [True, False])
def test_kinds_of_bytes(kind: Any, more: bool) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        sent = kind(b"bytes")
        await send(START)
        await send({"type": "http.response.body", "body": sent, "more_body": more})
        if more:
            if isinstance(sent, bytearray):
                sent[:] = b"....."  # it may be used again at once
            await send({"type": "http.response.body"})

    with serving(app) as served, served.connect() as client:
        assert client.get().body == b"bytes"


def test_defaults_of_messages() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body"})

    with serving(app) as served, served.connect() as client:
        assert client.get().body == b""


# --- how applications end


@pytest.mark.parametrize("begun", ["not", "started", "streaming"])
def test_application_that_returns_too_early(begun: str) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if begun != "not":
            await send(START)
        if begun == "streaming":
            await send(MORE)

    with serving(app) as served, served.connect() as client:
        client.send(request(b"GET", b"/"))
        if begun == "streaming":
            client.head()
            client.wait_for_end()
        else:
            assert client.response().status == 500
            client.assert_closed()
        client.close()
        served.wait_for_connections(0)
    (message,) = served.records.messages
    assert "without" in message


def test_fewer_octets_than_promised() -> None:
    """RFC 9112 section 8: the connection ends before the message does."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START | {"headers": [(b"content-length", b"10")]})
        await send({"type": "http.response.body", "body": b"short"})

    with serving(app) as served, served.connect() as client:
        client.send(request(b"GET", b"/"))
        assert client.head().get(b"content-length") == b"10"
        assert client.read_to_end() == b"short"
    assert ["Content-Length" in text for text in served.records.messages] == [True]


class NotAnException(BaseException):
    pass


@pytest.mark.parametrize(
    "exception",
    [
        RuntimeError("x"),
        SystemExit(1),
        asyncio.CancelledError(),
        TimeoutError(),
        OSError("x"),
        EOFError(),
        StopAsyncIteration(),
        NotAnException(),
    ],
    ids=repr,
)
@pytest.mark.parametrize("waited", [True, False])
def test_exceptions(exception: BaseException, waited: bool) -> None:
    """None of them ends more than its own request."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/":
            await respond(send, b"hello")
            return
        if waited:
            await asyncio.sleep(0)
        raise exception

    with serving(app) as served, served.connect() as other:
        assert other.get().body == b"hello"
        with served.connect() as client:
            client.send(request(b"GET", b"/fail"))
            assert client.response().status == 500
            client.assert_closed()
        assert other.get().body == b"hello"
        served.wait_until_idle()
    assert len(served.records.messages) == 1
    assert served.records.messages[0].startswith("exception in the ASGI application: GET /fail")


def test_exception_after_a_complete_response() -> None:
    """It is logged; the client has its answer and keeps its connection."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await respond(send, b"done")
        raise RuntimeError("afterwards")

    with serving(app) as served, served.connect() as client:
        for _ in range(3):
            assert client.get().body == b"done"
    assert len(served.records.messages) == 3
    assert "afterwards" in served.records.messages[0]


def test_work_after_the_response_does_not_hold_the_connection() -> None:
    gate, notes = Gate(), Notes()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await respond(send, b"done")
        if scope["path"] == "/background":
            await gate.wait()
            notes("background work")

    with serving(app) as served, served.connect() as client:
        assert client.get(b"/background").body == b"done"
        gate.wait_reached()
        for _ in range(3):
            assert client.get().body == b"done"
        assert not served.idle
        gate.open()
        notes.wait()
        served.wait_until_idle()


def test_two_applications_in_flight_on_one_connection_never() -> None:
    """The next request is not begun before the last response is complete."""
    running = 0
    most = 0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await send(START)
        for _ in range(3):
            await asyncio.sleep(0)
            await send(MORE)
        running -= 1
        await send(BODY)

    with serving(app) as served, served.connect() as client:
        client.send(request(b"GET", b"/") * 20)
        for _ in range(20):
            client.response()
    assert most == 1


# --- contexts


def test_each_request_has_a_context_of_its_own() -> None:
    variable = contextvars.ContextVar("variable", default="unset")
    seen = Notes()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen(variable.get())
        variable.set(scope["path"])
        await asyncio.sleep(0)
        await read_body(receive)
        assert variable.get() == scope["path"]
        await respond(send, variable.get().encode())

    with serving(app) as served, served.connect() as client, served.connect() as other:
        client.send(post(b"/1", b"x") + request(b"GET", b"/2"))
        other.send(request(b"GET", b"/3"))
        assert client.response().body == b"/1"
        assert client.response().body == b"/2"
        assert other.response().body == b"/3"
    assert seen.wait(3) == ["unset"] * 3


def test_current_task_is_the_requests_own() -> None:
    tasks = Notes()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        async with asyncio.timeout(20):  # needs a current task, also before the first wait
            tasks(asyncio.current_task())
            await asyncio.sleep(0)
            assert asyncio.current_task() is tasks.wait()[-1]
        await respond(send)

    with serving(app) as served, served.connect() as client:
        client.get()
        client.get()
    one, other = tasks.wait(2)
    assert one is not None
    assert one is not other


# --- scopes


def scope_from(**options: Any) -> dict[str, Any]:
    """The scope of ``GET /a%20b``, and whom it came from."""
    notes = Notes()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        notes(scope)
        await respond(send)

    with serving(app, **options) as served, served.connect() as client:
        client.get(b"/a%20b")
        scope: dict[str, Any] = notes.wait()[0]
        scope["peer"], scope["own"] = served.address, client.sock.getsockname()
    return scope


def test_root_path() -> None:
    """ASGI HTTP specification: path includes root_path."""
    scope = scope_from(root_path="/mounted/here")
    assert scope["root_path"] == "/mounted/here"
    assert scope["path"] == "/mounted/here/a b"
    assert scope["raw_path"] == b"/mounted/here/a%20b"


def test_ipv6_addresses() -> None:
    scope = scope_from(family=socket.AF_INET6)
    assert tuple(scope["server"]) == scope["peer"]
    assert tuple(scope["client"]) == scope["own"][:2]


def test_unix_socket(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    scope = scope_from(family=socket.AF_UNIX, path=path)
    assert tuple(scope["server"]) == (path, None)
    assert scope["client"] is None


def test_state_is_a_copy() -> None:
    notes = Notes()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await receive()
            scope["state"]["shared"] = []
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        notes(dict(scope["state"]))
        scope["state"]["own"] = 1
        scope["state"]["shared"].append(1)
        await respond(send)

    with serving(app, lifespan="on") as served, served.connect() as client:
        client.get()
        client.get()
    assert notes.wait(2) == [{"shared": [1, 1]}, {"shared": [1, 1]}]


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({}, {b"date", b"server"}),
        ({"date_header": False}, {b"server"}),
        ({"server_header": False}, {b"date"}),
        ({"date_header": False, "server_header": False}, set()),
    ],
)
def test_date_and_server_can_be_switched_off(options: Any, names: set[bytes]) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/fail":
            raise RuntimeError("fail")
        await respond(send)

    with serving(app, **options) as served, served.connect() as client:
        for target in (b"/", b"/fail"):
            present = {name for name, _ in client.get(target).fields}
            assert present & {b"date", b"server"} == names


def test_date_and_server_of_the_application() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await respond(send, headers=[(b"Date", b"long ago"), (b"Server", b"mine")])

    with serving(app) as served, served.connect() as client:
        response = client.get()
        assert response.get(b"date") == b"long ago"
        assert response.get(b"server") == b"mine"


def test_connection_close_of_the_application() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await respond(send, headers=[(b"connection", b"close")])

    with serving(app) as served, served.connect() as client:
        client.send(request(b"GET", b"/"))
        assert client.response().closes
        # A client that had sent its next request already still gets the answer to the first.
        client.try_send(request(b"GET", b"/"))
        client.assert_closed()
