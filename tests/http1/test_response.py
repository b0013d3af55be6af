"""The response writer: status, fields, and what applications may not send."""

from __future__ import annotations

from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

import pytest

from subinterp_asgi.errors import ASGIProtocolError
from subinterp_asgi.http1 import ResponseWriter, response, response_head, simple_response

from .rendering import BARE, OK, render

# --- status


@pytest.mark.parametrize("status", [s for s in HTTPStatus if s >= 200])
def test_known_status(status: HTTPStatus) -> None:
    for value in (status, status.value):
        output, _ = render(value)
        assert output.startswith(b"HTTP/1.1 %d %s\r\n" % (status, status.phrase.encode()))


def test_status_without_a_phrase() -> None:
    """RFC 9112 section 4: the space after the code is sent even then."""
    assert render(299)[0].startswith(b"HTTP/1.1 299 \r\n")
    assert render(999)[0].startswith(b"HTTP/1.1 999 \r\n")


@pytest.mark.parametrize("status", [0, 99, 100, 101, 103, 199, 1000, -200, True, "200", None, b""])
def test_status_that_is_none(status: Any) -> None:
    writer = ResponseWriter(BARE)
    with pytest.raises(ASGIProtocolError):
        writer.start(status, [])
    assert writer.status == 0


# --- fields


def test_fields_are_sent_as_they_are() -> None:
    fields = [(b"X-B", b"1"), (b"a", b""), (b"x-b", b"\xe9 \t2"), (b"set-cookie", b"a=b")]
    output, _ = render(200, fields, b"")
    assert output == OK + (
        b"X-B: 1\r\na: \r\nx-b: \xe9 \t2\r\nset-cookie: a=b\r\ncontent-length: 0\r\n\r\n"
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"x", b"a\r\nset-cookie: b"),
        (b"x", b"a\nb"),
        (b"x", b"a\rb"),
        (b"x", b"\r\n\r\n<html>"),
        (b"x", b"a\0"),
        (b"x", b"\n"),
        (b"x\r\ny", b"a"),
        (b"x: a\r\ny", b"a"),
        (b"x\n", b"a"),
        (b"x ", b"a"),
        (b"", b"a"),
        (b"x:", b"a"),
        (b"x(y)", b"a"),
        (b"\xe9", b"a"),
        (b"x\0", b"a"),
        # what the server itself looks at
        (b"connection", b"a\r\nset-cookie: b"),
        (b"Connection", b"close\r\n\r\n<html>"),
        (b"connection", b"a\nb"),
        (b"connection", b"a\0"),
        (b"connection", b"a b"),
        (b"content-length", b"5\r\nx: y"),
        (b"date", b"x\r\ny: z"),
        (b"server", b"x\ny"),
    ],
)
def test_no_response_is_split(name: bytes, value: bytes) -> None:
    """RFC 9112 section 11.1."""
    writer = ResponseWriter(BARE)
    with pytest.raises(ASGIProtocolError):
        writer.start(200, [(b"a", b"b"), (name, value)])
    assert writer.status == 0
    assert not writer.head_sent


@pytest.mark.parametrize("name", [b"transfer-encoding", b"keep-alive"])
def test_what_is_dropped_splits_nothing_either(name: bytes) -> None:
    output, _ = render(200, [(name, b"x\r\nset-cookie: b")], b"")
    assert output == OK + b"content-length: 0\r\n\r\n"


@pytest.mark.parametrize(
    "fields",
    [
        [("x", b"a")],
        [(b"x", "a")],
        [("content-length", b"5")],
        [(b"connection", "close")],
        [(b"date", "x")],
        [(b"content-length", 5)],
        [(b"x", None)],
        [(b"x",)],
        [(b"x", b"a", b"b")],
        [b"x"],
        [None],
        5,
        None,
        {"x": "a"},
    ],
    ids=repr,
)
def test_fields_that_are_no_pairs_of_bytes(fields: Any) -> None:
    with pytest.raises(ASGIProtocolError):
        ResponseWriter(BARE).start(200, fields)


def test_fields_may_be_any_iterable() -> None:
    def generate() -> Iterator[list[bytes]]:
        yield [b"x", b"1"]
        yield [b"y", bytearray(b"2")]

    assert render(200, generate())[0] == OK + b"x: 1\r\ny: 2\r\ncontent-length: 0\r\n\r\n"


def test_a_failed_start_can_be_made_good() -> None:
    """So that the server can answer 500 in its place."""
    writer = ResponseWriter(BARE)
    with pytest.raises(ASGIProtocolError):
        writer.start(200, [(b"content-length", b"7"), (b"connection", b"close"), (b"x", b"\n")])
    writer.start(404, [])
    output = writer.send(b"", more=False)
    assert output == b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"


STREAM = (b"Content-Type", b"Text/Event-Stream;charset=utf-8")


@pytest.mark.parametrize(
    ("http10", "fields", "lines"),
    [
        (True, [STREAM], [b"x-accel-buffering: no"]),
        (True, [(b"x", b"1"), STREAM], [b"x-accel-buffering: no"]),
        (True, [STREAM, (b"X-Accel-Buffering", b"yes")], [b"X-Accel-Buffering: yes"]),
        (True, [(b"content-type", b"text/plain")], []),
        (True, [(b"x", b"content-type: text/event-stream")], []),
        (True, [], []),
        (False, [STREAM], []),
    ],
)
def test_streams_of_events_to_http_1_0(http10: bool, fields: Any, lines: list[bytes]) -> None:
    """nginx, which asks in HTTP/1.0 by default, would hold them back."""
    output, _ = render(200, fields, [b"da", b"ta"], http10=http10)
    assert [line for line in output.split(b"\r\n") if b"accel" in line.lower()] == lines


# --- trailers, early hints, the server's own


def test_trailers() -> None:
    """RFC 9112 section 7.1.2."""
    writer = ResponseWriter(BARE, trailers_ok=True)
    writer.start(200, [], trailers=True)
    output = writer.send(b"a", more=False)
    assert output == OK + b"transfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n"
    assert writer.body_complete
    assert not writer.complete
    assert writer.send_trailers([(b"X-A", b"1")], more=True) == b"X-A: 1\r\n"
    assert writer.send_trailers([(b"x-b", b"2")], more=False) == b"x-b: 2\r\n\r\n"
    assert writer.complete


@pytest.mark.parametrize(
    "field",
    [
        (b"content-length", b"5"),
        (b"Transfer-Encoding", b"chunked"),
        (b"connection", b"close"),
        (b"x", b"a\r\nb: c"),
        (b"x", b"\0"),
        (b"x y", b"a"),
        (b"", b"a"),
    ],
)
def test_trailers_that_are_refused(field: tuple[bytes, bytes]) -> None:
    """RFC 9110 section 6.5.1: nothing that frames the message."""
    writer = ResponseWriter(BARE, trailers_ok=True)
    writer.start(200, [], trailers=True)
    writer.send(b"", more=False)
    with pytest.raises(ASGIProtocolError):
        writer.send_trailers([field], more=False)
    assert not writer.complete


@pytest.mark.parametrize("options", [{"http10": True}, {"head_request": True}, {}])
def test_trailers_have_no_place(options: dict[str, Any]) -> None:
    """Without chunked coding there is no trailer section."""
    writer = ResponseWriter(BARE, **options)
    writer.start(200, [], trailers=True)
    writer.send(b"", more=False)
    assert writer.send_trailers([(b"x", b"a")], more=False) == b""
    assert writer.complete


def test_early_hints() -> None:
    """RFC 8297."""
    assert response.render_early_hints([b"</a>; rel=preload", b"</b>"]) == (
        b"HTTP/1.1 103 Early Hints\r\nlink: </a>; rel=preload\r\nlink: </b>\r\n\r\n"
    )
    for links in ([b"a\r\nb: c"], [b"\0"], ["a"], [b"\n"]):
        with pytest.raises(ASGIProtocolError):
            response.render_early_hints(links)  # type: ignore[arg-type]


def test_simple_response() -> None:
    assert simple_response(414, BARE, keep_alive=False) == (
        b"HTTP/1.1 414 %s\r\ncontent-type: text/plain; charset=utf-8\r\n"
        b"content-length: %d\r\nconnection: close\r\n\r\n%s\n"
        % (
            HTTPStatus(414).phrase.encode(),
            len(HTTPStatus(414).phrase) + 1,
            HTTPStatus(414).phrase.encode(),
        )
    )
    assert simple_response(404, BARE, keep_alive=True, head_request=True) == (
        b"HTTP/1.1 404 Not Found\r\ncontent-type: text/plain; charset=utf-8\r\n"
        b"content-length: 10\r\n\r\n"
    )


def test_starts_that_are_remembered_are_bounded_and_never_mixed_up() -> None:
    kept = response_head._starts.copy()
    try:
        for number in (number // 2 for number in range(5000)):
            length = (b"content-length", b"%d" % (number % 3))
            output, _ = render(200, [length, (b"x", b"%d" % number)], b"y" * (number % 3))
            assert b"\r\nx: %d\r\n" % number in output
        large = (b"x", b"y" * 1000)
        for _ in range(2):
            assert b"y" * 1000 in render(200, [large])[0]
        assert (200, (large,)) not in response_head._starts
        assert 0 < len(response_head._starts) <= 512
        assert 0 < len(response_head._starts._seen) <= 2048
        for _ in range(3):
            assert render(404, [(b"x", b"7")])[0].startswith(b"HTTP/1.1 404 ")
            assert render(201, [(b"x", b"7")])[0].startswith(b"HTTP/1.1 201 ")
            with pytest.raises(ASGIProtocolError):
                render(200, [(b"x", b"7\r\n")])
    finally:
        response_head._starts.clear()
        response_head._starts.update(kept)


@pytest.mark.parametrize(
    "fields",
    [
        lambda: iter([(b"x", b"1"), (b"y", b"2")]),
        lambda: iter([[b"x", b"1"], [b"y", b"2"]]),
        lambda: [[b"x", b"1"], (b"y", b"2")],
        lambda: ((b"x", bytearray(b"1")), (b"y", memoryview(b"2"))),
    ],
)
def test_fields_in_every_shape(fields: Any) -> None:
    for _ in range(3):
        assert b"\r\nx: 1\r\ny: 2\r\n" in render(200, fields())[0]


def test_names_made_of_data_are_not_kept_for_ever() -> None:
    kept = response_head._kinds.copy()
    try:
        for number in range(3000):
            render(200, [(b"x-%d" % number, b"1")])
        assert len(response_head._kinds) <= 2048
        # Beyond the bound names are still checked and known.
        with pytest.raises(ASGIProtocolError):
            render(200, [(b"x y", b"1")])
        assert render(200, [(b"CONTENT-length", b"0")])[0] == OK + b"CONTENT-length: 0\r\n\r\n"
    finally:
        response_head._kinds.clear()
        response_head._kinds.update(kept)
