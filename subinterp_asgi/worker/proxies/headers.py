"""What trusted proxies say about a request: whose it is, and how and by what name it was asked for.

A proxy in front of the server hides the client, the scheme and the host that it was asked for, and
tells them in fields of the request: ``X-Forwarded-*``, or ``Forwarded`` (RFC 7239). Anyone can send
these fields. Hence they are believed from a peer on the trust list only, and of those that have
come through several proxies only what trusted ones have written: lists are read from their end,
which the peer wrote, back to the first address that is not trusted. Which is the client.

No I/O. ``config.trust`` says who is believed, and reads addresses.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from ...config import ForwardedHeader
from ...config.trust import MAX_PORT, TrustedProxies, canonical_ip, read_address
from ...http1.errors import ProtocolError
from ...http1.target import check_host
from ...types import Address, Field, Fields

type _Told = tuple[Address | None, str, bytes | None, int | None]
"""Client, scheme, host and port, as proxies tell them."""
type RequestFacts = tuple[Address | None, Address | None, str, bytes | None]
"""Client, server, scheme, and the value that takes the place of the request's ``Host`` or None."""

_HOP = re.compile(
    r"(?:(?P<v4>[0-9.]++)|\[(?P<v6>[0-9A-Fa-f:.]++)\])(?::(?P<port>[0-9]{1,5}+))?+"
    r"|(?P<bare>[0-9A-Fa-f:.]++)"
)


class ProxyHeaders:
    """Applies the forwarded fields of requests to what is known of their connection.

    One family of fields is read and the other ignored: a proxy that writes one lets the other pass,
    as the client has sent it.

    Args:
        trusted: The peers that are believed, and the proxies behind them.
        header: ``"x-forwarded"``: ``X-Forwarded-For`` and ``-Proto``; ``"forwarded"``: RFC 7239.
        host: Believe the host and port too: ``X-Forwarded-Host`` and ``-Port``, or ``host=``. Only
            for proxies that always set them, or remove what clients send.

    Attributes:
        names: The fields that are read, from peers that are believed.
    """

    def __init__(
        self,
        trusted: TrustedProxies,
        *,
        header: ForwardedHeader = "x-forwarded",
        host: bool = False,
    ) -> None:
        self._trusted = trusted
        self._trusts = trusted.trusts
        self._host = host
        if header == "forwarded":
            from .forwarded import elements_from_end  # which nobody else pays for

            self._elements = elements_from_end
            self.names = frozenset((b"forwarded",))
            self._read = self._forwarded
        else:
            names = (b"x-forwarded-for", b"x-forwarded-proto")
            more = (b"x-forwarded-host", b"x-forwarded-port") if host else ()
            self.names = frozenset((*names, *more))
            self._read = self._x_forwarded

    def believes(self, client: Address | None) -> bool:
        """Whether the fields of a peer's requests are believed, which holds for all of them."""
        return self._trusts(None if client is None else client[0])

    def apply(
        self,
        headers: Sequence[Field],
        client: Address | None,
        server: Address | None,
        scheme: str,
    ) -> RequestFacts:
        """Return client, server and scheme as the proxies tell them, and the host asked for.

        What they don't tell, or tell in a form that can't be understood, stays as it is given here.

        Args:
            headers: Fields of the request, their names in lower case. They are left alone.
            client: Address of the peer; ``None`` on a Unix socket.
            scheme: ``"http"`` or ``"https"``, or ``"ws"`` or ``"wss"``; the answer is of the same
                pair.
        """
        if self._trusts(None if client is None else client[0]):
            names = self.names
            fields = [field for field in headers if field[0] in names]
            if fields:
                client, scheme, host, port = self._read(fields, client, scheme)
                if host is not None or port is not None:
                    server, host = _apply_authority(host, port, headers, server, scheme)
                return client, server, scheme, host
        return client, server, scheme, None

    # --- X-Forwarded-*

    def _x_forwarded(self, fields: Fields, client: Address | None, scheme: str) -> _Told:
        """Read fields which no standard defines; of all but ``-For``, the last value counts.

        Proxies overwrite them, or else append; either way that one is of the peer's making.
        """
        hops: bytes | None = None
        last: dict[bytes, bytes] = {}
        for name, value in fields:
            if name == b"x-forwarded-for":
                hops = value if hops is None else hops + b"," + value
            else:
                last[name] = value
        if hops is not None:
            client = self._client(hops, client)
        host: bytes | None = None
        port: int | None = None
        for name, value in last.items():
            value = value.rpartition(b",")[2].strip(b" \t")
            if name == b"x-forwarded-proto":
                scheme = _read_scheme(value, scheme)
            elif name == b"x-forwarded-host":
                host = _read_host(value)
            else:
                port = _read_port(value)
        return client, scheme, host, port

    def _client(self, hops: bytes, client: Address | None) -> Address | None:
        """Return the last address of a list that is not a trusted proxy's, else the first.

        An entry that is no address ends the search, since nobody can tell whether who wrote what
        stands before it is trusted: the client is the one found so far.
        """
        for entry in reversed(hops.split(b",")):
            entry = entry.strip(b" \t")
            if not entry:
                continue
            address = _read_hop(entry)
            if address is not None:
                client = address
                if not self._trusts(address[0]):
                    break
            elif entry.startswith(b"unix:"):  # nginx, of a peer on a Unix socket
                client = None
                if not self._trusts(None):
                    break
            elif entry.lower() == b"unknown":  # Squid, and others after it, of one not to be named
                return None
            elif entry.decode("latin-1") not in self._trusted.names:
                break
        return client

    # --- Forwarded

    def _forwarded(self, fields: Fields, client: Address | None, scheme: str) -> _Told:
        """Read RFC 7239's field, whose elements keep together what each proxy knows.

        Scheme and host are taken from the element nearest to the client that has them, as long as
        a trusted proxy wrote it. A client that its proxy does not name becomes ``None``, rather
        than that it passes for the proxy itself.
        """
        proto: bytes | None = None
        host: bytes | None = None
        for node, its_proto, its_host in self._elements(b",".join([v for _, v in fields])):
            proto, host = its_proto or proto, its_host or host
            if node is None:
                break
            if node[0] == "unknown" or node[0].startswith("_"):
                client = None
                break
            client = node
            if not self._trusts(node[0]):
                break
        if proto is not None:
            scheme = _read_scheme(proto, scheme)
        return client, scheme, _read_host(host) if host and self._host else None, None


def _read_hop(entry: bytes) -> Address | None:
    """Read an entry of ``X-Forwarded-For``: an address, and perhaps its port, in any usual form."""
    text = entry.decode("latin-1")
    host = canonical_ip(text, v6=False)
    if host is not None:  # the one usual form
        return host, 0
    match = _HOP.fullmatch(text)
    if match is None:
        return None
    v4, v6, port, bare = match.groups()
    return read_address(v4 or v6 or bare, port, v6=v4 is None)


_SCHEMES = {
    b"http": ("http", "ws"),
    b"https": ("https", "wss"),
    b"ws": ("http", "ws"),
    b"wss": ("https", "wss"),
}


def _read_scheme(value: bytes, scheme: str) -> str:
    """Return a scheme as told, in the form for HTTP or WebSocket that ``scheme`` has."""
    pair = _SCHEMES.get(value.lower())
    return scheme if pair is None else pair[scheme[0] == "w"]


def _read_host(value: bytes) -> bytes | None:
    """Check a host as told as strictly as that of a request."""
    try:
        check_host(value)
    except ProtocolError:
        return None
    return value or None


def _read_port(value: bytes) -> int | None:
    number = int(value) if value.isdigit() and len(value) <= 5 else 0
    return number if 0 < number <= MAX_PORT else None


def _apply_authority(
    host: bytes | None,
    port: int | None,
    headers: Sequence[Field],
    server: Address | None,
    scheme: str,
) -> tuple[Address | None, bytes | None]:
    """Return the server's address and the ``Host`` that go with what a proxy was asked for.

    Args:
        host: Value of ``Host`` there; ``None``: it was passed on.
        port: Port there; it counts where that value has none.
    """
    default = 443 if scheme in ("https", "wss") else 80
    asked = host if host is not None else next((v for k, v in headers if k == b"host"), b"")
    name, colon, own_port = asked.rpartition(b":")
    if not colon or own_port.endswith(b"]"):
        name, own_port = asked, b""
    if host is not None:
        server = (name.strip(b"[]").decode("ascii"), int(own_port or port or default))
    elif server is not None and server[1] is not None:
        server = (server[0], port)
    if name and not own_port and port is not None and port != default:
        host = b"%b:%d" % (name, port)
    return server, host
