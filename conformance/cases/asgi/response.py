"""Response messages: defaults, order, flushing, framing left to the server."""

from conformance.cases.asgi.play import Step, body, raised, scene, script, start
from conformance.cases.model import Level, Table
from conformance.client.errors import Closed, Mismatch, Truncated
from conformance.client.lab import Lab, described
from conformance.client.messages import request
from conformance.client.responses import Framing

MUST, SHOULD, MAY = Level.MUST, Level.SHOULD, Level.MAY

table = Table("asgi-response", "ASGI HTTP: Response Body")
probe = table.probe

_START = "ASGI HTTP: Response Start"


@probe("defaults", MUST, "headers, body and more_body are optional.", section=_START)
async def defaults(lab: Lab) -> None:
    bare_start = {"type": "http.response.start", "status": 200}
    bare_body = {"type": "http.response.body"}
    response = await lab.fetch(script(["must", bare_start], ["must", bare_body]))
    if response.status != 200 or response.body:
        raise Mismatch(f"{response.status} {response.body!r}")


@probe(
    "extra-keys",
    MUST,
    "Additional keys of a message are no error.",
    section="ASGI: Error Handling",
)
async def extra_keys(lab: Lab) -> None:
    steps: list[Step] = [["must", start(200, note=1)], ["must", body(b"ok") | {"note": {"a": 1}}]]
    response = await lab.fetch(script(*steps))
    if response.status != 200 or response.body != b"ok":
        raise Mismatch(f"{response.status} {response.body!r}")


@probe("header-pairs", MUST, "Header pairs may be lists or tuples.", section=_START)
async def header_pairs(lab: Lab) -> None:
    message = start() | {"headers": ([b"x-a", b"1"], (b"x-b", b"2"))}
    response = await lab.fetch(script(["must", message], ["must", body(b"ok")]))
    if response.values("x-a") != [b"1"] or response.values("x-b") != [b"2"]:
        raise Mismatch(f"fields {response.fields!r}")


@probe("header-order", MUST, "The order of headers is preserved.", section=_START)
async def header_order(lab: Lab) -> None:
    pairs = [(b"x-a", b"1"), (b"x-b", b"2"), (b"x-a", b"3"), (b"x-c", b"")]
    response = await lab.fetch(script(["must", start(200, *pairs)], ["must", body(b"ok")]))
    got = [pair for pair in response.fields if pair[0].startswith(b"x-")]
    if got != pairs:
        raise Mismatch(f"fields {got!r}")


@probe("header-octets", MUST, "Values above ASCII reach the client unchanged.", section=_START)
async def header_octets(lab: Lab) -> None:
    pair = (b"x-a", b"caf\xc3\xa9 \xe9")
    response = await lab.fetch(script(["must", start(200, pair)], ["must", body(b"ok")]))
    if response.values("x-a") != [pair[1]]:
        raise Mismatch(f"fields {response.fields!r}")


@probe("concatenated", MUST, "All parts together are the content.")
async def concatenated(lab: Lab) -> None:
    steps: list[Step] = [["must", start()]]
    steps += [["must", body(b"%d," % number, more=True)] for number in range(20)]
    response = await lab.fetch(script(*steps, ["must", body(b"end")]))
    if response.body != b"".join(b"%d," % number for number in range(20)) + b"end":
        raise Mismatch(f"content {response.body!r}")


@probe("empty-part", MUST, "An empty part in between does not end the content.")
async def empty_part(lab: Lab) -> None:
    steps: list[Step] = [["must", body(part, more=True)] for part in (b"a", b"", b"b", b"")]
    response = await lab.fetch(script(["must", start()], *steps, ["must", body()]))
    if response.body != b"ab":
        raise Mismatch(f"content {response.body!r}")


@probe("many-parts", MUST, "Ten thousand parts are delivered whole.")
async def many_parts(lab: Lab) -> None:
    part = body(b"0123456789", more=True)
    response = await lab.fetch(
        script(["must", start()], ["repeat", 10_000, part], ["must", body()])
    )
    if response.body != b"0123456789" * 10_000:
        raise Mismatch(f"{len(response.body)} octets of 100000")


@probe("large-part", MUST, "A part of any size is delivered whole.")
async def large_part(lab: Lab) -> None:
    response = await lab.fetch(request(b"/describe", b"X-A: " + b"v" * 3000))
    if b"v" * 3000 not in response.body:
        raise Mismatch("the content is cut")


@probe("in-two-with-length", MUST, "Content of a declared length may come in parts.")
async def in_two(lab: Lab) -> None:
    steps: list[Step] = [["must", body(b"on", more=True)], ["must", body(b"e")]]
    response = await lab.fetch(script(["must", start(200, (b"content-length", b"3"))], *steps))
    if response.framing is not Framing.LENGTH or response.body != b"one":
        raise Mismatch(f"{response.framing.value} {response.body!r}")


@probe("flushed", MUST, "What is sent leaves the server before anything else happens.")
async def flushed(lab: Lab) -> None:
    await _flushed(lab, ())


@probe("flushed-with-length", MUST, "The same when the length was declared.")
async def flushed_with_length(lab: Lab) -> None:
    await _flushed(lab, ((b"content-length", b"10"),))


async def _flushed(lab: Lab, headers: tuple[tuple[bytes, bytes], ...]) -> None:
    """The application waits for the request's content, which we send once we saw its part."""
    steps: list[Step] = [
        ["must", start(200, *headers)],
        ["must", body(b"part1", more=True)],
        ["drain"],
        ["must", body(b"part2")],
    ]
    data = script(*steps, method=b"POST", fields=[b"Content-Length: 2"])
    async with lab.connect() as connection:
        await connection.send(data)
        await connection.arrives(b"part1")
        await connection.send(b"go")
        response = await connection.response()
        if response.body != b"part1part2":
            raise Mismatch(f"content {response.body!r}")


@probe("flushed-each", MUST, "Each part of a stream of events leaves at once.")
async def flushed_each(lab: Lab) -> None:
    steps: list[Step] = [["must", start(200, (b"content-type", b"text/event-stream"))]]
    for number in range(3):
        steps += [["must", body(b"data: %d\n\n" % number, more=True)], ["receive"]]
    data = script(*steps, ["must", body()], method=b"POST", fields=[b"Content-Length: 3"])
    async with lab.connect() as connection:
        await connection.send(data)
        for number in range(3):
            await connection.arrives(b"data: %d\n\n" % number)
            await connection.send(b".")
        await connection.response()


@probe(
    "early-answer",
    MUST,
    "A complete answer reaches a client that is still sending its content.",
)
async def early_answer(lab: Lab) -> None:
    steps: list[Step] = [["must", start(200, (b"content-length", b"2"))], ["must", body(b"ok")]]
    data = script(*steps, method=b"POST", fields=[b"Content-Length: 1000000"])
    async with lab.connect() as connection:
        await connection.send(data + b"some")
        if (await connection.response()).body != b"ok":
            raise Mismatch("not the application's answer")


@probe(
    "transfer-encoding-ignored",
    MUST,
    "A Transfer-Encoding header from the application is ignored.",
    section=_START,
)
async def transfer_encoding_ignored(lab: Lab) -> None:
    head = start(200, (b"transfer-encoding", b"gzip, chunked"))
    response = await lab.fetch(script(["must", head], ["must", body(b"plain")]))
    if response.status != 200 or response.body != b"plain":
        raise Mismatch(f"{response.status} {response.body!r}")


@probe(
    "too-long",
    MUST,
    "More content than declared never reaches the client as something else.",
    section="RFC 9112 §6.3, ASGI: Error Handling",
)
async def too_long(lab: Lab) -> None:
    steps: list[Step] = [
        ["send", start(200, (b"content-length", b"5"))],
        ["send", body(b"hello surplus")],
    ]
    async with lab.connect() as connection:
        await connection.send(script(*steps))
        try:
            first = await connection.response()
        except Closed:
            return
        if first.status == 200 and first.body != b"hello":
            raise Mismatch(f"content {first.body!r}")
        if first.says_close:
            return await connection.ends()
        await connection.send(request(b"/next"))
        try:
            following = described(await connection.response())
        except Truncated:
            raise
        except Closed:
            return
        if following["path"] != "/next":
            raise Mismatch("the next response is not what it was")


@probe(
    "too-long-told",
    SHOULD,
    "The application learns of it: the message is wrong, so send() raises.",
    section="ASGI: Error Handling",
)
async def too_long_told(lab: Lab) -> None:
    steps: list[Step] = [
        ["send", start(200, (b"content-length", b"5"))],
        ["send", body(b"hello surplus")],
    ]
    async with scene(lab, *steps) as play:
        if raised((await play.results())[1]) is None:
            raise Mismatch("send() accepted more content than was declared")


@probe(
    "too-short",
    MUST,
    "Less content than declared is not taken for whole: the connection ends, or the "
    "response is an error.",
    section="RFC 9112 §6.3, §8",
)
async def too_short(lab: Lab) -> None:
    steps: list[Step] = [["send", start(200, (b"content-length", b"10"))], ["send", body(b"hello")]]
    try:
        response = await lab.fetch(script(*steps))
    except Truncated:
        return
    if response.status != 500:
        raise Mismatch(f"{response.status} with {response.body!r} passed for whole")


@probe(
    "complete-then-ignored",
    MUST,
    "Messages after the response is complete never reach the client.",
)
async def complete_then_ignored(lab: Lab) -> None:
    steps: list[Step] = [
        ["must", start(200, (b"content-length", b"2"))],
        ["must", body(b"ok")],
        ["send", body(b"surplus")],
        ["send", start(500)],
        ["send", body(b"surplus")],
    ]
    async with scene(lab, *steps) as play:
        first = await play.response()
        await play.results()
        if first.body != b"ok":
            raise Mismatch(f"content {first.body!r}")
        await play.connection.send(request(b"/next"))
        try:
            following = described(await play.response())
        except Truncated:
            raise
        except Closed:
            return
        if following["path"] != "/next":
            raise Mismatch("the next response is not what it was")


@probe(
    "disconnect-after-complete",
    MUST,
    "After a complete response receive() gives http.disconnect.",
    section="ASGI HTTP: Disconnect - receive event",
)
async def disconnect_after_complete(lab: Lab) -> None:
    steps: list[Step] = [["drain"], ["must", start()], ["must", body(b"ok")], ["receive", 2.0]]
    async with scene(lab, *steps) as play:
        await play.response()
        last = (await play.results())[-1]
        if last.get("type") != "http.disconnect":
            raise Mismatch(f"receive() gave {last!r}")


@probe(
    "listening-while-sending",
    MUST,
    "receive() may wait in one task while another sends; the response's end wakes it.",
    section="ASGI HTTP: Disconnect - receive event",
)
async def listening_while_sending(lab: Lab) -> None:
    steps: list[Step] = [["drain"], ["listen"], ["must", start()], ["must", body(b"a", more=True)]]
    async with scene(lab, *steps, ["must", body(b"b")], ["heard"]) as play:
        response = await play.response()
        if response.body != b"ab":
            raise Mismatch(f"content {response.body!r}")
        if (await play.results())[-1].get("type") != "http.disconnect":
            raise Mismatch("the listener heard something else")


@probe("head", MUST, "For HEAD the application's content stays unsent; its headers are sent.")
async def head(lab: Lab) -> None:
    pairs = [(b"x-a", b"1"), (b"content-length", b"5")]
    data = script(["must", start(200, *pairs)], ["must", body(b"hello")], method=b"HEAD")
    async with lab.connect() as connection:
        await connection.send(data + request(b"/next"))
        if (await connection.response("HEAD")).values("x-a") != [b"1"]:
            raise Mismatch("the application's header is missing")
        if described(await connection.response())["path"] != "/next":
            raise Mismatch("the next response is not what it was")


@probe(
    "unadvertised-rejected",
    MUST,
    "A message of an extension that is not offered is of unknown type: send() raises.",
    section="ASGI: Error Handling, Extensions",
)
async def unadvertised(lab: Lab) -> None:
    seen = await lab.describe()
    name = "http.response.push"
    if name in (seen.get("extensions") or {}):
        return
    push = {"type": name, "path": "/x", "headers": []}
    async with scene(lab, ["send", start()], ["send", push], ["send", body(b"ok")]) as play:
        if raised((await play.results())[1]) is None:
            raise Mismatch("send() accepted it")
