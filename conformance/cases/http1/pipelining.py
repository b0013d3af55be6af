"""Several requests in flight on one connection."""

from conformance import codec
from conformance.cases.checks import echo, paths
from conformance.cases.model import (
    OK,
    Answers,
    End,
    Level,
    Read,
    Send,
    SendEach,
    Table,
    refused,
    served,
)
from conformance.client.messages import CANARY, HELLO, chunked, post, request

MUST, SHOULD, MAY = Level.MUST, Level.SHOULD, Level.MAY

table = Table("pipelining", "RFC 9112 §9.3.2")
add = table.wire


def _row(count: int) -> bytes:
    return b"".join(request(b"/%d" % number) for number in range(count))


for count in (2, 3, 10, 100, 500):
    add(
        f"{count}-gets",
        MUST,
        "Pipelined requests are answered, in the order in which they came.",
        _row(count),
        served(paths(*(f"/{number}" for number in range(count))), count=count),
    )
add(
    "with-content",
    MUST,
    "Requests with content are pipelined like others.",
    post(HELLO, target=b"/a")
    + chunked(b"5\r\nhello\r\n0\r\n\r\n", target=b"/b")
    + request(b"/c")
    + post(b"", target=b"/d"),
    served(paths("/a", "/b", "/c", "/d"), echo(1, body=HELLO), count=4),
)
add(
    "with-head",
    MUST,
    "A HEAD response in between has no content to confuse the row.",
    request(b"/a") + request(b"/b", method=b"HEAD") + request(b"/c"),
    served(paths("/a", "/b", "/c"), count=3),
    methods=["GET", "HEAD", "GET"],
)


add(
    "everything",
    MUST,
    "Every legal form may follow every other.",
    request(b"/0")
    + b"\r\n"
    + request(b"http://conformance.example/1?x")
    + post(HELLO, target=b"/2")
    + request(b"/3", b"X-Empty:", b"X-Tab:\ta", method=b"HEAD")
    + chunked(b"5;a=b\r\nhello\r\n0\r\nX-T: 1\r\n\r\n", target=b"/4")
    + request(b"/5", b"Connection: x-option", method=b"DELETE")
    + post(b"", b"Expect: 100-continue", target=b"/6")
    + request(b"/7", b"Upgrade: nonsense/1", b"Connection: upgrade")
    + post(CANARY, target=b"/8")
    + request(b"/9", b"Connection: close")
    + CANARY,
    Answers(
        (OK,) * 10,
        End.CLOSED,
        (paths(*(f"/{number}" for number in range(10))), echo(8, body=CANARY)),
    ),
    section="RFC 9112 §9.3.2, §2.2",
    methods=["GET", "GET", "POST", "HEAD"],
)


def _script(*steps: list[object]) -> bytes:
    return b"X-Script: " + codec.dumps(list(steps))


_START = {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]}
_SLOW = _script(
    ["sleep", 0.3],
    ["send", _START],
    ["send", {"type": "http.response.body", "body": b"slow"}],
)
add(
    "slow-first",
    MUST,
    "A later request does not overtake a slow one.",
    request(b"/probe/script", _SLOW) + request(b"/probe/alive?fast"),
    served(
        lambda responses, /: None if responses[0].body == b"slow" else "the order is wrong",
        lambda responses, /: None if responses[1].body == b"fast" else "the order is wrong",
        count=2,
    ),
)
_CLOSE_DELIMITED = _script(
    ["send", {"type": "http.response.start", "status": 200, "headers": []}],
    ["send", {"type": "http.response.body", "body": b"one", "more_body": True}],
    ["sleep", 0.1],
    ["send", {"type": "http.response.body", "body": b"two"}],
)
add(
    "streamed-first",
    MUST,
    "The next response begins only after the last one is complete.",
    request(b"/probe/script", _CLOSE_DELIMITED) + request(b"/next"),
    [
        served(
            lambda responses, /: None if responses[0].body == b"onetwo" else "content is mixed",
            echo(1, path="/next"),
            count=2,
        ),
        Answers((OK,), End.CLOSED),
    ],
)
add(
    "first-while-second-incomplete",
    MUST,
    "The first of two requests is answered although the second has not fully arrived.",
    [
        Send(request(b"/1") + request(b"/2")[:12]),
        Read(),
        Send(request(b"/2")[12:]),
    ],
    served(paths("/1", "/2"), count=2),
)
add(
    "close-in-the-middle",
    MUST,
    "Requests after one with the close option are not processed.",
    request(b"/1") + request(b"/2", b"Connection: close") + CANARY,
    Answers((OK, OK), End.CLOSED, (paths("/1", "/2"),)),
    section="RFC 9112 §9.6",
)
add(
    "error-in-the-middle",
    MUST,
    "Requests before a malformed one are answered first; those after it never.",
    request(b"/1") + b"BAD\x00LINE\r\n\r\n" + CANARY,
    Answers((OK, frozenset({400})), End.CLOSED, (paths("/1"),)),
    section="RFC 9112 §9.3.2, §2.2",
)
add(
    "bad-length-in-the-middle",
    MUST,
    "The same with an error in framing.",
    request(b"/1") + request(b"/2", b"Content-Length: 1, 2", method=b"POST") + CANARY,
    Answers((OK, frozenset({400})), End.CLOSED, (paths("/1"),)),
    section="RFC 9112 §6.3",
)
add(
    "octet-by-octet",
    MUST,
    "The row may be cut anywhere.",
    [SendEach(request(b"/a") + request(b"/b") + post(HELLO, target=b"/c"), 3), Read(), Read()],
    served(paths("/a", "/b", "/c"), count=3),
)
add(
    "app-error-in-the-middle",
    MUST,
    "An application's failure on one request is that request's 500; others are answered, or "
    "the connection closes after it.",
    request(b"/1") + request(b"/probe/script", _script(["raise", "x"])) + request(b"/3"),
    [
        Answers((OK, frozenset({500}), OK), End.OPEN, (echo(2, path="/3"),)),
        Answers((OK, frozenset({500})), End.CLOSED),
    ],
    section="RFC 9112 §9.3.2, RFC 9110 §15.6.1",
)
add(
    "mixed-versions",
    MUST,
    "An HTTP/1.0 request in the row ends it.",
    request(b"/1") + request(b"/2", version=b"HTTP/1.0") + CANARY,
    [Answers((OK, OK), End.CLOSED, (paths("/1", "/2"),)), refused()],
    section="RFC 9112 §9.3",
)
