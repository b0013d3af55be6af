"""Fields that decide about a request: Host, body framing, Expect, persistence.

Sections without a number of their own are those of RFC 9112.
"""

from __future__ import annotations

import pytest

from subinterp_asgi.http1 import CHUNKED

from .messages import get, parse, parse_one, post, refuse

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
