"""Whom to believe: the trust list of proxies, and addresses in their one form. No I/O.

``checks`` makes a list to find out whether it is one, and each worker one to ask it. Without
``ipaddress``, which would cost each interpreter more than all that is here: the address functions
of ``socket`` know the same grammar.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton

from ..errors import ConfigError
from ..types import Address

MAX_PORT = 65535

_MEMO_SIZE = 1024
"""Hosts whose trust is remembered. Peers choose what is asked for, so that it must have a bound."""
_LONGEST_NAME = 253
"""Octets of a DNS name; what is longer is not worth remembering."""

_MAPPED = bytes(10) + b"\xff\xff"
"""What IPv4-mapped IPv6 addresses begin with (RFC 4291 section 2.5.5.2)."""

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]*+")


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
        family = AF_INET if len(packed) == 4 else AF_INET6
        first = inet_ntop(family, (prefix << shift).to_bytes(len(packed)))
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


def unix_path(name: str | bytes) -> str:
    """Return the one form of a Unix socket's name: a path, or ``@`` and an abstract name (Linux).

    Abstract names begin with NUL where the system tells them, as octets, and in code of other
    origin, as text.
    """
    text = name if isinstance(name, str) else name.decode("utf-8", "surrogateescape")
    return "@" + text[1:] if text.startswith("\0") else text


def read_address(host: str, port: str | bytes | None, *, v6: bool) -> Address | None:
    """Return an address with a port given in digits, or else 0; ``None`` if either is not one."""
    canonical, number = canonical_ip(host, v6=v6), int(port or 0)
    return None if canonical is None or number > MAX_PORT else (canonical, number)
