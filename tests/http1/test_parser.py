"""Request heads: request line, Host, framing fields, expectations, persistence, parser states.

Sections without a number of their own are those of RFC 9112.
"""

from __future__ import annotations

import pytest

from subinterp_asgi.http1 import CHUNKED, ProtocolError, RequestParser, State

from .messages import octets, parse, parse_one, refuse

HOST = b"Host: a\r\n"


def get(*lines: bytes, version: bytes = b"1.1") -> bytes:
    """A GET with these field lines, and nothing else."""
    return b"GET / HTTP/%s\r\n%s\r\n" % (version, b"".join(line + b"\r\n" for line in lines))


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


# --- Host


@pytest.mark.parametrize(
    "fields",
    [
        [],
        [b"Host: a", b"Host: a"],
        [b"Host: a", b"host: b"],
        [b"Host:"],
        [b"Host: \t"],
        [b"Host: a, b"],
        [b"Host: a,a"],
        [b"Host: a b"],
        [b"Host: user@a"],
        [b"Host: user:pw@a"],
        [b"Host: a/path"],
        [b"Host: a?query"],
        [b"Host: a#fragment"],
        [b"Host: http://a"],
        [b"Host: a:b"],
        [b"Host: a:-1"],
        [b"Host: a:65536"],
        [b"Host: a:100000"],
        [b"Host: a:80:80"],
        [b"Host: :80"],
        [b"Host: [::1"],
        [b"Host: ::1"],
        [b"Host: [::1]a"],
        [b"Host: [::1]:http"],
        [b"Host: []"],
        [b"Host: [fe80::1%25eth0]"],
        [b"Host: [1]"],
        [b"Host: [::1::]"],
        [b"Host: [1:2:3:4:5:6:7:8:9]"],
        [b"Host: [::127.0.0]"],
        [b"Host: a%"],
        [b"Host: a%2"],
        [b"Host: a%gg"],
        [b"Host: a\\b"],
        [b'Host: "a"'],
        [b"Host: \xe9"],
        ["Host: é".encode()],
        [b"Host: a\tb"],
        [b"X-Host: a"],
    ],
    ids=repr,
)
def test_host_that_is_refused(fields: list[bytes]) -> None:
    """Section 3.2: 400 without Host, with more than one, and with an invalid one."""
    assert refuse(get(*fields)).status == 400


@pytest.mark.parametrize(
    "host",
    [
        b"a",
        b"EXAMPLE.org",
        b"example.org.",
        b"example.org:80",
        b"example.org:",
        b"example.org:0",
        b"example.org:65535",
        b"127.0.0.1",
        b"127.0.0.1:8000",
        b"[::1]",
        b"[::1]:8000",
        b"[2001:db8::192.0.2.1]",
        b"[v1.fe80::a+en1]",
        b"a_b",
        b"xn--bcher-kva.example",
        b"%C3%A9.example",
        b"a!$&'()*+;=~-._z",
    ],
)
def test_host_that_is_accepted(host: bytes) -> None:
    """RFC 3986 section 3.2.2: a registered name is more than a DNS name."""
    assert parse_one(get(b"Host: " + host)).head.headers == [(b"host", host)]


def test_http10_needs_no_host() -> None:
    assert parse_one(get(version=b"1.0")).head.headers == []


def test_http10_with_two_hosts() -> None:
    """Section 3.2: more than one is refused in *any* request message."""
    assert refuse(get(b"Host: a", b"Host: a", version=b"1.0")).status == 400


def test_empty_host_where_the_target_names_none() -> None:
    assert parse_one(b"OPTIONS * HTTP/1.1\r\nHost:\r\n\r\n").head.raw_path == b"*"


@pytest.mark.parametrize("sent", [b"wrong.example", b""])
def test_authority_of_the_target_stands_over_host(sent: bytes) -> None:
    """Section 3.2.2: an origin server MUST ignore the received Host."""
    request = parse_one(
        b"GET http://right.example:81/p HTTP/1.1\r\nA: 1\r\nHost: %s\r\nB: 2\r\n\r\n" % sent
    ).head
    assert request.authority == b"right.example:81"
    assert request.headers == [(b"a", b"1"), (b"host", b"right.example:81"), (b"b", b"2")]


def test_authority_of_the_target_replaces_an_absent_host() -> None:
    """With HTTP/1.0, where Host may be absent."""
    request = parse_one(b"GET http://a.example/ HTTP/1.0\r\nB: 2\r\n\r\n").head
    assert request.headers == [(b"host", b"a.example"), (b"b", b"2")]


def test_absolute_form_does_not_excuse_a_bad_host() -> None:
    assert refuse(b"GET http://a/ HTTP/1.1\r\n\r\n").status == 400
    assert refuse(b"GET http://a/ HTTP/1.1\r\nHost: b c\r\n\r\n").status == 400
    assert refuse(b"GET http://a/ HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n").status == 400


# --- framing


def post(*lines: bytes, version: bytes = b"1.1") -> bytes:
    return b"POST / HTTP/%s\r\nHost: a\r\n%s\r\n" % (
        version,
        b"".join(line + b"\r\n" for line in lines),
    )


BAD_FRAMING = {
    "6.3 length with a sign": ([b"Content-Length: +5"], 400),
    "6.3 negative length": ([b"Content-Length: -5"], 400),
    "6.3 empty length": ([b"Content-Length:"], 400),
    "6.3 length of letters": ([b"Content-Length: five"], 400),
    "6.3 hexadecimal length": ([b"Content-Length: 0x5"], 400),
    "6.3 length with a point": ([b"Content-Length: 5.0"], 400),
    "6.3 length with an underscore": ([b"Content-Length: 1_0"], 400),
    "6.3 length with a space inside": ([b"Content-Length: 1 0"], 400),
    "6.3 length with a tab inside": ([b"Content-Length: 1\t0"], 400),
    "6.3 length with a vertical tab": ([b"Content-Length: \x0b5"], 400),
    "6.3 length of other digits": ([b"Content-Length: \xd9\xa5"], 400),
    "6.3 length of superscript digits": ([b"Content-Length: \xb2"], 400),
    "6.3 list of lengths": ([b"Content-Length: 5, 5"], 400),
    "6.3 list of differing lengths": ([b"Content-Length: 5, 6"], 400),
    "6.3 repeated length": ([b"Content-Length: 5", b"Content-Length: 5"], 400),
    "6.3 differing lengths": ([b"Content-Length: 5", b"content-length: 6"], 400),
    "6.3 length beyond any body": ([b"Content-Length: " + b"9" * 20], 400),
    "6.3 length of 5000 digits": ([b"Content-Length: " + b"1" * 5000], 400),
    "6.1 length and coding": ([b"Content-Length: 5", b"Transfer-Encoding: chunked"], 400),
    "6.1 coding and length": ([b"Transfer-Encoding: chunked", b"Content-Length: 5"], 400),
    "6.1 length and unknown coding": ([b"Transfer-Encoding: gzip", b"Content-Length: 5"], 400),
    "6.1 empty coding": ([b"Transfer-Encoding:"], 400),
    "6.1 empty list of codings": ([b"Transfer-Encoding: ,"], 400),
    "6.1 chunked not last": ([b"Transfer-Encoding: chunked, gzip"], 400),
    "6.1 chunked twice": ([b"Transfer-Encoding: chunked, chunked"], 400),
    "6.1 chunked in two fields": ([b"Transfer-Encoding: chunked"] * 2, 400),
    "6.1 chunked, then another field": (
        [b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity"],
        400,
    ),
    "7 chunked with a parameter": ([b"Transfer-Encoding: chunked;q=1"], 400),
    "7 quoted": ([b'Transfer-Encoding: "chunked"'], 400),
    "7 chunked with a vertical tab": ([b"Transfer-Encoding: \x0bchunked"], 400),
    "7 two words": ([b"Transfer-Encoding: x chunked"], 400),
    "6.1 unknown coding": ([b"Transfer-Encoding: gzip, chunked"], 501),
    "6.1 unknown coding alone": ([b"Transfer-Encoding: gzip"], 501),
    "6.1 unknown coding in a field of its own": (
        [b"Transfer-Encoding: gzip", b"Transfer-Encoding: chunked"],
        501,
    ),
    "7 identity, no longer a coding": ([b"Transfer-Encoding: identity"], 501),
    "7 xchunked": ([b"Transfer-Encoding: xchunked"], 501),
}


@pytest.mark.parametrize(("fields", "status"), BAD_FRAMING.values(), ids=BAD_FRAMING)
def test_framing_that_is_refused(fields: list[bytes], status: int) -> None:
    assert refuse(post(*fields)).status == status


def test_transfer_encoding_in_http10() -> None:
    """Section 6.1: the framing is to be treated as faulty."""
    assert refuse(post(b"Transfer-Encoding: chunked", version=b"1.0")).status == 400


@pytest.mark.parametrize(
    ("fields", "length"),
    [
        ([], 0),
        ([b"Content-Length: 0"], 0),
        ([b"Content-Length: 5"], 5),
        ([b"Content-Length:5"], 5),
        ([b"Content-Length: \t 5 \t"], 5),
        ([b"content-LENGTH: 0000000005"], 5),
        ([b"Content-Length: 9999999999999999999"], 9999999999999999999),
        ([b"Transfer-Encoding: chunked"], CHUNKED),
        ([b"transfer-encoding: CHUNKED"], CHUNKED),
        ([b"Transfer-Encoding: , chunked,"], CHUNKED),
        ([b"Transfer-Encoding:", b"Transfer-Encoding: chunked"], CHUNKED),
    ],
    ids=repr,
)
def test_framing_that_is_accepted(fields: list[bytes], length: int) -> None:
    """Section 6.3; RFC 9110 section 5.6.1.2: empty list elements are ignored."""
    (message,) = parse(post(*fields)).messages
    assert message.head.fields.length == length
    assert message.complete == (length == 0)


def test_a_get_may_have_a_body() -> None:
    """Section 6: the fields decide, not the method."""
    message = parse_one(b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc")
    assert message.body == b"abc"


# --- Expect


@pytest.mark.parametrize(
    ("value", "version", "length", "waits"),
    [
        (b"100-continue", b"1.1", b"5", True),
        (b"100-CONTINUE", b"1.1", b"5", True),
        (b"100-continue,", b"1.1", b"5", True),
        (b"", b"1.1", b"5", False),
        (b"100-continue", b"1.1", b"0", False),
        (b"100-continue", b"1.0", b"5", False),
        (b"whatever", b"1.0", b"5", False),
    ],
)
def test_expectations(value: bytes, version: bytes, length: bytes, waits: bool) -> None:
    """RFC 9110 section 10.1.1: none of an HTTP/1.0 client, none without a body to wait for."""
    data = post(b"Expect: " + value, b"Content-Length: " + length, version=version)
    (message,) = parse(data).messages
    assert message.head.expect_continue is waits


@pytest.mark.parametrize(
    "fields",
    [
        [b"Expect: 200-ok"],
        [b"Expect: 100-continue, x"],
        [b"Expect: 100-continue", b"Expect: x"],
        [b"Expect: 100-continue;x"],
        [b'Expect: "100-continue"'],
    ],
)
def test_unknown_expectations(fields: list[bytes]) -> None:
    assert refuse(post(*fields, b"Content-Length: 5")).status == 417


# --- persistence


@pytest.mark.parametrize(
    ("version", "fields", "persists"),
    [
        (b"1.1", [], True),
        (b"1.1", [b"Connection: close"], False),
        (b"1.1", [b"Connection: CLOSE"], False),
        (b"1.1", [b"Connection: keep-alive"], True),
        (b"1.1", [b"Connection: keep-alive, close"], False),
        (b"1.1", [b"Connection: x", b"Connection: , close ,"], False),
        (b"1.1", [b"Connection: closed"], True),
        (b"1.1", [b"Proxy-Connection: close"], True),
        (b"1.0", [], False),
        (b"1.0", [b"Connection: keep-alive"], True),
        (b"1.0", [b"Connection: Keep-Alive"], True),
        (b"1.0", [b"Connection: keep-alive, close"], False),
        (b"1.0", [b"Connection: x,keep-alive"], True),
    ],
)
def test_persistence(version: bytes, fields: list[bytes], persists: bool) -> None:
    """Section 9.3; section 9.6 for close."""
    assert parse_one(get(b"Host: a", *fields, version=version)).head.keep_alive is persists


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
