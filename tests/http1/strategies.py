"""Generators of requests: valid ones with what they mean, and damaged ones."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

from hypothesis import strategies as st

TCHARS = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
VCHARS = bytes(range(0x21, 0x7F))
OBS_TEXT = bytes(range(0x80, 0x100))
UNRESERVED = b"ABCXYZabcxyz0189-._~!$&'()*+,;=:@"

# Fields that the parser acts on; other generated ones must not be these.
ACTED_ON = {
    b"host",
    b"connection",
    b"content-length",
    b"transfer-encoding",
    b"expect",
    b"upgrade",
    b"te",
}


def from_alphabet(alphabet: bytes, low: int = 0, high: int = 20) -> st.SearchStrategy[bytes]:
    """Bytes of some of these."""
    return st.lists(st.sampled_from(list(alphabet)), min_size=low, max_size=high).map(bytes)


tokens = from_alphabet(TCHARS, 1, 12)
field_names = tokens.filter(lambda name: name.lower() not in ACTED_ON)
# Visible, with blanks inside but not around.
field_values = from_alphabet(VCHARS + OBS_TEXT + b" \t", 0, 30).map(lambda v: v.strip(b" \t"))
ows = from_alphabet(b" \t", 0, 3)
percent = st.integers(0, 0x7F).map(lambda octet: b"%%%02X" % octet)
segments = st.lists(from_alphabet(UNRESERVED, 0, 5) | percent, max_size=4).map(b"".join)
paths = st.lists(segments, min_size=1, max_size=4).map(lambda parts: b"/" + b"/".join(parts))
queries = st.none() | from_alphabet(UNRESERVED + b"/?", 0, 12)
hosts = st.sampled_from(
    [b"a", b"example.org", b"EXAMPLE.org:8080", b"127.0.0.1", b"[::1]:80", b"a-b.c:", b"x_y"]
)
bodies = st.binary(max_size=60) | st.sampled_from([b"\r\n", b"0\r\n\r\n", b"GET / HTTP/1.1\r\n"])


@dataclass
class Generated:
    """A request, and what a parser must find in it."""

    raw: bytes
    method: bytes
    target: bytes
    path: bytes
    query: bytes
    version: bytes
    fields: list[tuple[bytes, bytes]]
    body: bytes
    keep_alive: bool = True
    expect_continue: bool = False
    names: list[bytes] = field(default_factory=list)


@st.composite
def chunks(draw: st.DrawFn, body: bytes) -> bytes:
    """A body in chunked coding, of any cut, with extensions and trailers."""
    cuts = sorted(draw(st.lists(st.integers(0, len(body)), max_size=4)))
    edges = [0, *cuts, len(body)]
    pieces = [body[a:b] for a, b in itertools.pairwise(edges) if a != b]
    coded = b""
    for piece in pieces:
        size = draw(st.sampled_from([b"%x", b"%X", b"0%x", b"00000%X"])) % len(piece)
        coded += size + draw(extensions) + b"\r\n" + piece + b"\r\n"
    coded += draw(st.sampled_from([b"0", b"000"])) + draw(extensions) + b"\r\n"
    for name, value in draw(st.lists(st.tuples(tokens, field_values), max_size=2)):
        coded += name + b":" + draw(ows) + value + draw(ows) + b"\r\n"
    return coded + b"\r\n"


quoted = from_alphabet(b'ab;=,\\"\xe9 ', 0, 6).map(
    lambda text: b'"' + text.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'
)
extension = st.one_of(
    tokens.map(lambda name: b";" + name),
    st.tuples(ows, tokens, ows, tokens | quoted).map(
        lambda parts: b";" + parts[0] + parts[1] + parts[2] + b"=" + parts[3]
    ),
)
extensions = st.just(b"") | st.lists(extension, max_size=2).map(b"".join)


@st.composite
def requests(draw: st.DrawFn, *, last: bool = False) -> Generated:
    """A valid request.

    Args:
        draw: Hypothesis' own.
        last: It may close the connection.
    """
    version = draw(st.sampled_from([b"1.1", b"1.1", b"1.1", b"1.0"]))
    method = draw(st.sampled_from([b"GET", b"POST", b"HEAD", b"PUT", b"OPTIONS"]) | tokens)
    if method == b"CONNECT":
        method = b"CONNEXION"
    path, query = draw(paths), draw(queries)
    target = path if query is None else path + b"?" + query
    sent: list[tuple[bytes, bytes]] = draw(
        st.lists(st.tuples(field_names, field_values), max_size=5)
    )
    special: list[tuple[bytes, bytes]] = []
    host = draw(hosts)
    if version == b"1.1" or draw(st.booleans()):
        special.append((draw(st.sampled_from([b"Host", b"host", b"HOST"])), host))
    form = draw(st.sampled_from(["origin"] * 6 + ["absolute", "asterisk"]))
    if form == "absolute":
        target = b"http://" + host + target
    elif form == "asterisk":
        method, target, path, query = b"OPTIONS", b"*", b"*", None
    body = draw(bodies)
    coded = body
    framing = draw(st.sampled_from(["none", "length", "chunked"]))
    if framing == "chunked" and version == b"1.1":
        name = draw(st.sampled_from([b"Transfer-Encoding", b"transfer-encoding"]))
        special.append((name, draw(st.sampled_from([b"chunked", b"Chunked"]))))
        coded = draw(chunks(body))
    elif framing == "length":
        special.append((b"Content-Length", b"%d" % len(body)))
    else:
        body = coded = b""
    keep_alive = version == b"1.1"
    if last and draw(st.booleans()):
        special.append((b"Connection", b"close"))
        keep_alive = False
    elif version == b"1.0" and (not last or draw(st.booleans())):
        special.append((b"connection", b"Keep-Alive"))
        keep_alive = True
    expect = version == b"1.1" and draw(st.sampled_from([False] * 4 + [True]))
    if expect:
        special.append((b"Expect", b"100-continue"))
    for item in special:
        sent.insert(draw(st.integers(0, len(sent))), item)
    raw = method + b" " + target + b" HTTP/" + version + b"\r\n"
    for name, value in sent:
        raw += name + b":" + draw(ows) + value + draw(ows) + b"\r\n"
    fields = [(name.lower(), value) for name, value in sent]
    if form == "absolute" and not any(name == b"host" for name, _ in fields):
        fields.insert(0, (b"host", host))
    framed = framing == "chunked" and version == b"1.1"
    return Generated(
        raw=raw + b"\r\n" + coded,
        method=method,
        target=target,
        path=path,
        query=query or b"",
        version=version,
        fields=fields,
        body=body,
        keep_alive=keep_alive,
        expect_continue=expect and (framed or body != b""),
    )


@st.composite
def streams(draw: st.DrawFn) -> list[Generated]:
    """Pipelined requests, of which only the last may end the connection."""
    return [*draw(st.lists(requests(), max_size=3)), draw(requests(last=True))]


FRAGMENTS = [
    b"\r",
    b"\n",
    b"\r\n",
    b"\r\n\r\n",
    b" ",
    b"\t",
    b":",
    b";",
    b",",
    b"\0",
    b"\x7f",
    b"\xff",
    b"0",
    b"1",
    b"f",
    b"%",
    b"%c0%af",
    b"#",
    b"@",
    b"http://",
    b"*",
    b"HTTP/1.0",
    b"HTTP/2.0",
    b"Host: a\r\n",
    b"Host: b, c\r\n",
    b"Content-Length: 3\r\n",
    b"Content-Length: +3\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: gzip, chunked\r\n",
    b"Connection: close\r\n",
    b"Expect: 100-continue\r\n",
    b" folded\r\n",
    b"A : b\r\n",
    b"3\r\nabc\r\n",
    b"0\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
]


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A stream of valid requests, with some octets changed, taken out, put in or repeated."""
    data = bytearray(b"".join(request.raw for request in draw(streams())))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        kind = draw(st.sampled_from(["put", "take", "change", "repeat", "cut"]))
        if kind == "put":
            data[at:at] = draw(st.sampled_from(FRAGMENTS) | st.binary(min_size=1, max_size=3))
        elif kind == "take":
            del data[at : at + draw(st.integers(1, 4))]
        elif kind == "change":
            data[at : at + 1] = bytes([draw(st.integers(0, 255))])
        elif kind == "repeat":
            size = draw(st.integers(1, 30))
            data[at:at] = data[at : at + size]
        else:
            del data[at:]
    return bytes(data)


cuts = st.lists(st.integers(0, 2000), max_size=8)
