"""The ``Forwarded`` field (RFC 7239), parsed by its grammar and from its end. No I/O, no trust.

Called by ``proxy_headers``, which knows whom to believe. Proxies append to the field, so that its
end is the peer's and its beginning may be the client's. Parsing from the end, a client that opens a
quotation and never closes it hides nothing of what proxies append to that: an element is the
shortest piece before a comma or the end that the grammar allows. (The last comma inside a quoted
string can't be taken for one between elements. What follows such a comma has one quotation mark too
many, or backslashes outside of quotes.)
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from ...config.trust import MAX_PORT, read_address
from ...http1.grammar import QUOTED, TCHAR
from ...types import Address

type Element = tuple[Address | None, bytes | None, bytes | None]
"""What one proxy says: node, proto and host, each ``None`` if it doesn't.

The node is that of ``for``: an address; ``("unknown", ...)``; or an obfuscated identifier, which
begins with an underscore. Its port is 0 if it has none, or an obfuscated one.
"""

# RFC 7239 section 4, with RFC 9110 section 5.6.4's quoted-string. There is no white space.
_PAIR = rb"(?:" + TCHAR + rb"++=(?:" + TCHAR + rb"++|" + QUOTED + rb"))"
_ELEMENT = re.compile(_PAIR + rb"?+(?:;" + _PAIR + rb"?+)*+")
_PAIRS = re.compile(rb"(" + TCHAR + rb"++)=(?:(" + TCHAR + rb'++)|"((?:[^"\\]|\\.)*+)")', re.DOTALL)
_QUOTED_PAIR = re.compile(rb"\\(.)", re.DOTALL)

# RFC 7239 section 6
_OBFUSCATED = r"_[A-Za-z0-9._\-]++"
_NODE = re.compile(
    rf"(?:(?P<v4>[0-9.]++)|\[(?P<v6>[0-9A-Fa-f:.]++)\]|(?P<hidden>[Uu][Nn][Kk][Nn][Oo][Ww][Nn]"
    rf"|{_OBFUSCATED}))(?::(?:(?P<port>[0-9]{{1,5}}+)|{_OBFUSCATED}))?+"
)


def elements_from_end(value: bytes) -> Iterator[Element]:
    """Yield what a field's elements say, from the last one to the first.

    It ends early at an element that breaks the grammar, or says a thing twice (section 4), since
    there is no telling who wrote what stands before it. Several field lines are joined with commas.
    """
    end = comma = len(value)
    while comma >= 0:
        comma = value.rfind(b",", 0, comma)
        text = value[comma + 1 : end].strip(b" \t")
        if _ELEMENT.fullmatch(text) is None:
            continue  # perhaps the comma is part of a quoted string
        end = comma
        if text:  # RFC 9110 section 5.6.1.2: empty elements of a list are ignored
            element = _read_element(text)
            if element is None:
                return
            yield element


def _read_element(text: bytes) -> Element | None:
    """Read an element of valid syntax; ``None`` if what it says is malformed."""
    pairs: dict[bytes, bytes] = {}
    for name, token, quoted in _PAIRS.findall(text):
        name = name.lower()
        if name in pairs:
            return None
        pairs[name] = token or _QUOTED_PAIR.sub(rb"\1", quoted)
    node: Address | None = None
    if b"for" in pairs:
        node = _read_node(pairs[b"for"].decode("latin-1"))
        if node is None:
            return None
    return node, pairs.get(b"proto"), pairs.get(b"host")


def _read_node(text: str) -> Address | None:
    """Read a node with or without port (section 6)."""
    match = _NODE.fullmatch(text)
    if match is None:
        return None
    v4, v6, hidden, port = match.group("v4", "v6", "hidden", "port")
    if not hidden:
        return read_address(v4 or v6, port, v6=v4 is None)
    number = int(port or 0)
    name = hidden if hidden.startswith("_") else "unknown"
    return None if number > MAX_PORT else (name, number)
