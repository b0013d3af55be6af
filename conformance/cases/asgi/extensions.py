"""Extensions that the server advertises have to work; the others are skipped."""

from conformance.cases.asgi.play import (
    Step,
    body,
    need_extension,
    outcome,
    raised,
    scene,
    script,
    start,
    told,
)
from conformance.cases.model import Level, Table
from conformance.client.errors import Mismatch
from conformance.client.lab import Lab
from conformance.client.messages import request
from conformance.client.responses import Framing
from conformance.probes.files import CONTENT

MUST, SHOULD, MAY = Level.MUST, Level.SHOULD, Level.MAY

table = Table("asgi-extensions", "ASGI Extensions")
probe = table.probe

_TRAILERS = "http.response.trailers"
_HINT = "http.response.early_hint"


def trailers(*headers: tuple[bytes, bytes], more: bool = False) -> dict[str, object]:
    """A trailers message."""
    return {"type": _TRAILERS, "headers": list(headers), "more_trailers": more}


_WITH_TRAILERS = start(200, (b"trailer", b"x-sum"), trailers=True)


@probe(
    "trailers",
    MUST,
    "Trailers are sent to a client that says TE: trailers.",
    section="ASGI Extensions: HTTP Trailers",
)
async def trailers_sent(lab: Lab) -> None:
    await need_extension(lab, _TRAILERS)
    steps: list[Step] = [
        ["must", _WITH_TRAILERS],
        ["must", body(b"a", more=True)],
        ["must", body(b"b")],
    ]
    fields = [b"TE: trailers", b"Connection: TE"]
    data = script(*steps, ["must", trailers((b"x-sum", b"42"))], fields=fields)
    async with lab.connect() as connection:
        await connection.send(data + request(b"/probe/alive?next"))
        response = await connection.response()
        if response.body != b"ab" or response.trailers != ((b"x-sum", b"42"),):
            raise Mismatch(f"{response.body!r} with trailers {response.trailers!r}")
        if (await connection.response()).body != b"next":
            raise Mismatch("the next response is not what it was")


@probe(
    "trailers-in-parts",
    MUST,
    "Trailers may come in several messages.",
    section="ASGI Extensions: HTTP Trailers",
)
async def trailers_in_parts(lab: Lab) -> None:
    await need_extension(lab, _TRAILERS)
    more = trailers((b"x-a", b"1"), more=True)
    steps: list[Step] = [["must", _WITH_TRAILERS], ["must", body(b"a")], ["must", more]]
    data = script(*steps, ["must", trailers((b"x-b", b"2"))], fields=[b"TE: trailers"])
    response = await lab.fetch(data)
    if response.trailers != ((b"x-a", b"1"), (b"x-b", b"2")):
        raise Mismatch(f"trailers {response.trailers!r}")


@probe(
    "trailers-not-asked",
    MUST,
    "They are not sent to a client that did not ask; the response is whole all the same.",
    section="ASGI Extensions: HTTP Trailers",
)
async def trailers_not_asked(lab: Lab) -> None:
    await need_extension(lab, _TRAILERS)
    steps: list[Step] = [["must", _WITH_TRAILERS], ["must", body(b"ab")]]
    response = await lab.fetch(script(*steps, ["must", trailers((b"x-sum", b"42"))]))
    if response.body != b"ab" or response.trailers:
        raise Mismatch(f"{response.body!r} with trailers {response.trailers!r}")


@probe(
    "trailers-http-1.0",
    MUST,
    "Nor to an HTTP/1.0 client, which has no chunks.",
    section="ASGI Extensions: HTTP Trailers, RFC 9112 §6.1",
)
async def trailers_http10(lab: Lab) -> None:
    await need_extension(lab, _TRAILERS)
    steps: list[Step] = [
        ["must", _WITH_TRAILERS],
        ["must", body(b"ab")],
        ["send", trailers((b"x-a", b"1"))],
    ]
    response = await lab.fetch(script(*steps, fields=[b"TE: trailers"], version=b"HTTP/1.0"))
    if response.body != b"ab" or response.framing is Framing.CHUNKED:
        raise Mismatch(f"{response.body!r}, {response.framing.value}")


@probe(
    "trailers-with-length",
    MUST,
    "A declared length leaves no room for trailers; the response is whole without them.",
    section="ASGI Extensions: HTTP Trailers, RFC 9112 §6.3",
)
async def trailers_with_length(lab: Lab) -> None:
    await need_extension(lab, _TRAILERS)
    head = start(200, (b"content-length", b"2"), trailers=True)
    steps: list[Step] = [
        ["must", head],
        ["must", body(b"ab")],
        ["send", trailers((b"x-sum", b"42"))],
    ]
    async with lab.connect() as connection:
        data = script(*steps, fields=[b"TE: trailers"])
        await connection.send(data + request(b"/probe/alive?next"))
        if (await connection.response()).body != b"ab":
            raise Mismatch("the content is not whole")
        if (await connection.response()).body != b"next":
            raise Mismatch("the next response is not what it was")


@probe(
    "trailers-unannounced",
    SHOULD,
    "Trailers that the start did not announce come after the response is complete: they are "
    "ignored or refused.",
    section="ASGI Extensions: HTTP Trailers",
)
async def trailers_unannounced(lab: Lab) -> None:
    await need_extension(lab, _TRAILERS)
    steps: list[Step] = [
        ["must", start()],
        ["must", body(b"ab")],
        ["send", trailers((b"x-a", b"1"))],
    ]
    response = await lab.fetch(script(*steps, fields=[b"TE: trailers"]))
    if response.body != b"ab" or response.trailers:
        raise Mismatch(f"{response.body!r} with trailers {response.trailers!r}")


@probe(
    "trailers-injection",
    MUST,
    "A trailer value with a line break does not reach the wire.",
    section="RFC 9110 §5.5",
)
async def trailers_injection(lab: Lab) -> None:
    await need_extension(lab, _TRAILERS)
    bad = trailers((b"x-sum", b"1\r\nx-injected: 1"))
    steps: list[Step] = [["must", _WITH_TRAILERS], ["must", body(b"ab")], ["must", bad]]
    response = await outcome(lab, script(*steps, fields=[b"TE: trailers"]))
    if response is not None and any(name == b"x-injected" for name, _ in response.trailers):
        raise Mismatch(f"trailers {response.trailers!r}")


def hint(*links: bytes) -> dict[str, object]:
    """An early hint."""
    return {"type": _HINT, "links": list(links)}


@probe(
    "early-hint",
    SHOULD,
    "An early hint becomes a 103 with its links, before the final response.",
    section="ASGI Extensions: Early Hints, RFC 8297 §2",
)
async def early_hint(lab: Lab) -> None:
    await need_extension(lab, _HINT)
    link = b"</style.css>; rel=preload"
    steps: list[Step] = [["must", start()], ["must", hint(link, b"</x>")], ["must", body(b"ok")]]
    response = await lab.fetch(script(*steps))
    if [interim.status for interim in response.interim] != [103]:
        raise Mismatch(f"interim responses {[i.status for i in response.interim]}")
    if b", ".join(response.interim[0].values("link")) != link + b", </x>":
        raise Mismatch(f"Link fields {response.interim[0].values('link')!r}")
    if response.body != b"ok":
        raise Mismatch(f"content {response.body!r}")


@probe(
    "early-hint-at-once",
    MAY,
    "The hint leaves before the application goes on.",
    section="ASGI Extensions: Early Hints",
)
async def early_hint_at_once(lab: Lab) -> None:
    await need_extension(lab, _HINT)
    steps: list[Step] = [
        ["must", start()],
        ["must", hint(b"</x>")],
        ["drain"],
        ["must", body(b"ok")],
    ]
    data = script(*steps, method=b"POST", fields=[b"Content-Length: 1"])
    async with lab.connect() as connection:
        await connection.send(data)
        if (await connection.next_head()).status != 103:
            raise Mismatch("no 103 came first")
        await connection.send(b".")
        await connection.response()


@probe(
    "early-hint-late",
    MUST,
    "Once the response's head is out, a hint is refused or ignored; never a 103 in the middle.",
    section="RFC 9110 §15.2",
)
async def early_hint_late(lab: Lab) -> None:
    await need_extension(lab, _HINT)
    steps: list[Step] = [
        ["must", start()],
        ["must", body(b"a", more=True)],
        ["send", hint(b"</x>")],
    ]
    response = await lab.fetch(script(*steps, ["must", body(b"b")]))
    if response.body != b"ab":
        raise Mismatch(f"content {response.body!r}")


@probe(
    "early-hint-http-1.0",
    MUST,
    "No 1xx is sent to an HTTP/1.0 client.",
    section="RFC 9110 §15.2",
)
async def early_hint_http10(lab: Lab) -> None:
    await need_extension(lab, _HINT)
    steps: list[Step] = [["must", start()], ["send", hint(b"</x>")], ["must", body(b"ok")]]
    response = await lab.fetch(script(*steps, version=b"HTTP/1.0"))
    if response.interim or response.body != b"ok":
        raise Mismatch(f"interim responses {[i.status for i in response.interim]}")


@probe(
    "early-hint-injection",
    MUST,
    "A link with a line break does not reach the wire.",
    section="RFC 9110 §5.5",
)
async def early_hint_injection(lab: Lab) -> None:
    await need_extension(lab, _HINT)
    results = await told(lab, ["must", start()], ["send", hint(b"</x>\r\nx-injected: 1")], ["tell"])
    if raised(results[1]) is None:
        raise Mismatch("send() accepted it")


@probe(
    "pathsend",
    MUST,
    "pathsend sends the whole file.",
    section="ASGI Extensions: Path Send",
)
async def pathsend(lab: Lab) -> None:
    await need_extension(lab, "http.response.pathsend")
    await _sends(lab, b"/probe/pathsend", CONTENT)


@probe(
    "zerocopysend",
    MUST,
    "zerocopysend sends parts of an open file, mixed with ordinary content.",
    section="ASGI Extensions: Zero Copy Send",
)
async def zerocopysend(lab: Lab) -> None:
    await need_extension(lab, "http.response.zerocopysend")
    await _sends(lab, b"/probe/zerocopysend", b"<<<" + CONTENT + b">>>")


@probe(
    "file-head",
    MUST,
    "For HEAD no octet of a file is sent.",
    section="RFC 9110 §9.3.2",
)
async def file_head(lab: Lab) -> None:
    await need_extension(lab, "http.response.pathsend")
    async with lab.connect() as connection:
        head = request(b"/probe/pathsend", method=b"HEAD")
        await connection.send(head + request(b"/probe/alive?next"))
        await connection.response("HEAD")
        if (await connection.response()).body != b"next":
            raise Mismatch("the next response is not what it was")


@probe(
    "file-missing",
    MUST,
    "A file that is not there is an error, not an empty success.",
    section="ASGI: Error Handling",
)
async def file_missing(lab: Lab) -> None:
    await need_extension(lab, "http.response.pathsend")
    message = {"type": "http.response.pathsend", "path": "/nonexistent/conformance/file"}
    head = start(200, (b"content-length", b"10"))
    async with scene(lab, ["must", head], ["send", message]) as play:
        if raised((await play.results())[1]) is None:
            raise Mismatch("send() accepted it")


async def _sends(lab: Lab, target: bytes, content: bytes) -> None:
    async with lab.connect() as connection:
        await connection.send(request(target) + request(b"/probe/alive?next"))
        if (response := await connection.response()).body != content:
            raise Mismatch(f"{len(response.body)} octets of {len(content)}, or others")
        if (await connection.response()).body != b"next":
            raise Mismatch("the next response is not what it was")
