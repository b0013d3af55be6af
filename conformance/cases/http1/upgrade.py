"""Upgrade: ignored unless the server switches to a protocol that the client named."""

from conformance.cases.checks import echo
from conformance.cases.model import OK, Answers, End, Level, Table, refused, served
from conformance.client.messages import HELLO, post, request

MUST, SHOULD, MAY = Level.MUST, Level.SHOULD, Level.MAY

table = Table("upgrade", "RFC 9110 §7.8")
add = table.wire

_KEY = b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
_VERSION = b"Sec-WebSocket-Version: 13"
_NOT_SWITCHED = Answers((OK | {400, 403, 404, 405, 426, 501},), End.ANY)

add(
    "unknown-protocol",
    MUST,
    "A server does not switch to a protocol that it does not know; the request is served.",
    request(b"/", b"Connection: Upgrade", b"Upgrade: nonsense/1.0"),
    served(echo(path="/")),
)
add(
    "unknown-protocol-with-content",
    MUST,
    "Its content is read like any other.",
    post(HELLO, b"Connection: Upgrade", b"Upgrade: nonsense/1.0") + request(b"/next"),
    served(echo(body=HELLO), echo(1, path="/next"), count=2),
)
add(
    "several-protocols",
    MUST,
    "A list of unknown protocols, over several lines, is ignored.",
    request(b"/", b"Connection: upgrade", b"Upgrade: a/1, b", b"Upgrade: c"),
    served(echo(path="/")),
)
add(
    "malformed-list",
    SHOULD,
    "An Upgrade field without any protocol is ignored.",
    request(b"/", b"Connection: Upgrade", b"Upgrade: ,"),
    [served(), refused(end=End.ANY)],
)
add(
    "without-connection-option",
    SHOULD,
    "Upgrade that is not named in Connection is not acted upon.",
    request(b"/", b"Upgrade: nonsense/1.0"),
    served(echo(path="/")),
)
add(
    "http-1.0",
    MUST,
    "An Upgrade field in an HTTP/1.0 request is ignored.",
    request(
        b"/",
        b"Connection: Upgrade",
        b"Upgrade: websocket",
        _KEY,
        _VERSION,
        version=b"HTTP/1.0",
    ),
    _NOT_SWITCHED,
)
add(
    "websocket-post",
    MUST,
    "A WebSocket handshake is a GET; with another method nothing is switched.",
    request(b"/", b"Connection: Upgrade", b"Upgrade: websocket", _KEY, _VERSION, method=b"POST"),
    _NOT_SWITCHED,
    section="RFC 6455 §4.1, §4.2.1",
)
for name, lines in {
    "no-key": [_VERSION],
    "bad-key": [b"Sec-WebSocket-Key: short", _VERSION],
    "no-version": [_KEY],
    "bad-version": [_KEY, b"Sec-WebSocket-Version: 99"],
}.items():
    add(
        f"websocket-{name}",
        MUST,
        "An incomplete or unsupported WebSocket handshake is not completed.",
        request(b"/", b"Connection: Upgrade", b"Upgrade: websocket", *lines),
        _NOT_SWITCHED,
        section="RFC 6455 §4.2.1, §4.2.2",
    )
