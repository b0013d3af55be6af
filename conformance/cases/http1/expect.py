"""The 100-continue expectation, and others."""

from conformance import codec
from conformance.cases.checks import echo, no_interim, one_continue
from conformance.cases.model import (
    OK,
    Answers,
    End,
    Level,
    Read,
    ReadInterim,
    Send,
    Table,
    refused,
    served,
)
from conformance.client.errors import Mismatch
from conformance.client.lab import Lab
from conformance.client.messages import CANARY, HELLO, request

MUST, SHOULD, MAY = Level.MUST, Level.SHOULD, Level.MAY

table = Table("expect", "RFC 9110 §10.1.1")
add = table.wire

_CONTINUE = b"Expect: 100-continue"


def _head(*fields: bytes, target: bytes = b"/", length: int = 5) -> bytes:
    return request(target, b"Content-Length: %d" % length, *fields, method=b"POST")


for name, line in {"plain": _CONTINUE, "case": b"EXPECT: 100-Continue"}.items():
    add(
        f"continue-{name}",
        MUST,
        "A server that will read the content sends 100 without waiting for it; the "
        "expectation is case-insensitive.",
        [Send(_head(line)), ReadInterim(), Send(HELLO + CANARY)],
        served(echo(body=HELLO), echo(1, path="/canary"), count=2),
    )
add(
    "continue-in-list",
    MUST,
    "Expect is a list: empty elements around the expectation are ignored.",
    [Send(_head(b"Expect: , 100-continue ,")), ReadInterim(), Send(HELLO)],
    served(echo(body=HELLO)),
    section="RFC 9110 §5.6.1.2, §10.1.1",
)
add(
    "continue-chunked",
    MUST,
    "The same for chunked content.",
    [
        Send(request(b"/", b"Transfer-Encoding: chunked", _CONTINUE, method=b"POST")),
        ReadInterim(),
        Send(b"5\r\nhello\r\n0\r\n\r\n"),
    ],
    served(echo(body=HELLO)),
)
add(
    "content-came-along",
    MUST,
    "If the content came with the head, the 100 may be left out; one at most is sent.",
    _head(_CONTINUE) + HELLO,
    served(echo(body=HELLO), one_continue),
)
add(
    "final-instead",
    MUST,
    "An application that does not read is no reason to wait: a final status comes at once "
    "(with or without 100).",
    [Send(_head(_CONTINUE, target=b"/probe/quick")), Read(), Send(HELLO)],
    Answers((OK,), End.ANY, (one_continue,)),
)
add(
    "final-then-content",
    MUST,
    "Content that comes although a final status was sent is read as such, or the connection "
    "closes.",
    [Send(_head(_CONTINUE, target=b"/probe/quick", length=len(CANARY))), Send(CANARY)],
    Answers((OK,), End.ANY, (one_continue,)),
)
add(
    "without-content",
    MAY,
    "A request without content has nothing to continue; it is served all the same.",
    request(b"/", _CONTINUE),
    served(one_continue),
)
add(
    "http-1.0",
    MUST,
    "The expectation in an HTTP/1.0 request is ignored.",
    request(b"/", b"Content-Length: 5", _CONTINUE, method=b"POST", version=b"HTTP/1.0", body=HELLO),
    Answers((OK,), End.CLOSED, (no_interim, echo(body=HELLO))),
)
for name, line in {
    "other": b"Expect: something-else",
    "parameter": b"Expect: 100-continue=yes",
    "200": b"Expect: 200-ok",
    "with-continue": b"Expect: 100-continue, something-else",
}.items():
    add(
        f"unknown-{name}",
        MAY,
        "An expectation that is not understood may be answered 417, or ignored.",
        _head(line) + HELLO,
        [refused(417, end=End.ANY), served(echo(body=HELLO))],
    )
add(
    "bad-request-no-continue",
    MUST,
    "A malformed request is not continued: its final status comes at once.",
    request(b"/", b"Content-Length: x", _CONTINUE, method=b"POST"),
    Answers((frozenset({400}),), End.CLOSED, (no_interim,)),
    section="RFC 9110 §10.1.1, RFC 9112 §6.3",
)
add(
    "no-host-no-continue",
    MUST,
    "Nor is one without Host.",
    request(b"/", b"Content-Length: 5", _CONTINUE, method=b"POST", host=b""),
    Answers((frozenset({400}),), End.ANY, (no_interim,)),
    section="RFC 9110 §10.1.1, RFC 9112 §3.2",
)

_STARTS_FIRST = codec.dumps(
    [
        ["send", {"type": "http.response.start", "status": 200, "headers": []}],
        ["send", {"type": "http.response.body", "body": b"early", "more_body": True}],
        ["drain"],
        ["send", {"type": "http.response.body", "body": b"late"}],
    ]
)


@table.probe(
    "no-continue-after-final",
    MUST,
    "No 100 is sent once the final response has begun, even if the application reads only then.",
)
async def no_continue_after_final(lab: Lab) -> None:
    head = _head(_CONTINUE, b"X-Script: " + _STARTS_FIRST, target=b"/probe/script")
    async with lab.connect() as connection:
        await connection.send(head)
        final = await connection.next_head()
        if final.status == 100:
            final = await connection.next_head()
        if final.status != 200:
            raise Mismatch(f"status {final.status}")
        await connection.arrives(b"early")
        await connection.send(HELLO)
        whole = await connection.content(final)
        if whole.body != b"earlylate":
            raise Mismatch(f"the content is {whole.body!r}")


@table.probe(
    "continue-waits-for-reading",
    MAY,
    "The 100 need not come before the application asks for content; when it asks, it comes.",
)
async def continue_on_reading(lab: Lab) -> None:
    script = codec.dumps(
        [
            ["sleep", 0.2],
            ["drain"],
            ["send", {"type": "http.response.start", "status": 204, "headers": []}],
            ["send", {"type": "http.response.body"}],
        ]
    )
    async with lab.connect() as connection:
        await connection.send(_head(_CONTINUE, b"X-Script: " + script, target=b"/probe/script"))
        interim = await connection.next_head()
        if interim.status != 100:
            raise Mismatch(f"status {interim.status} instead of 100")
        await connection.send(HELLO)
        await connection.response()


add(
    "no-read-no-continue",
    MAY,
    "With a final status decided from the head alone, sending 100 first is needless.",
    [Send(_head(_CONTINUE, target=b"/probe/quick")), Read(), Send(HELLO)],
    Answers((OK,), End.ANY, (no_interim,)),
)
