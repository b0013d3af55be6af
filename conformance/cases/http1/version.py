"""The protocol version: what is spelled wrongly, what is newer, what is older."""

from conformance.cases.checks import echo
from conformance.cases.model import Answers, Dropped, Level, Table, refused, served
from conformance.client.errors import Mismatch
from conformance.client.lab import Lab
from conformance.client.messages import CANARY, HOST, request

MUST, SHOULD, MAY = Level.MUST, Level.SHOULD, Level.MAY

table = Table("version", "RFC 9112 §2.3")
add = table.wire

for version in ("1.2", "1.9"):
    add(
        f"minor-{version}",
        SHOULD,
        "A higher minor version of HTTP/1 is processed as the highest one that the server "
        "implements.",
        request(version=b"HTTP/" + version.encode()),
        served(echo(http_version="1.1")),
        section="RFC 9110 §2.5",
    )
for version in ("2.0", "2.5", "3.0", "9.9"):
    add(
        f"major-{version}",
        SHOULD,
        "A major version that the server does not speak is refused: 505 (or 400).",
        request(version=b"HTTP/" + version.encode()) + CANARY,
        [refused(400, 505), Dropped()],
        section="RFC 9110 §2.5, §15.6.6",
    )
add(
    "0.9-written-out",
    SHOULD,
    "HTTP/0.9 has no such request line: 505 or 400.",
    request(version=b"HTTP/0.9") + CANARY,
    [refused(400, 505), Dropped()],
    section="RFC 9110 §2.5, §15.6.6",
)
add(
    "0.9-simple-request",
    SHOULD,
    "A request line without a version is invalid for an HTTP/1.1 server.",
    b"GET /\r\n\r\n" + CANARY,
    [refused(400, 505), Dropped()],
    section="RFC 9112 §3",
)
for name, text in {
    "lower-case": b"http/1.1",
    "mixed-case": b"Http/1.1",
    "no-minor": b"HTTP/1",
    "empty-minor": b"HTTP/1.",
    "empty-major": b"HTTP/.1",
    "leading-zero-major": b"HTTP/01.1",
    "leading-zero-minor": b"HTTP/1.01",
    "two-digit-minor": b"HTTP/1.10",
    "two-digit-major": b"HTTP/11.1",
    "three-parts": b"HTTP/1.1.1",
    "comma": b"HTTP/1,1",
    "plus": b"HTTP/+1.1",
    "minus": b"HTTP/-1.1",
    "letter": b"HTTP/1.x",
    "trailing-letter": b"HTTP/1.1x",
    "no-slash": b"HTTP1.1",
    "double-slash": b"HTTP//1.1",
    "backslash": b"HTTP\\1.1",
    "https": b"HTTPS/1.1",
    "other-protocol": b"ICY/1.1",
    "fullwidth-digit": "HTTP/\uff11.\uff11".encode(),
    "superscript-digit": "HTTP/1.¹".encode(),
    "nul": b"HTTP/1.1\x00",
}.items():
    add(
        f"bad-{name}",
        SHOULD,
        "HTTP-version is the case-sensitive name HTTP, a slash and one digit either side of "
        "a dot; anything else makes the request line invalid.",
        request(version=text) + CANARY,
        refused(400, 505),
    )
for name, text in {"after-slash": b"HTTP/ 1.1", "before-slash": b"HTTP /1.1"}.items():
    add(
        f"bad-space-{name}",
        SHOULD,
        "No whitespace belongs inside HTTP-version.",
        request(version=text) + CANARY,
        refused(400, 505),
    )
add(
    "response-to-1.0",
    MUST,
    "A server does not send a major version above the request's, nor a version that it does "
    "not conform to; HTTP/1.1 is right for an HTTP/1.0 request too.",
    b"GET / HTTP/1.0\r\n" + HOST + b"\r\n",
    Answers((frozenset({200}),)),
    section="RFC 9110 §6.2",
)


@table.probe(
    "http2-preface",
    SHOULD,
    "The HTTP/2 preface is refused, dropped, or answered in HTTP/2; it is never a request.",
    section="RFC 9113 §3.4",
)
async def http2_preface(lab: Lab) -> None:
    settings = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
    async with lab.connect() as connection:
        await connection.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + settings)
        try:
            await connection.arrives(b"HTTP/1.")
        except Mismatch:
            if connection.pending[3:4] == b"\x04" or (connection.ended and not connection.pending):
                return
            raise
        head = await connection.next_head()
        if not 400 <= head.status <= 599:
            raise Mismatch(f"status {head.status}")
