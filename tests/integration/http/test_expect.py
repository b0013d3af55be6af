"""Bodies that wait for leave to come, and bodies that nobody reads.

``Expect: 100-continue`` (RFC 9110 section 10.1.1); answers before the body was read, which must
reach the client although it is still sending (RFC 9112 sections 9.3 and 9.6).
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import threading
from typing import Any

import pytest

from subinterp_asgi.worker.asgi.http import DISCARD_SIZE

from ..rawclient import TIMEOUT, RawClient, chunked, post, request
from ..serving import Gate, Notes, read_body, respond, serving

EXPECT = b"Expect: 100-continue"


async def echo(scope: Any, receive: Any, send: Any) -> None:
    await respond(send, await read_body(receive))


async def early(scope: Any, receive: Any, send: Any) -> None:
    await respond(send, b"early")


def ask(client: RawClient, body: bytes = b"body", *, coded: bool = False) -> None:
    framing = b"Transfer-Encoding: chunked" if coded else b"Content-Length: %d" % len(body)
    client.send(request(b"POST", b"/", framing, EXPECT))


# --- Expect


@pytest.mark.parametrize("coded", [True, False])
def test_continue_is_sent_when_the_application_asks_for_the_body(coded: bool) -> None:
    gate = Gate()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await gate.wait()
        await echo(scope, receive, send)

    with serving(app) as served, served.connect() as client:
        ask(client, coded=coded)
        gate.wait_reached()
        client.sock.settimeout(0.05)
        with pytest.raises(TimeoutError):
            client.head()  # not before
        client.sock.settimeout(20)
        gate.open()
        interim = client.head()
        assert (interim.status, interim.reason, interim.fields) == (100, b"Continue", [])
        client.send(chunked(b"body") if coded else b"body")
        response = client.response()
        assert (response.status, response.body) == (200, b"body")
        client.send(post(b"/", b"next"))
        assert client.response().body == b"next"


def test_continue_is_sent_once() -> None:
    notes = Notes()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        calls = [asyncio.ensure_future(receive()) for _ in range(2)]
        for call in calls:
            call.add_done_callback(lambda call: notes(call.result()["body"]))
        await asyncio.wait(calls)
        await respond(send, b"done")

    with serving(app) as served, served.connect() as client:
        ask(client, b"abc")
        assert client.head().status == 100
        client.send(b"a")
        notes.wait(1)
        client.send(b"bc")
        assert notes.wait(2) == [b"a", b"bc"]
        assert client.response().status == 200
    assert served.records.messages == []


def test_no_continue_if_the_body_has_come_already() -> None:
    """MAY omit it: the client has not waited."""
    with serving(echo) as served, served.connect() as client:
        client.send(post(b"/", b"body", EXPECT))
        assert client.response().body == b"body"


def test_no_continue_after_the_response_has_begun() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"begun;", "more_body": True})
        await send({"type": "http.response.body", "body": await read_body(receive)})

    with serving(app) as served, served.connect() as client:
        ask(client)
        head = client.head()
        assert head.status == 200
        assert head.closes  # whether the body will come nobody knows
        client.send(b"body")
        assert b"begun;" in client.read_until(b"begun;")
        assert b"body" in client.read_until(b"body")
        client.wait_for_end()


@pytest.mark.parametrize("status", [200, 403, 204])
def test_final_answer_instead_of_continue(status: int) -> None:
    """It has to close the connection, since it can't be known what the client sends next."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await respond(send, b"no", status)

    with serving(app) as served, served.connect() as client:
        ask(client)
        response = client.response()
        assert response.status == status
        assert response.closes
        client.try_send(request(b"GET", b"/"))
        client.assert_closed()


def test_failure_instead_of_continue() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError("no")

    with serving(app) as served, served.connect() as client:
        ask(client)
        assert client.response().status == 500
        client.assert_closed()


def test_expectation_without_a_body() -> None:
    with serving(echo) as served, served.connect() as client:
        client.send(request(b"POST", b"/", b"Content-Length: 0", EXPECT))
        assert client.response().body == b""
        client.send(request(b"GET", b"/", EXPECT))
        assert client.response().body == b""


def test_expectation_of_an_http10_client() -> None:
    """MUST be ignored: such a client does not know interim responses."""
    with serving(echo) as served, served.connect() as client:
        client.send(request(b"POST", b"/", b"Content-Length: 4", EXPECT, version=b"1.0"))
        client.send(b"body")
        assert client.response().body == b"body"


def test_client_that_leaves_instead_of_sending_the_body() -> None:
    notes = Notes()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        notes((await receive())["type"])

    with serving(app) as served, served.connect() as client:
        ask(client)
        assert client.head().status == 100
        client.close()
        assert notes.wait() == ["http.disconnect"]
        served.wait_for_connections(0)


def test_continue_between_pipelined_answers() -> None:
    with serving(echo) as served, served.connect() as client:
        head = request(b"POST", b"/", b"Content-Length: 4", EXPECT)
        client.send(post(b"/", b"first") + head)
        assert client.response().body == b"first"
        assert client.head().status == 100
        client.send(b"body" + post(b"/", b"last"))
        assert client.response().body == b"body"
        assert client.response().body == b"last"


# --- answers before the body was read


@pytest.mark.parametrize("coded", [True, False])
@pytest.mark.parametrize("size", [1, 10_000, 200_000])
def test_small_rest_is_dropped_and_the_connection_kept(coded: bool, size: int) -> None:
    body = b"GET /smuggled HTTP/1.1\r\n\r\n" * (size // 26 + 1)
    with serving(early) as served, served.connect() as client:
        for _ in range(3):
            if coded:
                client.send(request(b"POST", b"/", b"Transfer-Encoding: chunked") + chunked(body))
            else:
                client.send(post(b"/", body))
            response = client.response()
            assert response.body == b"early"
            assert not response.closes
        client.send(request(b"GET", b"/"))
        assert client.response().body == b"early"


def test_rest_that_comes_later_is_dropped_too() -> None:
    body = b"x" * 100_000
    with serving(early) as served, served.connect() as client:
        client.send(post(b"/", body)[:-50_000])
        assert client.response().body == b"early"
        client.send(body[:50_000] + request(b"GET", b"/"))
        assert client.response().body == b"early"


def test_part_read_by_the_application_and_part_not() -> None:
    notes = Notes()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        notes(await receive())
        await respond(send, b"enough")

    with serving(app) as served, served.connect() as client:
        client.send(post(b"/", b"abcdef")[:-3])
        notes.wait()
        assert client.response().body == b"enough"
        client.send(b"def", request(b"GET", b"/"))
        assert client.response().body == b"enough"


def test_large_rest_closes_the_connection_and_says_so() -> None:
    size = DISCARD_SIZE + 1
    with serving(early) as served, served.connect() as client:
        client.send(request(b"POST", b"/", b"Content-Length: %d" % size))
        response = client.response()
        assert response.body == b"early"
        assert response.closes
        # What the client is still sending does not destroy the answer, and is no request.
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        client.assert_closed()


def test_large_rest_in_chunks_is_dropped_up_to_a_bound() -> None:
    with serving(early) as served, served.connect() as client:
        client.send(request(b"POST", b"/", b"Transfer-Encoding: chunked"))
        assert client.response().body == b"early"
        for _ in range(DISCARD_SIZE // 65536 + 2):
            client.try_send(chunked(b"x" * 65536, last=False))
        client.wait_for_end()
        client.close()
        served.wait_for_connections(0)


def test_answer_reaches_a_client_that_is_still_sending() -> None:
    """Closing at once would reset the connection and with it the answer (section 9.6)."""
    with serving(early) as served:
        for _ in range(10):
            with served.connect() as client:
                body = b"x" * 2_000_000
                client.send(request(b"POST", b"/", b"Content-Length: %d" % len(body)))
                client.send(body)
                assert client.response().body == b"early"
                client.assert_closed()


def test_refusal_reaches_a_client_that_is_still_sending() -> None:
    with serving(echo, limit_body_size=1000) as served:
        for framing in (b"Content-Length: 2000000", b"Transfer-Encoding: chunked"):
            with served.connect() as client:
                client.send(request(b"POST", b"/", framing))
                client.try_send(b"f4240\r\n" + b"x" * 1_000_000)
                assert client.response().status == 413
                client.assert_closed()


def test_malformed_rest_is_not_answered_again() -> None:
    """The answer to the request is out; the connection ends, and nothing more is parsed."""
    with serving(early) as served, served.connect() as client:
        client.send(request(b"POST", b"/", b"Transfer-Encoding: chunked") + b"3\r\nabcdef\r\n")
        client.send(request(b"GET", b"/"))
        assert client.response().body == b"early"
        client.assert_closed()


def test_malformed_body_while_the_application_reads() -> None:
    notes = Notes()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            await read_body(receive)
        except EOFError:
            notes("disconnected")
            await respond(send)
            notes("unheard")

    with serving(app) as served, served.connect() as client:
        client.send(request(b"POST", b"/", b"Transfer-Encoding: chunked"))
        client.send(b"3\r\nabc\r\n")
        client.send(b"x\r\n" + request(b"GET", b"/"))
        assert client.response().status == 400
        client.assert_closed()
        assert notes.wait(2) == ["disconnected", "unheard"]


def test_malformed_body_after_the_response_has_begun() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"begun", "more_body": True})
        assert await receive() == {"type": "http.disconnect"}

    with serving(app) as served, served.connect() as client:
        client.send(request(b"POST", b"/", b"Transfer-Encoding: chunked"), b"x\r\n")
        assert client.head().status == 200
        rest = client.read_to_end()
        assert rest == b"5\r\nbegun\r\n"  # without an end, so that it can't be taken for whole


@pytest.mark.parametrize("status", [401, 413, 503])
def test_refusals_reach_clients_that_read_nothing_before_all_is_sent(status: int) -> None:
    """As http.client, and proxies. How much they send makes no difference."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await respond(send, b"no", status)

    options = {"limit_body_size": 1000} if status == 413 else {}
    body = bytes(8 << 20)
    statuses = []
    with serving(app, **options) as served:
        for _ in range(25):
            client = http.client.HTTPConnection(*served.address, timeout=TIMEOUT)
            client.request("POST", "/", body)
            with contextlib.closing(client), client.getresponse() as response:
                statuses.append(response.status)
                response.read()
    assert statuses == [status] * 25


def test_refusal_reaches_a_client_that_sends_slowly() -> None:
    """For longer than a moment, but never silent for long."""
    pause = threading.Event()
    with serving(echo, limit_body_size=1000) as served, served.connect() as client:
        client.send(request(b"POST", b"/", b"Content-Length: 1000000"))
        for _ in range(40):
            pause.wait(0.1)
            client.send(bytes(25_000))
        assert client.response().status == 413
        client.assert_closed()


def test_client_that_goes_on_sending_after_the_close_is_cut_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The time that it is given is bounded, and others are served meanwhile."""
    monkeypatch.setattr("subinterp_asgi.worker.net.connection.LINGER_TIME", 0.5)
    options = {"timeout_keep_alive": 0.1}  # so that the clock ticks often enough
    with serving(early, **options) as served, served.connect() as client:
        client.send(b"nonsense\r\n")
        assert client.response().status == 400
        answered = 0

        def flood() -> None:
            nonlocal answered
            while True:
                client.send(b"x" * 1_000_000)
                with served.connect() as other:
                    answered += other.get().status == 200

        with pytest.raises(ConnectionError):
            flood()
        assert answered
        served.wait_for_connections(0)


@pytest.mark.parametrize("bound", ["LINGER_TIME", "LINGER_SILENCE"])
def test_client_that_never_closes_is_cut_off(monkeypatch: pytest.MonkeyPatch, bound: str) -> None:
    monkeypatch.setattr(f"subinterp_asgi.worker.net.connection.{bound}", 0.05)
    options = {"timeout_keep_alive": 0.1}  # so that the clock ticks often enough
    with serving(early, **options) as served, served.connect() as client:
        client.send(b"nonsense\r\n")
        assert client.response().status == 400
        served.wait_for_connections(0)
