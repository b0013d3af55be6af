"""What responses look like: Date, content where there is none, framing, the app's fields."""

from collections.abc import Sequence

from conformance import codec
from conformance.cases.checks import dated, dated_now, has, lacks, no_content, says_close
from conformance.cases.model import OK, Answers, Check, End, Level, Table, served
from conformance.client.errors import Mismatch, Violation
from conformance.client.lab import Lab
from conformance.client.messages import CANARY, request
from conformance.client.responses import Response

MUST, SHOULD, MAY = Level.MUST, Level.SHOULD, Level.MAY

table = Table("responses", "RFC 9110 §6.4")
add = table.wire


def reply(
    status: int,
    headers: Sequence[tuple[bytes, bytes]] = (),
    body: bytes = b"",
    method: bytes = b"GET",
    streamed: bool = False,
) -> bytes:
    """A request that makes the application send just this response."""
    steps: list[object] = [
        ["send", {"type": "http.response.start", "status": status, "headers": list(headers)}]
    ]
    if streamed:
        steps.append(["send", {"type": "http.response.body", "body": body, "more_body": True}])
        body = b""
    steps.append(["send", {"type": "http.response.body", "body": body}])
    return request(b"/probe/script", b"X-Script: " + codec.dumps(steps), method=method)


def _status(code: int, *checks: Check, end: End = End.OPEN) -> Answers:
    return Answers((frozenset({code}),), end, checks)


# -- Date --------------------------------------------------------------------------------

for name, code in (("200", 200), ("304", 304), ("404", 404), ("302", 302)):
    add(
        f"date-{name}",
        MUST,
        "An origin server with a clock sends one Date in every 2xx, 3xx and 4xx response, in "
        "the preferred format.",
        reply(code),
        _status(code, dated),
        section="RFC 9110 §6.6.1, §5.6.7",
    )
add(
    "date-own-400",
    MUST,
    "That includes the errors that the server makes itself.",
    request(b"/", b"Bad Name: x"),
    Answers((frozenset({400}),), End.ANY, (dated,)),
    section="RFC 9110 §6.6.1",
)
add(
    "date-now",
    MUST,
    "The Date is the time at which the message was made.",
    request(),
    served(dated_now),
    section="RFC 9110 §6.6.1",
)
add(
    "date-from-application",
    MUST,
    "A Date that the application set is not doubled.",
    reply(200, [(b"date", b"Tue, 15 Nov 1994 08:12:31 GMT")]),
    _status(200, dated),
    section="RFC 9110 §5.3",
)


def _one_server(responses: Sequence[Response], /) -> str | None:
    values = responses[0].values("server")
    return None if len(values) == 1 else f"Server fields: {values!r}"


add(
    "server-from-application",
    MUST,
    "A Server field that the application set is not doubled.",
    reply(200, [(b"server", b"mine/1")]),
    _status(200, _one_server),
    section="RFC 9110 §5.3",
)

# -- responses without content -----------------------------------------------------------

for code in (204, 304):
    for name, headers in {"": (), "-with-length": ((b"content-length", b"8"),)}.items():
        add(
            f"no-content-{code}{name}",
            MUST,
            "A 204 or 304 ends with its head, whatever the application sends.",
            reply(code, headers, b"unwanted"),
            [
                _status(code, no_content),
                Answers((frozenset({500}),)),
                Answers((frozenset({code}),), End.CLOSED, (no_content,)),
            ],
            section="RFC 9112 §6.3, RFC 9110 §6.4.1",
        )
add(
    "no-length-204",
    MUST,
    "No Content-Length is sent with a 204.",
    reply(204),
    _status(204, lacks("content-length")),
    section="RFC 9110 §8.6",
)
add(
    "no-coding-204",
    MUST,
    "No Transfer-Encoding is sent with a 204.",
    reply(204, streamed=True),
    _status(204, lacks("transfer-encoding")),
    section="RFC 9112 §6.1",
)
for name, headers, streamed in (
    ("length", ((b"content-length", b"5"),), False),
    ("no-length", (), False),
    ("streamed", (), True),
):
    add(
        f"head-{name}",
        MUST,
        "A response to HEAD has no content, whatever the application sends.",
        reply(200, headers, b"hello", b"HEAD", streamed),
        _status(200, no_content),
        section="RFC 9110 §9.3.2",
        methods=["HEAD"],
    )
add(
    "head-keeps-length",
    SHOULD,
    "The fields of a HEAD response are those of GET; a length that is sent is right.",
    reply(200, [(b"content-length", b"5")], b"hello", b"HEAD"),
    _status(200, has("content-length")),
    section="RFC 9110 §9.3.2, §8.6",
    methods=["HEAD"],
)
add(
    "head-error",
    MUST,
    "Also an error in answer to HEAD has no content.",
    request(b"/", b"Content-Length: 1, 2", method=b"HEAD") + CANARY,
    Answers((frozenset({400}),), End.ANY),
    section="RFC 9110 §9.3.2",
    methods=["HEAD"],
)


@table.probe(
    "head-length-right",
    MUST,
    "A Content-Length in a HEAD response equals that of the GET response.",
    section="RFC 9110 §8.6",
)
async def head_length(lab: Lab) -> None:
    get = await lab.fetch(reply(200, (), b"hello"))
    head = await lab.fetch(reply(200, (), b"hello", b"HEAD"), "HEAD")
    if (lengths := head.values("content-length")) and lengths != [b"%d" % len(get.body)]:
        raise Mismatch(f"HEAD says {lengths!r}, GET sends {len(get.body)} octets")


# -- framing and fields ------------------------------------------------------------------

add(
    "length-kept",
    SHOULD,
    "A length known beforehand is sent as Content-Length.",
    reply(200, [(b"content-length", b"5")], b"hello"),
    _status(200, has("content-length"), lacks("transfer-encoding")),
    section="RFC 9110 §8.6",
)
add(
    "unknown-length",
    MUST,
    "Content of unknown length is delimited, by chunks or by the close.",
    reply(200, (), b"hello", streamed=True),
    Answers(
        (OK,),
        End.ANY,
        (lambda responses, /: None if responses[0].body == b"hello" else "content is wrong",),
    ),
    section="RFC 9112 §6.3",
)
add(
    "empty-content",
    MUST,
    "Empty content is delimited as well.",
    reply(200),
    _status(200, no_content),
    section="RFC 9112 §6.3",
)
for code in (201, 299, 400, 418, 451, 500, 503, 599):
    add(
        f"status-{code}",
        MUST,
        "Any status code reaches the client, with or without a reason phrase, the space "
        "before it always there.",
        reply(code, [(b"content-length", b"0")]),
        _status(code, end=End.ANY),
        section="RFC 9112 §4",
    )


def _cookies(responses: Sequence[Response], /) -> str | None:
    values = responses[0].values("set-cookie")
    return None if values == [b"a=1", b"b=2"] else f"Set-Cookie fields: {values!r}"


add(
    "fields-kept",
    MUST,
    "Repeated fields of the application come in its order; Set-Cookie is never joined.",
    reply(200, [(b"set-cookie", b"a=1"), (b"x-a", b"1"), (b"set-cookie", b"b=2")]),
    _status(200, _cookies),
    section="RFC 9110 §5.3",
)
add(
    "close-from-application",
    MUST,
    "If the response says close, the connection closes.",
    reply(200, [(b"connection", b"close"), (b"content-length", b"2")], b"ok"),
    Answers((OK,), End.CLOSED, (says_close,)),
    section="RFC 9112 §9.6",
)
add(
    "coding-from-application",
    MUST,
    "A Transfer-Encoding that the application set is not sent beside the server's own.",
    reply(200, [(b"transfer-encoding", b"chunked")], b"hello"),
    [
        _status(200, lambda responses, /: None if responses[0].body == b"hello" else "mangled"),
        Answers((frozenset({500}),)),
    ],
    section="RFC 9112 §6.1",
)


@table.probe(
    "error-leaks-nothing",
    SHOULD,
    "An error of the application is told as such; its text stays on the server.",
    section="RFC 9110 §15.6.1",
)
async def error_leaks_nothing(lab: Lab) -> None:
    script = codec.dumps([["raise", "conformance-secret"]])
    data = request(b"/probe/script", b"X-Script: " + script)
    try:
        response = await lab.fetch(data)
    except Violation as error:
        raise Mismatch(f"no valid answer: {error}") from None
    if b"conformance-secret" in response.body or b"Traceback" in response.body:
        raise Mismatch("the response shows the exception")
