"""What trusted proxies say about a request: whose it is, and how and by what name it was asked for.

A proxy in front of the server hides the client, the scheme and the host that it was asked for, and
tells them in fields of the request: ``X-Forwarded-*``, or ``Forwarded`` (RFC 7239). Anyone can send
these fields. Hence they are believed from a peer on the trust list only, and of those that have
come through several proxies only what trusted ones have written: lists are read from their end,
which the peer wrote, back to the first address that is not trusted. Which is the client.

No I/O, and no ``ipaddress``, which would cost each interpreter more than all that is here: the
address functions of ``socket`` know the same grammar.
"""

from __future__ import annotations

import re
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton

from ...errors import ConfigError
from ...http1.errors import ProtocolError
from ...http1.target import check_host
from ...types import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ...config import ForwardedHeader
    from ...types import Address

type RequestFacts = tuple[Address | None, Address | None, str, bytes | None]
"""Client, server, scheme, and the value that takes the place of the request's ``Host`` or None."""

_MEMO_SIZE = 1024
"""Hosts whose trust is remembered. Peers choose what is asked for, so that it must have a bound."""
_LONGEST_NAME = 253
"""Octets of a DNS name; what is longer is not worth remembering."""

_MAPPED = bytes(10) + b"\xff\xff"
"""What IPv4-mapped IPv6 addresses begin with (RFC 4291 section 2.5.5.2)."""

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]*+")
_HOP = re.compile(
    r"(?:(?P<v4>[0-9.]++)|\[(?P<v6>[0-9A-Fa-f:.]++)\])(?::(?P<port>[0-9]{1,5}+))?+"
    r"|(?P<bare>[0-9A-Fa-f:.]++)"
)
_MAX_PORT = 65535


# --- trust ---------------------------------------------------------------------------------------


class TrustedProxies:
    """The peers whose forwarded fields are believed.

    Args:
        allow: Comma-separated, or an iterable of such strings. Each entry is an address
            (``"10.0.0.1"``, ``"fd00::1"``), a network (``"10.0.0.0/8"``), ``"unix"`` (or
            ``"unix:"``) for whoever connects to a Unix socket, ``"*"`` for everybody, these
            included, or a name, which stands for itself: it is not looked up. An IPv4 address
            stands for the IPv4-mapped IPv6 address too, and the other way round; ``"::/0"`` is all
            other IPv6. Nothing: nobody.

    Attributes:
        names: The entries that are names.

    Raises:
        ConfigError: An entry is none of these.
    """

    __slots__ = ("_addresses", "_everybody", "_known", "_networks", "_unix", "names")

    def __init__(self, allow: str | Iterable[str]) -> None:
        self._everybody = False
        self._unix = False
        self._addresses: set[bytes] = set()
        self._networks: list[tuple[int, int, int]] = []  # octets of an address, shift, prefix
        self._known: dict[str | None, bool] = {}
        self.names: set[str] = set()
        for text in (allow,) if isinstance(allow, str) else allow:
            if not isinstance(text, str):
                raise _bad_entry(text, "is not a string")
            for entry in text.split(","):
                self._add(entry.strip())

    def trusts(self, host: str | None) -> bool:
        """Whether a peer is trusted, by its address; ``None`` is a peer on a Unix socket."""
        known = self._known.get(host)
        return self._decide(host) if known is None else known

    def _decide(self, host: str | None) -> bool:
        trusted = self._everybody or (self._unix if host is None else self._listed(host))
        if host is None or len(host) <= _LONGEST_NAME:
            if len(self._known) >= _MEMO_SIZE:
                self._known.clear()
            self._known[host] = trusted
        return trusted

    def _listed(self, host: str) -> bool:
        # The zone of a link-local address is not part of it.
        packed = _pack(host.partition("%")[0] if ":" in host else host)
        if packed is None:
            return host in self.names
        if packed in self._addresses:
            return True
        size, value = len(packed), int.from_bytes(packed)
        return any(size == n and value >> shift == prefix for n, shift, prefix in self._networks)

    def _add(self, entry: str) -> None:
        if not entry:
            return
        if entry == "*":
            self._everybody = True
        elif entry in ("unix", "unix:"):
            self._unix = True
        elif "/" in entry:
            self._networks.append(_read_network(entry))
        elif (packed := _pack(entry)) is not None:
            self._addresses.add(packed)
        elif _NAME.fullmatch(entry) and not entry.replace(".", "").isdigit():
            self.names.add(entry)
        else:
            raise _bad_entry(entry, "is not an address, a network, 'unix' or '*'")


def _read_network(entry: str) -> tuple[int, int, int]:
    """Read a network in CIDR notation (RFC 4632 section 3.1, RFC 4291 section 2.3)."""
    address, _, length = entry.partition("/")
    packed = _pack(address, unmap=False)
    if packed is None or not (length.isascii() and length.isdigit() and len(length) <= 3):
        raise _bad_entry(entry, "is not a network: address/prefix length")
    prefix_length = int(length)
    if packed.startswith(_MAPPED) and prefix_length >= 96:
        packed, prefix_length = packed[12:], prefix_length - 96
    shift = len(packed) * 8 - prefix_length
    if shift < 0:
        raise _bad_entry(entry, "has too long a prefix")
    value = int.from_bytes(packed)
    prefix = value >> shift
    if prefix << shift != value:
        # Either the address or the length is not what was meant.
        first = inet_ntop(_family(packed), (prefix << shift).to_bytes(len(packed)))
        raise _bad_entry(entry, f"has bits after its prefix; the network is {first}/{length}")
    return len(packed), shift, prefix


def _bad_entry(entry: object, problem: str) -> ConfigError:
    return ConfigError("forwarded_allow_ips", f"{entry!r} {problem}")


def _pack(host: str, *, unmap: bool = True) -> bytes | None:
    """Return an address in network byte order, if it is one; an IPv4-mapped one as IPv4."""
    try:
        if ":" not in host:
            return inet_pton(AF_INET, host)
        packed = inet_pton(AF_INET6, host)
    except (OSError, ValueError):  # no address; no text that C can take
        return None
    return packed[12:] if unmap and packed.startswith(_MAPPED) else packed


def _family(packed: bytes) -> int:
    return AF_INET if len(packed) == 4 else AF_INET6


def canonical_ip(text: str, *, v6: bool) -> str | None:
    """Return an address in the form that ``socket`` gives them; ``None`` if it is not one.

    IPv4 addresses have one form only: with zeros in front they would be octal to some.
    """
    family = AF_INET6 if v6 else AF_INET
    try:
        canonical = inet_ntop(family, inet_pton(family, text))
    except (OSError, ValueError):
        return None
    return canonical if v6 or canonical == text else None


# --- the fields of a request ---------------------------------------------------------------------


class ProxyHeaders:
    """Applies the forwarded fields of requests to what is known of their connection.

    One family of fields is read and the other ignored: a proxy that writes one lets the other pass,
    as the client has sent it.

    Args:
        trusted: The peers that are believed, and the proxies behind them.
        header: ``"x-forwarded"``: ``X-Forwarded-For`` and ``-Proto``; ``"forwarded"``: RFC 7239.
        host: Believe the host and port too: ``X-Forwarded-Host`` and ``-Port``, or ``host=``. Only
            for proxies that always set them, or remove what clients send.
    """

    __slots__ = ("_elements", "_host", "_names", "_read", "_trusted", "_trusts")

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
            self._names = frozenset((b"forwarded",))
            self._read = self._forwarded
        else:
            names = (b"x-forwarded-for", b"x-forwarded-proto")
            more = (b"x-forwarded-host", b"x-forwarded-port") if host else ()
            self._names = frozenset((*names, *more))
            self._read = self._x_forwarded

    def believes(self, client: Address | None) -> bool:
        """Whether the fields of a peer's requests are believed, which holds for all of them."""
        return self._trusts(None if client is None else client[0])

    def apply(
        self,
        headers: Sequence[tuple[bytes, bytes]],
        client: Address | None,
        server: Address | None,
        scheme: str,
    ) -> RequestFacts:
        """Return client, server and scheme as the proxies tell them, and the host asked for.

        What they don't tell, or tell in a form that can't be understood, stays as it is given here.

        Args:
            headers: Fields of the request, their names in lower case. They are left alone.
            client: Address of the peer; ``None`` on a Unix socket.
            server: Address that the peer connected to.
            scheme: ``"http"`` or ``"https"``, or ``"ws"`` or ``"wss"``; the answer is of the same
                pair.
        """
        if self._trusts(None if client is None else client[0]):
            names = self._names
            fields = [field for field in headers if field[0] in names]
            if fields:
                client, scheme, host, port = self._read(fields, client, scheme)
                if host is not None or port is not None:
                    server, host = _apply_authority(host, port, headers, server, scheme)
                return client, server, scheme, host
        return client, server, scheme, None

    # --- X-Forwarded-*

    def _x_forwarded(
        self, fields: list[tuple[bytes, bytes]], client: Address | None, scheme: str
    ) -> tuple[Address | None, str, bytes | None, int | None]:
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

    def _forwarded(
        self, fields: list[tuple[bytes, bytes]], client: Address | None, scheme: str
    ) -> tuple[Address | None, str, bytes | None, int | None]:
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
    host, number = canonical_ip(v4 or v6 or bare, v6=v4 is None), int(port or 0)
    return (host, number) if host is not None and number <= _MAX_PORT else None


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
    return number if 0 < number <= _MAX_PORT else None


def _apply_authority(
    host: bytes | None,
    port: int | None,
    headers: Sequence[tuple[bytes, bytes]],
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
