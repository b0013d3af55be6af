"""``http.response.pathsend``: whole files by their path."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from subinterp_asgi.errors import ASGIProtocolError

from ...apps.tls import pattern
from ...rawclient import RawClient, request
from ...serving import Gate, Notes, Served
from .scripts import (
    LARGE,
    TE,
    Message,
    Script,
    asking,
    assert_broken,
    assert_next,
    body,
    failing,
    start,
    trailers,
    zero_copy,
)


def path_send(path: Any) -> Message:
    return {"type": "http.response.pathsend", "path": path}


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
        server.wait_for_connections(0)
        server.wait_until_idle()
        assert app.raised == [None] * 3
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
            client.close()
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
        client.close()
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
