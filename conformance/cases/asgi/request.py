"""Request events: the content as it comes through receive()."""

from typing import Any

from conformance.cases.asgi.play import Step, body, raised, scene, start, told
from conformance.cases.model import Level, Table
from conformance.client.errors import Mismatch
from conformance.client.lab import Lab, described
from conformance.client.messages import HELLO, chunked, post, request

MUST, SHOULD, MAY = Level.MUST, Level.SHOULD, Level.MAY

table = Table("asgi-request", "ASGI HTTP: Request")
probe = table.probe


def _events(seen: dict[str, Any]) -> list[dict[str, Any]]:
    events = seen["events"]
    for event in events:
        if event["type"] != "http.request":
            raise Mismatch(f"an event of type {event['type']!r}")
        if event.get("body", ("bytes", 0))[0] != "bytes":
            raise Mismatch(f"the body is of type {event['body'][0]}")
        if not isinstance(event.get("more_body", False), bool):
            raise Mismatch(f"more_body is {event['more_body']!r}")
    return list(events)


@probe("no-content", MUST, "A request without content is one event that ends it.")
async def no_content(lab: Lab) -> None:
    seen = await lab.describe(request())
    if len(_events(seen)) != 1 or seen["body"]:
        raise Mismatch(f"events {seen['events']!r}")


@probe("content", MUST, "Content comes as byte strings; the last event has no more_body.")
async def content(lab: Lab) -> None:
    seen = await lab.describe(post(HELLO))
    _events(seen)
    if seen["body"] != HELLO:
        raise Mismatch(f"body {seen['body']!r}")


@probe("chunked", MUST, "Chunked content reaches the application decoded.")
async def decoded(lab: Lab) -> None:
    seen = await lab.describe(chunked(b"3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\nX-T: 1\r\n\r\n"))
    _events(seen)
    if seen["body"] != HELLO:
        raise Mismatch(f"body {seen['body']!r}")


@probe("large", MUST, "Large content arrives whole and in order, in one event or in many.")
async def large(lab: Lab) -> None:
    data = b"".join(b"%07d\n" % number for number in range(100_000))
    seen = await lab.describe(post(data))
    if seen["body"] != data:
        raise Mismatch(f"{len(seen['body'])} octets of {len(data)}, or others")


@probe("in-pieces", MAY, "Large content is not held back until it is complete.")
async def in_pieces(lab: Lab) -> None:
    seen = await lab.describe(post(bytes(3_000_000)))
    if len(_events(seen)) < 2:
        raise Mismatch("3 MB came in a single event")


@probe("streamed-length", SHOULD, "Content is delivered as it arrives, before it is complete.")
async def streamed_length(lab: Lab) -> None:
    await _streamed(lab, b"Content-Length: 10", HELLO, b"world")


@probe("streamed-chunked", SHOULD, "So is chunked content.")
async def streamed_chunked(lab: Lab) -> None:
    first, rest = b"5\r\nhello\r\n", b"5\r\nworld\r\n0\r\n\r\n"
    await _streamed(lab, b"Transfer-Encoding: chunked", first, rest)


async def _streamed(lab: Lab, framing: bytes, first: bytes, rest: bytes) -> None:
    steps: list[Step] = [
        ["receive"],
        ["mark", "got"],
        ["drain"],
        ["send", start()],
        ["send", body(b"ok")],
    ]
    async with scene(lab, *steps, method=b"POST", fields=[framing]) as play:
        await play.connection.send(first)
        await play.mark("got")
        await play.connection.send(rest)
        await play.response()
        results = await play.results()
        events = [results[0], *results[2]]
        whole = b"".join(event.get("body", b"") for event in events)
        if whole != b"helloworld":
            raise Mismatch(f"content {whole!r}")


@probe(
    "then-waits",
    MUST,
    "After the last part, and while the client is there, receive() waits: there is nothing to "
    "tell until the response is complete or the peer gone.",
    section="ASGI HTTP: Disconnect - receive event",
)
async def then_waits(lab: Lab) -> None:
    results = await told(
        lab, ["drain"], ["send", start()], ["receive", 0.3], ["tell"], content=HELLO
    )
    if raised(results[2]) != "TimeoutError":
        raise Mismatch(f"receive() gave {results[2]!r}")


@probe("unread", MUST, "An application may answer without reading anything.")
async def unread(lab: Lab) -> None:
    response = await lab.fetch(post(HELLO, target=b"/probe/quick"))
    if response.body != b"quick":
        raise Mismatch(f"content {response.body!r}")


@probe("half-read", MUST, "Or after reading a part; the next request is unharmed.")
async def half_read(lab: Lab) -> None:
    steps: list[Step] = [
        ["receive"],
        ["send", start(200, (b"content-length", b"2"))],
        ["send", body(b"ok")],
    ]
    async with scene(lab, *steps, content=bytes(300_000)) as play:
        first = await play.response()
        await play.results()
        if first.says_close:
            await play.connection.ends()
            return
        await play.connection.send(request(b"/next"))
        if described(await play.response())["path"] != "/next":
            raise Mismatch("the next request is not what it was")


@probe("get-with-content", MAY, "Content of a GET reaches the application.")
async def get_with_content(lab: Lab) -> None:
    data = request(b"/", b"Content-Length: 5", body=HELLO)
    if (await lab.describe(data))["body"] != HELLO:
        raise Mismatch("the content of the GET is lost")
