"""``http.response.zerocopysend``: open files, or parts of them."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from subinterp_asgi.errors import ASGIProtocolError

from ...apps.tls import pattern
from .scripts import (
    LARGE,
    Script,
    asking,
    assert_broken,
    assert_next,
    body,
    failing,
    opened,
    start,
    zero_copy,
)


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
            client.close()
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
