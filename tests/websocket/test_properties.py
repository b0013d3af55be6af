"""What holds for every stream, whatever is in it and however it is cut."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from subinterp_asgi.errors import ASGIProtocolError
from subinterp_asgi.websocket import (
    Close,
    DeflateOptions,
    HandshakeError,
    MessageParser,
    MessageWriter,
    negotiate_deflate,
    read_handshake,
)
from subinterp_asgi.websocket.deflate import Inflater
from subinterp_asgi.websocket.extensions import parse_extensions
from subinterp_asgi.websocket.masking import unmask

from . import strategies as gen
from .client import Outcome, drive, octets, parse, split, xor
from .test_handshake import FIELDS, fields_of

# Derandomized: the suite tells the same each time; tests/fuzz is what explores.
thorough = settings(
    max_examples=120,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)


def summary(outcome: Outcome) -> list[Any]:
    return [*((type(event), event) for event in outcome.events), outcome.code]


# --- parsing


@thorough
@given(gen.streams(), gen.cuts)
def test_generated_streams_parse_back(stream: gen.Stream, cuts: list[int]) -> None:
    for pieces in ([stream.sent], split(stream.sent, cuts), octets(stream.sent)):
        outcome = parse(*pieces)
        assert outcome.error is None
        assert outcome.events == stream.events


@pytest.mark.parametrize("context_takeover", [True, False])
def test_compressed_streams_parse_back(context_takeover: bool) -> None:
    @thorough
    @given(gen.streams(compressed=True, context_takeover=context_takeover), gen.cuts)
    def check(stream: gen.Stream, cuts: list[int]) -> None:
        for pieces in ([stream.sent], split(stream.sent, cuts), octets(stream.sent)):
            inflater = Inflater(context_takeover=context_takeover)
            outcome = parse(*pieces, inflater=inflater)
            assert outcome.error is None
            assert outcome.events == stream.events

    check()


@thorough
@given(gen.damaged() | gen.any_frames | st.binary(max_size=300), gen.cuts)
def test_any_split_gives_the_same(sent: bytes, cuts: list[int]) -> None:
    at_once = parse(sent)
    for pieces in (split(sent, cuts), octets(sent)):
        assert summary(parse(*pieces)) == summary(at_once)


@thorough
@given(gen.damaged(compressed=True) | gen.any_frames, gen.cuts)
def test_nothing_but_protocol_errors_is_raised(sent: bytes, cuts: list[int]) -> None:
    for pieces in ([sent], split(sent, cuts), octets(sent)):
        parser = MessageParser(inflater=Inflater(), max_size=1000)
        outcome = drive(parser, pieces)
        assert outcome.code in (None, 1002, 1007, 1009)
        closed = any(isinstance(event, Close) for event in outcome.events)
        assert parser.closed == (closed or outcome.error is not None)


@thorough
@given(gen.streams(compressed=True), st.integers(0, 300), gen.cuts)
def test_no_message_is_larger_than_the_limit(
    stream: gen.Stream, limit: int, cuts: list[int]
) -> None:
    outcome = parse(*split(stream.sent, cuts), inflater=Inflater(), max_size=limit)
    sizes = [
        len(event.encode() if isinstance(event, str) else event)
        for event in stream.events
        if isinstance(event, str | bytes)
    ]
    if all(size <= limit for size in sizes):
        assert outcome.events == stream.events
    else:
        assert outcome.code == 1009
        assert outcome.events == stream.events[: len(outcome.events)]


@thorough
@given(st.binary(max_size=300), gen.keys)
def test_unmasking(data: bytes, key: bytes) -> None:
    assert unmask(data, key) == xor(data, key)


# --- writing, read by our own parser once it is masked


@thorough
@given(
    st.lists(gen.messages, max_size=6),
    st.sampled_from(
        [
            "",
            "permessage-deflate",
            "permessage-deflate; server_no_context_takeover",
            "permessage-deflate; server_max_window_bits=8",
            "permessage-deflate; server_max_window_bits=9; client_max_window_bits",
        ]
    ),
    st.sampled_from([0, 1, 64, 1000]),
)
def test_what_is_written_is_read(messages: list[str | bytes], offer: str, threshold: int) -> None:
    options = DeflateOptions(threshold=threshold)
    agreement = negotiate_deflate(parse_extensions(offer.encode()), options)
    writer = MessageWriter(agreement and agreement.deflater())
    sent = b"".join(mask(b"".join(writer.message(message))) for message in messages)
    inflater = None
    if agreement is not None:  # what the client would have
        inflater = Inflater(
            window_bits=agreement.server_max_window_bits,
            context_takeover=not agreement.server_no_context_takeover,
        )
    outcome = parse(sent, inflater=inflater)
    assert outcome.error is None
    assert outcome.events == messages
    assert [type(event) for event in outcome.events] == [type(message) for message in messages]


def mask(frame: bytes) -> bytes:
    """A server's frame as a client's, with a key that changes nothing."""
    start = {126: 4, 127: 10}.get(frame[1], 2)
    return bytes((frame[0], frame[1] | 0x80)) + frame[2:start] + bytes(4) + frame[start:]


@thorough
@given(gen.closes)
def test_close_frames_that_are_written_are_read(close: Any) -> None:
    outcome = parse(mask(MessageWriter().close(close.code, close.reason)))
    assert outcome.events == [close]


# --- handshakes

header_values = st.binary(max_size=30) | st.sampled_from(
    [b"websocket", b"Upgrade", b"13", *FIELDS.values(), b'permessage-deflate; a="b"', b"a, b"]
)
NAMES = [*FIELDS, b"sec-websocket-protocol", b"sec-websocket-extensions", b"content-length", b"x"]
headers = st.lists(st.tuples(st.sampled_from(NAMES), header_values), max_size=10)


@thorough
@given(headers, st.booleans())
def test_requests_are_taken_or_refused(
    fields: list[tuple[bytes, bytes]], usual_ones_first: bool
) -> None:
    if usual_ones_first:
        fields = [*FIELDS.items(), *fields]
    try:
        handshake = read_handshake("GET", "1.1", fields)
    except HandshakeError:
        return
    negotiate_deflate(handshake.extensions)
    fields_of(handshake.response())


@thorough
@given(st.lists(st.tuples(st.binary(max_size=12), st.binary(max_size=12)), max_size=4))
def test_responses_are_well_formed(fields: list[tuple[bytes, bytes]]) -> None:
    handshake = read_handshake("GET", "1.1", list(FIELDS.items()))
    try:
        response = handshake.response(headers=fields)
    except ASGIProtocolError:
        return
    assert len(fields_of(response)) == 3 + len(fields)


extension_texts = st.text(st.sampled_from(list('ab;=," \t\\')), max_size=20).map(str.encode)


@thorough
@given(extension_texts)
def test_extensions_are_parsed_or_refused(value: bytes) -> None:
    try:
        extensions = parse_extensions(value)
    except HandshakeError:
        return
    rendered = b", ".join(
        b"; ".join([name, *(n if v is None else b"%b=%b" % (n, v) for n, v in parameters)])
        for name, parameters in extensions
    )
    assert parse_extensions(rendered) == extensions
