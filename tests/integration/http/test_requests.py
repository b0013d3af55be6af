"""HTTP on the wire: what any client sees, of a worker in this process and of a subinterpreter."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator

import pytest

from subinterp_asgi import Supervisor
from subinterp_asgi.worker import worker
from subinterp_asgi.worker.net.poller import LoopPoller

from ..apps.http import app
from ..rawclient import RawClient, chunked, post, request
from ..serving import serving

type Connect = Callable[[], RawClient]


@pytest.fixture(scope="module", params=["worker", "worker without epoll", "supervisor"])
def connect(request: pytest.FixtureRequest) -> Iterator[Connect]:
    """Something that opens connections to a server of ``apps.http``."""
    if request.param != "supervisor":
        with pytest.MonkeyPatch.context() as patch:
            if request.param == "worker without epoll":
                patch.setattr(worker, "make_poller", LoopPoller)
            with serving(app) as served:
                yield served.connect
        return
    options = {"workers": 1, "port": 0, "access_log": False, "log_level": "critical"}
    with Supervisor("tests.integration.apps.http:app", **options) as supervisor:
        host, port = supervisor.addresses[0]
        assert port is not None
        yield lambda: RawClient((host, port))


# --- one connection, many requests


def test_keep_alive(connect: Connect) -> None:
    """RFC 9112 section 9.3."""
    with connect() as client:
        for _ in range(3):
            response = client.get(b"/")
            assert (response.status, response.body) == (200, b"hello")
            assert response.get(b"connection") is None


def test_close_by_the_client(connect: Connect) -> None:
    with connect() as client:
        response = client.get(b"/", b"Connection: close")
        assert response.body == b"hello"
        assert response.closes
        client.assert_closed()


def test_close_after_a_post_that_asked_for_it(connect: Connect) -> None:
    with connect() as client:
        client.send(post(b"/echo", b"abc", b"Connection: close"))
        assert client.response().body == b"abc"
        client.assert_closed()


@pytest.mark.parametrize("version", [b"1.0", b"1.1", b"1.9"])
def test_versions(connect: Connect, version: bytes) -> None:
    """RFC 9110 section 2.5: the answer's version is the server's own."""
    with connect() as client:
        response = client.get(b"/", version=version)
        assert response.body == b"hello"
        assert response.get(b"content-length") == b"5"
        if version == b"1.0":
            assert response.closes
            client.assert_closed()
        else:
            client.assert_open()


def test_http10_keep_alive(connect: Connect) -> None:
    with connect() as client:
        for _ in range(2):
            response = client.get(b"/", b"Connection: Keep-Alive", version=b"1.0")
            assert response.get(b"connection") == b"keep-alive"
            assert response.body == b"hello"


def test_http10_stream_ends_with_the_connection(connect: Connect) -> None:
    """RFC 9112 section 6.1: no chunks for such a client."""
    with connect() as client:
        client.send(request(b"GET", b"/count/3", b"Connection: keep-alive", version=b"1.0"))
        response = client.response()
        assert response.get(b"transfer-encoding") is None
        assert response.closes
        assert response.body == b"0;1;2;"


def test_pipelining(connect: Connect) -> None:
    """RFC 9112 section 9.3.2: answered in order, those that wait and those that don't."""
    targets = [b"/slowly", b"/", b"/status/404/x", b"/slowly", b"/count/2", b"/"]
    with connect() as client:
        client.send(b"".join(request(b"GET", target) for target in targets))
        bodies = [client.response().body for _ in targets]
    assert bodies == [b"slowly", b"hello", b"x", b"slowly", b"0;1;", b"hello"]


def test_pipelining_with_bodies(connect: Connect) -> None:
    stream = (
        post(b"/echo", b"one")
        + request(b"POST", b"/echo", b"Transfer-Encoding: chunked")
        + chunked(b"tw", b"o")
        + post(b"/", b"never read" * 100)
        + post(b"/slowly", b"never read either")
        + post(b"/stream-echo", b"GET / HTTP/1.1\r\n\r\n")
        + request(b"GET", b"/")
    )
    expected = [b"one", b"two", b"hello", b"slowly", b"GET / HTTP/1.1\r\n\r\n", b"hello"]
    for pieces in ([stream], [stream[:50], stream[50:51], stream[51:]]):
        with connect() as client:
            client.send(*pieces)
            assert [client.response().body for _ in expected] == expected


@pytest.mark.parametrize("target", [b"/", b"/slowly"])
def test_many_pipelined_requests(connect: Connect, target: bytes) -> None:
    """More than are served before others get their turn."""
    with connect() as client:
        client.send(request(b"GET", target) * 200)
        for _ in range(200):
            assert client.response().status == 200
        client.assert_open()


@pytest.mark.parametrize("target", [b"/", b"/slowly"])
def test_many_pipelined_requests_and_the_end(connect: Connect, target: bytes) -> None:
    """A client may send all it has and close its half (RFC 9112 section 9.6)."""
    with connect() as client:
        client.send(request(b"GET", target) * 100)
        client.half_close()
        for _ in range(100):
            assert client.response().status == 200
        client.assert_closed()


def test_a_bad_request_behind_good_ones(connect: Connect) -> None:
    """What is not reached by an error is answered; what follows is not."""
    with connect() as client:
        client.send(
            request(b"GET", b"/slowly") + request(b"GET", b"/") + b"BAD\r\n" + request(b"GET", b"/")
        )
        assert client.response().body == b"slowly"
        assert client.response().body == b"hello"
        refusal = client.response()
        assert refusal.status == 400
        assert refusal.closes
        client.assert_closed()


def test_requests_after_a_close_are_not_answered(connect: Connect) -> None:
    """RFC 9112 section 9.6: MUST NOT process further requests."""
    with connect() as client:
        client.send(request(b"GET", b"/", b"Connection: close") + request(b"GET", b"/fail"))
        assert client.response().body == b"hello"
        client.assert_closed()


# --- bodies


@pytest.mark.parametrize("size", [0, 1, 65535, 65536, 65537, 3_000_000])
@pytest.mark.parametrize("target", [b"/echo", b"/stream-echo"])
def test_body_by_length(connect: Connect, target: bytes, size: int) -> None:
    body = (bytes(range(251)) * (size // 251 + 1))[:size]
    with connect() as client:
        assert exchange(client, post(target, body)) == body
        client.assert_open()


@pytest.mark.parametrize("target", [b"/echo", b"/stream-echo"])
def test_body_in_chunks(connect: Connect, target: bytes) -> None:
    pieces = [b"a", b"bc", b"\r\n", b"x" * 100_000, b"0\r\n\r\n", b"y" * 70_000]
    head = request(b"POST", target, b"Transfer-Encoding: chunked")
    with connect() as client:
        assert exchange(client, head + chunked(*pieces)) == b"".join(pieces)
        client.assert_open()


def test_body_in_chunks_cut_anywhere(connect: Connect) -> None:
    coded = chunked(b"abc", b"\r\n0\r\n", b"d")
    with connect() as client:
        for cut in range(len(coded)):
            head = request(b"POST", b"/echo", b"Transfer-Encoding: chunked")
            client.send(head + coded[:cut], coded[cut:])
            assert client.response().body == b"abc\r\n0\r\nd"


def exchange(client: RawClient, data: bytes) -> bytes:
    """Send and receive at the same time, as is needed with more than buffers hold."""
    sender = threading.Thread(target=client.send, args=(data,))
    sender.start()
    try:
        return client.response().body
    finally:
        sender.join()


def test_stream_is_chunked(connect: Connect) -> None:
    with connect() as client:
        response = client.get(b"/count/5")
        assert response.get(b"transfer-encoding") == b"chunked"
        assert response.get(b"content-length") is None
        assert response.body == b"0;1;2;3;4;"
        assert response.trailers == []
        client.assert_open()


def test_stream_of_known_length(connect: Connect) -> None:
    with connect() as client:
        response = client.get(b"/sized/1000000/70000")
        assert response.get(b"transfer-encoding") is None
        assert len(response.body) == 1_000_000
        client.assert_open()


@pytest.mark.parametrize(
    ("method", "target", "length"),
    [
        (b"HEAD", b"/", b"5"),
        (b"HEAD", b"/sized/100/7", b"100"),
        (b"HEAD", b"/count/3", None),
        (b"HEAD", b"/status/404/nothing", b"7"),
        (b"GET", b"/status/204/body", None),
        (b"GET", b"/status/304/body", None),
        (b"GET", b"/status/205/body", b"0"),
        (b"HEAD", b"/fail", b"22"),
    ],
)
def test_responses_without_a_body(
    connect: Connect, method: bytes, target: bytes, length: bytes | None
) -> None:
    """RFC 9110 sections 9.3.2, 15.3.5, 15.3.6 and 15.4.5; nothing follows that is not the next."""
    with connect() as client:
        client.send(request(method, target))
        response = client.response(method)
        assert response.get(b"content-length") == length
        assert response.body == b""
        if response.closes:
            client.assert_closed()
        else:
            client.assert_open()


# --- scope


def scope_of(client: RawClient, head: bytes) -> dict[str, object]:
    client.send(head)
    scope: dict[str, object] = json.loads(client.response().body)
    return scope


def test_scope(connect: Connect) -> None:
    with connect() as client:
        head = request(b"GET", b"/scope/%C3%A9%2F?a=%20&b", b"X-Name: 1 ", b"x-name:2", b"HOST: h")
        scope = scope_of(client, head)
        name, port = client.sock.getsockname()
        assert scope["client"] == [name, port]
        assert scope["server"] == list(client.sock.getpeername())
    assert scope["type"] == "http"
    assert scope["http_version"] == "1.1"
    assert scope["method"] == "GET"
    assert scope["scheme"] == "http"
    assert scope["path"] == "/scope/é/"
    assert scope["raw_path"] == "/scope/%C3%A9%2F"
    assert scope["query_string"] == "a=%20&b"
    assert scope["root_path"] == ""
    assert scope["headers"] == [["x-name", "1"], ["x-name", "2"], ["host", "h"]]
    assert scope["state"] == {}
    assert isinstance(scope["asgi"], dict)
    assert scope["asgi"]["version"] == "3.0"


def test_scope_of_an_absolute_form_target(connect: Connect) -> None:
    """RFC 9112 section 3.2.2."""
    with connect() as client:
        scope = scope_of(client, request(b"GET", b"http://right:81/scope/a?q", b"Host: wrong"))
    assert scope["path"] == "/scope/a"
    assert scope["raw_path"] == "/scope/a"
    assert scope["query_string"] == "q"
    assert scope["headers"] == [["host", "right:81"]]


def test_scopes_share_nothing(connect: Connect) -> None:
    with connect() as client:
        one = scope_of(client, request(b"GET", b"/scope/1", b"A: 1"))
        other = scope_of(client, request(b"GET", b"/scope/2", b"B: 2"))
    assert one["headers"] == [["host", "test"], ["a", "1"]]
    assert other["headers"] == [["host", "test"], ["b", "2"]]


# --- Date and Server


def test_date_and_server(connect: Connect) -> None:
    with connect() as client:
        for target in (b"/", b"/count/1", b"/status/304/x"):
            response = client.get(target)
            assert response.get(b"server") == b"subinterp-asgi"
            pattern = rb"[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT"
            assert re.fullmatch(pattern, response.get(b"date") or b"")


# --- errors


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET /\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\n", 400),
        (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
        (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\n", 414),
        (request(b"GET", b"/", b"A: " + b"x" * 9000), 431),
        (request(b"GET", b"/", *[b"A: b"] * 101), 431),
        (request(b"POST", b"/", b"Transfer-Encoding: gzip"), 501),
        (request(b"CONNECT", b"a:80"), 501),
        (request(b"POST", b"/", b"Expect: miracles", b"Content-Length: 1"), 417),
        (request(b"POST", b"/echo", b"Transfer-Encoding: chunked") + b"x\r\n", 400),
        (request(b"POST", b"/slowly", b"Content-Length: 5", b"Content-Length: 5"), 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    ],
)
def test_refusals(connect: Connect, data: bytes, status: int) -> None:
    with connect() as client:
        client.send(data)
        response = client.response()
        assert response.status == status
        assert response.closes
        assert response.get(b"content-type") == b"text/plain; charset=utf-8"
        assert response.reason + b"\n" == response.body
        client.try_send(request(b"GET", b"/"))
        client.assert_closed()


def test_refused_head_request(connect: Connect) -> None:
    """RFC 9110 section 9.3.2: no content, of an error neither."""
    for lines in ([b"Host: a b"], [b"Expect: x"], [b"Content-Length: x"]):
        with connect() as client:
            client.send(request(b"HEAD", b"/", *lines))
            assert client.response(b"HEAD").status in (400, 417)
            client.assert_closed()


def test_application_that_fails(connect: Connect) -> None:
    with connect() as client:
        client.send(request(b"GET", b"/fail"))
        response = client.response()
        assert response.status == 500
        assert response.closes
        assert b"secret" not in response.body
        client.assert_closed()


def test_application_that_fails_late(connect: Connect) -> None:
    """RFC 9112 section 8: the client must be able to tell that the message is incomplete."""
    with connect() as client:
        client.send(request(b"GET", b"/fail-late"))
        with pytest.raises((AssertionError, ConnectionError)):
            client.response()
    with connect() as client:  # where only the end of the connection would end the message
        client.send(request(b"GET", b"/fail-late", version=b"1.0"))
        with pytest.raises(ConnectionError):
            client.response()


def test_failure_does_not_take_earlier_responses_with_it(connect: Connect) -> None:
    """They were complete, though perhaps not written yet."""
    with connect() as client:
        client.send(request(b"GET", b"/") * 3 + request(b"GET", b"/fail-late"))
        for _ in range(3):
            assert client.response().body == b"hello"
        assert client.head().status == 200
        assert client.read_to_end() == b"5\r\nbegun\r\n"
    with connect() as client:
        client.send(request(b"GET", b"/sized/30000000/30000000") + request(b"GET", b"/fail-late"))
        assert len(client.response().body) == 30_000_000
        assert client.head().status == 200
        assert client.read_to_end() == b"5\r\nbegun\r\n"


def test_the_server_lives_on(connect: Connect) -> None:
    for target in (b"/fail", b"/fail-late"):
        with connect() as client:
            client.send(request(b"GET", target))
            client.wait_for_end()
    with connect() as client:
        client.assert_open()
