"""The peer goes away: what the application is told, and what becomes of its messages."""

from collections.abc import Sequence

from conformance.cases.asgi.play import Step, body, raised, scene, spec_version, start
from conformance.cases.model import Level, Table
from conformance.client.errors import Closed, Mismatch, NoAnswer, Skip
from conformance.client.lab import Lab
from conformance.client.messages import HELLO, request

MUST, SHOULD, MAY = Level.MUST, Level.SHOULD, Level.MAY

table = Table("asgi-disconnect", "ASGI HTTP: Disconnect - receive event")
probe = table.probe


async def _told_of_end(lab: Lab, how: str, *before: Sequence[object], content: bytes = b"") -> None:
    """Let the application wait in receive(), end the connection, and see what it gets."""
    steps: list[Step] = [*before, ["mark", "waiting"], ["receive"]]
    async with scene(lab, *steps, content=content) as play:
        await play.mark("waiting")
        if how == "reset":
            play.connection.abort()
        else:
            play.connection.close()
        last = (await play.results())[-1]
        if last.get("type") != "http.disconnect":
            raise Mismatch(f"receive() gave {last!r}")


@probe("close", MUST, "A closed connection gives http.disconnect to a waiting receive().")
async def close(lab: Lab) -> None:
    await _told_of_end(lab, "close", ["drain"])


@probe("reset", MUST, "So does a reset one.")
async def reset(lab: Lab) -> None:
    await _told_of_end(lab, "reset", ["drain"])


@probe("after-content", MUST, "Also after content was read.")
async def after_content(lab: Lab) -> None:
    await _told_of_end(lab, "close", ["drain"], content=HELLO)


@probe("while-streaming", MUST, "Also in the middle of a response.")
async def while_streaming(lab: Lab) -> None:
    part = ["must", body(b"part", more=True)]
    await _told_of_end(lab, "close", ["drain"], ["must", start()], part)


@probe("unread", MUST, "Also if nothing was read before: the end is noticed all the same.")
async def unread(lab: Lab) -> None:
    steps: list[Step] = [["mark", "there"], ["sleep", 0.1], ["await", "http.disconnect"]]
    async with scene(lab, *steps) as play:
        await play.mark("there")
        play.connection.close()
        await play.results()


@probe(
    "incomplete-content",
    MUST,
    "If the peer goes before its content is complete, the application gets http.disconnect "
    "and never an event that ends the content.",
    section="ASGI HTTP: Request, RFC 9112 §8",
)
async def incomplete_content(lab: Lab) -> None:
    steps: list[Step] = [["mark", "there"], ["drain"]]
    fields = [b"Content-Length: 10"]
    async with scene(lab, *steps, method=b"POST", fields=fields) as play:
        await play.connection.send(HELLO)
        await play.mark("there")
        play.connection.close()
        events = (await play.results())[-1]
        if events[-1].get("type") != "http.disconnect":
            raise Mismatch(f"events {events!r}")


@probe("incomplete-chunked", MUST, "The same for chunked content.", section="RFC 9112 §8")
async def incomplete_chunked(lab: Lab) -> None:
    steps: list[Step] = [["mark", "there"], ["drain"]]
    fields = [b"Transfer-Encoding: chunked"]
    async with scene(lab, *steps, method=b"POST", fields=fields) as play:
        await play.connection.send(b"5\r\nhello\r\n")
        await play.mark("there")
        play.connection.close()
        events = (await play.results())[-1]
        if events[-1].get("type") != "http.disconnect":
            raise Mismatch(f"events {events!r}")


@probe(
    "malformed-content",
    MUST,
    "If content turns out malformed while the application reads it, that is no end of the "
    "content either.",
    section="RFC 9112 §7.1, §8",
)
async def malformed_content(lab: Lab) -> None:
    fields = [b"Transfer-Encoding: chunked"]
    async with scene(lab, ["mark", "there"], ["drain"], method=b"POST", fields=fields) as play:
        await play.mark("there")
        await play.connection.send(b"5\r\nhello\r\nnonsense\r\n")
        events = (await play.results())[-1]
        if isinstance(events, list) and events[-1].get("type") == "http.request":
            raise Mismatch(f"events {events!r}")


@probe(
    "ended-by-return",
    MUST,
    "If the application returns without an answer because the peer has gone or half-closed, "
    "the connection is ended, not kept.",
    section="ASGI: Error Handling",
)
async def ended_by_return(lab: Lab) -> None:
    async with scene(lab, ["drain"], ["mark", "there"], ["receive", 0.5]) as play:
        await play.mark("there")
        play.connection.half_close()
        await play.results()
        try:
            await play.response()
        except NoAnswer:
            raise Mismatch("the connection was left open, without a response") from None
        except Closed:
            return
        await play.connection.ends()


@probe("again", MAY, "http.disconnect is given again to whoever asks again.")
async def again(lab: Lab) -> None:
    steps: list[Step] = [["drain"], ["mark", "there"], ["receive"], ["receive", 1.0]]
    async with scene(lab, *steps) as play:
        await play.mark("there")
        play.connection.close()
        results = await play.results()
        if [result.get("type") for result in results[2:]] != ["http.disconnect"] * 2:
            raise Mismatch(f"receive() gave {results[2:]!r}")


# -- send() after the peer has gone ------------------------------------------------------

_SEND = "ASGI HTTP: Disconnected Client - send exception"


@probe(
    "send-raises-oserror",
    SHOULD,
    "send() on a closed connection raises a subclass of OSError (since version 2.4).",
    section=_SEND,
)
async def send_raises(lab: Lab) -> None:
    if (version := await spec_version(lab)) < (2, 4):
        raise Skip(f"the server says spec_version {version[0]}.{version[1]}")
    await _send_after_end(lab, [["must", start()], ["must", body(b"part", more=True)]])


@probe(
    "send-raises-oserror-unstarted",
    SHOULD,
    "That holds for a response that had not begun, too.",
    section=_SEND,
)
async def send_raises_unstarted(lab: Lab) -> None:
    if (version := await spec_version(lab)) < (2, 4):
        raise Skip(f"the server says spec_version {version[0]}.{version[1]}")
    await _send_after_end(lab, [])


async def _send_after_end(lab: Lab, before: Sequence[Sequence[object]]) -> None:
    steps: list[Step] = [["drain"], *before, ["mark", "there"], ["await", "http.disconnect"]]
    if not before:
        steps.append(["send", start()])
    steps.append(["send", body(b"late", more=True)])
    async with scene(lab, *steps) as play:
        await play.mark("there")
        play.connection.close()
        late = (await play.results())[len(before) + 3 :]
        failed = [result for result in late if raised(result)]
        if not failed:
            raise Mismatch("send() did nothing")
        if "OSError" not in failed[0]["kinds"]:
            raise Mismatch(f"send() raised {failed[0]['raised']}, which is no OSError")


@probe(
    "send-without-listening",
    SHOULD,
    "An application that only sends is not kept sending for ever: send() raises, or does "
    "nothing, and in any case returns.",
    section=_SEND,
)
async def send_without_listening(lab: Lab) -> None:
    steps: list[Step] = [["must", start()], ["must", body(b"x", more=True)], ["mark", "there"]]
    async with scene(lab, *steps, ["fill", 300, 65536]) as play:
        await play.mark("there")
        play.connection.close()
        await play.results()


@probe(
    "error-is-caught",
    MUST,
    "The server catches that error if the application lets it out.",
    section=_SEND,
)
async def error_is_caught(lab: Lab) -> None:
    steps: list[Step] = [
        ["drain"],
        ["mark", "there"],
        ["await", "http.disconnect"],
        ["must", start()],
    ]
    async with scene(lab, *steps, ["must", body(b"late")]) as play:
        await play.mark("there")
        play.connection.close()
        await play.results()
    answer = await lab.fetch(request(b"/probe/alive?yes"))
    if answer.body != b"yes":
        raise Mismatch(f"{answer.status} {answer.body!r}")
