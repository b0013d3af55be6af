"""What holds for every stream, whatever is in it and however it is cut."""

from __future__ import annotations

from typing import Any

import h11
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from subinterp_asgi.errors import ASGIProtocolError
from subinterp_asgi.http1 import DefaultFields, Limits, RequestParser, ResponseWriter

from . import strategies as gen
from .messages import Outcome, drive, octets, parse, split

# Derandomized: the suite tells the same each time; tests/fuzz is what explores.
thorough = settings(
    max_examples=70,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)


def summary(outcome: Outcome) -> list[Any]:
    return [
        (
            message.head.method,
            message.head.target,
            message.head.path,
            message.head.http_version,
            message.head.headers,
            message.head.keep_alive,
            message.head.expect_continue,
            message.body if message.complete else None,
        )
        for message in outcome.messages
    ]


# --- requests


@thorough
@given(gen.streams(), gen.cuts)
def test_generated_requests_parse_back(requests: list[gen.Generated], cuts: list[int]) -> None:
    stream = b"".join(request.raw for request in requests)
    outcome = parse(*split(stream, cuts))
    assert outcome.error is None, (stream, outcome.error)
    assert len(outcome.messages) == len(requests)
    for message, request in zip(outcome.messages, requests, strict=True):
        head = message.head
        assert head.method.encode() == request.method
        assert head.target == request.target
        assert head.raw_path == request.path
        assert head.query == request.query
        assert head.http_version.encode() == request.version
        expected = [
            (name, message.head.authority or value) if name == b"host" else (name, value)
            for name, value in request.fields
        ]
        assert head.headers == expected
        assert head.keep_alive is request.keep_alive
        assert head.expect_continue is request.expect_continue
        assert message.complete
        assert message.body == request.body


@thorough
@given(gen.damaged() | st.binary(max_size=300), gen.cuts)
def test_any_split_gives_the_same(stream: bytes, cuts: list[int]) -> None:
    at_once = parse(stream)
    for pieces in (split(stream, cuts), octets(stream)):
        other = parse(*pieces)
        assert summary(other) == summary(at_once)
        assert other.status == at_once.status


@thorough
@given(gen.damaged() | st.binary(max_size=300), gen.cuts)
def test_nothing_but_protocol_errors(stream: bytes, cuts: list[int]) -> None:
    """Whatever else is raised comes out of ``parse()``, and fails the test."""
    error = parse(*split(stream, cuts)).error
    if error is not None:
        assert error.status in (400, 413, 414, 417, 431, 501, 505)
        assert str(error)


TIGHT = Limits(
    limit_request_line=60,
    limit_request_fields=6,
    limit_request_field_size=50,
    limit_header_size=200,
    limit_body_size=50,
)


@thorough
@given(gen.damaged() | st.binary(max_size=3000), st.integers(1, 300))
def test_what_is_kept_is_bounded(stream: bytes, size: int) -> None:
    """By the limits, and what comes at once; bodies are handed on at once."""
    pieces = [stream[at : at + size] for at in range(0, len(stream), size)]
    outcome = drive(RequestParser(TIGHT), pieces)
    # (A chunk's size line has a bound of its own.)
    assert outcome.largest_buffer <= 4096 + size
    for message in outcome.messages:
        assert len(message.body) <= 50
        assert len(message.head.target) <= 60
        assert len(message.head.headers) <= 7  # one may be made of the target


@thorough
@given(gen.streams(), st.binary(max_size=60))
def test_take_rest_gives_what_was_not_parsed(requests: list[gen.Generated], rest: bytes) -> None:
    stream = b"".join(request.raw for request in requests)
    parser = RequestParser()
    outcome = drive(parser, [stream])
    assert outcome.error is None
    parser.feed(rest)
    assert parser.take_rest() == rest


# --- responses


field_values = gen.from_alphabet(gen.VCHARS + gen.OBS_TEXT + b" ", 0, 20).map(bytes.strip)
RESERVED = {b"connection", b"content-length", b"transfer-encoding", b"keep-alive"}
plain_fields = st.tuples(gen.tokens.filter(lambda name: name.lower() not in RESERVED), field_values)


@thorough
@given(
    status=st.integers(200, 599),
    fields=st.lists(plain_fields, max_size=4),
    extra=st.lists(
        st.sampled_from(
            [
                (b"Connection", b"close"),
                (b"connection", b"keep-alive"),
                (b"Transfer-Encoding", b"chunked"),
                (b"transfer-encoding", b"gzip"),
                (b"keep-alive", b"timeout=5"),
            ]
        ),
        max_size=2,
    ),
    pieces=st.lists(st.binary(max_size=40), min_size=1, max_size=5),
    with_length=st.booleans(),
    method=st.sampled_from([b"GET", b"HEAD", b"POST"]),
    http10=st.booleans(),
    keep_alive=st.booleans(),
)
def test_every_response_is_valid(
    status: int,
    fields: list[tuple[bytes, bytes]],
    extra: list[tuple[bytes, bytes]],
    pieces: list[bytes],
    with_length: bool,
    method: bytes,
    http10: bool,
    keep_alive: bool,
) -> None:
    """An independent client reads back what the application sent, and knows where it ends."""
    body = b"".join(pieces)
    length = [(b"Content-Length", b"%d" % len(body))] if with_length else []
    writer = ResponseWriter(
        DefaultFields(),
        head_request=method == b"HEAD",
        http10=http10,
        keep_alive=keep_alive,
    )
    writer.start(status, [*fields, *extra, *length])
    output = b"".join(
        writer.send(piece, more=number < len(pieces)) for number, piece in enumerate(pieces, 1)
    )
    assert writer.complete
    assert not writer.truncated

    client = h11.Connection(h11.CLIENT)
    version = "1.0" if http10 else "1.1"
    client.send(h11.Request(method=method, target="/", headers=[("host", "a")]))
    client.send(h11.EndOfMessage())
    client.receive_data(output)
    response = client.next_event()
    assert isinstance(response, h11.Response)
    assert response.status_code == status
    received = bytearray()
    open_ended = False
    while not isinstance(event := client.next_event(), h11.EndOfMessage):
        if event is h11.NEED_DATA:
            # Only the end of the connection can tell: then it must end.
            assert not open_ended
            assert not writer.keep_alive
            open_ended = True
            client.receive_data(b"")
            continue
        assert isinstance(event, h11.Data)
        received += event.data
    bodiless = method == b"HEAD" or status in (204, 205, 304)
    assert bytes(received) == (b"" if bodiless else body)
    assert open_ended is False or version == "1.0"
    assert client.trailing_data[0] == b""
    names = [name for name, _ in response.headers]
    if not any(name.lower() == b"date" for name, _ in fields):
        assert names.count(b"date") == 1
    sent = [(name.lower(), value) for name, value in fields]
    assert [item for item in response.headers if item in sent] == [
        item for item in sent if item in list(response.headers)
    ]
    assert all(item in list(response.headers) for item in sent)
    closes = client.their_state in (h11.MUST_CLOSE, h11.CLOSED)
    if not http10:
        assert closes is not writer.keep_alive


anything = st.none() | st.integers() | st.text(max_size=5) | st.binary(max_size=12)


@thorough
@given(
    status=st.integers(-1000, 2000) | anything,
    fields=st.lists(st.tuples(anything, anything) | anything, max_size=3) | anything,
    body=st.binary(max_size=10),
    more=st.booleans(),
)
def test_no_application_can_split_a_response(
    status: Any, fields: Any, body: bytes, more: bool
) -> None:
    """What can't be sent is refused by one kind of error; what is sent has the lines it should."""
    writer = ResponseWriter(DefaultFields())
    try:
        writer.start(status, fields)
        output = writer.send(body, more=more)
    except ASGIProtocolError:
        assert not writer.head_sent
        return
    head, mark, _ = output.partition(b"\r\n\r\n")
    assert mark
    lines = head.split(b"\r\n")
    assert b"\r" not in b"".join(lines)
    assert b"\n" not in b"".join(lines)
    assert b"\0" not in head
    assert len(lines) <= 1 + len(fields) + 4
    assert lines[0].startswith(b"HTTP/1.1 %d " % status)


@pytest.mark.parametrize("name", [b"content-length", b"connection", b"date", b"x"])
@thorough
@given(value=st.binary(max_size=8))
def test_no_value_can_split_a_response(name: bytes, value: bytes) -> None:
    writer = ResponseWriter(DefaultFields(server=False, date=False))
    try:
        writer.start(200, [(name, value)])
        output = writer.send(b"", more=True)
    except ASGIProtocolError:
        return
    head = output.partition(b"\r\n\r\n")[0]
    assert head.count(b"\n") == head.count(b"\r") == head.count(b"\r\n") <= 2
