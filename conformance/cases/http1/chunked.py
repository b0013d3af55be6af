"""The chunked coding, as it should be: sizes, extensions, trailers, segmentation."""

from conformance.cases.checks import echo, header_seen
from conformance.cases.model import (
    CLIENT_ERROR,
    Answers,
    Dropped,
    End,
    HalfClose,
    Level,
    Quiet,
    Send,
    SendEach,
    Table,
    Waits,
    refused,
    served,
    too_large,
)
from conformance.client.messages import CANARY, HELLO, chunked

MUST, SHOULD, MAY = Level.MUST, Level.SHOULD, Level.MAY

table = Table("chunked", "RFC 9112 §7.1")
add = table.wire

LAST = b"0\r\n\r\n"
_DECODED = served(echo(body=HELLO), echo(1, path="/canary"), count=2)

# -- sizes and data ----------------------------------------------------------------------

add(
    "several-chunks",
    MUST,
    "The data of all chunks together is the content.",
    chunked(b"5\r\nhello\r\n1\r\n \r\n5\r\nworld\r\n" + LAST) + CANARY,
    served(echo(body=b"hello world"), echo(1, path="/canary"), count=2),
)
add(
    "empty",
    MUST,
    "A last chunk alone is empty content.",
    chunked(LAST) + CANARY,
    served(echo(body=b""), echo(1, path="/canary"), count=2),
)
for name, size in {"lower": b"1a", "upper": b"1A", "leading-zeros": b"0001a"}.items():
    add(
        f"size-{name}",
        MUST,
        "A size is hexadecimal digits of either case, leading zeros allowed.",
        chunked(size + b"\r\n" + b"x" * 26 + b"\r\n" + LAST) + CANARY,
        served(echo(body=b"x" * 26), echo(1, path="/canary"), count=2),
    )
add(
    "size-many-zeros",
    MAY,
    "Zeros without end are grammatical; served, or refused by a bound on digits.",
    chunked(b"0" * 100 + b"5\r\nhello\r\n" + LAST) + CANARY,
    [_DECODED, refused(400, 413)],
)
add(
    "last-chunk-zeros",
    MUST,
    "The last chunk is one or more zeros.",
    chunked(b"5\r\nhello\r\n000\r\n\r\n") + CANARY,
    _DECODED,
)
add(
    "data-is-opaque",
    MUST,
    "Chunk data may look like framing.",
    chunked(b"7\r\n\r\n0\r\n\r\n\r\n" + LAST) + CANARY,
    served(echo(body=b"\r\n0\r\n\r\n"), echo(1, path="/canary"), count=2),
)
add(
    "data-is-a-request",
    MUST,
    "Chunk data that looks like a request is data.",
    chunked(b"%x\r\n" % len(CANARY) + CANARY + b"\r\n" + LAST),
    served(echo(body=CANARY)),
)
add(
    "thousand-chunks",
    MUST,
    "Many small chunks are decoded.",
    chunked(b"1\r\nx\r\n" * 1000 + LAST) + CANARY,
    served(echo(body=b"x" * 1000), echo(1, path="/canary"), count=2),
)
add(
    "large-chunk",
    MUST,
    "A chunk may be larger than any buffer.",
    chunked(b"%x\r\n" % 500_000 + b"y" * 500_000 + b"\r\n" + LAST) + CANARY,
    served(echo(body=b"y" * 500_000), echo(1, path="/canary"), count=2),
)
add(
    "octet-by-octet",
    MUST,
    "Chunks may arrive octet by octet.",
    [SendEach(chunked(b"5;a=b\r\nhello\r\n1\r\n!\r\n0\r\nX-T: 1\r\n\r\n"))],
    served(echo(body=b"hello!")),
)
add(
    "waits-for-last",
    MUST,
    "The content is complete only with the last chunk and the empty line after it.",
    [Send(chunked(b"5\r\nhello\r\n0\r\n")), Quiet(), Send(b"\r\n")],
    served(echo(body=HELLO)),
)
for name, cut in {
    "in-data": b"5\r\nhel",
    "before-last": b"5\r\nhello\r\n",
    "in-last": b"0\r\n",
}.items():
    add(
        f"incomplete-half-close-{name}",
        MUST,
        "Chunked content that ends before its last chunk is not taken for complete.",
        [Send(chunked(cut)), HalfClose()],
        [Dropped(), refused(400, 408), Waits()],
        section="RFC 9112 §8",
    )

# -- extensions --------------------------------------------------------------------------

for name, extension in {
    "token": b";name",
    "value": b";name=value",
    "quoted": b';name="quoted value"',
    "quoted-semicolon": b';name="a;b=c"',
    "quoted-escape": b';name="a\\"b"',
    "quoted-empty": b';name=""',
    "quoted-obs-text": b';name="\xe9"',
    "quoted-tab": b';name="a\tb"',
    "several": b';a;b=1;c="2"',
    "whitespace": b" ; a = b ; c",
    "tab": b"\t;\ta\t=\tb",
}.items():
    add(
        f"extension-{name}",
        MUST,
        "Unrecognized chunk extensions are ignored, also with optional whitespace around ; and = .",
        chunked(b"5" + extension + b"\r\nhello\r\n" + LAST) + CANARY,
        _DECODED,
        section="RFC 9112 §7.1.1",
    )
add(
    "extension-on-last",
    MUST,
    "The last chunk may have extensions too.",
    chunked(b"5\r\nhello\r\n0;last\r\n\r\n") + CANARY,
    _DECODED,
    section="RFC 9112 §7.1.1",
)
add(
    "extension-too-long",
    SHOULD,
    "The length of extensions is limited: a 4xx when that is exceeded, or served.",
    chunked(b"5;name=" + b"v" * 100_000 + b"\r\nhello\r\n" + LAST),
    [served(echo(body=HELLO)), *too_large(*CLIENT_ERROR)],
    section="RFC 9112 §7.1.1",
)
add(
    "extension-endless",
    SHOULD,
    "An extension without end is cut off with a 4xx.",
    chunked(b"5;name=" + b"v" * 1_500_000),
    too_large(*CLIENT_ERROR),
    section="RFC 9112 §7.1.1",
)
add(
    "extension-many-small",
    MAY,
    "Extensions on every chunk add up; served, or limited with a 4xx.",
    chunked((b"1;" + b"e" * 200 + b"\r\nx\r\n") * 500 + LAST),
    [served(echo(body=b"x" * 500)), *too_large(*CLIENT_ERROR)],
    section="RFC 9112 §7.1.1",
)

# -- trailers ----------------------------------------------------------------------------

add(
    "trailer",
    MUST,
    "A trailer section is read, and not merged into the header section.",
    chunked(b"5\r\nhello\r\n0\r\nX-Checksum: abc\r\nX-Other:\r\n\r\n") + CANARY,
    served(echo(body=HELLO), header_seen(b"x-checksum"), echo(1, path="/canary"), count=2),
    section="RFC 9112 §7.1.2, RFC 9110 §6.5.1",
)
for name, line in {
    "content-length": b"Content-Length: 50",
    "transfer-encoding": b"Transfer-Encoding: chunked",
    "host": b"Host: other.example",
    "authorization": b"Authorization: Basic eDp5",
    "content-type": b"Content-Type: text/evil",
    "connection": b"Connection: close",
    "expect": b"Expect: 100-continue",
}.items():
    add(
        f"trailer-forbidden-{name}",
        MUST,
        "A trailer field that frames, routes or authenticates has no effect: it is dropped, "
        "or the message refused.",
        chunked(b"5\r\nhello\r\n0\r\n" + line + b"\r\n\r\n") + CANARY,
        [
            served(
                echo(body=HELLO),
                header_seen(b"authorization"),
                header_seen(b"host", b"conformance.example"),
                echo(1, path="/canary"),
                count=2,
            ),
            refused(),
        ],
        section="RFC 9110 §6.5.1",
    )
add(
    "trailer-too-large",
    SHOULD,
    "A trailer section larger than the server wishes to process is answered with a 4xx.",
    chunked(b"0\r\n" + b"".join(b"X-%d: v\r\n" % n for n in range(10_000)) + b"\r\n"),
    [served(echo(body=b"")), *too_large(*CLIENT_ERROR)],
    section="RFC 9110 §5.4, RFC 6585 §5",
)
add(
    "trailer-endless",
    SHOULD,
    "A trailer line without end is cut off with a 4xx.",
    chunked(b"0\r\nX-A: " + b"v" * 1_500_000),
    too_large(*CLIENT_ERROR),
    section="RFC 9110 §5.4, RFC 6585 §5",
)
add(
    "trailer-bare-lf",
    MAY,
    "A single LF may end a trailer line, or be refused.",
    chunked(b"5\r\nhello\r\n0\r\nX-T: 1\n\r\n") + CANARY,
    [_DECODED, refused()],
    section="RFC 9112 §2.2",
)
add(
    "trailer-space-before-colon",
    MUST,
    "Whitespace before the colon is as wrong in a trailer: 400.",
    chunked(b"0\r\nX-T : 1\r\n\r\n") + CANARY,
    Answers((frozenset({400}),), End.ANY),
    section="RFC 9112 §5.1",
)
for name, line in {
    "no-colon": b"NoColon",
    "empty-name": b": 1",
    "request-line": b"GET /smuggled HTTP/1.1",
    "control-in-name": b"X\x01T: 1",
}.items():
    add(
        f"trailer-bad-{name}",
        SHOULD,
        "A trailer line that is no field line makes the message invalid: 400 and close.",
        chunked(b"0\r\n" + line + b"\r\n\r\n") + CANARY,
        refused(),
        section="RFC 9112 §2.2, §7.1.2",
    )
for name, line in {
    "nul": b"X-T: a\x00b",
    "bare-cr": b"X-T: a\rb",
    "folded": b"X-T: a\r\n b",
}.items():
    add(
        f"trailer-bad-{name}",
        MUST,
        "Refused, or the octet or fold replaced by SP: with the same end of the message.",
        chunked(b"5\r\nhello\r\n0\r\n" + line + b"\r\n\r\n") + CANARY,
        [refused(), _DECODED],
        section="RFC 9110 §5.5, RFC 9112 §5.2",
    )
add(
    "trailer-leading-space",
    MUST,
    "A first trailer line that begins with whitespace: refused, or dropped unread.",
    chunked(b"5\r\nhello\r\n0\r\n X-T: 1\r\n\r\n") + CANARY,
    [refused(), _DECODED],
    section="RFC 9112 §2.2",
)
