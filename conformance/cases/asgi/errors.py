"""Wrong messages, wrong order, and applications that fail."""

from typing import Any

from conformance import codec
from conformance.cases.asgi.play import (
    Message,
    Step,
    body,
    outcome,
    raised,
    scene,
    script,
    start,
    told,
)
from conformance.cases.model import Level, Table
from conformance.client.errors import Closed, Mismatch, Truncated
from conformance.client.lab import Lab
from conformance.client.messages import request

MUST, SHOULD, MAY = Level.MUST, Level.SHOULD, Level.MAY

table = Table("asgi-errors", "ASGI: Error Handling")
probe = table.probe

# -- wrong messages: send() raises, and the application may still answer ------------------


def rejected(
    name: str, level: Level, why: str, message: Any, before: tuple[Step, ...] = ()
) -> None:
    """Add a case: `message` is refused by send(), and a right answer can follow."""

    @probe(f"rejects-{name}", level, f"send() raises for {why}.")
    async def check(lab: Lab) -> None:
        started = bool(before)
        steps: list[Step] = [*before, ["send", message]]
        if not started:
            steps.append(["send", start()])
        results = await told(lab, *steps, ["tell"])
        if raised(results[len(before)]) is None:
            raise Mismatch("send() accepted it")


_STARTED: tuple[Step, ...] = (["must", start()],)
_BODY = "http.response.body"
_START = "http.response.start"

rejected("body-before-start", SHOULD, "content before the response start", body(b"x"))
rejected("start-twice", SHOULD, "a second response start", start(201), _STARTED)
rejected("unknown-type", SHOULD, "a message of unknown type", {"type": "http.nonsense"})
rejected(
    "unknown-type-later",
    SHOULD,
    "an unknown type after the start",
    {"type": "http.nonsense"},
    _STARTED,
)
rejected(
    "request-type",
    SHOULD,
    "a message of the other direction",
    {"type": "http.request", "body": b""},
)
rejected(
    "websocket-type",
    SHOULD,
    "a message of another protocol",
    {"type": "websocket.send", "text": ""},
)
rejected("no-type", SHOULD, "a message without type", {"status": 200})
rejected("no-status", SHOULD, "a response start without status", {"type": _START, "headers": []})
rejected("status-str", SHOULD, "a status that is a string", {"type": _START, "status": "200"})
rejected(
    "body-str",
    SHOULD,
    "content that is a Unicode string",
    {"type": _BODY, "body": "text"},
    _STARTED,
)
rejected("body-none", SHOULD, "content that is None", {"type": _BODY, "body": None}, _STARTED)
rejected(
    "header-name-str",
    SHOULD,
    "a header name that is a Unicode string",
    start() | {"headers": [["x-a", b"1"]]},
)
rejected(
    "header-value-str",
    SHOULD,
    "a header value that is a Unicode string",
    start() | {"headers": [[b"x-a", "1"]]},
)
rejected(
    "header-value-int",
    SHOULD,
    "a header value that is a number",
    start() | {"headers": [[b"content-length", 5]]},
)
rejected("header-no-pair", SHOULD, "a header that is no pair", start() | {"headers": [[b"x-a"]]})

_INJECTIONS: dict[str, tuple[bytes, bytes]] = {
    "crlf-in-value": (b"x-a", b"1\r\nx-injected: 1"),
    "crlf-crlf-in-value": (b"x-a", b"1\r\n\r\n<html>"),
    "lf-in-value": (b"x-a", b"1\nx-injected: 1"),
    "cr-in-value": (b"x-a", b"1\rx-injected: 1"),
    "nul-in-value": (b"x-a", b"1\x00"),
    "crlf-in-name": (b"x-a: 1\r\nx-injected", b"1"),
    "space-in-name": (b"x a", b"1"),
    "colon-in-name": (b"x-injected:", b"1"),
    "empty-name": (b"", b"1"),
}
for _name, _pair in _INJECTIONS.items():

    @probe(
        f"injection-{_name}",
        MUST,
        "A header that is no valid field never reaches the wire: the client gets an error or "
        "nothing, and no field that the application did not mean.",
        section="RFC 9110 §5.1, §5.5",
    )
    async def injected(lab: Lab, pair: tuple[bytes, bytes] = _pair) -> None:
        data = script(["must", start(200, pair)], ["must", body(b"ok")])
        response = await outcome(lab, data)
        if response is None:
            return
        if response.values("x-injected") or b"<html>" in response.body:
            raise Mismatch(f"the response was split: {response.fields!r}")
        if response.status < 500 and _name_like(pair) not in response.fields:
            raise Mismatch(f"{response.status} with {response.fields!r}")


def _name_like(pair: tuple[bytes, bytes]) -> tuple[bytes, bytes]:
    """What is left of the header when its control characters are taken out."""
    clean = pair[1].translate(None, b"\r\n\x00")
    return pair[0], clean


@probe(
    "injection-told",
    SHOULD,
    "A header value with a line break is of a wrong form: send() raises, and the application "
    "can still answer.",
)
async def injection_told(lab: Lab) -> None:
    results = await told(
        lab, ["send", start(200, (b"x-a", b"1\r\nb: c"))], ["send", start()], ["tell"]
    )
    if raised(results[0]) is None:
        raise Mismatch("send() accepted it")


@probe(
    "injection-500",
    SHOULD,
    "If the application does not handle that, the client gets a 500.",
    section="RFC 9110 §15.6.1",
)
async def injection_500(lab: Lab) -> None:
    response = await lab.fetch(script(["must", start(200, (b"x-a", b"1\r\nb: c"))]))
    if response.status != 500:
        raise Mismatch(f"status {response.status}")


@probe("uncaught-rejection-500", SHOULD, "An uncaught refusal before the start gives a 500.")
async def uncaught_rejection(lab: Lab) -> None:
    response = await lab.fetch(script(["must", body(b"x")]))
    if response.status != 500:
        raise Mismatch(f"status {response.status}")


# -- applications that fail or end early -------------------------------------------------


@probe("raise-before-start", SHOULD, "An application that raises before the start gives a 500.")
async def raise_before_start(lab: Lab) -> None:
    response = await lab.fetch(script(["raise", "on purpose"]))
    if response.status != 500:
        raise Mismatch(f"status {response.status}")


@probe("return-before-start", SHOULD, "So does one that returns without an answer.")
async def return_before_start(lab: Lab) -> None:
    response = await lab.fetch(script(["return"]))
    if response.status != 500:
        raise Mismatch(f"status {response.status}")


async def _not_whole(lab: Lab, *steps: Step, wanted: Message) -> None:
    """The response to these steps must not look like a complete success."""
    try:
        response = await lab.fetch(script(["must", wanted], *steps))
    except Closed:
        return
    if response.status < 500:
        raise Mismatch(f"{response.status} with {response.body!r} passed for whole")


_LENGTH = start(200, (b"content-length", b"10"))
for _name, _wanted, _steps in (
    ("raise-after-start", start(), (["raise", "x"],)),
    ("return-after-start", start(), (["return"],)),
    ("raise-in-content", start(), (["must", body(b"part", more=True)], ["raise", "x"])),
    ("return-in-content", start(), (["must", body(b"part", more=True)], ["return"])),
    ("raise-in-length", _LENGTH, (["must", body(b"part", more=True)], ["raise", "x"])),
    ("return-in-length", _LENGTH, (["must", body(b"part", more=True)], ["return"])),
):

    @probe(
        _name,
        MUST,
        "If the application ends before the response is complete, the connection is dropped (or "
        "an error sent, if nothing was): the client never takes a part for the whole.",
        section="ASGI: Error Handling, RFC 9112 §8",
    )
    async def incomplete(
        lab: Lab, wanted: Message = _wanted, steps: tuple[Step, ...] = _steps
    ) -> None:
        await _not_whole(lab, *steps, wanted=wanted)


@probe(
    "part-is-delivered",
    SHOULD,
    "What was sent before the failure was flushed and arrives.",
    section="ASGI HTTP: Response Body",
)
async def part_is_delivered(lab: Lab) -> None:
    try:
        await lab.fetch(
            script(["must", start()], ["must", body(b"part", more=True)], ["raise", ""])
        )
    except Truncated as error:
        if error.body != b"part":
            raise Mismatch(f"only {error.body!r} came") from None
        return
    raise Mismatch("the response passed for whole")


@probe("raise-after-complete", MUST, "An error after a complete response does not touch it.")
async def raise_after_complete(lab: Lab) -> None:
    steps: list[Step] = [
        ["must", start(200, (b"content-length", b"2"))],
        ["must", body(b"ok")],
        ["raise", "x"],
    ]
    async with lab.connect() as connection:
        await connection.send(script(*steps))
        first = await connection.response()
        if first.status != 200 or first.body != b"ok":
            raise Mismatch(f"{first.status} {first.body!r}")


@probe("server-survives", MUST, "None of this harms later requests.")
async def server_survives(lab: Lab) -> None:
    for data in (
        script(["raise", "x"]),
        script(["must", start()], ["must", body(b"a", more=True)], ["raise", "x"]),
        script(["must", {"type": "http.nonsense"}]),
        script(["return"]),
    ):
        await outcome(lab, data)
    answer = await lab.fetch(request(b"/probe/alive?yes"))
    if answer.body != b"yes":
        raise Mismatch(f"{answer.status} {answer.body!r}")


@probe(
    "error-hides-nothing-more",
    SHOULD,
    "A 500 is a well-formed response of known length, so that the client need not guess.",
    section="RFC 9112 §6.3",
)
async def error_is_framed(lab: Lab) -> None:
    async with lab.connect() as connection:
        await connection.send(script(["raise", "on purpose"]))
        response = await connection.response()
        if response.status != 500 or b"on purpose" in response.body:
            raise Mismatch(f"{response.status} {response.body!r}")
        if not response.values("content-length") and not response.values("transfer-encoding"):
            raise Mismatch("the 500 has no length")


@probe("unread-results", MAY, "A script's results come back: the suite's own means are sound.")
async def sound(lab: Lab) -> None:
    async with scene(lab, ["send", start()], ["send", body(codec.dumps([1]))]) as play:
        await play.response()
        if await play.results() != [None, None]:
            raise Mismatch("the script did not run")
