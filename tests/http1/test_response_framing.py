"""The response writer: framing in every combination, and the length that was promised."""

from __future__ import annotations

from typing import Any

import pytest

from subinterp_asgi.errors import ASGIProtocolError
from subinterp_asgi.http1 import ResponseWriter

from .rendering import BARE, LENGTH_5, OK, render

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
