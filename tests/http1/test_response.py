"""The response writer: framing in every combination, fields, and what applications may not send."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from http import HTTPStatus
from typing import Any

import pytest

from subinterp_asgi.errors import ASGIProtocolError
from subinterp_asgi.http1 import (
    DefaultFields,
    ResponseWriter,
    response,
    response_head,
    simple_response,
)

BARE = DefaultFields(server=False, date=False)


def render(
    status: int = 200,
    fields: Iterable[tuple[bytes, bytes]] = (),
    body: list[bytes] | bytes = b"",
    **options: Any,
) -> tuple[bytes, ResponseWriter]:
    """Write a response of one or several pieces, without Date and Server."""
    writer = ResponseWriter(BARE, **options)
    writer.start(status, fields)
    pieces = body if isinstance(body, list) else [body]
    output = b"".join(
        writer.send(piece, more=number < len(pieces)) for number, piece in enumerate(pieces, 1)
    )
    return output, writer


OK = b"HTTP/1.1 200 OK\r\n"
LENGTH_5 = (b"Content-Length", b"5")

# --- framing

FRAMING: dict[str, tuple[tuple[Any, ...], dict[str, Any], bytes, bool]] = {
    # name: (status, fields, body), options of the writer, output, keep alive
    "whole": ((200, [], b"hello"), {}, OK + b"content-length: 5\r\n\r\nhello", True),
    "whole, empty": ((200, [], b""), {}, OK + b"content-length: 0\r\n\r\n", True),
    "whole, length given": (
        (200, [LENGTH_5], b"hello"),
        {},
        OK + b"Content-Length: 5\r\n\r\nhello",
        True,
    ),
    "streamed": (
        (200, [], [b"hello", b"", b"w", b""]),
        {},
        OK + b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n1\r\nw\r\n0\r\n\r\n",
        True,
    ),
    "streamed, the last piece is not empty": (
        (200, [], [b"hello", b"w"]),
        {},
        OK + b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n1\r\nw\r\n0\r\n\r\n",
        True,
    ),
    "streamed, nothing in it": (
        (200, [], [b"", b""]),
        {},
        OK + b"transfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        True,
    ),
    "streamed, chunk size in hexadecimal": (
        (200, [], [b"x" * 26, b""]),
        {},
        OK + b"transfer-encoding: chunked\r\n\r\n1a\r\n" + b"x" * 26 + b"\r\n0\r\n\r\n",
        True,
    ),
    "streamed, length given": (
        (200, [LENGTH_5], [b"he", b"llo", b""]),
        {},
        OK + b"Content-Length: 5\r\n\r\nhello",
        True,
    ),
    "client wants to close": (
        (200, [], b"hello"),
        {"keep_alive": False},
        OK + b"content-length: 5\r\nconnection: close\r\n\r\nhello",
        False,
    ),
    "streamed, client wants to close": (
        (200, [], [b"a", b""]),
        {"keep_alive": False},
        OK + b"transfer-encoding: chunked\r\nconnection: close\r\n\r\n1\r\na\r\n0\r\n\r\n",
        False,
    ),
    # HTTP/1.0
    "1.0, whole": (
        (200, [], b"hello"),
        {"http10": True, "keep_alive": False},
        OK + b"content-length: 5\r\nconnection: close\r\n\r\nhello",
        False,
    ),
    "1.0, whole, kept alive": (
        (200, [], b"hello"),
        {"http10": True},
        OK + b"content-length: 5\r\nconnection: keep-alive\r\n\r\nhello",
        True,
    ),
    "1.0, streamed": (
        (200, [], [b"he", b"llo", b""]),
        {"http10": True},
        OK + b"connection: close\r\n\r\nhello",
        False,
    ),
    "1.0, streamed, length given": (
        (200, [LENGTH_5], [b"he", b"llo", b""]),
        {"http10": True},
        OK + b"Content-Length: 5\r\nconnection: keep-alive\r\n\r\nhello",
        True,
    ),
    # RFC 9110 section 9.3.2: HEAD
    "HEAD, whole": (
        (200, [], b"hello"),
        {"head_request": True},
        OK + b"content-length: 5\r\n\r\n",
        True,
    ),
    "HEAD, no body, whose length is not known": (
        (200, [], b""),
        {"head_request": True},
        OK + b"\r\n",
        True,
    ),
    "HEAD, length given": (
        (200, [LENGTH_5], b""),
        {"head_request": True},
        OK + b"Content-Length: 5\r\n\r\n",
        True,
    ),
    "HEAD, streamed": (
        (200, [], [b"hello", b""]),
        {"head_request": True},
        OK + b"\r\n",
        True,
    ),
    "HEAD, 1.0, streamed": (
        (200, [], [b"hello", b""]),
        {"head_request": True, "http10": True},
        OK + b"connection: keep-alive\r\n\r\n",
        True,
    ),
    "HEAD, longer than its length": (
        (200, [LENGTH_5], b"hello world"),
        {"head_request": True},
        OK + b"Content-Length: 5\r\n\r\n",
        True,
    ),
    # RFC 9110 sections 15.3.5 and 8.6
    "204": ((204, [], b""), {}, b"HTTP/1.1 204 No Content\r\n\r\n", True),
    "204, whatever the application sends": (
        (204, [LENGTH_5], [b"hello", b"x"]),
        {},
        b"HTTP/1.1 204 No Content\r\n\r\n",
        True,
    ),
    "204, 1.0": (
        (204, [], [b"", b""]),
        {"http10": True},
        b"HTTP/1.1 204 No Content\r\nconnection: keep-alive\r\n\r\n",
        True,
    ),
    # section 15.3.6
    "205": (
        (205, [], b"hello"),
        {},
        b"HTTP/1.1 205 Reset Content\r\ncontent-length: 0\r\n\r\n",
        True,
    ),
    "205, length given": (
        (205, [LENGTH_5], [b"he", b"llo"]),
        {},
        b"HTTP/1.1 205 Reset Content\r\ncontent-length: 0\r\n\r\n",
        True,
    ),
    # section 15.4.5
    "304": ((304, [], b"hello"), {}, b"HTTP/1.1 304 Not Modified\r\n\r\n", True),
    "304, length of what was not modified": (
        (304, [LENGTH_5], b""),
        {},
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
        True,
    ),
    "304, streamed": ((304, [], [b"a", b""]), {}, b"HTTP/1.1 304 Not Modified\r\n\r\n", True),
}


@pytest.mark.parametrize(("sent", "options", "output", "alive"), FRAMING.values(), ids=FRAMING)
def test_framing(
    sent: tuple[Any, ...], options: dict[str, Any], output: bytes, alive: bool
) -> None:
    """RFC 9112 section 6."""
    rendered, writer = render(*sent, **options)
    assert rendered == output
    assert writer.keep_alive is alive
    assert writer.complete
    assert not writer.truncated


def test_each_piece_leaves_when_it_is_sent() -> None:
    """An event stream must not wait for its next event."""
    writer = ResponseWriter(BARE)
    writer.start(200, [])
    assert not writer.head_sent
    assert writer.send(b"a", more=True).endswith(b"\r\n\r\n1\r\na\r\n")
    assert writer.head_sent
    assert writer.send(b"", more=True) == b""
    assert writer.send(b"bc", more=True) == b"2\r\nbc\r\n"
    assert not writer.complete
    assert writer.send(b"", more=False) == b"0\r\n\r\n"
    assert writer.complete


def test_close_delimited() -> None:
    """Where a broken response would look complete to the client, if the connection just ended."""
    for options, fields, expected in (
        ({"http10": True}, [], True),
        ({"http10": True}, [LENGTH_5], False),
        ({"http10": True, "head_request": True}, [], False),
        ({}, [], False),
    ):
        writer = ResponseWriter(BARE, **options)
        writer.start(200, fields)
        assert not writer.close_delimited
        writer.send(b"x", more=True)
        assert writer.close_delimited is expected


# --- the length that was promised


@pytest.mark.parametrize("pieces", [[b"hello!"], [b"hell", b"o!"], [b"hello", b"!", b""]])
def test_more_than_promised(pieces: list[bytes]) -> None:
    writer = ResponseWriter(BARE)
    writer.start(200, [LENGTH_5])
    *before, last = [piece for piece in pieces if piece]
    output = b"".join(writer.send(piece, more=True) for piece in before)
    with pytest.raises(ASGIProtocolError, match="longer than its Content-Length"):
        writer.send(last, more=True)
    assert writer.head_sent is bool(before)
    assert output.partition(b"\r\n\r\n")[2] in (b"", b"hell", b"hello")


@pytest.mark.parametrize("body", [b"", b"hell", [b"he", b"l"], [b"hell", b""]])
def test_less_than_promised(body: list[bytes] | bytes) -> None:
    _, writer = render(200, [LENGTH_5], body)
    assert writer.truncated
    assert writer.complete
    assert not writer.keep_alive


@pytest.mark.parametrize(
    "value", [b"", b"-1", b"+1", b"1.0", b"0x1", b"1 ", b" 1", b"1_0", b"five", b"\xb2", b"5, 5"]
)
def test_length_that_is_no_number(value: bytes) -> None:
    with pytest.raises(ASGIProtocolError):
        render(200, [(b"content-length", value)])


def test_repeated_length() -> None:
    """RFC 9110 section 8.6: never more than one."""
    output, _ = render(200, [LENGTH_5, (b"content-length", b"5")], b"hello")
    assert output == OK + b"Content-Length: 5\r\n\r\nhello"
    with pytest.raises(ASGIProtocolError, match="two values"):
        render(200, [LENGTH_5, (b"content-length", b"6")])


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
