"""A parser for the PROXY protocol, versions 1 and 2, that does no I/O: bytes in, addresses out.

A proxy that forwards octets and can't add fields to requests says instead, at the very start of
each connection, who has connected to it, and to what address. (haproxy's ``proxy-protocol.txt`` is
the specification; the sections named here are its.) A header must be there on every connection of
a server that expects one, or else clients could send their own (section 2): whoever calls this has
to refuse peers that are no such proxies, and connections on which it raises.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from socket import AF_INET, AF_INET6, inet_ntop

from ...config.trust import read_address, unix_path
from ...errors import SubinterpASGIError
from ...types import Address

_V1_SIGNATURE = b"PROXY "
_V1_MAX = 107
"""Octets of the longest line, CRLF included (section 2.1)."""
_V2_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
_V2_HEAD = 16
_V2_MAX = 4096
"""Octets of addresses and extensions. Senders keep to 536 in all (section 2), but for certificates
and the like that they add; the length field would allow 65535."""

# Section 2.1: one space between the parts, no zeros in front of numbers.
_PORT = rb"(0|[1-9][0-9]{0,4}+)"
_V1_LINE = re.compile(
    rb"PROXY (?:TCP4 ([0-9.]++) ([0-9.]++)|TCP6 ([0-9A-Fa-f:.]++) ([0-9A-Fa-f:.]++))"
    rb" " + _PORT + rb" " + _PORT + rb"\r\n"
)
_V1_UNKNOWN = re.compile(rb"PROXY UNKNOWN(?: .*)?\r\n", re.DOTALL)

# Section 2.2: commands other than LOCAL (0), address families, and transports.
_PROXY = 1
_UNSPEC, _INET, _INET6, _UNIX = range(4)
_STREAM, _DGRAM = 1, 2
_UNIX_PATH = 108
"""Octets of a Unix socket's address, whatever it has on this system."""
_ADDRESS_SIZE = (0, 12, 36, 2 * _UNIX_PATH)
"""Octets of both addresses, by family."""


class ProxyProtocolError(SubinterpASGIError, ValueError):
    """The connection does not begin with a valid header: abort it, and answer nothing."""


@dataclass(frozen=True, slots=True)
class ProxiedConnection:
    """What a header says.

    Attributes:
        source: Address of the client that connected to the proxy; ``None`` if it is not known, or
            a Unix socket without a name, as those of clients mostly are.
        destination: Address that the client connected to, or ``None``.
        leftover: Octets fed that come after the header, for the protocol spoken next.
        is_local: The header names nobody: the connection is the proxy's own (a health check) or
            that of a client which can't be told. Source and destination are ``None``, and the
            connection's own addresses stand.
    """

    source: Address | None
    destination: Address | None
    leftover: bytes
    is_local: bool


def read_header(data: bytes) -> ProxiedConnection | None:
    """Read the header, version 1 or 2, at the start of what came; ``None`` if more must come first.

    ``ProxyProtocolError``: it is none, or one that is too long.
    """
    if _V2_SIGNATURE.startswith(data[: len(_V2_SIGNATURE)]):
        return _read_v2(data)
    if _V1_SIGNATURE.startswith(data[: len(_V1_SIGNATURE)]):
        return _read_v1(data)
    raise ProxyProtocolError("the connection does not begin with a PROXY header")


# --- version 1 -----------------------------------------------------------------------------------


def _read_v1(data: bytes) -> ProxiedConnection | None:
    """Section 2.1: a line of text."""
    end = data.find(b"\r\n", 0, _V1_MAX) + 2
    if end < 2:
        if len(data) >= _V1_MAX:
            raise ProxyProtocolError("the PROXY line has no end")
        return None
    line, leftover = data[:end], data[end:]
    match = _V1_LINE.fullmatch(line)
    if match is None:
        if _V1_UNKNOWN.fullmatch(line):
            return ProxiedConnection(None, None, leftover, is_local=True)
        raise ProxyProtocolError("malformed PROXY line")
    source4, destination4, source6, destination6, source_port, destination_port = match.groups()
    v6 = source4 is None
    return ProxiedConnection(
        _read_v1_address(source4 or source6, source_port, v6=v6),
        _read_v1_address(destination4 or destination6, destination_port, v6=v6),
        leftover,
        is_local=False,
    )


def _read_v1_address(text: bytes, port: bytes, *, v6: bool) -> Address:
    address = read_address(text.decode("ascii"), port, v6=v6)
    if address is None:
        raise ProxyProtocolError("invalid address in the PROXY line")
    return address


# --- version 2 -----------------------------------------------------------------------------------


def _read_v2(data: bytes) -> ProxiedConnection | None:
    """Section 2.2: 16 octets, then addresses, then extensions, which are skipped."""
    if len(data) < _V2_HEAD:
        return None
    version, command = data[12] >> 4, data[12] & 0x0F
    family, transport = data[13] >> 4, data[13] & 0x0F
    length = int.from_bytes(data[14:16])
    if version != 2 or command > _PROXY:
        raise ProxyProtocolError("unknown version or command in the PROXY header")
    if length > _V2_MAX:
        raise ProxyProtocolError("the PROXY header is too long")
    if command == _PROXY:
        # Of a local connection the family is to be ignored, whatever it is.
        if family > _UNIX or transport > _DGRAM:
            raise ProxyProtocolError("unknown address family in the PROXY header")
        if length < _ADDRESS_SIZE[family]:
            raise ProxyProtocolError("the PROXY header is too short for its addresses")
    end = _V2_HEAD + length
    if len(data) < end:
        return None
    leftover = data[end:]
    if command != _PROXY or family == _UNSPEC or transport != _STREAM:
        # Nothing that comes by a stream was sent in datagrams; to fall back to the connection's
        # own addresses is what the specification asks for.
        return ProxiedConnection(None, None, leftover, is_local=True)
    source, destination = _read_v2_addresses(family, data[_V2_HEAD:end])
    return ProxiedConnection(source, destination, leftover, is_local=False)


def _read_v2_addresses(family: int, block: bytes) -> tuple[Address | None, Address | None]:
    if family == _UNIX:
        paths = block[:_UNIX_PATH], block[_UNIX_PATH : 2 * _UNIX_PATH]
        return _read_unix_path(paths[0]), _read_unix_path(paths[1])
    af, size = (AF_INET, 4) if family == _INET else (AF_INET6, 16)
    hosts, ports = block[: 2 * size], block[2 * size :]
    return (
        (inet_ntop(af, hosts[:size]), int.from_bytes(ports[:2])),
        (inet_ntop(af, hosts[size:]), int.from_bytes(ports[2:4])),
    )


def _read_unix_path(field: bytes) -> Address | None:
    """Read a path, which ends with NUL, or an abstract name, which begins with it."""
    abstract = field.startswith(b"\0")
    name = field.rstrip(b"\0") if abstract else field.partition(b"\0")[0]
    return (unix_path(name), None) if name else None
