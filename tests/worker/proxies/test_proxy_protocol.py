"""``worker.proxies.proxy_protocol``: headers of versions 1 and 2, whole and in pieces."""

from __future__ import annotations

import ipaddress
import socket
import struct
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from subinterp_asgi.errors import SubinterpASGIError
from subinterp_asgi.types import Address
from subinterp_asgi.worker.proxies.proxy_protocol import (
    ProxiedConnection,
    ProxyProtocolError,
    read_header,
)

REQUEST = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
LOCAL, PROXY = 0x20, 0x21
UNSPEC, TCP4, UDP4, TCP6, UDP6, UNIX, UNIX_DGRAM = 0x00, 0x11, 0x12, 0x21, 0x22, 0x31, 0x32

BLOCK4 = bytes((192, 0, 2, 1, 198, 51, 100, 2)) + struct.pack("!HH", 56324, 443)
BLOCK6 = (
    socket.inet_pton(socket.AF_INET6, "2001:db8::1")
    + socket.inet_pton(socket.AF_INET6, "::ffff:198.51.100.2")
    + struct.pack("!HH", 1, 65535)
)
TLVS = b"\x01\x00\x08http/1.1" + b"\x03\x00\x04\xde\xad\xbe\xef" + b"\x04\x00\x00"


def v2(command: int, family: int, block: bytes = b"", length: int | None = None) -> bytes:
    size = len(block) if length is None else length
    return SIGNATURE + struct.pack("!BBH", command, family, size) + block


def unix(source: bytes, destination: bytes) -> bytes:
    return source.ljust(108, b"\0") + destination.ljust(108, b"\0")


def proxied(source: Address | None, destination: Address | None) -> ProxiedConnection:
    return ProxiedConnection(source, destination, REQUEST, is_local=False)


NOBODY = ProxiedConnection(None, None, REQUEST, is_local=True)


# --- version 1 -----------------------------------------------------------------------------------

LONGEST_UNKNOWN = b"PROXY UNKNOWN " + b" ".join((b"ffff:" * 7 + b"ffff",) * 2) + b" 65535 65535\r\n"


@pytest.mark.parametrize(
    ("header", "result"),
    [
        (
            b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n",
            proxied(("192.168.0.1", 56324), ("192.168.0.11", 443)),
        ),
        (
            b"PROXY TCP4 255.255.255.255 0.0.0.0 65535 0\r\n",
            proxied(("255.255.255.255", 65535), ("0.0.0.0", 0)),
        ),
        (
            b"PROXY TCP6 2001:DB8:0:0::1 ::1 1 2\r\n",
            proxied(("2001:db8::1", 1), ("::1", 2)),
        ),
        (
            b"PROXY TCP6 ::ffff:192.0.2.1 " + b"ffff:" * 7 + b"ffff 65535 65535\r\n",
            proxied(("::ffff:192.0.2.1", 65535), ("ffff:" * 7 + "ffff", 65535)),
        ),
        (b"PROXY UNKNOWN\r\n", NOBODY),
        (b"PROXY UNKNOWN \r\n", NOBODY),
        (b"PROXY UNKNOWN whatever \xff is \r here \n\r\n", NOBODY),
        (LONGEST_UNKNOWN, NOBODY),
    ],
)
def test_v1(header: bytes, result: ProxiedConnection) -> None:
    assert len(LONGEST_UNKNOWN) == 107
    assert read_header(header + REQUEST) == result


@pytest.mark.parametrize(
    "header",
    [
        b"GET / HTTP/1.1\r\n",
        b"PROPFIND / HTTP/1.1\r\n",
        b"proxy TCP4 1.1.1.1 2.2.2.2 1 2\r\n",
        b" PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\n",
        b"PROXY\tTCP4 1.1.1.1 2.2.2.2 1 2\r\n",
        b"PROXY  TCP4 1.1.1.1 2.2.2.2 1 2\r\n",
        b"PROXY \r\n",
        b"PROXY TCP4\r\n",
        b"PROXY TCP5 1.1.1.1 2.2.2.2 1 2\r\n",
        b"PROXY tcp4 1.1.1.1 2.2.2.2 1 2\r\n",
        b"PROXY UDP4 1.1.1.1 2.2.2.2 1 2\r\n",
        b"PROXY UNKNOWNS\r\n",
        b"PROXY TCP4 1.1.1.1 2.2.2.2 1\r\n",
        b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2 \r\n",
        b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2 3\r\n",
        b"PROXY TCP4 1.1.1.1  2.2.2.2 1 2\r\n",
        b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2\n\r\n",
        b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\r\n",
        # addresses
        b"PROXY TCP4 ::1 ::1 1 2\r\n",
        b"PROXY TCP6 1.1.1.1 2.2.2.2 1 2\r\n",
        b"PROXY TCP4 1.1.1 2.2.2.2 1 2\r\n",
        b"PROXY TCP4 1.1.1.256 2.2.2.2 1 2\r\n",
        b"PROXY TCP4 1.1.1.1 2.2.2.256 1 2\r\n",
        b"PROXY TCP4 01.1.1.1 2.2.2.2 1 2\r\n",
        b"PROXY TCP4 0x1.1.1.1 2.2.2.2 1 2\r\n",
        b"PROXY TCP4 localhost 2.2.2.2 1 2\r\n",
        b"PROXY TCP6 fe80::1%1 ::1 1 2\r\n",
        b"PROXY TCP6 [::1] ::1 1 2\r\n",
        b"PROXY TCP6 1::2::3 ::1 1 2\r\n",
        b"PROXY TCP6 ::12345 ::1 1 2\r\n",
        # ports
        b"PROXY TCP4 1.1.1.1 2.2.2.2 65536 2\r\n",
        b"PROXY TCP4 1.1.1.1 2.2.2.2 1 65536\r\n",
        b"PROXY TCP4 1.1.1.1 2.2.2.2 01 2\r\n",
        b"PROXY TCP4 1.1.1.1 2.2.2.2 -1 2\r\n",
        b"PROXY TCP4 1.1.1.1 2.2.2.2 +1 2\r\n",
        b"PROXY TCP4 1.1.1.1 2.2.2.2 \r\n",
    ],
)
def test_v1_malformed(header: bytes) -> None:
    with pytest.raises(ProxyProtocolError):
        read_header(header + REQUEST)


def test_a_v1_line_ends_within_107_octets() -> None:
    head = b"PROXY UNKNOWN "
    assert read_header(head + b"x" * (105 - len(head)) + b"\r\n") is not None
    assert read_header(head + b"x" * (106 - len(head))) is None
    assert read_header(head + b"x" * (105 - len(head)) + b"\r") is None
    for tail in (b"\r\n", b"x"):
        with pytest.raises(ProxyProtocolError, match="no end"):
            read_header(head + b"x" * (106 - len(head)) + tail)


# --- version 2 -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "result"),
    [
        (v2(PROXY, TCP4, BLOCK4), proxied(("192.0.2.1", 56324), ("198.51.100.2", 443))),
        (v2(PROXY, TCP4, BLOCK4 + TLVS), proxied(("192.0.2.1", 56324), ("198.51.100.2", 443))),
        (v2(PROXY, TCP6, BLOCK6), proxied(("2001:db8::1", 1), ("::ffff:198.51.100.2", 65535))),
        (
            v2(PROXY, TCP6, BLOCK6 + TLVS),
            proxied(("2001:db8::1", 1), ("::ffff:198.51.100.2", 65535)),
        ),
        # Unix sockets: without a name, with the name of a file, and of none.
        (v2(PROXY, UNIX, unix(b"", b"/run/a.sock")), proxied(None, ("/run/a.sock", None))),
        (v2(PROXY, UNIX, unix(b"/c", b"") + TLVS), proxied(("/c", None), None)),
        (
            v2(PROXY, UNIX, unix(b"x" * 108, b"\0name")),
            proxied(("x" * 108, None), ("@name", None)),
        ),
        (
            v2(PROXY, UNIX, unix(b"/a\0/b", b"\xff")),
            proxied(("/a", None), ("\udcff", None)),
        ),
        # Nobody is named, or in a way that does not fit a stream.
        (v2(LOCAL, UNSPEC), NOBODY),
        (v2(LOCAL, UNSPEC, TLVS), NOBODY),
        (v2(LOCAL, TCP4, BLOCK4), NOBODY),
        (v2(LOCAL, TCP4), NOBODY),
        (v2(LOCAL, 0xFF, b"anything"), NOBODY),
        (v2(PROXY, UNSPEC), NOBODY),
        (v2(PROXY, UNSPEC, TLVS), NOBODY),
        (v2(PROXY, 0x01, TLVS), NOBODY),
        (v2(PROXY, 0x10, BLOCK4), NOBODY),
        (v2(PROXY, UDP4, BLOCK4), NOBODY),
        (v2(PROXY, UDP6, BLOCK6), NOBODY),
        (v2(PROXY, UNIX_DGRAM, unix(b"", b"/a")), NOBODY),
    ],
)
def test_v2(header: bytes, result: ProxiedConnection) -> None:
    assert read_header(header + REQUEST) == result


@pytest.mark.parametrize(
    "header",
    [
        b"\r\n\r\nGET / HTTP/1.1\r\n\r\n",
        SIGNATURE[:-1] + b"\r" + v2(PROXY, TCP4, BLOCK4)[12:],
        v2(0x11, TCP4, BLOCK4),
        v2(0x31, TCP4, BLOCK4),
        v2(0x01, TCP4, BLOCK4),
        v2(0x22, TCP4, BLOCK4),
        v2(0x2F, TCP4, BLOCK4),
        v2(PROXY, 0x41, BLOCK4),
        v2(PROXY, 0xF1, BLOCK4),
        v2(PROXY, 0x13, BLOCK4),
        v2(PROXY, 0x1F, BLOCK4),
        v2(PROXY, TCP4, BLOCK4, length=11),
        v2(PROXY, TCP4, BLOCK4, length=0),
        v2(PROXY, TCP6, BLOCK6, length=35),
        v2(PROXY, TCP6, BLOCK4),
        v2(PROXY, UNIX, unix(b"", b""), length=215),
    ],
)
def test_v2_malformed(header: bytes) -> None:
    with pytest.raises(ProxyProtocolError):
        read_header(header + REQUEST)


def test_a_v2_header_has_a_bound() -> None:
    assert read_header(v2(PROXY, TCP4, BLOCK4.ljust(4096, b"\0"))) is not None
    with pytest.raises(ProxyProtocolError, match="too long"):
        read_header(v2(PROXY, TCP4, length=4097))  # before any of it is kept
    with pytest.raises(ProxyProtocolError, match="too long"):
        read_header(v2(LOCAL, UNSPEC, length=65535))


# --- both ----------------------------------------------------------------------------------------


def test_the_error_is_of_the_package_and_a_value_error() -> None:
    assert issubclass(ProxyProtocolError, SubinterpASGIError)
    assert issubclass(ProxyProtocolError, ValueError)


@pytest.mark.parametrize("first", [b"G", b"PROXX", b"\r\n\r\nX", b"\0", b"\x16\x03\x01"])
def test_what_is_no_header_is_refused_at_once(first: bytes) -> None:
    with pytest.raises(ProxyProtocolError, match="does not begin"):
        read_header(first)


v4 = st.ip_addresses(v=4)
v6 = st.ip_addresses(v=6)
ports = st.integers(0, 65535)


def v1_header(source: object, destination: object, *port: int) -> bytes:
    kind = "TCP4" if "." in f"{source}" and ":" not in f"{source}" else "TCP6"
    return f"PROXY {kind} {source} {destination} {port[0]} {port[1]}\r\n".encode()


def v2_header(
    source: ipaddress.IPv4Address, destination: ipaddress.IPv4Address, *port: int
) -> bytes:
    family = TCP4 if len(source.packed) == 4 else TCP6
    return v2(PROXY, family, source.packed + destination.packed + struct.pack("!HH", *port))


@given(
    st.sampled_from((v1_header, v2_header)),
    st.tuples(v4, v4) | st.tuples(v6, v6),
    ports,
    ports,
    st.binary(max_size=20),
)
def test_round_trip(
    header: Callable[..., bytes],
    addresses: tuple[ipaddress.IPv4Address, ipaddress.IPv4Address],
    source_port: int,
    destination_port: int,
    leftover: bytes,
) -> None:
    result = read_header(header(*addresses, source_port, destination_port) + leftover)
    assert result is not None
    assert (result.leftover, result.is_local) == (leftover, False)
    found = [result.source, result.destination]
    for address, port in zip(addresses, (source_port, destination_port), strict=True):
        host, found_port = found.pop(0) or ("", None)
        assert (ipaddress.ip_address(host), found_port) == (address, port)


type Outcome = tuple[str, ProxiedConnection | None]


def feed_in_pieces(data: bytes, cuts: list[int]) -> Outcome:
    """Read data as it comes, cut at some places; what has not come counts as leftover."""
    edges = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    for end in edges[1:]:
        try:
            result = read_header(data[:end])
        except ProxyProtocolError:
            return "error", None
        if result is not None:
            leftover = result.leftover + data[end:]
            return "done", ProxiedConnection(
                result.source, result.destination, leftover, result.is_local
            )
    return "more", None


def valid_and_mutated() -> st.SearchStrategy[bytes]:
    headers = st.sampled_from(
        (
            b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n",
            b"PROXY TCP6 2001:db8::1 ::1 1 2\r\n",
            b"PROXY UNKNOWN\r\n",
            LONGEST_UNKNOWN,
            v2(LOCAL, UNSPEC),
            v2(PROXY, TCP4, BLOCK4 + TLVS),
            v2(PROXY, TCP6, BLOCK6),
            v2(PROXY, UNIX, unix(b"/a", b"\0b")),
        )
    )

    def mutate(parts: tuple[bytes, int, bytes, int, bytes]) -> bytes:
        header, at, insert, drop, rest = parts
        at %= len(header)
        return header[:at] + insert + header[at + drop :] + rest

    mutated = st.tuples(
        headers, st.integers(0, 400), st.binary(max_size=3), st.integers(0, 3), st.binary()
    )
    prefixed = st.tuples(st.sampled_from((b"PROXY ", SIGNATURE, b"PROXY TCP4 ")), st.binary())
    return st.one_of(
        st.tuples(headers, st.binary()).map(b"".join),
        mutated.map(mutate),
        prefixed.map(b"".join),
        st.binary(),
    )


@given(valid_and_mutated(), st.lists(st.integers(0, 300), max_size=8))
@example(v2(PROXY, TCP4, BLOCK4 + TLVS) + REQUEST, list(range(100)))
@example(b"PROXY TCP6 2001:db8::1 ::1 1 2\r\n" + REQUEST, list(range(100)))
@example(LONGEST_UNKNOWN, list(range(108)))
@example(b"PROXY UNKNOWN " + b"x" * 92 + b"\r\n", list(range(109)))
def test_any_split_gives_the_same_and_nothing_raises_anything_else(
    data: bytes, cuts: list[int]
) -> None:
    outcome, result = feed_in_pieces(data, cuts)
    assert (outcome, result) == feed_in_pieces(data, [])
    if result is not None:
        assert data.endswith(result.leftover)
        assert not result.is_local or (result.source, result.destination) == (None, None)
