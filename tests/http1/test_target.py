"""Request targets: the four forms, path decoding, hosts."""

from __future__ import annotations

import pytest

from subinterp_asgi.http1 import ProtocolError
from subinterp_asgi.http1.target import check_host, decode_path, split_target

from .messages import parse_one, refuse


@pytest.mark.parametrize(
    ("method", "target", "expected"),
    [
        # RFC 9112 section 3.2.1, origin-form
        ("GET", b"/", (b"/", b"", None)),
        ("GET", b"/a/b", (b"/a/b", b"", None)),
        ("GET", b"/?", (b"/", b"", None)),
        ("GET", b"/a?b=c&d", (b"/a", b"b=c&d", None)),
        ("GET", b"/a?b?c", (b"/a", b"b?c", None)),
        ("GET", b"//a/b", (b"//a/b", b"", None)),
        ("GET", b"/http://a/", (b"/http://a/", b"", None)),
        ("GET", b"/a/../b/./c", (b"/a/../b/./c", b"", None)),
        ("GET", b"/*", (b"/*", b"", None)),
        ("OPTIONS", b"/", (b"/", b"", None)),
        # RFC 9112 section 3.2.2, absolute-form
        ("GET", b"http://a", (b"/", b"", b"a")),
        ("GET", b"http://a/", (b"/", b"", b"a")),
        ("GET", b"HTTP://A.example:80/p/q?r", (b"/p/q", b"r", b"A.example:80")),
        ("GET", b"https://a/p", (b"/p", b"", b"a")),
        ("GET", b"http://a?q", (b"/", b"q", b"a")),
        ("GET", b"http://[::1]:8000/p", (b"/p", b"", b"[::1]:8000")),
        ("POST", b"http://a/p@q:r", (b"/p@q:r", b"", b"a")),
        # RFC 9112 section 3.2.4, asterisk-form, and what a proxy makes of it
        ("OPTIONS", b"*", (b"*", b"", None)),
        ("OPTIONS", b"http://a:8001", (b"*", b"", b"a:8001")),
        ("OPTIONS", b"http://a/", (b"/", b"", b"a")),
        ("OPTIONS", b"http://a?q", (b"/", b"q", b"a")),
    ],
)
def test_split_target(
    method: str, target: bytes, expected: tuple[bytes, bytes, bytes | None]
) -> None:
    assert split_target(method, target) == expected


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [
        # RFC 9112 section 3.2.3: authority-form is for CONNECT, which makes tunnels of proxies
        ("CONNECT", b"a:80", 501),
        ("CONNECT", b"a", 501),
        ("CONNECT", b"/", 400),
        ("GET", b"a:80", 400),
        ("GET", b"a", 400),
        # section 3.2.4: asterisk-form is for OPTIONS
        ("GET", b"*", 400),
        ("options", b"*", 400),
        ("OPTIONS", b"**", 400),
        ("OPTIONS", b"*?a", 400),
        # section 3.2.2: absolute-form with a scheme and authority that are ours
        ("GET", b"ftp://a/", 400),
        ("GET", b"http:/a", 400),
        ("GET", b"http:a", 400),
        ("GET", b"http://", 400),
        ("GET", b"http:///p", 400),
        ("GET", b"http://?q", 400),
        ("GET", b"://a/", 400),
        ("GET", b"http://u@a/", 400),
        ("GET", b"http://u:p@a/", 400),
        ("GET", b"http://a:x/", 400),
        ("GET", b"http://a:65536/", 400),
        ("GET", b"http://:80/", 400),
        ("GET", b"http://a,b/", 400),
        ("GET", b"http://a\\b/", 400),
        ("GET", b"file:///etc/passwd", 400),
        ("GET", b"?q", 400),
        ("GET", b"a/b", 400),
        ("GET", b"..", 400),
    ],
)
def test_target_that_is_refused(method: str, target: bytes, status: int) -> None:
    with pytest.raises(ProtocolError) as caught:
        split_target(method, target)
    assert caught.value.status == status
    line = b"%s %s HTTP/1.1\r\nHost: a\r\n\r\n" % (method.encode(), target)
    assert refuse(line).status == status


@pytest.mark.parametrize(
    ("raw", "path"),
    [
        (b"/", "/"),
        (b"/a%20b", "/a b"),
        (b"/%41%62", "/Ab"),
        (b"/%2F%2f", "///"),
        (b"/a+b", "/a+b"),
        (b"/%25", "/%"),
        (b"/%2541", "/%41"),
        (b"/%3F%23", "/?#"),
        (b"/%C3%A9", "/é"),
        (b"/%c3%a9", "/é"),
        (b"/%E2%82%AC", "/€"),
        (b"/%F0%9F%90%8D", "/🐍"),
        (b"/%00", "/\0"),
        (b"/%2e%2e/", "/../"),
        # not UTF-8: replaced; raw_path has them
        (b"/%ff", "/\ufffd"),
        (b"/%e9t%e9", "/\ufffdt\ufffd"),
        (b"/%C3", "/\ufffd"),
        (b"/%ED%A0%80", "/\ufffd\ufffd\ufffd"),
    ],
)
def test_decode_path(raw: bytes, path: str) -> None:
    """The ASGI HTTP specification: percent-encoded sequences and UTF-8 decoded."""
    assert decode_path(raw) == path
    request = parse_one(b"GET %s HTTP/1.1\r\nHost: a\r\n\r\n" % raw).head
    assert (request.path, request.raw_path) == (path, raw)


@pytest.mark.parametrize("raw", [b"/%", b"/%4", b"/%zz", b"/%4g", b"/a%/b", b"/%%41", b"/%u0041"])
def test_invalid_escape(raw: bytes) -> None:
    """RFC 3986 section 2.1."""
    assert refuse(b"GET %s HTTP/1.1\r\nHost: a\r\n\r\n" % raw).status == 400


@pytest.mark.parametrize(
    "raw",
    [
        b"/%c0%af",  # "/" in two octets
        b"/%C0%AE%C0%AE/",  # ".."
        b"/%c1%9c",  # "\\"
        b"/%e0%80%af",  # "/" in three
        b"/%e0%9f%bf",
        b"/%f0%80%80%af",  # "/" in four
        b"/%f0%8f%bf%bf",
        b"/ok%C3%A9%c0%af",
    ],
)
def test_overlong_utf8(raw: bytes) -> None:
    """RFC 3629 section 3: decoders MUST protect against it."""
    assert refuse(b"GET %s HTTP/1.1\r\nHost: a\r\n\r\n" % raw).status == 400


def test_the_query_stays_as_it_was_sent() -> None:
    request = parse_one(b"GET /?%zz=%C0%AF&a=%41 HTTP/1.1\r\nHost: a\r\n\r\n").head
    assert request.query == b"%zz=%C0%AF&a=%41"


@pytest.mark.parametrize("value", [b"", b"a", b"a:", b"a:1", b"[::]", b"[::]:65535"])
def test_check_host(value: bytes) -> None:
    check_host(value)


@pytest.mark.parametrize("value", [b":", b":1", b"a:b", b"a:65536", b"a:000080", b"a ", b"[::]1"])
def test_check_host_refuses(value: bytes) -> None:
    with pytest.raises(ProtocolError):
        check_host(value)
