"""Content-Length: legal values, invalid ones, and where the content ends."""

from conformance.cases.checks import echo, header_seen
from conformance.cases.model import (
    Dropped,
    End,
    HalfClose,
    Level,
    Quiet,
    Send,
    Table,
    Waits,
    refused,
    served,
)
from conformance.client.messages import CANARY, HELLO, post, request

MUST, SHOULD, MAY = Level.MUST, Level.SHOULD, Level.MAY

table = Table("content-length", "RFC 9112 §6.3")
add = table.wire


def _post(*lines: bytes, body: bytes = HELLO) -> bytes:
    return request(b"/", *lines, method=b"POST", body=body)


# -- legal -------------------------------------------------------------------------------

add(
    "exact",
    MUST,
    "The content is exactly as many octets as announced; what follows is the next request.",
    post(HELLO) + request(b"/next"),
    served(echo(body=HELLO), echo(1, path="/next"), count=2),
)
add(
    "zero",
    MUST,
    "A length of zero is no content.",
    post(b"") + request(b"/next"),
    served(echo(body=b""), echo(1, path="/next"), count=2),
)
add(
    "absent",
    MUST,
    "A request without Content-Length and Transfer-Encoding has no content, whatever its method.",
    _post(body=b"") + request(b"/next"),
    served(echo(method="POST", body=b""), echo(1, path="/next"), count=2),
)
for name, line in {
    "leading-zeros": b"Content-Length: 0005",
    "no-space": b"Content-Length:5",
    "tab": b"Content-Length:\t5",
    "spaces-around": b"Content-Length:   5  \t",
    "case": b"CONTENT-LENGTH: 5",
}.items():
    add(
        f"good-{name}",
        MUST,
        "Content-Length is one or more digits, read as decimal, whitespace around trimmed.",
        _post(line) + CANARY,
        served(echo(body=HELLO), echo(1, path="/canary"), count=2),
        section="RFC 9110 §8.6",
    )
add(
    "many-zeros",
    MAY,
    "Zeros without end are grammatical; served, or refused by a bound on digits.",
    _post(b"Content-Length: " + b"0" * 100 + b"5") + CANARY,
    [served(echo(body=HELLO), echo(1, path="/canary"), count=2), refused(400, 413)],
    section="RFC 9110 §8.6",
)
for method in (b"GET", b"DELETE", b"OPTIONS", b"PUT", b"FROB"):
    add(
        f"with-{method.decode().lower()}",
        MUST,
        "Framing does not depend on the method: announced content is read as such.",
        request(b"/", b"Content-Length: 5", method=method, body=HELLO) + CANARY,
        [
            served(echo(body=HELLO), echo(1, path="/canary"), count=2),
            refused(400, 405, 413, 501),
        ],
        section="RFC 9112 §6, RFC 9110 §9.3.1",
    )
add(
    "with-head",
    MUST,
    "Content of a HEAD request is read as such.",
    request(b"/", b"Content-Length: 5", method=b"HEAD", body=HELLO) + CANARY,
    [served(echo(1, path="/canary"), count=2), refused(400)],
    section="RFC 9112 §6, RFC 9110 §9.3.2",
    methods=["HEAD"],
)
add(
    "content-is-a-request",
    MUST,
    "Content that looks like a request is content.",
    post(CANARY),
    served(echo(body=CANARY)),
)
add(
    "get-content-is-a-request",
    MUST,
    "The same for a GET: its content is not parsed as a request.",
    request(b"/", b"Content-Length: %d" % len(CANARY), body=CANARY),
    [served(echo(body=CANARY)), refused(400, 413)],
    section="RFC 9110 §9.3.1",
)
add(
    "connection-option",
    MUST,
    "Naming Content-Length as a connection option does not undo it.",
    post(HELLO, b"Connection: content-length") + CANARY,
    [served(echo(body=HELLO), count=2), refused()],
)
add(
    "one-mebibyte",
    MUST,
    "Large content arrives whole.",
    post(b"0123456789abcdef" * 65536),
    served(echo(body=b"0123456789abcdef" * 65536)),
)

# -- invalid -----------------------------------------------------------------------------

for name, value in {
    "empty": b"",
    "letters": b"abc",
    "plus": b"+5",
    "minus": b"-5",
    "minus-zero": b"-0",
    "hex": b"0x5",
    "octal-prefix": b"0o5",
    "decimal-point": b"5.0",
    "exponent": b"5e0",
    "underscore": b"1_0",
    "inner-space": b"1 0",
    "inner-tab": b"1\t0",
    "trailing-letter": b"5a",
    "trailing-semicolon": b"5;",
    "quoted": b'"5"',
    "vertical-tab": b"\x0b5",
    "form-feed": b"5\x0c",
    "no-break-space": b"\xa05",
    "fullwidth-digit": "\uff15".encode(),
    "superscript": "⁵".encode(),
    "latin1-superscript": b"\xb2",
    "control": b"5\x01",
    "list-different": b"5, 6",
    "list-different-no-space": b"5,6",
    "list-zero-first": b"0, 5",
}.items():
    add(
        f"bad-{name}",
        MUST,
        "An invalid Content-Length is an unrecoverable error: 400 and close, and nothing "
        "after it is a request.",
        _post(b"Content-Length: " + value) + CANARY,
        refused(),
    )
for name, lines in {
    "different": [b"Content-Length: 5", b"Content-Length: 6"],
    "zero-then-five": [b"Content-Length: 0", b"Content-Length: 5"],
    "five-then-zero": [b"Content-Length: 5", b"Content-Length: 0"],
    "invalid-second": [b"Content-Length: 5", b"Content-Length: x"],
    "apart": [b"Content-Length: 5", b"X-A: 1", b"content-length: 6"],
}.items():
    add(
        f"repeated-{name}",
        MUST,
        "Differing Content-Length lines are an unrecoverable error: 400 and close.",
        _post(*lines) + CANARY,
        refused(),
    )
for name, lines in {
    "repeated-same": [b"Content-Length: 5", b"Content-Length: 5"],
    "list-same": [b"Content-Length: 5, 5"],
    "list-same-thrice": [b"Content-Length: 5,5,5"],
}.items():
    add(
        name,
        MUST,
        "Identical repeats are rejected, or replaced by the one value.",
        _post(*lines) + CANARY,
        [refused(), served(echo(body=HELLO), echo(1, path="/canary"), count=2)],
        section="RFC 9112 §6.3, RFC 9110 §8.6",
    )
add(
    "nul",
    MUST,
    "A NUL in the value: rejected; replaced by SP it is invalid too, or trimmed.",
    _post(b"Content-Length: 5\x00") + CANARY,
    [refused(), served(echo(body=HELLO), count=2)],
    section="RFC 9110 §5.5",
)
add(
    "folded",
    MUST,
    "A folded Content-Length is refused, or its fold replaced by SP.",
    _post(b"Content-Length:\r\n 5") + CANARY,
    [refused(), served(echo(body=HELLO), count=2)],
    section="RFC 9112 §5.2",
)
add(
    "space-before-colon",
    MUST,
    "Whitespace before the colon is rejected with 400.",
    _post(b"Content-Length : 5") + CANARY,
    refused(end=End.ANY),
    section="RFC 9112 §5.1",
)
for name, number in {
    "2-32": 2**32 + 5,
    "2-63": 2**63 + 5,
    "2-64": 2**64 + 5,
    "2-128": 2**128 + 5,
}.items():
    add(
        f"overflow-{name}",
        MUST,
        "A huge length does not overflow into a small one: it is refused, or waited for.",
        _post(b"Content-Length: %d" % number) + CANARY,
        [refused(400, 413), Waits()],
        section="RFC 9110 §8.6",
    )
add(
    "overflow-5000-digits",
    MUST,
    "So does a number of thousands of digits.",
    _post(b"Content-Length: " + b"9" * 5000) + CANARY,
    [refused(400, 413, 431), Waits()],
    section="RFC 9110 §8.6",
)

# -- incomplete --------------------------------------------------------------------------

add(
    "waits-for-all",
    MUST,
    "A request is complete only with its whole content.",
    [Send(_post(b"Content-Length: 6")), Quiet(), Send(b"!")],
    served(echo(body=b"hello!")),
)
add(
    "incomplete-half-close",
    MUST,
    "Content that ends early with the connection is not taken for complete.",
    [Send(_post(b"Content-Length: 6")), HalfClose()],
    [Dropped(), refused(400, 408), Waits()],
    section="RFC 9112 §8",
)
add(
    "next-after-large",
    MUST,
    "The request after a content of 200 kB is found where it begins.",
    post(b"x" * 200_000, b"X-A: 1") + request(b"/next", b"X-B: 2"),
    served(header_seen(b"x-b", b"2", index=1), echo(1, path="/next"), count=2),
)
