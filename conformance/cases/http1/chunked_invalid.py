"""Chunked content that is not well formed: each a known way to make two parsers disagree.

Every such message matches no HTTP grammar, so the server answers 400 and closes; above
all, what follows is never taken for a request.
"""

from conformance.cases.model import Level, Table, Waits, refused
from conformance.client.messages import CANARY, chunked

MUST, SHOULD, MAY = Level.MUST, Level.SHOULD, Level.MAY

table = Table("chunked-invalid", "RFC 9112 §7.1, §2.2")
add = table.wire

LAST = b"0\r\n\r\n"

# -- the size ----------------------------------------------------------------------------

for name, size in {
    "empty": b"",
    "letters": b"xyz",
    "hex-prefix": b"0x5",
    "hex-prefix-upper": b"0X5",
    "suffix": b"5h",
    "plus": b"+5",
    "minus": b"-5",
    "minus-zero": b"-0",
    "underscore": b"0_5",
    "decimal-point": b"5.0",
    "comma": b"5,5",
    "quoted": b'"5"',
    "leading-space": b" 5",
    "leading-tab": b"\t5",
    "trailing-space": b"5 ",
    "trailing-tab": b"5\t",
    "inner-space": b"0 5",
    "vertical-tab": b"\x0b5",
    "form-feed": b"5\x0c",
    "nul": b"5\x00",
    "no-break-space": b"\xa05",
    "fullwidth-digit": "\uff15".encode(),
    "latin1-superscript": b"\xb2",
    "equals": b"5=a",
}.items():
    add(
        f"size-{name}",
        SHOULD,
        "A chunk size is hexadecimal digits and nothing else: 400 and close.",
        chunked(size + b"\r\nhello\r\n" + LAST) + CANARY,
        refused(),
    )
for name, size in {
    "2-32": b"100000005",
    "2-64": b"10000000000000005",
    "2-128": b"1" + b"0" * 31 + b"5",
    "16-digits": b"ffffffffffffffff",
    "minus-one-64": b"fffffffffffffffe",
    "5000-digits": b"f" * 5000,
}.items():
    add(
        f"overflow-{name}",
        MUST,
        "A huge size does not overflow into a small or negative one: refused, or waited for.",
        chunked(size + b"\r\nhello\r\n" + LAST) + CANARY,
        [refused(400, 413), Waits()],
        section="RFC 9112 §7.1",
    )

# -- line ends ---------------------------------------------------------------------------

for name, coded in {
    "size-lf": b"5\nhello\r\n" + LAST,
    "size-cr": b"5\rhello\r\n" + LAST,
    "size-crcrlf": b"5\r\r\nhello\r\n" + LAST,
    "size-lfcr": b"5\n\rhello\r\n" + LAST,
    "data-lf": b"5\r\nhello\n" + LAST,
    "data-cr": b"5\r\nhello\r" + LAST,
    "data-nothing": b"5\r\nhello" + LAST,
    "data-crcrlf": b"5\r\nhello\r\r\n" + LAST,
    "data-two-crlf": b"5\r\nhello\r\n\r\n" + LAST,
    "data-two-letters": b"5\r\nhelloXY" + LAST,
    "data-space-crlf": b"5\r\nhello \r\n" + LAST,
    "data-too-long": b"5\r\nhello!\r\n" + LAST,
    "data-too-short": b"6\r\nhello\r\n" + LAST,
    "before-first": b"\r\n5\r\nhello\r\n" + LAST,
    "last-lf": b"5\r\nhello\r\n0\n\r\n",
    "last-cr": b"5\r\nhello\r\n0\r\r\n\r\n",
    "last-with-data": b"5\r\nhello\r\n0\r\nX\r\n\r\n",
    "no-last-chunk": b"5\r\nhello\r\n\r\n",
}.items():
    add(
        f"line-{name}",
        SHOULD,
        "Exactly CRLF ends a chunk's size line and its data: otherwise 400 and close.",
        chunked(coded) + CANARY,
        refused(),
    )
add(
    "line-end-cr-letter",
    MUST,
    "The empty line that ends the message is CRLF; CR and another octet is not.",
    chunked(b"5\r\nhello\r\n0\r\n\rX") + CANARY,
    refused(),
    section="RFC 9112 §2.2, §7.1",
)
add(
    "line-no-end",
    SHOULD,
    "Without the empty line the next request is a broken trailer line: 400.",
    chunked(b"5\r\nhello\r\n0\r\n") + CANARY,
    refused(),
)

# -- extensions --------------------------------------------------------------------------

for name, extension in {
    "name-missing": b";",
    "name-missing-value": b";=value",
    "value-missing": b";name=",
    "name-space": b";na me",
    "name-bad": b";na[me",
    "value-bad": b";name=va[lue",
    "quote-open": b';name="value',
    "quote-tail": b';name="value"x',
    "quote-escape-cut": b';name="value\\',
    "lf": b";a\nb",
    "lf-first": b";\n",
    "cr": b";a\rb",
    "cr-before-crlf": b";a\r",
    "nul": b";a\x00b",
    "control": b";a=\x01",
    "del": b";a=\x7f",
    "quoted-lf": b';a="b\nc"',
    "quoted-cr": b';a="b\rc"',
    "quoted-nul": b';a="b\x00c"',
    "non-ascii-name": b";\xc3\xa9",
    "trailing-space": b";a ",
    "comma": b",a=b",
}.items():
    add(
        f"extension-{name}",
        SHOULD,
        "Ignoring an extension does not mean accepting anything: it has a grammar, and "
        "without it the message is invalid: 400 and close.",
        chunked(b"5" + extension + b"\r\nhello\r\n" + LAST) + CANARY,
        refused(),
        section="RFC 9112 §7.1.1, §2.2",
    )
