"""``subinterp_asgi.worker.proxies.forwarded``: the grammar of RFC 7239, read from the end."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from subinterp_asgi.worker.proxies.forwarded import Element, elements_from_end


def parse(value: str) -> list[Element]:
    return list(elements_from_end(value.encode("latin-1")))


@pytest.mark.parametrize(
    ("value", "elements"),
    [
        # The examples of sections 4 and 7.
        ('for="_gazonk"', [(("_gazonk", 0), None, None)]),
        ('For="[2001:db8:cafe::17]:4711"', [(("2001:db8:cafe::17", 4711), None, None)]),
        (
            "for=192.0.2.60;proto=http;by=203.0.113.43",
            [(("192.0.2.60", 0), b"http", None)],
        ),
        (
            "for=192.0.2.43, for=198.51.100.17",
            [(("198.51.100.17", 0), None, None), (("192.0.2.43", 0), None, None)],
        ),
        (
            'for=192.0.2.43,for="[2001:db8:cafe::17]",for=unknown',
            [
                (("unknown", 0), None, None),
                (("2001:db8:cafe::17", 0), None, None),
                (("192.0.2.43", 0), None, None),
            ],
        ),
        (
            "for=_hidden, for=_SEVKISEK",
            [(("_SEVKISEK", 0), None, None), (("_hidden", 0), None, None)],
        ),
        # Values.
        ('for="192.0.2.43:47011"', [(("192.0.2.43", 47011), None, None)]),
        ('for="192.0.2.43:_port"', [(("192.0.2.43", 0), None, None)]),
        ('for="unknown:80"', [(("unknown", 80), None, None)]),
        ("FOR=UNKNOWN;PROTO=Https", [(("unknown", 0), b"Https", None)]),
        ('proto="https";host="example.com:8443"', [(None, b"https", b"example.com:8443")]),
        ('host="a\\"b\\\\c,;d"', [(None, None, b'a"b\\c,;d')]),
        ('for="192.0.\\2.1"', [(("192.0.2.1", 0), None, None)]),
        ("extension=1;for=192.0.2.43", [(("192.0.2.43", 0), None, None)]),
        # Empty pairs and elements.
        (";for=192.0.2.43;;", [(("192.0.2.43", 0), None, None)]),
        (" ,\tfor=192.0.2.43 , ,", [(("192.0.2.43", 0), None, None)]),
        (";", [(None, None, None)]),
        ("", []),
        (" ", []),
        (",,", []),
        # Commas within quotes.
        (
            'for=192.0.2.1, host="a, for=6.6.6.6";proto=https',
            [(None, b"https", b"a, for=6.6.6.6"), (("192.0.2.1", 0), None, None)],
        ),
        ('x="\\", for=6.6.6.6"', [(None, None, None)]),
    ],
)
def test_valid(value: str, elements: list[Element]) -> None:
    assert parse(value) == elements


@pytest.mark.parametrize(
    "element",
    [
        # No white space within elements (section 4).
        "for=192.0.2.1; proto=https",
        "for =192.0.2.1",
        "for= 192.0.2.1",
        # Not in a token: it needs quotes.
        "for=[2001:db8::1]",
        "for=192.0.2.1:80",
        "host=example.com:80",
        # Not a pair.
        "192.0.2.1",
        "for",
        "for=",
        "=192.0.2.1",
        'for="192.0.2.1',
        'for=192.0.2.1"',
        'for="192.0.2.1"x',
        'for="a\\',
        'host="a\0b"',
        "host=\xe4",
        # A parameter once per element.
        "for=192.0.2.1;for=192.0.2.1",
        "for=192.0.2.1;FOR=192.0.2.2",
        "for=192.0.2.1;x=1;X=1",
        # Not a node (section 6).
        'for=""',
        "for=localhost",
        "for=_",
        "for=192.0.2.256",
        "for=192.0.02.1",
        'for="2001:db8::1"',
        'for="[2001:db8::1"',
        'for="[192.0.2.1]"',
        'for="[fe80::1%eth0]"',
        'for="192.0.2.1:"',
        'for="192.0.2.1:65536"',
        'for="192.0.2.1:123456"',
        'for="192.0.2.1:_"',
        'for="_a b"',
        'for=" 192.0.2.1"',
    ],
)
def test_malformed(element: str) -> None:
    assert parse(element) == []
    # Nothing before it is read, and everything after it.
    assert parse(f"for=6.6.6.6, {element}") == []
    after = parse(f'for=6.6.6.6, {element}, for="[2001:db8::1]", host=a')
    assert after == [(None, None, b"a"), (("2001:db8::1", 0), None, None)]


tokens = st.text("abzABZ019!#$%&'*+-.^_`|~", min_size=1, max_size=8)
contents = st.text(
    st.sampled_from('",;=\\ for') | st.characters(min_codepoint=32, max_codepoint=255),
    max_size=30,
).map(lambda text: text.replace("\x7f", ""))


def quoted(text: str) -> str:
    return '"{}"'.format(text.replace("\\", "\\\\").replace('"', '\\"'))


@st.composite
def elements(draw: st.DrawFn) -> tuple[str, Element]:
    """An element as some proxy may have written it, and what it says."""
    host = draw(st.none() | contents)
    proto = draw(st.none() | tokens)
    pairs = ["for=192.0.2.1"]
    pairs += [f"host={quoted(host)}"] if host is not None else []
    pairs += [f"proto={proto}"] if proto is not None else []
    pairs += [f"x-other={quoted(draw(contents))}"] if draw(st.booleans()) else []
    text = ";".join(draw(st.permutations(pairs)))
    return text, (
        ("192.0.2.1", 0),
        proto.encode() if proto is not None else None,
        host.encode("latin-1") if host is not None else None,
    )


@given(st.lists(elements(), max_size=4), st.sampled_from((",", ", ", " ,\t", ",,")))
def test_round_trip(written: list[tuple[str, Element]], comma: str) -> None:
    assert parse(comma.join(text for text, _ in written)) == [e for _, e in reversed(written)]


fronts = st.binary(max_size=40) | st.lists(
    st.sampled_from((b'"', b"\\", b",", b";", b"=", b"for", b"host", b" ", b"1.2.3.4")), max_size=20
).map(b"".join)


@given(fronts, st.lists(elements(), min_size=1, max_size=3))
def test_nothing_in_front_changes_what_is_appended(
    front: bytes, written: list[tuple[str, Element]]
) -> None:
    appended = ", ".join(text for text, _ in written).encode("latin-1")
    parsed = list(elements_from_end(front + b", " + appended))
    assert parsed[: len(written)] == [e for _, e in reversed(written)]
