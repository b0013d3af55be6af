"""Offers of extensions (RFC 6455 section 9.1) and what becomes of them (RFC 7692 section 7.1)."""

from __future__ import annotations

import pytest

from subinterp_asgi.websocket import DeflateOptions, HandshakeError, negotiate_deflate
from subinterp_asgi.websocket.extensions import parse_extensions

LARGEST = DeflateOptions(server_max_window_bits=15, client_max_window_bits=15)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"", []),
        (b"foo", [(b"foo", [])]),
        (b"foo, bar; baz=2", [(b"foo", []), (b"bar", [(b"baz", b"2")])]),
        (b"foo ;\ta ; b = 1\t, c", [(b"foo", [(b"a", None), (b"b", b"1")]), (b"c", [])]),
        (b"foo;a;a=1", [(b"foo", [(b"a", None), (b"a", b"1")])]),
        (b"FOO; Bar=Baz", [(b"foo", [(b"bar", b"Baz")])]),
        (b'foo; a="b"', [(b"foo", [(b"a", b"b")])]),
        (b'foo; a="b\\c\\d"', [(b"foo", [(b"a", b"bcd")])]),
        (b", ,foo,, bar ,\t", [(b"foo", []), (b"bar", [])]),
        (b" , ", []),
        (b"x!#$%&'*+-.^_`|~9", [(b"x!#$%&'*+-.^_`|~9", [])]),
    ],
)
def test_the_grammar(value: bytes, expected: object) -> None:
    assert parse_extensions(value) == expected


@pytest.mark.parametrize(
    "value",
    [
        b"foo bar",
        b"foo; ",
        b"foo;",
        b"foo;, bar",
        b"; a",
        b"foo; =1",
        b"foo; a=",
        b"foo; a= , bar",
        b"foo; a b",
        b"foo; a=b c",
        b'foo; a="',
        b'foo; a=""',
        b'foo; a="b c"',
        b'foo; a="b,c"',
        b'foo; a="b"c',
        b'foo; a="b\\"',
        b'foo; "a"=b',
        b"foo=1",
        b"foo\0",
        b"f\xe9",
        b"foo\r\n",
        b"foo/1",
    ],
)
def test_what_is_not_in_the_grammar(value: bytes) -> None:
    """Section 9.1: the connection must be failed."""
    with pytest.raises(HandshakeError, match="Extensions") as caught:
        parse_extensions(value)
    assert caught.value.status == 400


@pytest.mark.parametrize(
    "value",
    [b"a" * 65536, b"," * 65536, b" " * 65536, b"a;" + b"b;" * 32768, b'a;b="' + b"\\" * 65536],
)
def test_parsing_takes_linear_time(value: bytes) -> None:
    """A pattern that retries would not end within the test's time."""
    for text in (value, value * 10, value * 10 + b"\0"):
        try:
            parse_extensions(text)
        except HandshakeError:
            continue


# --- negotiation: offer, options, response

RESPONSES = [
    # RFC 7692 section 7.1.2 and 7.1.3
    (b"permessage-deflate", b"permessage-deflate"),
    (b"Permessage-Deflate", b"permessage-deflate"),
    (
        b"permessage-deflate; server_no_context_takeover",
        b"permessage-deflate; server_no_context_takeover",
    ),
    (
        b"permessage-deflate; client_no_context_takeover",
        b"permessage-deflate; client_no_context_takeover",
    ),
    (
        b"permessage-deflate; client_no_context_takeover; server_no_context_takeover",
        b"permessage-deflate; server_no_context_takeover; client_no_context_takeover",
    ),
    (
        b"permessage-deflate; client_max_window_bits",
        b"permessage-deflate; client_max_window_bits=15",
    ),
    (
        b"permessage-deflate; client_max_window_bits=8",
        b"permessage-deflate; client_max_window_bits=8",
    ),
    (
        b'permessage-deflate; server_max_window_bits="10"',
        b"permessage-deflate; server_max_window_bits=10",
    ),
    (
        b"permessage-deflate; server_max_window_bits=8",
        b"permessage-deflate; server_max_window_bits=8",
    ),
    (
        b"permessage-deflate; server_max_window_bits=15; client_max_window_bits=15",
        b"permessage-deflate; server_max_window_bits=15; client_max_window_bits=15",
    ),
    # offers that are declined
    (b"", None),
    (b"x-webkit-deflate-frame", None),
    (b"permessage-bzip2", None),
    (b"permessage-deflate; unknown", None),
    (b"permessage-deflate; server_no_context_takeover=1", None),
    (b"permessage-deflate; client_no_context_takeover=true", None),
    (b"permessage-deflate; server_no_context_takeover; server_no_context_takeover", None),
    (b"permessage-deflate; client_max_window_bits; client_max_window_bits=10", None),
    (b"permessage-deflate; server_max_window_bits", None),
    *(
        (b"permessage-deflate; " + side + b"_max_window_bits=" + value, None)
        for side in (b"server", b"client")
        for value in (b"0", b"7", b"16", b"08", b"010", b"1_0", b"-8", b"+9", b"x", b"8.0")
    ),
    # the first that can be accepted is (section 5)
    (
        b"permessage-deflate; server_max_window_bits=20, permessage-deflate",
        b"permessage-deflate",
    ),
    (
        b"other, permessage-deflate; unknown, permessage-deflate; server_max_window_bits=9, "
        b"permessage-deflate",
        b"permessage-deflate; server_max_window_bits=9",
    ),
]


@pytest.mark.parametrize(("offer", "response"), RESPONSES)
def test_responses_to_offers(offer: bytes, response: bytes | None) -> None:
    agreement = negotiate_deflate(parse_extensions(offer), LARGEST)
    assert (agreement and agreement.response) == response


@pytest.mark.parametrize(
    ("offer", "response"),
    [
        # Nothing is said that the client did not say it understands.
        (b"permessage-deflate", b"permessage-deflate"),
        (
            b"permessage-deflate; client_max_window_bits",
            b"permessage-deflate; client_max_window_bits=12",
        ),
        (
            b"permessage-deflate; client_max_window_bits=10; server_max_window_bits=15",
            b"permessage-deflate; server_max_window_bits=12; client_max_window_bits=10",
        ),
    ],
)
def test_the_defaults_use_smaller_windows(offer: bytes, response: bytes) -> None:
    agreement = negotiate_deflate(parse_extensions(offer))
    assert agreement is not None
    assert agreement.response == response


def test_what_was_agreed() -> None:
    offers = parse_extensions(
        b"permessage-deflate; server_max_window_bits=10; client_max_window_bits=9; "
        b"server_no_context_takeover; client_no_context_takeover"
    )
    agreement = negotiate_deflate(offers)
    assert agreement is not None
    assert agreement.server_max_window_bits == 10
    assert agreement.client_max_window_bits == 9
    assert agreement.server_no_context_takeover
    assert agreement.client_no_context_takeover

    agreement = negotiate_deflate(parse_extensions(b"permessage-deflate"))
    assert agreement is not None
    assert agreement.server_max_window_bits == 12  # ours to choose
    assert agreement.client_max_window_bits == 15  # the client's
    assert not agreement.server_no_context_takeover
    assert not agreement.client_no_context_takeover


def test_a_server_that_wants_no_context_takeover() -> None:
    """Sections 7.1.1.1 and 7.1.1.2: a server may say so without having been asked."""
    options = DeflateOptions(server_no_context_takeover=True, client_no_context_takeover=True)
    agreement = negotiate_deflate(parse_extensions(b"permessage-deflate"), options)
    assert agreement is not None
    assert agreement.response == (
        b"permessage-deflate; server_no_context_takeover; client_no_context_takeover"
    )
    assert agreement.server_no_context_takeover


def test_a_window_too_small_for_zlib() -> None:
    """It is agreed to, and then not used."""
    agreement = negotiate_deflate(parse_extensions(b"permessage-deflate; server_max_window_bits=8"))
    assert agreement is not None
    assert agreement.deflater() is None
    assert agreement.inflater() is not None
