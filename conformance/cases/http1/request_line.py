"""The request line: empty lines before it, its separators, the method, its length."""

from conformance.cases.checks import echo
from conformance.cases.model import (
    OK,
    Answers,
    Dropped,
    End,
    Level,
    Send,
    SendEach,
    Table,
    refused,
    served,
)
from conformance.client.messages import CANARY, HELLO, HOST, post, request

MUST, SHOULD, MAY = Level.MUST, Level.SHOULD, Level.MAY

table = Table("request-line", "RFC 9112 §3")
add = table.wire

# -- what every server serves ------------------------------------------------------------

add(
    "get",
    MUST,
    "A general-purpose server supports GET.",
    request(),
    served(echo(method="GET", path="/")),
    section="RFC 9110 §9.1",
)
add(
    "head",
    MUST,
    "A general-purpose server supports HEAD.",
    request(method=b"HEAD"),
    served(),
    section="RFC 9110 §9.1",
    methods=["HEAD"],
)
for method in ("POST", "PUT", "DELETE", "OPTIONS", "PATCH"):
    add(
        f"method-{method.lower()}",
        SHOULD,
        "A registered method is handed to the application as it is, or refused as unknown "
        "(501) or not allowed (405); it is not malformed.",
        request(method=method.encode(), body=b""),
        [served(echo(method=method)), refused(405, 501, end=End.ANY)],
        section="RFC 9110 §9.1",
    )
add(
    "method-all-tchar",
    SHOULD,
    "Every tchar is allowed in a method; an unknown one is served or answered 501 or 405.",
    request(method=b"AZ09!#$%&'*+-.^_`|~"),
    [served(echo(method="AZ09!#$%&'*+-.^_`|~")), refused(405, 501, end=End.ANY)],
    section="RFC 9110 §9.1, §5.6.2",
)
add(
    "method-lower-case",
    MAY,
    "Methods are case-sensitive: `get` is just an unknown one.  (ASGI upper-cases it.)",
    request(method=b"get"),
    [served(), refused(400, 405, 501, end=End.ANY)],
    section="RFC 9110 §9.1",
)
add(
    "method-long",
    SHOULD,
    "A method longer than any that the server implements is answered 501; an application "
    "server that implements them all may serve it.",
    request(method=b"M" * 1000),
    [Answers((OK,)), refused(400, 405, 414, 431, 501, end=End.ANY)],
)
add(
    "method-100k",
    SHOULD,
    "An endless method is answered with an error, not buffered for ever.",
    request(method=b"M" * 100_000),
    [refused(400, 414, 431, 501), Answers((OK,)), Dropped()],
)
for name, octets in {
    "parenthesis": b"G(T",
    "braces": b"GE{T}",
    "colon": b"GET:",
    "at": b"G@T",
    "quotes": b'"GET"',
    "nul": b"G\x00ET",
    "control": b"GE\x01T",
    "del": b"GE\x7fT",
    "non-ascii": "GÉT".encode(),
    "bare-lf": b"G\nET",
}.items():
    add(
        f"method-bad-{name}",
        SHOULD,
        "A method is a token; anything else makes the request line invalid: 400.",
        request(method=octets) + CANARY,
        refused(400, 501),
        section="RFC 9112 §2.2, §3.1",
    )

# -- empty lines before it ---------------------------------------------------------------

add(
    "leading-crlf",
    SHOULD,
    "At least one empty line before the request line is ignored.",
    b"\r\n" + request(b"/after-crlf"),
    served(echo(path="/after-crlf")),
    section="RFC 9112 §2.2",
)
add(
    "leading-crlf-pipelined",
    SHOULD,
    "An empty line that an old client sends after a POST's content is ignored.",
    post(HELLO) + b"\r\n" + request(b"/second"),
    served(echo(body=HELLO), echo(1, path="/second"), count=2),
    section="RFC 9112 §2.2",
)
add(
    "leading-bare-lf",
    MAY,
    "A single LF before the request line may be taken as an empty line or refused.",
    b"\n" + request(b"/after-lf"),
    [served(echo(path="/after-lf")), refused()],
    section="RFC 9112 §2.2",
)
add(
    "leading-crlf-flood",
    SHOULD,
    "Empty lines before a request may be ignored, but not without any bound unnoticed: "
    "the server serves the request, refuses it or closes.",
    b"\r\n" * 20_000 + request(b"/after-flood"),
    [served(echo(path="/after-flood")), refused(400, 408, 414, 431), Dropped()],
    section="RFC 9112 §2.2, §2.3",
)
add(
    "leading-cr-only",
    SHOULD,
    "A bare CR before the request line is not an empty line.",
    b"\r" + request(b"/after-cr"),
    [refused(), served(echo(path="/after-cr"))],
    section="RFC 9112 §2.2, §3",
)

# -- separators --------------------------------------------------------------------------

_LENIENT = {
    "double-space-method": b"GET  /x HTTP/1.1",
    "double-space-target": b"GET /x  HTTP/1.1",
    "tab-method": b"GET\t/x HTTP/1.1",
    "tab-target": b"GET /x\tHTTP/1.1",
    "vertical-tab": b"GET\x0b/x HTTP/1.1",
    "form-feed": b"GET /x\x0cHTTP/1.1",
    "bare-cr": b"GET\r/x HTTP/1.1",
    "leading-space": b" GET /x HTTP/1.1",
    "trailing-space": b"GET /x HTTP/1.1 ",
    "trailing-tab": b"GET /x HTTP/1.1\t",
    "trailing-cr": b"GET /x HTTP/1.1\r",
}
for name, line in _LENIENT.items():
    add(
        f"whitespace-{name}",
        SHOULD,
        "Whitespace other than one SP between the parts is invalid: 400; a server that "
        "splits on any whitespace instead finds the same three parts.",
        line + b"\r\n" + HOST + b"\r\n",
        [refused(), served(echo(method="GET", path="/x"))],
    )
add(
    "whitespace-in-target",
    SHOULD,
    "Whitespace inside the target is not corrected: 400 (or a redirect).",
    request(b"/a b") + CANARY,
    refused(400, 301),
    section="RFC 9112 §3.2",
)
add(
    "bare-lf-end",
    MAY,
    "A single LF that ends the request line may be recognized or refused.",
    b"GET /lf HTTP/1.1\n" + HOST + b"\r\n",
    [served(echo(path="/lf")), refused()],
    section="RFC 9112 §2.2",
)
add(
    "bare-cr-end",
    MUST,
    "A bare CR does not end the request line: it is invalid, or counts as a space.",
    b"GET / HTTP/1.1\r" + HOST + b"\r\n" + CANARY,
    refused(),
    section="RFC 9112 §2.2",
)
add(
    "crlf-split-target",
    SHOULD,
    "A line break inside the request line leaves an invalid one: 400.",
    b"GET /\r\n HTTP/1.1\r\n" + HOST + b"\r\n" + CANARY,
    [refused(400, 505), Dropped()],
)

# -- missing and surplus parts -----------------------------------------------------------

for name, line in {
    "target": b"GET HTTP/1.1",
    "target-two-spaces": b"GET  HTTP/1.1",
    "method": b"/ HTTP/1.1",
    "method-leading-space": b" / HTTP/1.1",
    "everything-but-method": b"GET",
}.items():
    add(
        f"missing-{name}",
        SHOULD,
        "A request line without all of its three parts is invalid: 400.",
        line + b"\r\n" + HOST + b"\r\n" + CANARY,
        refused(),
    )
add(
    "surplus-word",
    SHOULD,
    "Anything after the version is invalid: 400.",
    b"GET / HTTP/1.1 extra\r\n" + HOST + b"\r\n" + CANARY,
    refused(400, 505),
)
add(
    "only-spaces",
    SHOULD,
    "A line of spaces is no request line.",
    b"   \r\n\r\n" + CANARY,
    [refused(), Dropped()],
)
add(
    "garbage",
    SHOULD,
    "Octets that are no HTTP are answered 400 or dropped.",
    bytes(range(128, 256)) + b"\r\n\r\n" + CANARY,
    [refused(), Dropped()],
    section="RFC 9112 §2.2",
)
add(
    "tls-hello-on-plain-port",
    SHOULD,
    "A TLS handshake on a plain port is answered 400 or dropped.",
    bytes.fromhex("16030100a5010000a10303") + bytes(range(32)) + b"\r\n\r\n" + CANARY,
    [refused(), Dropped()],
    section="RFC 9112 §2.2",
)
add(
    "response-as-request",
    SHOULD,
    "A status line is no request line: 400.",
    b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n" + CANARY,
    refused(400, 501, 505),
    section="RFC 9112 §2.2",
)

# -- length and segmentation -------------------------------------------------------------

_LONG = request(b"/" + b"a" * (8000 - len("GET / HTTP/1.1\r\n")))
add(
    "8000-octets",
    SHOULD,
    "Request lines of 8000 octets are supported (a recommendation to all recipients).",
    _LONG,
    served(),
)
add(
    "target-too-long",
    MUST,
    "A target longer than the server wishes to parse is answered 414.",
    request(b"/" + b"a" * 100_000),
    [refused(414), served(), Dropped()],
)
add(
    "endless",
    SHOULD,
    "A request line that does not end is cut off with an error.",
    [Send(b"GET /" + b"a" * 300_000)],
    [refused(400, 414, 431), Dropped()],
    section="RFC 9112 §2.3, §3",
)
add(
    "octet-by-octet",
    MUST,
    "Message boundaries are independent of how TCP delivers the octets.",
    [SendEach(request(b"/slow", b"X-A: 1"))],
    served(echo(path="/slow")),
    section="RFC 9112 §2.2",
)
add(
    "seven-by-seven",
    MUST,
    "A request and its content may arrive in pieces cut anywhere.",
    [SendEach(post(HELLO * 20, b"X-A: 1"), 7)],
    served(echo(body=HELLO * 20)),
    section="RFC 9112 §2.2",
)
