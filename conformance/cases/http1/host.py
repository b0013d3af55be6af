"""The Host field: exactly one, with a valid value."""

from conformance.cases.checks import header_seen
from conformance.cases.model import End, Level, Table, refused, served
from conformance.client.messages import CANARY, request

MUST, SHOULD, MAY = Level.MUST, Level.SHOULD, Level.MAY

table = Table("host", "RFC 9112 §3.2")
add = table.wire


def _with(value: bytes) -> bytes:
    return request(host=b"Host: " + value + b"\r\n")


add(
    "missing",
    MUST,
    "An HTTP/1.1 request without Host is answered 400.",
    request(host=b""),
    refused(end=End.ANY),
)
add(
    "missing-1.0",
    MUST,
    "HTTP/1.0 does not know Host; the server serves the request or refuses the empty authority.",
    request(host=b"", version=b"HTTP/1.0"),
    [served(end=End.ANY), refused(end=End.ANY)],
    section="RFC 9112 §3.3",
)
add(
    "missing-other-minor",
    MUST,
    "A higher minor version is processed as HTTP/1.1, so Host is demanded there too.",
    request(host=b"", version=b"HTTP/1.2"),
    refused(400, 505, end=End.ANY),
)
for name, lines in {
    "different": b"Host: a.example\r\nHost: b.example\r\n",
    "same": b"Host: a.example\r\nHost: a.example\r\n",
    "case": b"Host: a.example\r\nHOST: a.example\r\n",
    "apart": b"Host: a.example\r\nX-A: 1\r\nhost: b.example\r\n",
    "one-empty": b"Host: a.example\r\nHost:\r\n",
    "both-empty": b"Host:\r\nHost:\r\n",
}.items():
    add(
        f"repeated-{name}",
        MUST,
        "More than one Host line, equal or not, is answered 400.",
        request(host=lines),
        refused(end=End.ANY),
    )
add(
    "repeated-1.0",
    MUST,
    "That holds for any request message, HTTP/1.0 included.",
    request(host=b"Host: a.example\r\nHost: b.example\r\n", version=b"HTTP/1.0"),
    refused(end=End.ANY),
)
add(
    "folded",
    MUST,
    "A folded Host field is refused, or its fold replaced by SP and trimmed.",
    request(host=b"Host:\r\n conformance.example\r\n"),
    [refused(end=End.ANY), served(header_seen(b"host", b"conformance.example"))],
    section="RFC 9112 §5.2",
)

for name, value in {
    "userinfo": b"user@conformance.example",
    "userinfo-password": b"user:pass@conformance.example",
    "path": b"conformance.example/path",
    "query": b"conformance.example?query",
    "fragment": b"conformance.example#fragment",
    "url": b"http://conformance.example",
    "comma-list": b"a.example, b.example",
    "space": b"a.example b.example",
    "tab": b"a.example\tb.example",
    "port-letters": b"conformance.example:http",
    "port-plus": b"conformance.example:+80",
    "port-minus": b"conformance.example:-80",
    "port-hex": b"conformance.example:0x50",
    "port-twice": b"conformance.example:80:80",
    "port-space": b"conformance.example: 80",
    "backslash": b"a.example\\b.example",
    "angle-brackets": b"<conformance.example>",
    "quotes": b'"conformance.example"',
    "braces": b"{conformance}.example",
    "caret": b"a^b.example",
    "pipe": b"a|b.example",
    "percent-bad": b"a%zz.example",
    "percent-cut": b"a.example%4",
    "control": b"a\x01b.example",
    "del": b"a\x7fb.example",
    "non-ascii": "café.example".encode(),
    "bracket-open": b"[::1",
    "bracket-close": b"::1]",
    "bracket-name": b"[conformance.example]",
    "bracket-tail": b"[::1]example",
    "bracket-empty": b"[]",
    "ipv6-bare": b"::1",
    "ipv6-bad": b"[::g]",
    "ipv6-too-long": b"[1:2:3:4:5:6:7:8:9]",
    "ipv6-two-gaps": b"[1::2::3]",
}.items():
    add(
        f"bad-{name}",
        MUST,
        "Host is uri-host [ : port ] by the URI grammar; any other value is answered 400.",
        _with(value),
        refused(end=End.ANY),
        section="RFC 9112 §3.2, RFC 9110 §7.2",
    )
add(
    "bad-nul",
    MUST,
    "A NUL in Host is refused, or replaced by SP, which makes Host invalid.",
    _with(b"a.example\x00b.example") + CANARY,
    refused(end=End.ANY),
    section="RFC 9112 §3.2, RFC 9110 §5.5",
)
for name, value in {
    "port": b"conformance.example:8080",
    "port-empty": b"conformance.example:",
    "port-zeros": b"conformance.example:0080",
    "ipv4": b"127.0.0.1:80",
    "ipv6": b"[::1]:8080",
    "ipv6-full": b"[2001:db8:0:0:0:0:0:1]",
    "ipv6-v4": b"[::ffff:127.0.0.1]",
    "ipv-future": b"[v1.fe:x]",
    "case": b"CONFORMANCE.Example",
    "trailing-dot": b"conformance.example.",
    "underscore": b"a_b.example",
    "sub-delims": b"a!$&'()*+;=b",
    "percent": b"a%41.example",
    "single-label": b"localhost",
}.items():
    add(
        f"good-{name}",
        MUST,
        "Every value of the grammar is valid.",
        _with(value),
        served(header_seen(b"host", value)),
        section="RFC 9110 §7.2, RFC 3986 §3.2",
    )
add(
    "good-whitespace-around",
    MUST,
    "Whitespace around the value is trimmed.",
    request(host=b"Host: \t conformance.example \t\r\n"),
    served(header_seen(b"host", b"conformance.example")),
    section="RFC 9112 §5.1",
)
add(
    "good-last",
    MUST,
    "Host may be any field line of the head.",
    request(b"/", b"X-A: 1", b"Host: conformance.example", host=b""),
    served(header_seen(b"host", b"conformance.example")),
    section="RFC 9110 §5.3",
)
add(
    "empty",
    MAY,
    "An empty Host is valid, but leaves an http URI without authority: refused, or served "
    "for a default host.",
    request(host=b"Host:\r\n"),
    [refused(end=End.ANY), served(header_seen(b"host", b""))],
    section="RFC 9112 §3.3",
)
add(
    "port-out-of-range",
    MAY,
    "A port of many digits is grammatical; refused, or served.",
    _with(b"conformance.example:99999"),
    [refused(end=End.ANY), served()],
    section="RFC 9110 §7.2",
)
