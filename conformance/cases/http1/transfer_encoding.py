"""Transfer-Encoding: when it applies, its spellings, and its quarrels with Content-Length."""

from conformance.cases.checks import echo, header_seen
from conformance.cases.model import (
    OK,
    Answers,
    Dropped,
    End,
    Level,
    Outcome,
    Table,
    refused,
    served,
)
from conformance.client.messages import CANARY, HELLO, HOST, request

MUST, SHOULD, MAY = Level.MUST, Level.SHOULD, Level.MAY

table = Table("transfer-encoding", "RFC 9112 §6.1")
add = table.wire

CODED = b"5\r\nhello\r\n0\r\n\r\n"


def _post(*lines: bytes, body: bytes = CODED, version: bytes = b"HTTP/1.1") -> bytes:
    return request(b"/", *lines, method=b"POST", body=body, version=version)


_DECODED = served(echo(body=HELLO), echo(1, path="/canary"), count=2)
_DECODED_THEN_CLOSED = Answers((OK,), End.CLOSED, (echo(body=HELLO),))

# -- legal -------------------------------------------------------------------------------

for name, line in {
    "plain": b"Transfer-Encoding: chunked",
    "value-case": b"Transfer-Encoding: ChUnKeD",
    "upper": b"TRANSFER-ENCODING: CHUNKED",
    "no-space": b"Transfer-Encoding:chunked",
    "tab": b"Transfer-Encoding:\tchunked",
    "trailing-space": b"Transfer-Encoding: chunked ",
    "trailing-tab": b"Transfer-Encoding: chunked\t",
}.items():
    add(
        f"good-{name}",
        MUST,
        "Every HTTP/1.1 recipient decodes the chunked coding; its name is case-insensitive "
        "and whitespace around a value is trimmed.",
        _post(line) + CANARY,
        _DECODED,
        section="RFC 9112 §7, §7.1",
    )
add(
    "good-on-get",
    MUST,
    "Framing does not depend on the method.",
    request(b"/", b"Transfer-Encoding: chunked", body=CODED) + CANARY,
    [_DECODED, refused(400, 413)],
    section="RFC 9112 §6",
)
for name, value in {
    "leading": b", chunked",
    "trailing": b"chunked,",
    "both": b" , chunked ,",
}.items():
    add(
        f"empty-element-{name}",
        MUST,
        "Empty list elements are ignored, or the message is refused; in no case does it lose "
        "its coding.",
        _post(b"Transfer-Encoding: " + value) + CANARY,
        [_DECODED, refused(400, 501)],
        section="RFC 9110 §5.6.1",
    )

# -- with Content-Length -----------------------------------------------------------------

_BOTH: list[Outcome] = [refused(), _DECODED_THEN_CLOSED]
for name, lines in {
    "cl-te": [b"Content-Length: 5", b"Transfer-Encoding: chunked"],
    "te-cl": [b"Transfer-Encoding: chunked", b"Content-Length: 5"],
    "cl-right": [b"Content-Length: 15", b"Transfer-Encoding: chunked"],
    "cl-zero": [b"Content-Length: 0", b"Transfer-Encoding: chunked"],
    "cl-twice": [b"Content-Length: 5", b"Transfer-Encoding: chunked", b"Content-Length: 5"],
    "te-upper": [b"Content-Length: 5", b"TRANSFER-ENCODING: CHUNKED"],
    "keep-alive": [
        b"Content-Length: 5",
        b"Transfer-Encoding: chunked",
        b"Connection: keep-alive",
    ],
}.items():
    add(
        f"with-length-{name}",
        MUST,
        "With both fields: rejected, or read by the coding alone; the connection closes after "
        "the response in any case.",
        _post(*lines) + CANARY,
        _BOTH,
        section="RFC 9112 §6.1, §6.3",
    )
add(
    "with-length-invalid",
    MUST,
    "So it is when that length is invalid.",
    _post(b"Content-Length: x", b"Transfer-Encoding: chunked") + CANARY,
    _BOTH,
    section="RFC 9112 §6.1, §6.3",
)
add(
    "with-length-smuggling",
    MUST,
    "A request hidden behind the last chunk, inside the announced length, is not answered.",
    _post(
        b"Content-Length: %d" % (5 + len(CANARY)),
        b"Transfer-Encoding: chunked",
        body=b"0\r\n\r\n" + CANARY,
    ),
    [refused(), Answers((OK,), End.CLOSED, (echo(body=b""),))],
    section="RFC 9112 §6.1, §11.2",
)

# -- HTTP/1.0 ----------------------------------------------------------------------------

for name, lines in {
    "plain": [b"Transfer-Encoding: chunked"],
    "keep-alive": [b"Transfer-Encoding: chunked", b"Connection: keep-alive"],
    "with-length": [
        b"Content-Length: 15",
        b"Transfer-Encoding: chunked",
        b"Connection: keep-alive",
    ],
}.items():
    add(
        f"http-1.0-{name}",
        MUST,
        "Transfer-Encoding in an HTTP/1.0 message means faulty framing: whatever the answer, "
        "the connection closes after it and no later octet is a request.",
        _post(*lines, version=b"HTTP/1.0") + CANARY,
        Answers((OK | {400, 411, 501},), End.CLOSED),
    )

# -- codings that are not chunked alone --------------------------------------------------

for name, lines in {
    "unknown": [b"Transfer-Encoding: frobnicate"],
    "identity": [b"Transfer-Encoding: identity"],
    "gzip": [b"Transfer-Encoding: gzip"],
    "chunked-gzip": [b"Transfer-Encoding: chunked, gzip"],
    "chunked-identity": [b"Transfer-Encoding: chunked, identity"],
    "two-lines-chunked-first": [b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity"],
    "empty": [b"Transfer-Encoding:"],
    "only-comma": [b"Transfer-Encoding: ,"],
    "xchunked": [b"Transfer-Encoding: xchunked"],
    "chunkedx": [b"Transfer-Encoding: chunkedx"],
    "chunk": [b"Transfer-Encoding: chunk"],
    "x-chunked": [b"Transfer-Encoding: x-chunked"],
    "inner-space": [b"Transfer-Encoding: chun ked"],
    "quoted": [b'Transfer-Encoding: "chunked"'],
    "single-quoted": [b"Transfer-Encoding: 'chunked'"],
    "colon": [b"Transfer-Encoding:: chunked"],
    "semicolon-before": [b"Transfer-Encoding: ;chunked"],
    "slash": [b"Transfer-Encoding: chunked/1"],
    "non-ascii": [b"Transfer-Encoding: chunked\xa0"],
    "non-ascii-letter": ["Transfer-Encoding: chunkeđ".encode()],
}.items():
    add(
        f"not-final-{name}",
        MUST,
        "If chunked is not the final coding, the length is unknown: 400 and close (501 for a "
        "coding that is not understood).",
        _post(*lines) + CANARY,
        refused(400, 501),
        section="RFC 9112 §6.3",
    )
    if name in ("identity", "empty", "xchunked", "colon", "quoted", "chunk"):
        add(
            f"not-final-{name}-with-length",
            MUST,
            "A Content-Length beside it does not rescue such a message.",
            _post(*lines, b"Content-Length: 5", body=HELLO) + CANARY,
            refused(400, 501),
            section="RFC 9112 §6.3",
        )
for name, lines in {
    "gzip-chunked": [b"Transfer-Encoding: gzip, chunked"],
    "unknown-chunked": [b"Transfer-Encoding: frobnicate, chunked"],
    "identity-chunked": [b"Transfer-Encoding: identity, chunked"],
    "two-lines": [b"Transfer-Encoding: gzip", b"Transfer-Encoding: chunked"],
}.items():
    add(
        f"not-understood-{name}",
        SHOULD,
        "A coding that the server does not understand is answered 501 (or 400).",
        _post(*lines) + CANARY,
        refused(400, 415, 501),
    )
for name, lines in {
    "list": [b"Transfer-Encoding: chunked, chunked"],
    "lines": [b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"],
    "list-no-space": [b"Transfer-Encoding: chunked,chunked"],
}.items():
    add(
        f"twice-{name}",
        MUST,
        "Chunked is applied at most once; a doubled one is refused (and never framed by "
        "anything else).",
        _post(*lines) + CANARY,
        refused(400, 501),
    )
for name, value in {
    "parameter": b"chunked;q=1",
    "parameter-space": b"chunked ; foo=bar",
    "parameter-empty": b"chunked;",
}.items():
    add(
        f"chunked-{name}",
        SHOULD,
        "The chunked coding has no parameters; their presence is an error.",
        _post(b"Transfer-Encoding: " + value) + CANARY,
        refused(400, 501),
        section="RFC 9112 §7.1",
    )

# -- obfuscations ------------------------------------------------------------------------

for name, line in {
    "space-before-colon": b"Transfer-Encoding : chunked",
    "tab-before-colon": b"Transfer-Encoding\t: chunked",
}.items():
    add(
        f"hidden-{name}",
        MUST,
        "Whitespace before the colon is rejected with 400.",
        _post(line, b"Content-Length: 5", body=HELLO) + CANARY,
        refused(end=End.ANY),
        section="RFC 9112 §5.1",
    )
for name, line in {
    "vertical-tab": b"Transfer-Encoding: \x0bchunked",
    "form-feed": b"Transfer-Encoding: chunked\x0c",
    "del": b"Transfer-Encoding: chunked\x7f",
    "control": b"Transfer-Encoding: \x01chunked",
}.items():
    add(
        f"hidden-{name}",
        MUST,
        "A control character is no whitespace: the coding is not chunked, so 400.",
        _post(line) + CANARY,
        refused(400, 501),
        section="RFC 9112 §6.3, RFC 9110 §5.5",
    )
for name, line in {
    "nul": b"Transfer-Encoding: chunked\x00",
    "bare-cr": b"Transfer-Encoding: \rchunked",
    "bare-cr-after": b"Transfer-Encoding: chunked\r",
    "folded": b"Transfer-Encoding:\r\n chunked",
    "folded-tab": b"Transfer-Encoding:\r\n\tchunked",
}.items():
    add(
        f"hidden-{name}",
        MUST,
        "Refused; or, the octet or fold replaced by SP and trimmed, chunked like any other.",
        _post(line) + CANARY,
        [refused(400, 501), _DECODED],
        section="RFC 9110 §5.5, RFC 9112 §5.2",
    )
add(
    "hidden-folded-with-length",
    MUST,
    "A folded Transfer-Encoding beside a Content-Length: refused, or the coding wins and the "
    "connection closes.",
    _post(b"Content-Length: 5", b"Transfer-Encoding:\r\n chunked") + CANARY,
    _BOTH,
    section="RFC 9112 §5.2, §6.1",
)
add(
    "hidden-leading-space",
    MUST,
    "As first line after the request line with a space before it: refused, or not seen.",
    b"POST / HTTP/1.1\r\n Transfer-Encoding: chunked\r\n"
    + HOST
    + b"Content-Length: 5\r\n\r\nhello"
    + CANARY,
    [refused(), served(echo(body=HELLO), echo(1, path="/canary"), count=2)],
    section="RFC 9112 §2.2",
)
for name, line in {
    "underscore": b"Transfer_Encoding: chunked",
    "prefixed": b"X-Transfer-Encoding: chunked",
    "suffixed": b"Transfer-Encoding-: chunked",
    "no-dash": b"TransferEncoding: chunked",
}.items():
    add(
        f"other-field-{name}",
        MUST,
        "A field of another name does not frame the message; Content-Length does.",
        _post(line, b"Content-Length: 5", body=HELLO) + CANARY,
        [served(echo(body=HELLO), header_seen(b"transfer-encoding"), count=2), refused()],
        section="RFC 9110 §5.1",
    )
for name, line in {
    "inner-space": b"Transfer Encoding: chunked",
    "nul-in-name": b"Transfer-Encoding\x00: chunked",
    "cr-in-name": b"Transfer-Encoding\r: chunked",
    "leading-cr": b"\rTransfer-Encoding: chunked",
    "non-ascii-dash": "Transfer\u2010Encoding: chunked".encode(),
}.items():
    add(
        f"broken-name-{name}",
        SHOULD if name != "cr-in-name" else MUST,
        "A name that is no token makes the message invalid: 400 and close.",
        _post(line, b"Content-Length: 5", body=HELLO) + CANARY,
        [refused(), Dropped()] if name == "leading-cr" else refused(),
        section="RFC 9112 §2.2, §5.1",
    )
add(
    "connection-option",
    MUST,
    "Naming Transfer-Encoding as a connection option does not undo it.",
    _post(b"Transfer-Encoding: chunked", b"Connection: transfer-encoding") + CANARY,
    [_DECODED, refused()],
    section="RFC 9112 §6.3",
)
