"""Fields of a response that are the server's: Connection, Transfer-Encoding, Date, Server."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from subinterp_asgi.http1 import DefaultFields, ResponseWriter, response

from .rendering import LENGTH_5, OK, render

# --- fields that are the server's


@pytest.mark.parametrize("value", [b"chunked", b"gzip, chunked", b"identity", b""])
def test_transfer_encoding_of_the_application_is_dropped(value: bytes) -> None:
    """RFC 9112 section 6.1: transfer codings are between the server and its client."""
    fields = [(b"Transfer-Encoding", value)]
    assert render(200, fields, b"hello")[0] == OK + b"content-length: 5\r\n\r\nhello"
    output, _ = render(200, fields, [b"a", b""])
    assert output == OK + b"transfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n"
    output, _ = render(200, [*fields, LENGTH_5], [b"hello", b""])
    assert output == OK + b"Content-Length: 5\r\n\r\nhello"


@pytest.mark.parametrize(
    ("values", "options", "line", "alive"),
    [
        ([b"close"], {}, b"connection: close\r\n", False),
        ([b"Close"], {}, b"connection: close\r\n", False),
        ([b"keep-alive"], {}, b"", True),
        ([b"keep-alive"], {"keep_alive": False}, b"connection: close\r\n", False),
        ([b"keep-alive, close"], {}, b"connection: close\r\n", False),
        ([b"upgrade"], {}, b"connection: upgrade\r\n", True),
        ([b"upgrade", b"x-a, close"], {}, b"connection: upgrade, x-a, close\r\n", False),
        ([b"keep-alive"], {"http10": True}, b"connection: keep-alive\r\n", True),
        ([b"x"], {"http10": True}, b"connection: x, keep-alive\r\n", True),
        ([b"close"], {"http10": True}, b"connection: close\r\n", False),
        ([b""], {}, b"", True),
    ],
)
def test_connection_of_the_application(
    values: list[bytes], options: dict[str, Any], line: bytes, alive: bool
) -> None:
    """RFC 9110 section 7.6.1: an application may ask for a close, not forbid one."""
    output, writer = render(200, [(b"Connection", v) for v in values], b"", **options)
    assert output == OK + b"content-length: 0\r\n" + line + b"\r\n"
    assert writer.keep_alive is alive


# --- Date and Server


def at(monkeypatch: pytest.MonkeyPatch, when: float) -> Callable[[float], None]:
    def set_time(when: float) -> None:
        monkeypatch.setattr(response.time, "time", lambda: when)

    set_time(when)
    return set_time


def test_date_is_rendered_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """RFC 9110 section 6.6.1."""
    set_time = at(monkeypatch, 784111777.0)
    rendered = []

    def count(second: int) -> bytes:
        rendered.append(second)
        return b"<%d>" % second

    monkeypatch.setattr(response, "http_date", count)
    defaults = DefaultFields(server=False)
    assert defaults.render() == b"date: <784111777>\r\n"
    set_time(784111777.999)
    assert defaults.render() == b"date: <784111777>\r\n"
    assert len(rendered) == 1
    set_time(784111778.0)
    assert defaults.render() == b"date: <784111778>\r\n"
    set_time(784111000.0)  # the clock was set back
    assert defaults.render() == b"date: <784111000>\r\n"


def test_format_of_date(monkeypatch: pytest.MonkeyPatch) -> None:
    """RFC 9110 section 5.6.7: IMF-fixdate, in English, in GMT."""
    monkeypatch.setenv("TZ", "Asia/Kathmandu")
    time.tzset()
    try:
        for second, text in (
            (784111777, b"Sun, 06 Nov 1994 08:49:37 GMT"),
            (0, b"Thu, 01 Jan 1970 00:00:00 GMT"),
            (951782400, b"Tue, 29 Feb 2000 00:00:00 GMT"),
            (4102444799, b"Thu, 31 Dec 2099 23:59:59 GMT"),
        ):
            assert response.http_date(second) == text
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize("server", [True, False])
@pytest.mark.parametrize("date", [True, False])
def test_which_defaults_are_sent(monkeypatch: pytest.MonkeyPatch, server: bool, date: bool) -> None:
    at(monkeypatch, 0)
    server_line = b"server: subinterp-asgi\r\n" if server else b""
    date_line = b"date: Thu, 01 Jan 1970 00:00:00 GMT\r\n" if date else b""
    defaults = DefaultFields(server=server, date=date)
    for fields, expected in (
        ([], server_line + date_line),
        ([(b"Server", b"mine")], b"Server: mine\r\n" + date_line),
        ([(b"DATE", b"now")], b"DATE: now\r\n" + server_line),
        ([(b"date", b"now"), (b"server", b"mine")], b"date: now\r\nserver: mine\r\n"),
    ):
        writer = ResponseWriter(defaults)
        writer.start(200, fields)
        head = writer.send(b"", more=False)
        assert sorted(head.splitlines(keepends=True)) == sorted(
            [OK, b"content-length: 0\r\n", b"\r\n", *expected.splitlines(keepends=True)]
        )
