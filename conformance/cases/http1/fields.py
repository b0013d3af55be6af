"""Field lines: names, values, whitespace, line ends, the end of the head."""

from conformance.cases.checks import echo, header_one_of, header_seen
from conformance.cases.model import (
    CLIENT_ERROR,
    Answers,
    Dropped,
    End,
    HalfClose,
    Level,
    Send,
    SendEach,
    Table,
    Waits,
    refused,
    served,
    too_large,
)
from conformance.client.messages import CANARY, HOST, request

MUST, SHOULD, MAY = Level.MUST, Level.SHOULD, Level.MAY

table = Table("fields", "RFC 9112 §5")
add = table.wire

# -- legal, however odd ------------------------------------------------------------------

for name, line, value in (
    ("value-empty", b"X-A:", b""),
    ("value-empty-spaces", b"X-A:  \t ", b""),
    ("no-space-after-colon", b"X-A:b", b"b"),
    ("tab-after-colon", b"X-A:\tb", b"b"),
    ("mixed-whitespace-around", b"X-A: \t b \t ", b"b"),
    ("inner-whitespace", b"X-A: b \t c", b"b \t c"),
    ("colons-in-value", b"X-A: :b: c:", b":b: c:"),
    ("all-vchar-value", b"X-A: " + bytes(range(0x21, 0x7F)), bytes(range(0x21, 0x7F))),
    ("looks-like-request-line", b"X-A: GET / HTTP/1.1", b"GET / HTTP/1.1"),
    ("unclosed-quote", b'X-A: "b', b'"b'),
):
    add(
        name,
        MUST,
        "Whitespace around a value is no part of it; all visible characters, SP and HTAB "
        "may stand inside, and a value may be empty.",
        request(b"/", line),
        served(header_seen(b"x-a", value)),
        section="RFC 9112 §5.1, RFC 9110 §5.5",
    )
add(
    "obs-text-value",
    SHOULD,
    "Octets above 127 in a value are opaque data.",
    request(b"/", b"X-A: caf\xe9 \xc3\xa9 \x80\xff"),
    served(header_seen(b"x-a", b"caf\xe9 \xc3\xa9 \x80\xff")),
    section="RFC 9110 §5.5",
)
add(
    "name-all-tchar",
    MUST,
    "Every tchar is allowed in a field name.",
    request(b"/", b"a0!#$%&'*+-.^_`|~Z: b"),
    served(header_seen(b"a0!#$%&'*+-.^_`|~z", b"b")),
    section="RFC 9110 §5.1, §5.6.2",
)
add(
    "name-one-character",
    MUST,
    "A name of one character is a name.",
    request(b"/", b"a: b"),
    served(header_seen(b"a", b"b")),
    section="RFC 9110 §5.1",
)
add(
    "name-case",
    MUST,
    "Field names are case-insensitive.",
    request(b"/", b"cOnTeNt-LeNgTh: 5", method=b"POST", body=b"hello"),
    served(header_seen(b"content-length", b"5")),
    section="RFC 9110 §5.1",
)
add(
    "repeated-in-order",
    MUST,
    "The order of field lines with the same name is kept.",
    request(b"/", b"X-A: 1", b"X-B: 2", b"x-a: 3", b"X-A: 1"),
    [
        served(header_seen(b"x-a", b"1", b"3", b"1")),
        served(header_one_of(b"x-a", b"1, 3, 1", b"1,3,1")),
    ],
    section="RFC 9110 §5.3",
)
add(
    "sixty-fields",
    MAY,
    "No number is promised, but 60 ordinary fields are common.",
    request(b"/", *(b"X-Field-%d: value" % number for number in range(60))),
    served(header_seen(b"x-field-59", b"value")),
    section="RFC 9110 §5.4",
)
add(
    "value-4000-octets",
    MAY,
    "No size is promised, but a value of 4000 octets is common.",
    request(b"/", b"X-A: " + b"v" * 4000),
    served(header_seen(b"x-a", b"v" * 4000)),
    section="RFC 9110 §5.4",
)
add(
    "underscore-is-not-dash",
    MUST,
    "Content_Length is a field of its own: the content is empty.",
    request(b"/", b"Content_Length: 5", method=b"POST") + CANARY,
    [served(header_seen(b"content-length"), count=2), refused()],
    section="RFC 9110 §5.1",
)

# -- names -------------------------------------------------------------------------------

for name, line in {
    "space": b"X-A : b",
    "tab": b"X-A\t: b",
    "two-spaces": b"X-A  : b",
    "on-host": b"X-A: b\r\nAccept : */*",
}.items():
    add(
        f"whitespace-before-colon-{name}",
        MUST,
        "Whitespace between a field name and its colon is rejected with 400.",
        request(b"/", line) + CANARY,
        Answers((frozenset({400}),)),
        section="RFC 9112 §5.1",
    )
for name, octets in {
    "empty": b"",
    "inner-space": b"X A",
    "parenthesis": b"X(A)",
    "slash": b"X/A",
    "at": b"X@A",
    "brackets": b"X[A]",
    "braces": b"X{A}",
    "quote": b'"X-A"',
    "equals": b"X=A",
    "semicolon": b"X;A",
    "comma": b"X,A",
    "question-mark": b"X?A",
    "backslash": b"X\\A",
    "less-than": b"X<A",
    "nul": b"X\x00A",
    "control": b"X\x01A",
    "del": b"X\x7fA",
    "vertical-tab": b"\x0bX-A",
    "non-ascii-utf8": "X-Ä".encode(),
    "non-ascii-octet": b"X-\xe4",
    "kelvin-sign": "X-\u212a".encode(),
}.items():
    add(
        f"name-bad-{name}",
        SHOULD,
        "A field name is a token; a line with any other name is answered 400 and the "
        "connection closed.",
        request(b"/", octets + b": b") + CANARY,
        refused(),
        section="RFC 9112 §2.2, RFC 9110 §5.1",
    )
add(
    "no-colon",
    SHOULD,
    "A line without a colon is no field line: 400.",
    request(b"/", b"NoColonHere") + CANARY,
    refused(),
    section="RFC 9112 §2.2",
)

# -- values ------------------------------------------------------------------------------

for name, octet in {"nul": b"\x00", "bare-cr": b"\r"}.items():
    add(
        f"value-{name}",
        MUST,
        "CR, LF or NUL within a value: the message is rejected, or each is replaced by SP.",
        request(b"/", b"X-A: b" + octet + b"c") + CANARY,
        [refused(), served(header_one_of(b"x-a", b"b c"), count=2)],
        section="RFC 9110 §5.5",
    )
    add(
        f"value-{name}-leading",
        MUST,
        "The same at the value's beginning.",
        request(b"/", b"X-A: " + octet + b"c") + CANARY,
        [refused(), served(header_one_of(b"x-a", b"c", b" c"), count=2)],
        section="RFC 9110 §5.5",
    )
    add(
        f"value-{name}-trailing",
        MUST,
        "The same at the value's end.",
        request(b"/", b"X-A: b" + octet) + CANARY,
        [refused(), served(header_one_of(b"x-a", b"b", b"b "), count=2)],
        section="RFC 9110 §5.5",
    )
add(
    "value-lf-then-text",
    SHOULD,
    "A LF inside a value is invalid, or ends the line; what follows has no colon: 400.",
    request(b"/", b"X-A: b\nc") + CANARY,
    refused(),
    section="RFC 9110 §5.5, RFC 9112 §2.2",
)
for name, octet in {
    "bel": b"\x07",
    "backspace": b"\x08",
    "vertical-tab": b"\x0b",
    "form-feed": b"\x0c",
    "escape": b"\x1b",
    "del": b"\x7f",
}.items():
    add(
        f"value-control-{name}",
        MAY,
        "Other control characters are invalid too, but may be kept; as they came.",
        request(b"/", b"X-A: b" + octet + b"c"),
        [refused(end=End.ANY), served(header_one_of(b"x-a", b"b" + octet + b"c", b"b c"))],
        section="RFC 9110 §5.5",
    )

# -- folding and whitespace at the beginning of a line -----------------------------------

for name, white in {"space": b" ", "tab": b"\t", "spaces": b"    "}.items():
    add(
        f"obs-fold-{name}",
        MUST,
        "A folded line is rejected with 400, or the fold is replaced by SP.",
        request(b"/", b"X-A: b\r\n" + white + b"c") + CANARY,
        [
            refused(),
            served(header_one_of(b"x-a", *(b"b" + b" " * n + b"c" for n in range(1, 9))), count=2),
        ],
        section="RFC 9112 §5.2",
    )
add(
    "obs-fold-empty",
    MUST,
    "The same for a fold with nothing behind it.",
    request(b"/", b"X-A: b\r\n ") + CANARY,
    [refused(), served(header_one_of(b"x-a", b"b", b"b "), count=2)],
    section="RFC 9112 §5.2",
)
for name, line in {"field": b" X-A: b", "blank": b" ", "tab": b"\tX-A: b"}.items():
    add(
        f"whitespace-after-request-line-{name}",
        MUST,
        "Whitespace between the start line and the first field: rejected, or the line is "
        "dropped unread.",
        b"GET / HTTP/1.1\r\n" + line + b"\r\n" + HOST + b"\r\n" + CANARY,
        [refused(), served(header_seen(b"x-a"), count=2)],
        section="RFC 9112 §2.2",
    )
add(
    "whitespace-hides-host",
    MUST,
    "A Host field on a whitespace-preceded first line does not count.",
    b"GET / HTTP/1.1\r\n " + HOST + b"\r\n" + CANARY,
    refused(end=End.ANY),
    section="RFC 9112 §2.2, §3.2",
)

# -- line ends and the end of the head ---------------------------------------------------

add(
    "bare-lf-line",
    MAY,
    "A single LF may be recognized as the end of a field line, or refused.",
    b"GET / HTTP/1.1\r\n" + HOST + b"X-A: b\nX-B: c\r\n\r\n",
    [served(header_seen(b"x-a", b"b"), header_seen(b"x-b", b"c")), refused()],
    section="RFC 9112 §2.2",
)
for name, ending in {"lf-lf": b"\n\n", "crlf-lf": b"\r\n\n", "lf-crlf": b"\n\r\n"}.items():
    add(
        f"head-ends-{name}",
        MAY,
        "A head that ends with single LFs is recognized or refused.",
        b"GET / HTTP/1.1\r\n" + HOST + b"X-A: b" + ending,
        [served(header_seen(b"x-a", b"b")), refused()],
        section="RFC 9112 §2.2",
    )
for name, ending in {"cr-cr": b"\r\r", "crlf-cr": b"\r\n\r", "crlf-crcrlf": b"\r\n\r\r\n"}.items():
    add(
        f"head-ends-{name}",
        MUST,
        "A bare CR ends neither a line nor the head: it is invalid, or counts as a space.",
        b"GET / HTTP/1.1\r\n" + HOST + b"X-A: b" + ending + b"X: y\r\n\r\n" + CANARY,
        [refused(), served(echo(1, path="/canary"), count=2)],
        section="RFC 9112 §2.2",
    )
add(
    "bare-lf-hides-field",
    MUST,
    "Bare LFs hide no request: a field after one is a field, or the message is refused.",
    b"GET / HTTP/1.1\r\n" + HOST + b"X-A: b\n\nGET /smuggled HTTP/1.1\r\n" + HOST + b"\r\n",
    [refused(), served(count=2)],
    section="RFC 9112 §2.2",
)
add(
    "no-fields-1.0",
    MUST,
    "An HTTP/1.0 request may have no field at all.",
    b"GET / HTTP/1.0\r\n\r\n",
    [served(end=End.ANY), refused(end=End.ANY)],
    section="RFC 9112 §2.1, §3.3",
)
add(
    "head-incomplete-half-close",
    MUST,
    "A head that ends with the connection is no request: 400 or nothing.",
    [Send(b"GET /incomplete HTTP/1.1\r\n" + HOST), HalfClose()],
    [Dropped(), refused(400, 408), Waits()],
    section="RFC 9112 §8",
)
add(
    "octet-by-octet",
    MUST,
    "Fields may arrive octet by octet.",
    [SendEach(request(b"/", b"X-A: b \t", b"X-B:"))],
    served(header_seen(b"x-a", b"b"), header_seen(b"x-b", b"")),
    section="RFC 9112 §2.2",
)

# -- sizes -------------------------------------------------------------------------------

_BIG = frozenset(CLIENT_ERROR | {200})
for name, lines in {
    "value-100k": [b"X-A: " + b"v" * 100_000],
    "name-100k": [b"N" * 100_000 + b": v"],
    "10000-fields": [b"X-%d: v" % number for number in range(10_000)],
    "total-1m": [b"X-%d: %s" % (number, b"v" * 4000) for number in range(250)],
}.items():
    add(
        f"too-large-{name}",
        MUST,
        "Fields larger than the server wishes to process are answered with a 4xx (431); "
        "never a failure of the server.",
        request(b"/", *lines),
        [Answers((_BIG,)), *too_large(*CLIENT_ERROR)],
        section="RFC 9110 §5.4, RFC 6585 §5",
    )
add(
    "endless-line",
    SHOULD,
    "A field line that does not end is cut off with an error.",
    b"GET / HTTP/1.1\r\n" + HOST + b"X-A: " + b"v" * 1_500_000,
    too_large(400, 431),
    section="RFC 9112 §2.3, RFC 9110 §5.4",
)
