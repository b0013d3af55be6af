"""The extensions of ASGI's HTTP protocol, on the wire and as the application sees them."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import io
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from subinterp_asgi.errors import ASGIProtocolError, ClientDisconnected

from ...support import open_descriptors, wait_until
from ..apps.tls import pattern
from ..rawclient import TIMEOUT, RawClient, request
from ..serving import Gate, Notes, Served, respond, serving

TE = b"TE: trailers"
LARGE = 30_000_000

type Message = dict[str, Any]


def start(*headers: tuple[bytes, bytes], status: int = 200, trailers: bool = False) -> Message:
    return {
        "type": "http.response.start",
        "status": status,
        "headers": headers,
        "trailers": trailers,
    }


def body(data: bytes = b"", *, more: bool = False) -> Message:
    return {"type": "http.response.body", "body": data, "more_body": more}


def trailers(*headers: Any, more: bool = False) -> Message:
    return {"type": "http.response.trailers", "headers": headers, "more_trailers": more}


def hint(*links: Any) -> Message:
    return {"type": "http.response.early_hint", "links": links}


def path_send(path: Any) -> Message:
    return {"type": "http.response.pathsend", "path": path}


def zero_copy(file: Any, **options: Any) -> Message:
    return {"type": "http.response.zerocopysend", "file": file, **options}


class Script:
    """An application that sends messages one after the other, whatever becomes of each.

    Attributes:
        outcomes: For each message what ``send()`` raised, or ``None``.
    """

    def __init__(self, *messages: Message) -> None:
        self._messages = messages
        self.outcomes: list[Exception | None] = []
        self.done = threading.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/next":
            await respond(send, b"next")
            return
        for message in self._messages:
            try:
                await send(message)
            except Exception as exc:
                self.outcomes.append(exc)
            else:
                self.outcomes.append(None)
        self.done.set()

    @property
    def raised(self) -> list[type[Exception] | None]:
        """Types of the outcomes, once all messages were sent."""
        assert self.done.wait(TIMEOUT)
        return [outcome and type(outcome) for outcome in self.outcomes]


def failing(*messages: Message) -> Callable[..., Any]:
    """An application that sends messages and lets go what that raises."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/next":
            await respond(send, b"next")
            return
        for message in messages:
            await send(message)

    return app


@contextlib.contextmanager
def asking(app: Any, *lines: bytes, **kwargs: Any) -> Iterator[tuple[Served, RawClient]]:
    """Serve an application and send it a request."""
    method, version = kwargs.pop("method", b"GET"), kwargs.pop("version", b"1.1")
    client_options = kwargs.pop("client", {})
    with serving(app, **kwargs) as server, server.connect(**client_options) as client:
        client.send(request(method, b"/", *lines, version=version))
        yield server, client


def assert_next(client: RawClient) -> None:
    """Check that the connection serves another request, so that no octet was out of place."""
    assert client.get(b"/next").body == b"next"


def assert_broken(client: RawClient) -> None:
    """Check that the response can't be taken for a whole one."""
    with pytest.raises((AssertionError, ConnectionError)):
        client.response()


# --- what is advertised


def test_advertised() -> None:
    seen: list[dict[str, Any]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(dict(scope["extensions"]))
        scope["extensions"]["of my own"] = {}
        await respond(send)

    with serving(app) as server, server.connect() as client:
        for version in (b"1.1", b"1.1", b"1.0"):
            client.get(b"/", version=version)
    assert (
        seen
        == [
            {
                "http.response.trailers": {},
                "http.response.early_hint": {},
                "http.response.pathsend": {},
                "http.response.zerocopysend": {},
            }
        ]
        * 3
    )


# --- http.response.trailers

WHOLE = [body(b"body")]
STREAMED = [body(b"bo", more=True), body(b"dy", more=True), body()]
BODIES = pytest.mark.parametrize("bodies", [WHOLE, STREAMED], ids=["whole", "streamed"])


@BODIES
@pytest.mark.parametrize("te", [TE, b"te: gzip;q=0.5, Trailers", b"TE: deflate\r\nTE: trailers"])
def test_trailers(bodies: list[Message], te: bytes) -> None:
    app = Script(start(trailers=True), *bodies, trailers((b"x-sum", b"42"), (b"X-Other", b"")))
    with asking(app, te) as (_, client):
        response = client.response()
        assert response.get(b"transfer-encoding") == b"chunked"
        assert response.body == b"body"
        assert response.trailers == [(b"x-sum", b"42"), (b"X-Other", b"")]
        assert_next(client)
    assert app.raised == [None] * (len(bodies) + 2)


@BODIES
@pytest.mark.parametrize("te", [b"", b"TE: gzip", b"TE: trailers-not"])
def test_trailers_nobody_asked_for(bodies: list[Message], te: bytes) -> None:
    """The application need not know; the response is whole without them."""
    parts = [trailers((b"x-sum", b"42"), more=True), trailers((b"x-sum", b"43"))]
    app = Script(start(trailers=True), *bodies, *parts)
    with asking(app, te) as (_, client):
        response = client.response()
        assert response.body == b"body"
        assert response.trailers == []
        assert_next(client)
    assert set(app.raised) == {None}


@BODIES
def test_trailers_after_a_length(bodies: list[Message]) -> None:
    head = start((b"content-length", b"4"), trailers=True)
    app = Script(head, *bodies, trailers((b"x-sum", b"42")))
    with asking(app, TE) as (_, client):
        response = client.response()
        assert response.get(b"content-length") == b"4"
        assert response.body == b"body"
        assert_next(client)
    assert set(app.raised) == {None}


@BODIES
def test_trailers_with_http_1_0(bodies: list[Message]) -> None:
    app = Script(start(trailers=True), *bodies, trailers((b"x-sum", b"42")))
    with asking(app, TE, version=b"1.0") as (_, client):
        response = client.response()
        assert response.get(b"transfer-encoding") is None
        assert response.body == b"body"
        client.assert_closed()
    assert set(app.raised) == {None}


@BODIES
@pytest.mark.parametrize(("method", "status"), [(b"HEAD", 200), (b"GET", 204), (b"GET", 304)])
def test_trailers_without_a_body(bodies: list[Message], method: bytes, status: int) -> None:
    head = start(status=status, trailers=True)
    app = Script(head, *bodies, trailers((b"x-sum", b"42")))
    with asking(app, TE, method=method) as (_, client):
        assert client.response(method).status == status
        assert_next(client)
    assert set(app.raised) == {None}


def test_trailers_in_several_messages() -> None:
    parts = [
        trailers((b"x-a", b"1"), more=True),
        trailers(more=True),
        trailers((b"x-b", b"2"), (b"x-a", b"3"), more=True),
        trailers(),
    ]
    app = Script(start(trailers=True), body(b"body"), *parts)
    with asking(app, TE) as (_, client):
        response = client.response()
        assert response.trailers == [(b"x-a", b"1"), (b"x-b", b"2"), (b"x-a", b"3")]
        assert_next(client)


FORBIDDEN = [
    b"Content-Length",
    b"transfer-encoding",
    b"Connection",
    b"keep-alive",
    b"trailer",
    b"TE",
    b"upgrade",
    b"Host",
    b"content-type",
    b"Content-Encoding",
    b"content-range",
    b"Set-Cookie",
    b"www-authenticate",
]


@pytest.mark.parametrize(
    "bad",
    [
        *((name, b"1") for name in FORBIDDEN),
        (b"x-sum", b"1\r\nx-injected: 1"),
        (b"x-sum", b"1\nx-injected: 1"),
        (b"x-sum", b"1\0"),
        (b"x sum", b"1"),
        (b"x-sum\r\n", b"1"),
        (b"", b"1"),
        ("x-sum", b"1"),
        (b"x-sum", "1"),
        (b"x-sum",),
        None,
    ],
    ids=repr,
)
def test_trailers_that_can_not_be_sent(bad: Any) -> None:
    """The application is told, and nothing of the message is sent."""
    app = Script(
        start(trailers=True),
        body(b"body"),
        trailers((b"x-before", b"1"), bad),
        trailers((b"x-good", b"1")),
    )
    with asking(app, TE) as (_, client):
        response = client.response()
        assert response.body == b"body"
        assert response.trailers == [(b"x-good", b"1")]
        assert_next(client)
    assert app.raised == [None, None, ASGIProtocolError, None]


def test_trailers_out_of_turn() -> None:
    good = trailers((b"x-sum", b"42"))
    app = Script(good, start(trailers=True), good, body(b"bo", more=True), good, body(b"dy"), good)
    app._messages += (good, body(b"more"), start())
    with asking(app, TE) as (_, client):
        response = client.response()
        assert response.body == b"body"
        assert response.trailers == [(b"x-sum", b"42")]
        assert_next(client)
    wrong = ASGIProtocolError
    assert app.raised == [wrong, None, wrong, None, wrong, None, None, wrong, wrong, wrong]


def test_trailers_that_were_not_announced() -> None:
    app = Script(start(), body(b"body"), trailers((b"x-sum", b"42")))
    with asking(app, TE) as (_, client):
        response = client.response()
        assert response.body == b"body"
        assert response.trailers == []
        assert_next(client)
    assert app.raised == [None, None, ASGIProtocolError]


def test_trailers_that_never_come() -> None:
    app = Script(start(trailers=True), body(b"body"))
    with asking(app, TE) as (server, client):
        assert_broken(client)
    assert ["without completing" in text for text in server.records.messages] == [True]


def test_the_next_request_waits_for_the_trailers() -> None:
    gate, paths = Gate(), []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        paths.append(scope["path"])
        await send(start(trailers=True))
        await send(body(b"body"))
        if scope["path"] == "/":
            await gate.wait()
        await send(trailers((b"x-path", scope["path"].encode())))

    with asking(app, TE) as (_, client):
        client.send(request(b"GET", b"/second", TE))
        client.read_until(b"body\r\n0\r\n")
        gate.wait_reached()
        assert paths == ["/"]
        gate.open()
        assert client.read_until(b"\r\n\r\n") == b"x-path: /\r\n\r\n"
        assert client.response().trailers == [(b"x-path", b"/second")]


# --- http.response.early_hint

LINKS = (b"</style.css>; rel=preload; as=style", b"</app.js>; rel=preload; as=script")


@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
def test_early_hints(method: bytes) -> None:
    """Before the start or after it, as long as the head has not been sent."""
    app = Script(hint(*LINKS), hint(), start(), hint(b"</late>"), body(b"body"))
    with asking(app, method=method) as (_, client):
        for links in (LINKS, (), (b"</late>",)):
            interim = client.head()
            assert interim.status == 103
            assert interim.fields == [(b"link", link) for link in links]
        assert client.response(method).status == 200
        assert_next(client)
    assert set(app.raised) == {None}


def test_an_early_hint_leaves_at_once() -> None:
    gate = Gate()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(hint(*LINKS))
        await gate.wait()
        await respond(send, b"body")

    with asking(app) as (_, client):
        assert client.head().status == 103
        gate.open()
        assert client.response().body == b"body"


def test_no_early_hints_with_http_1_0() -> None:
    app = Script(hint(*LINKS), start(), hint(*LINKS), body(b"body"))
    with asking(app, version=b"1.0") as (_, client):
        assert client.response().body == b"body"
    assert set(app.raised) == {None}


def test_early_hints_that_are_too_late() -> None:
    late = hint(*LINKS)
    app = Script(start(), body(b"bo", more=True), late, body(b"dy"), late)
    with asking(app) as (_, client):
        assert client.response().body == b"body"
        assert_next(client)
    assert app.raised == [None, None, ASGIProtocolError, None, ASGIProtocolError]


@pytest.mark.parametrize(
    "links",
    [
        [b"</a>\r\nx-injected: 1"],
        [b"</a>\n"],
        [b"</a>\r"],
        [b"</a>\0"],
        ["</a>"],
        [None],
        b"</a>",
        "</a>",
        5,
        None,
    ],
    ids=repr,
)
def test_links_that_can_not_be_sent(links: Any) -> None:
    app = Script(hint(b"</good>") | {"links": links}, start(), body(b"body"))
    with asking(app) as (_, client):
        assert client.response().body == b"body"
        assert_next(client)
    assert app.raised == [ASGIProtocolError, None, None]


def test_early_hints_wait_for_the_client() -> None:
    """However many there are, they don't pile up in memory."""
    sent = 0
    many = 200_000

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal sent
        for _ in range(many):
            await send(hint(b"x" * 400))
            sent += 1

    with asking(app, client={"receive_buffer": 4096}) as (server, client):
        wait_until(lambda: sent, "something was sent")
        before = 0
        while before != sent:  # until it stands still
            before = sent
            time.sleep(0.1)
        assert sent < many
        client.reset()
        server.wait_for_connections(0)


# --- http.response.pathsend


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A small file."""
    path = tmp_path / "small"
    path.write_bytes(b"0123456789")
    return path


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that no buffer holds."""
    path = tmp_path_factory.mktemp("large") / "file"
    path.write_bytes(pattern(0, LARGE))
    return path


@pytest.fixture(autouse=True)
def no_file_left_open(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[None]:
    yield
    assert not [kind for kind in open_descriptors().values() if str(tmp_path) in kind]


@pytest.mark.parametrize("headers", [(), ((b"content-length", b"10"),)], ids=["", "length"])
@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
def test_pathsend(file: Path, headers: Any, version: bytes) -> None:
    app = Script(start(*headers), path_send(str(file)))
    keep = b"Connection: keep-alive"
    with asking(app, keep, version=version) as (_, client):
        response = client.response()
        assert response.get(b"content-length") == b"10"
        assert response.body == b"0123456789"
        assert_next(client)
    assert set(app.raised) == {None}


def test_pathsend_among_pipelined_requests(file: Path) -> None:
    app = Script(start(), path_send(str(file)))
    with asking(app) as (_, client):
        client.send(b"".join(request(b"GET", target) for target in (b"/next", b"/", b"/next")))
        found = [client.response().body for _ in range(4)]
    assert found == [b"0123456789", b"next", b"0123456789", b"next"]


def test_pathsend_of_an_empty_file(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    app = Script(start(), path_send(str(tmp_path / "empty")))
    with asking(app) as (_, client):
        response = client.response()
        assert response.get(b"content-length") == b"0"
        assert_next(client)


@pytest.mark.parametrize(
    ("method", "status", "length"),
    [(b"HEAD", 200, b"10"), (b"GET", 204, None), (b"GET", 304, None)],
)
def test_pathsend_without_a_body(
    file: Path, method: bytes, status: int, length: bytes | None
) -> None:
    app = Script(start(status=status), path_send(str(file)))
    with asking(app, method=method) as (_, client):
        response = client.response(method)
        assert response.status == status
        assert response.get(b"content-length") == length
        assert_next(client)
    assert set(app.raised) == {None}


def test_pathsend_after_a_piece_and_before_trailers(file: Path) -> None:
    app = Script(
        start(trailers=True), body(b"<", more=True), path_send(str(file)), trailers((b"x-a", b"1"))
    )
    with asking(app, TE) as (_, client):
        response = client.response()
        assert response.body == b"<0123456789"
        assert response.trailers == [(b"x-a", b"1")]
        assert_next(client)
    assert set(app.raised) == {None}


def test_pathsend_out_of_turn(file: Path) -> None:
    good = path_send(str(file))
    app = Script(good, start(), good, good, body(b"x"))
    with asking(app) as (_, client):
        assert client.response().body == b"0123456789"
        assert_next(client)
    wrong = ASGIProtocolError
    assert app.raised == [wrong, None, None, wrong, wrong]


def no_regular_file(directory: Path, kind: str) -> Any:
    """Something that can't be sent, by its name."""
    (directory / "file").write_bytes(b"x")
    os.mkfifo(directory / "fifo")
    kinds: dict[str, Any] = {
        "relative": "file",
        "empty": "",
        "bytes": os.fsencode(directory / "file"),
        "Path": directory / "file",
        "None": None,
        "directory": str(directory),
        "fifo": str(directory / "fifo"),
        "device": "/dev/null",
        "NUL": str(directory / "file") + "\0",
    }
    return kinds.get(kind, str(directory / kind))


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("relative", ASGIProtocolError),
        ("empty", ASGIProtocolError),
        ("bytes", ASGIProtocolError),
        ("Path", ASGIProtocolError),
        ("None", ASGIProtocolError),
        ("directory", ASGIProtocolError),
        ("fifo", ASGIProtocolError),
        ("device", ASGIProtocolError),
        ("NUL", ValueError),
        ("missing", FileNotFoundError),
        ("file/under/a/file", NotADirectoryError),
    ],
)
def test_pathsend_of_what_can_not_be_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, expected: type[Exception]
) -> None:
    """The application is told, and its client gets an error if it makes nothing of it."""
    monkeypatch.chdir(tmp_path)
    path = no_regular_file(tmp_path, kind)
    with asking(failing(start(), path_send(path))) as (server, client):
        response = client.response()
        assert (response.status, response.closes) == (500, True)
        assert str(tmp_path).encode() not in response.body
    assert expected.__name__ in server.records.messages[0]
    app = Script(start(), path_send(path), body(b"instead"))
    with asking(app) as (_, client):
        assert client.response().body == b"instead"
        assert_next(client)
    assert app.raised == [None, expected, None]


def test_pathsend_with_a_length_that_is_too_short(file: Path) -> None:
    with asking(failing(start((b"content-length", b"9")), path_send(str(file)))) as (
        server,
        client,
    ):
        assert client.response().status == 500
    assert "longer than its Content-Length" in server.records.messages[0]


def test_pathsend_with_a_length_that_is_too_long(file: Path) -> None:
    with asking(failing(start((b"content-length", b"11")), path_send(str(file)))) as (
        server,
        client,
    ):
        assert client.head().status == 200
        assert client.read_to_end() == b"0123456789"
    assert "shorter than its Content-Length" in server.records.messages[0]


def test_a_slow_reader_does_not_keep_others_waiting(large: Path) -> None:
    app = Script(start(), path_send(str(large)))
    with asking(app, client={"receive_buffer": 65536}) as (server, client):
        assert client.head().status == 200
        with server.connect() as other:
            for _ in range(20):
                assert_next(other)
        assert not app.done.is_set()
        client.buffer = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % LARGE + client.buffer
        assert client.response().body == pattern(0, LARGE)
        assert_next(client)


def test_a_fast_reader_does_not_keep_others_waiting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that takes all at once: there is never a reason to wait for it."""
    turns, parts = 0, []
    path = tmp_path / "sparse"
    with path.open("wb") as sparse:
        sparse.truncate(64 << 20)

    def send_all(out: int, file: int, offset: int, count: int) -> int:
        parts.append(count)
        return count

    async def app(scope: Any, receive: Any, send: Any) -> None:
        async def take_turns() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        others = asyncio.ensure_future(take_turns())
        await send(start())
        await send(path_send(str(path)))
        others.cancel()

    monkeypatch.setattr(os, "sendfile", send_all)
    with asking(app) as (server, client):
        assert client.head().status == 200
        server.wait_until_idle()
        client.reset()
    assert sum(parts) == 64 << 20
    assert len(parts) > 8
    assert turns >= len(parts) - 1


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_sendfile(
    large: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(*args: Any) -> int:
        raise OSError(number, "not on this file system")

    monkeypatch.setattr(os, "sendfile", refuse)
    app = Script(start(), path_send(str(large)))
    with asking(app) as (_, client):
        assert client.response().body == pattern(0, LARGE)
        assert_next(client)


def test_pathsend_when_reading_fails(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any) -> int:
        raise OSError(errno.EIO, "the disk is broken")

    monkeypatch.setattr(os, "sendfile", fail)
    app = Script(start(), path_send(str(file)), body(b"instead"))
    with asking(app) as (server, client):
        assert_broken(client)
    assert app.raised[:2] == [None, OSError]
    assert app.raised[2] is not None
    assert "broken off: [Errno 5] the disk is broken" in server.records.messages[0]


@pytest.mark.parametrize("how", ["reset", "close"])
def test_a_client_that_vanishes(large: Path, how: str) -> None:
    app = Script(start(), path_send(str(large)), body(b"more"))
    with asking(app, client={"receive_buffer": 65536}) as (server, client):
        assert client.head().status == 200
        getattr(client, how)()
        assert app.raised[1:] == [ClientDisconnected] * 2
        server.wait_for_connections(0)
    assert server.records.messages == []


@contextlib.contextmanager
def in_the_middle(app: Any, **options: Any) -> Iterator[tuple[Served, RawClient]]:
    """A client that has read the head of a response and a little of its body."""
    client_options = {"receive_buffer": 65536}
    with asking(app, client=client_options, **options) as (server, client):
        assert client.head().status == 200
        client.buffer += client.sock.recv(1000)
        yield server, client


@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
@pytest.mark.parametrize("swallow", [True, False])
@pytest.mark.parametrize("kind", ["pathsend", "zerocopysend"])
def test_a_file_that_shrinks(tmp_path: Path, version: bytes, swallow: bool, kind: str) -> None:
    """The client must see that the response is not whole, whatever the application does."""
    path = tmp_path / "file"
    path.write_bytes(pattern(0, LARGE))
    with path.open("rb") as opened:
        if kind == "pathsend":
            message = path_send(str(path))
        else:
            message = zero_copy(opened, more_body=True)
        script = Script(start(), message, body(b"more"))
        app = script if swallow else failing(start(), message)
        with in_the_middle(app, version=version) as (server, client):
            os.truncate(path, LARGE - 5_000_000)
            if kind == "zerocopysend" and version == b"1.0":
                # There is neither a length nor chunks: a clean end would look like the body's.
                with pytest.raises(ConnectionResetError):
                    client.read_to_end()
            else:
                received = client.read_to_end()
                assert len(received) < LARGE
                assert not received.endswith(b"0\r\n\r\n")
            server.wait_for_connections(0)
        errors = [text for text in server.records.messages if "broken off" in text]
        assert errors == ["the response is broken off: the file ended 5000000 octets early"]
        if swallow:
            assert script.raised[:2] == [None, OSError]
            assert script.raised[2] is not None


def test_a_file_that_grows(tmp_path: Path) -> None:
    """What was promised is sent, and no octet more."""
    path = tmp_path / "file"
    path.write_bytes(pattern(0, LARGE))
    with in_the_middle(Script(start(), path_send(str(path)))) as (_, client):
        with path.open("ab") as growing:
            growing.write(b"more")
        assert client.read_exactly(LARGE) == pattern(0, LARGE)
        assert_next(client)


def test_sending_a_file_is_cancelled(large: Path) -> None:
    gate, outcomes = Gate(), Notes()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(start())
        sending = asyncio.ensure_future(send(path_send(str(large))))
        await gate.wait()
        sending.cancel()
        outcomes(await asyncio.wait([sending]))
        try:
            await send(body(b"instead"))
        except (ASGIProtocolError, OSError) as exc:
            outcomes(exc)

    with in_the_middle(app) as (server, client):
        gate.open()
        outcomes.wait(2)
        assert len(client.read_to_end()) < LARGE
        server.wait_for_connections(0)


def test_nothing_gets_into_the_middle_of_a_file(large: Path) -> None:
    """A second task of the application sends while the first one's file is on its way."""
    gate, outcomes = Gate(), Notes()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(start(trailers=True))
        with large.open("rb") as file:
            sending = asyncio.ensure_future(send(zero_copy(file, more_body=True)))
            await gate.wait()
            others = [
                body(b"between", more=True),
                trailers((b"x-a", b"1")),
                path_send(str(large)),
                zero_copy(file, more_body=True),
            ]
            for message in others:
                try:
                    await send(message)
                except ASGIProtocolError as exc:
                    outcomes(exc)
            await sending
        await send(body(b"end"))
        await send(trailers())

    with in_the_middle(app) as (_, client):
        gate.open()
        assert len(outcomes.wait(4)) == 4
        client.buffer = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + client.buffer
        assert client.response().body == pattern(0, LARGE) + b"end"


# --- http.response.zerocopysend


@contextlib.contextmanager
def opened(path: Path, position: int = 0) -> Iterator[io.FileIO]:
    """A file, at a position."""
    with path.open("rb", buffering=0) as file:
        file.seek(position)
        yield file


@pytest.mark.parametrize(
    ("options", "expected", "after"),
    [
        ({}, b"3456789", 10),
        ({"count": 4}, b"3456", 7),
        ({"count": 0}, b"", 3),
        ({"offset": 0}, b"0123456789", 3),
        ({"offset": 8}, b"89", 3),
        ({"offset": 1, "count": 2}, b"12", 3),
        ({"offset": 10}, b"", 3),
        ({"offset": 11}, b"", 3),
        ({"offset": None, "count": None}, b"3456789", 10),
    ],
    ids=repr,
)
@pytest.mark.parametrize("more", [True, False])
def test_zerocopysend(
    file: Path, options: dict[str, Any], expected: bytes, after: int, more: bool
) -> None:
    with opened(file, 3) as source:
        messages = [zero_copy(source, **options, more_body=more)]
        if more:
            messages.append(body())
        app = Script(start(), *messages)
        with asking(app) as (_, client):
            response = client.response()
            assert response.body == expected
            assert (response.get(b"content-length") is None) is more
            assert_next(client)
        assert set(app.raised) == {None}
        assert source.tell() == after
        assert not source.closed


def test_more_body_is_off_unless_said(file: Path) -> None:
    with opened(file) as source:
        app = Script(start(), zero_copy(source), body(b"more"))
        with asking(app) as (_, client):
            assert client.response().body == b"0123456789"
            assert_next(client)
        assert app.raised == [None, None, ASGIProtocolError]


@pytest.mark.parametrize("headers", [(), ((b"content-length", b"19"),)], ids=["chunked", "length"])
def test_zerocopysend_among_pieces(file: Path, headers: Any) -> None:
    with opened(file) as source:
        app = Script(
            start(*headers),
            body(b"<", more=True),
            zero_copy(source, count=5, more_body=True),
            body(b"|", more=True),
            zero_copy(source, count=0, more_body=True),
            zero_copy(source, more_body=True),
            zero_copy(source, more_body=True),
            zero_copy(source, offset=2, count=6, more_body=True),
            body(b">"),
        )
        with asking(app) as (_, client):
            assert client.response().body == b"<01234|56789234567>"
            assert_next(client)
        assert set(app.raised) == {None}


def test_zerocopysend_of_a_large_file_in_parts(large: Path) -> None:
    size = 7_000_001

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(start())
        with opened(large) as source:
            for offset in range(0, LARGE, size):
                count = min(size, LARGE - offset)
                more = offset + count < LARGE
                await send(zero_copy(source, offset=offset, count=count, more_body=more))

    with asking(app) as (_, client):
        assert client.response().body == pattern(0, LARGE)


@pytest.mark.parametrize(("method", "status"), [(b"HEAD", 200), (b"GET", 304)])
def test_zerocopysend_without_a_body(file: Path, method: bytes, status: int) -> None:
    with opened(file) as source:
        app = Script(start(status=status), zero_copy(source, more_body=True), body(b"more"))
        with asking(app, method=method) as (_, client):
            assert client.response(method).status == status
            assert_next(client)
        assert source.tell() == 10
        assert set(app.raised) == {None}


def test_zerocopysend_beyond_the_length(file: Path) -> None:
    """The piece that would be too much is refused as a whole."""
    with opened(file) as source:
        app = Script(
            start((b"content-length", b"12")),
            zero_copy(source, more_body=True),
            zero_copy(source, offset=0, count=3, more_body=True),
            zero_copy(source, offset=0, count=2),
        )
        with asking(app) as (_, client):
            assert client.response().body == b"012345678901"
            assert_next(client)
        assert app.raised == [None, None, ASGIProtocolError, None]


@pytest.mark.parametrize("more", [True, False])
@pytest.mark.parametrize("swallow", [True, False])
def test_a_file_that_ends_early(file: Path, more: bool, swallow: bool) -> None:
    with opened(file) as source:
        message = zero_copy(source, count=20, more_body=more)
        script = Script(start(), message, body(b"more"))
        app = script if swallow else failing(start(), message)
        with asking(app) as (server, client):
            assert_broken(client)
            server.wait_for_connections(0)
        assert server.records.messages[0].endswith("the file ended 10 octets early")
        if swallow:
            assert script.raised[:2] == [None, OSError]
            assert script.raised[2] is not None


@contextlib.contextmanager
def no_file(directory: Path, kind: str) -> Iterator[dict[str, Any]]:
    """Options for zerocopysend that make no sense."""
    path = directory / "file"
    path.write_bytes(b"0123456789")
    with contextlib.ExitStack() as stack:
        source = stack.enter_context(path.open("rb"))
        shut = path.open("rb")
        shut.close()
        reader, writer = os.pipe()
        stack.callback(os.close, writer)
        pipe = stack.enter_context(open(reader, "rb"))
        yield {
            "nothing": {},
            "None": {"file": None},
            "number": {"file": source.fileno()},
            "bytes": {"file": b"0123456789"},
            "memory": {"file": io.BytesIO(b"0123456789")},
            "closed": {"file": shut},
            "pipe": {"file": pipe},
            "negative-offset": {"file": source, "offset": -1},
            "negative-count": {"file": source, "count": -1},
            "text-offset": {"file": source, "offset": "0"},
            "float-count": {"file": source, "count": 1.0},
        }[kind]


@pytest.mark.parametrize(
    "kind",
    [
        "nothing",
        "None",
        "number",
        "bytes",
        "memory",
        "closed",
        "pipe",
        "negative-offset",
        "negative-count",
        "text-offset",
        "float-count",
    ],
)
def test_zerocopysend_of_what_can_not_be_sent(tmp_path: Path, kind: str) -> None:
    """The application is told before anything was sent."""
    with no_file(tmp_path, kind) as options:
        message = {"type": "http.response.zerocopysend", **options}
        app = Script(start(), message, body(b"instead"))
        with asking(app) as (_, client):
            assert client.response().body == b"instead"
            assert_next(client)
        expected = OSError if kind == "pipe" else ASGIProtocolError
        assert app.raised == [None, expected, None]


def test_zerocopysend_out_of_turn(file: Path) -> None:
    with opened(file) as source:
        good = zero_copy(source, offset=0)
        app = Script(good, start(), good, good)
        with asking(app) as (_, client):
            assert client.response().body == b"0123456789"
            assert_next(client)
        wrong = ASGIProtocolError
        assert app.raised == [wrong, None, None, wrong]
