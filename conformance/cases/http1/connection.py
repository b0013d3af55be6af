"""Persistence: the close option, HTTP/1.0, unread content, errors, the end of a connection."""

from conformance import codec
from conformance.cases.checks import (
    echo,
    framed_without_chunks,
    kept_or_closed,
    no_interim,
    says_close,
)
from conformance.cases.model import (
    OK,
    Answers,
    Dropped,
    End,
    HalfClose,
    Level,
    Read,
    Send,
    Table,
    Waits,
    refused,
    served,
)
from conformance.client.errors import Mismatch
from conformance.client.lab import Lab
from conformance.client.messages import CANARY, HELLO, chunked, post, request
from conformance.client.responses import Framing

MUST, SHOULD, MAY = Level.MUST, Level.SHOULD, Level.MAY

table = Table("connection", "RFC 9112 §9.3")
add = table.wire

_CLOSED = Answers((OK,), End.CLOSED)

# -- persistent --------------------------------------------------------------------------

add(
    "persistent",
    SHOULD,
    "An HTTP/1.1 connection persists by default.",
    [Send(request(b"/1")), Read(), Send(request(b"/2")), Read(), Send(request(b"/3"))],
    served(echo(path="/1"), echo(1, path="/2"), echo(2, path="/3"), count=3),
)
for name, lines in {
    "keep-alive": [b"Connection: keep-alive"],
    "other-option": [b"Connection: x-option"],
    "closed": [b"Connection: closed"],
    "not-close": [b"Connection: xclose, close-not"],
    "keep-alive-field": [b"Keep-Alive: timeout=0"],
    "proxy-connection": [b"Proxy-Connection: close"],
    "empty-elements": [b"Connection: , ,"],
    "empty": [b"Connection:"],
}.items():
    add(
        f"persistent-{name}",
        SHOULD,
        "Nothing but the close option ends it.",
        request(b"/", *lines),
        served(),
    )
for name, first, method in (
    ("head", request(method=b"HEAD"), "HEAD"),
    ("post", post(HELLO), "POST"),
    ("chunked", chunked(b"5\r\nhello\r\n0\r\n\r\n"), "POST"),
):
    add(
        f"persistent-after-{name}",
        SHOULD,
        "A connection persists after any well-framed exchange.",
        first + request(b"/next"),
        served(echo(1, path="/next"), count=2),
        methods=[method],
    )

# -- the close option --------------------------------------------------------------------

for name, lines in {
    "plain": [b"Connection: close"],
    "case": [b"CONNECTION: CLOSE"],
    "list": [b"Connection: keep-alive, close"],
    "list-first": [b"Connection: close , x-option"],
    "list-no-space": [b"Connection: x,close,y"],
    "empty-elements": [b"Connection: ,, close ,"],
    "second-line": [b"Connection: x-option", b"Connection: close"],
    "both-lines": [b"Connection: close", b"Connection: keep-alive"],
    "tab": [b"Connection:\tclose\t"],
}.items():
    add(
        f"close-{name}",
        MUST,
        "After the close option the server closes behind its response, and processes nothing "
        "that comes later.",
        request(b"/", *lines) + CANARY,
        _CLOSED,
        section="RFC 9112 §9.6, RFC 9110 §7.6.1",
    )
add(
    "close-announced",
    SHOULD,
    "The response before the close carries the close option itself.",
    request(b"/", b"Connection: close"),
    Answers((OK,), End.CLOSED, (says_close,)),
    section="RFC 9112 §9.6",
)
add(
    "close-with-content",
    MUST,
    "The close option does not keep content from being read.",
    post(HELLO, b"Connection: close"),
    Answers((OK,), End.CLOSED, (echo(body=HELLO),)),
    section="RFC 9112 §9.6",
)
add(
    "error-announced",
    SHOULD,
    "A response after which the server closes says so; that holds for its own errors.",
    request(b"/", b"Bad Name: x"),
    Answers((frozenset({400}),), End.CLOSED, (says_close,)),
    section="RFC 9112 §9.6",
)

# -- HTTP/1.0 ----------------------------------------------------------------------------

add(
    "http-1.0-closes",
    MUST,
    "Without keep-alive an HTTP/1.0 connection does not persist.",
    request(version=b"HTTP/1.0") + CANARY,
    _CLOSED,
)
add(
    "http-1.0-content",
    MUST,
    "HTTP/1.0 requests have content by Content-Length.",
    post(HELLO, version=b"HTTP/1.0"),
    Answers((OK,), End.CLOSED, (echo(body=HELLO, http_version="1.0"),)),
    section="RFC 9112 §6.3",
)
add(
    "http-1.0-other-option",
    MUST,
    "Other options do not make it persist.",
    request(b"/", b"Connection: x-option, keep-alive-not", version=b"HTTP/1.0"),
    _CLOSED,
)
add(
    "http-1.0-close-wins",
    MUST,
    "The close option wins over keep-alive.",
    request(b"/", b"Connection: keep-alive, close", version=b"HTTP/1.0"),
    _CLOSED,
)
add(
    "http-1.0-keep-alive",
    MAY,
    "With keep-alive it may persist.",
    request(b"/1", b"Connection: keep-alive", version=b"HTTP/1.0"),
    [served(kept_or_closed, end=End.ANY)],
)
add(
    "http-1.0-not-chunked",
    MUST,
    "No Transfer-Encoding is sent to a client that did not say HTTP/1.1.",
    request(
        b"/probe/script",
        b"X-Script: "
        + codec.dumps(
            [
                ["send", {"type": "http.response.start", "status": 200, "headers": []}],
                ["send", {"type": "http.response.body", "body": b"a", "more_body": True}],
                ["send", {"type": "http.response.body", "body": b"b"}],
            ]
        ),
        version=b"HTTP/1.0",
    ),
    Answers((OK,), End.CLOSED, (framed_without_chunks,)),
    section="RFC 9112 §6.1",
)


@table.probe(
    "http-1.0-kept-says-so",
    MUST,
    "A server that keeps an HTTP/1.0 connection open answers with the keep-alive option; "
    "without it, it closes.",
    section="RFC 9112 §9.3, §C.2.2",
)
async def http10_keep_alive(lab: Lab) -> None:
    data = request(b"/", b"Connection: keep-alive", version=b"HTTP/1.0")
    async with lab.connect() as connection:
        await connection.send(data)
        first = await connection.response()
        if first.framing is Framing.CLOSE:
            return
        if b"keep-alive" not in first.members("connection"):
            await connection.ends()
            return
        await connection.send(data)
        await connection.response()


add(
    "http-1.0-no-interim",
    MUST,
    "No 1xx response is sent to an HTTP/1.0 client.",
    [
        Send(
            request(
                b"/",
                b"Content-Length: 5",
                b"Expect: 100-continue",
                method=b"POST",
                version=b"HTTP/1.0",
                body=HELLO,
            )
        )
    ],
    Answers((OK,), End.CLOSED, (no_interim, echo(body=HELLO))),
    section="RFC 9110 §15.2, §10.1.1",
)

# -- content that the application does not read ------------------------------------------

for name, data in {
    "small": post(HELLO, target=b"/probe/quick"),
    "chunked": chunked(b"5\r\nhello\r\n0\r\n\r\n", target=b"/probe/quick"),
    "a-request": post(CANARY, target=b"/probe/quick"),
    "64k": post(b"x" * 65536, target=b"/probe/quick"),
    "1m": post(b"x" * 1_000_000, target=b"/probe/quick"),
}.items():
    add(
        f"unread-{name}",
        MUST,
        "A server reads the whole content or closes after its response; it never parses "
        "unread content as a request.",
        data,
        Answers((OK,), End.ANY),
    )
add(
    "unread-then-next",
    MUST,
    "If it reads on, the next request is answered.",
    post(b"x" * 10_000, target=b"/probe/quick") + request(b"/next"),
    [served(echo(1, path="/next"), count=2), _CLOSED],
)
add(
    "unread-invalid",
    MUST,
    "Content found to be malformed after the response was sent ends the connection.",
    chunked(b"5\r\nhello\r\nxyz\r\n" + CANARY, target=b"/probe/quick"),
    [_CLOSED, refused()],
)

# -- ends --------------------------------------------------------------------------------

add(
    "idle-close",
    MAY,
    "A client that connects and leaves is nothing to answer.",
    [HalfClose()],
    [Dropped(), refused(400, 408), Waits()],
    section="RFC 9112 §9.5",
)
add(
    "half-close-after-request",
    MAY,
    "A client may half-close after its request; answering it is kind.",
    [Send(request(b"/last")), HalfClose()],
    [Answers((OK,)), Dropped()],
    section="RFC 9112 §9.5",
)
for name, data in {
    "bad-request-line": b"GET / HTTP/9.x\r\n\r\n",
    "bad-chunk": chunked(b"nonsense\r\n"),
    "conflict": request(b"/", b"Content-Length: 5", b"Content-Length: 6", method=b"POST"),
}.items():
    add(
        f"no-second-chance-{name}",
        MUST,
        "After an error in framing no later octet is a request, however well formed.",
        data + CANARY * 3,
        refused(400, 505),
        section="RFC 9112 §6.3, §11.2",
    )


@table.probe(
    "lingering-close",
    MAY,
    "Servers typically close in stages: they stop sending, but read on for a while, so that no "
    "reset destroys the last response while the client is still sending.",
    section="RFC 9112 §9.6",
)
async def lingering_close(lab: Lab) -> None:
    head = request(b"/", b"Content-Length: 5", b"Content-Length: 6", method=b"POST")
    async with lab.connect() as connection:
        await connection.send(head + b"x" * 1000)
        response = await connection.response()
        if response.status != 400:
            raise Mismatch(f"status {response.status} instead of 400")
        for _ in range(4):
            await connection.send(b"x" * 20_000)
        if await connection.is_reset_within(0.2):
            raise Mismatch("what was still being sent was answered with a reset")
