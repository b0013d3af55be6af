"""Request lines, empty lines before them, pipelining, and the states of the parser.

Sections without a number of their own are those of RFC 9112.
"""

from __future__ import annotations

import pytest

from subinterp_asgi.http1 import ProtocolError, RequestParser, State

from .messages import get, octets, parse, parse_one, post, refuse

HOST = b"Host: a\r\n"


# --- request line


def test_a_request_in_full() -> None:
    request = parse_one(
        b"PATCH /a%20b/c?d=%2f&e HTTP/1.1\r\nHost: example.org:8080\r\nX-A:1\r\nx-a: \t2 \t\r\n\r\n"
    ).head
    assert request.method == "PATCH"
    assert request.target == b"/a%20b/c?d=%2f&e"
    assert request.path == "/a b/c"
    assert request.raw_path == b"/a%20b/c"
    assert request.query == b"d=%2f&e"
    assert request.authority is None
    assert request.http_version == "1.1"
    assert request.headers == [(b"host", b"example.org:8080"), (b"x-a", b"1"), (b"x-a", b"2")]
    assert request.keep_alive
    assert not request.expect_continue


@pytest.mark.parametrize("method", ["GET", "get", "M-SEARCH", "!#$%&'*+-.^_`|~09azAZ", "X" * 1000])
def test_any_token_is_a_method(method: str) -> None:
    """RFC 9110 section 9.1: case-sensitive, and extensible."""
    request = parse_one(f"{method} / HTTP/1.1\r\nHost: a\r\n\r\n".encode()).head
    assert request.method == method


BAD_REQUEST_LINES = {
    "3 no version": b"GET /",
    "3 no target": b"GET HTTP/1.1",
    "3 empty target": b"GET  HTTP/1.1",
    "3 two spaces after the method": b"GET  / HTTP/1.1",
    "3 two spaces before the version": b"GET /  HTTP/1.1",
    "3 leading space": b" GET / HTTP/1.1",
    "3 trailing space": b"GET / HTTP/1.1 ",
    "3 tab for a space": b"GET\t/ HTTP/1.1",
    "3 tab before the version": b"GET /\tHTTP/1.1",
    "3 vertical tab for a space": b"GET\x0b/ HTTP/1.1",
    "3 no-break space for a space": b"GET\xa0/ HTTP/1.1",
    "3 a word too many": b"GET / / HTTP/1.1",
    "3 space in the target": b"GET /a b HTTP/1.1",
    "3.1 empty method": b" / HTTP/1.1",
    "3.1 method is no token: colon": b"GE:T / HTTP/1.1",
    "3.1 method is no token: bracket": b"G[T / HTTP/1.1",
    "3.1 method is no token: quote": b'"GET" / HTTP/1.1',
    "3.1 method is no token: NUL": b"G\0T / HTTP/1.1",
    "3.1 method is no token: obs-text": b"G\xc9T / HTTP/1.1",
    "2.3 version in lower case": b"GET / http/1.1",
    "2.3 version of two digits": b"GET / HTTP/1.10",
    "2.3 version without a dot": b"GET / HTTP/11",
    "2.3 version without minor": b"GET / HTTP/1",
    "2.3 version with a space": b"GET / HTTP /1.1",
    "2.3 version with a sign": b"GET / HTTP/+1.1",
    "2.3 version of another protocol": b"GET / ICY/1.1",
    "2.3 version of letters": b"GET / HTTP/x.y",
    "2.3 version with other digits": "GET / HTTP/1.\u0661".encode(),
    "2.2 bare CR in the line": b"GET /\r HTTP/1.1",
    "2.2 bare CR at the end": b"GET / HTTP/1.1\r",
    "3.2 NUL in the target": b"GET /\0 HTTP/1.1",
    "3.2 DEL in the target": b"GET /\x7f HTTP/1.1",
    "3.2 control character in the target": b"GET /\x1b HTTP/1.1",
    "3.2 raw UTF-8 in the target": "GET /é HTTP/1.1".encode(),
    "3.2 raw Latin-1 in the target": b"GET /\xe9 HTTP/1.1",
    "3.2 fragment in the target": b"GET /a#b HTTP/1.1",
    "2.2 empty": b"",
}


@pytest.mark.parametrize("line", BAD_REQUEST_LINES.values(), ids=BAD_REQUEST_LINES)
def test_malformed_request_line(line: bytes) -> None:
    assert refuse(line + b"\r\n" + HOST + b"\r\n").status == 400


@pytest.mark.parametrize("line", [*filter(None, BAD_REQUEST_LINES.values())], ids=repr)
def test_malformed_request_line_is_refused_before_the_head_is_complete(line: bytes) -> None:
    """A client that speaks something else may never send the empty line that is waited for."""
    assert refuse(line + b"\r\nHost").status == 400


@pytest.mark.parametrize(
    ("version", "status"),
    [(b"0.9", 505), (b"2.0", 505), (b"3.0", 505), (b"9.9", 505)],
)
def test_other_major_versions(version: bytes, status: int) -> None:
    """RFC 9110 section 15.6.6."""
    assert refuse(get(b"Host: a", version=version)).status == status


def test_http2_preface() -> None:
    """RFC 9113 section 3.4: chosen so that a server of HTTP/1 refuses it."""
    assert refuse(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").status in (400, 505)


@pytest.mark.parametrize(
    ("version", "answered"), [(b"1.0", "1.0"), (b"1.1", "1.1"), (b"1.2", "1.1"), (b"1.9", "1.1")]
)
def test_minor_versions(version: bytes, answered: str) -> None:
    """RFC 9110 section 2.5: a higher minor version is processed as the highest known."""
    assert parse_one(get(b"Host: a", version=version)).head.http_version == answered


# --- empty lines before the request


@pytest.mark.parametrize("how", [lambda data: [data], octets], ids=["at once", "by octet"])
def test_one_empty_line_is_ignored(how: object) -> None:
    """Section 2.2: SHOULD ignore at least one."""
    outcome = parse(*how(b"\r\n" + get(b"Host: a") + b"\r\n" + get(b"Host: b")))  # type: ignore[operator]
    assert outcome.error is None
    assert [m.head.headers for m in outcome.messages] == [[(b"host", b"a")], [(b"host", b"b")]]


def test_an_empty_line_leaves_the_parser_between_messages() -> None:
    """Old clients end a body with a CRLF too many, which begins no request."""
    parser = RequestParser()
    parser.feed(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi\r\n")
    assert parser.next_request() is not None
    assert parser.read_body() == b"hi"
    assert parser.next_request() is None
    assert not parser.mid_message
    assert parser.buffered == 0


def test_two_empty_lines_are_refused() -> None:
    assert refuse(b"\r\n\r\n" + get(b"Host: a")).status == 400
    assert refuse(b"\r\n", b"\r\n").status == 400
    assert refuse(*octets(b"\r\n\r\n")).status == 400


def test_empty_line_of_a_bare_line_feed() -> None:
    assert refuse(b"\n" + get(b"Host: a")).status == 400


# --- pipelining


def test_pipelined_requests_come_in_order() -> None:
    stream = (
        get(b"Host: 1")
        + b"POST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nG\n\r\n"
        + b"POST /3 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
        + get(b"Host: 4")
    )
    outcome = parse(stream)
    assert outcome.error is None
    assert [m.head.target for m in outcome.messages] == [b"/", b"/2", b"/3", b"/"]
    assert outcome.bodies == [b"", b"G\n\r\n", b"abc", b""]
    assert outcome.messages[3].head.headers == [(b"host", b"4")]


@pytest.mark.parametrize("body", [b"a\nb", b"\n", b"\r\n\r\n", b"x\r"])
def test_a_body_of_line_ends_before_an_incomplete_head(body: bytes) -> None:
    """What a message has taken is no part of the next head, wherever the stream was cut."""
    head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body)
    following = get(b"Host: b")
    for cut in range(len(following)):
        outcome = parse(head + body + following[:cut], following[cut:])
        assert outcome.error is None, (cut, outcome.error)
        assert len(outcome.messages) == 2


def test_the_next_request_waits_for_the_end_of_the_body() -> None:
    parser = RequestParser()
    parser.feed(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nabGET ")
    assert parser.state is State.HEAD
    assert parser.next_request() is not None
    assert parser.state is State.BODY
    with pytest.raises(RuntimeError, match="body"):
        parser.next_request()
    assert (parser.body_complete, parser.body_remaining) == (False, 2)
    assert parser.read_body() == b"ab"
    assert parser.state is State.DONE
    assert (parser.body_complete, parser.body_remaining) == (True, 0)
    assert parser.read_body() == b""
    assert parser.next_request() is None
    assert parser.state is State.HEAD
    assert parser.mid_message


# --- states and the rest


def test_nothing_is_parsed_after_an_error() -> None:
    """Section 2.2 and 9.6: what follows faulty framing must not be taken for a request."""
    parser = RequestParser()
    parser.feed(get() + get(b"Host: a"))
    with pytest.raises(ProtocolError):
        parser.next_request()
    assert parser.state is State.FAILED
    parser.feed(get(b"Host: a"))
    with pytest.raises(RuntimeError, match="failed"):
        parser.next_request()


def test_nothing_is_read_after_an_error_in_the_body() -> None:
    parser = RequestParser()
    parser.feed(post(b"Transfer-Encoding: chunked") + b"x\r\n" + get(b"Host: a"))
    assert parser.next_request() is not None
    with pytest.raises(ProtocolError):
        parser.read_body()
    assert parser.state is State.FAILED
    assert not parser.body_complete
    with pytest.raises(RuntimeError):
        parser.next_request()


def test_body_remaining() -> None:
    parser = RequestParser()
    parser.feed(post(b"Content-Length: 10") + b"abc")
    parser.next_request()
    assert parser.body_remaining == 10
    assert parser.read_body() == b"abc"
    assert parser.body_remaining == 7
    parser = RequestParser()
    parser.feed(post(b"Transfer-Encoding: chunked"))
    parser.next_request()
    assert parser.body_remaining is None


def test_mid_message() -> None:
    parser = RequestParser()
    assert not parser.mid_message
    parser.feed(b"G")
    assert parser.next_request() is None
    assert parser.mid_message
    parser.feed(get(b"Host: a")[1:])
    assert parser.next_request() is not None
    assert not parser.mid_message


def test_take_rest() -> None:
    """For a protocol that takes the connection over."""
    parser = RequestParser()
    parser.feed(get(b"Host: a", b"Connection: upgrade", b"Upgrade: x") + b"\x01\x02")
    parser.feed(b"\x03")
    assert parser.next_request() is not None
    assert parser.take_rest() == b"\x01\x02\x03"
    assert parser.take_rest() == b""
    assert parser.buffered == 0


def test_request_lists_are_the_callers_own() -> None:
    parser = RequestParser()
    parser.feed(get(b"Host: a") * 2)
    first, second = parser.next_request(), parser.next_request()
    assert first is not None
    assert second is not None
    first.headers.clear()
    assert second.headers == [(b"host", b"a")]
