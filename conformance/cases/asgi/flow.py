"""Flow control and concurrency: nobody waits for others, everybody waits for the slow."""

import asyncio
import contextlib
import time

from conformance import codec
from conformance.cases.asgi.play import Step, body, script, start
from conformance.cases.model import Level, Table
from conformance.client.errors import Mismatch, NoAnswer
from conformance.client.lab import Lab, described
from conformance.client.messages import post, request

MUST, SHOULD, MAY = Level.MUST, Level.SHOULD, Level.MAY

table = Table("asgi-flow", "ASGI HTTP: Response Body")
probe = table.probe

_FLOOD = 32 * 1024 * 1024


@probe(
    "send-waits",
    SHOULD,
    "While the client does not read, send() does not return: the server buffers no more than a "
    "bounded part of a 32 MiB response.",
)
async def send_waits(lab: Lab) -> None:
    token = lab.reports.expect()
    report = b"X-Report: %d/%s" % (lab.reports.port, token.encode())
    async with lab.connect(receive_buffer=65536) as connection:
        connection.pause_reading()
        await connection.send(request(b"/probe/flood", report))
        seen = await lab.reports.get(token)
        if not seen["stalled"]:
            raise Mismatch(f"the server took {seen['sent']} octets that nobody read")
        connection.resume_reading()
        connection.timeout = lab.timeout * 4
        response = await connection.response()
        if len(response.body) != _FLOOD:
            raise Mismatch(f"{len(response.body)} octets came of {_FLOOD}")


@probe(
    "receive-waits",
    SHOULD,
    "While the application does not read, the server stops reading: 32 MiB of content do not "
    "pile up in it.",
    section="ASGI HTTP: Request",
)
async def receive_waits(lab: Lab) -> None:
    head = request(b"/probe/lazy", b"Content-Length: %d" % _FLOOD, method=b"POST")
    async with lab.connect() as connection:
        connection.timeout = 0.7
        began = time.monotonic()
        await connection.send(head)
        sent = 0
        with contextlib.suppress(NoAnswer):
            while sent < _FLOOD:
                await connection.send(bytes(1 << 20))
                sent += 1 << 20
        if sent == _FLOOD and time.monotonic() - began < 1.0:
            raise Mismatch(f"the server took all {_FLOOD} octets unread")
        connection.timeout = lab.timeout * 4
        sent += 1 << 20 if sent < _FLOOD else 0
        while sent < _FLOOD:
            await connection.send(bytes(1 << 20))
            sent += 1 << 20
        seen = codec.loads((await connection.response()).body)
        if seen["size"] != _FLOOD:
            raise Mismatch(f"{seen['size']} octets arrived of {_FLOOD}")


@probe(
    "concurrent-streams",
    MUST,
    "A request that waits does not keep others from being served.",
    section="ASGI: Applications",
)
async def concurrent_streams(lab: Lab) -> None:
    """Ten responses are open at a time, more than there are workers."""
    steps: list[Step] = [
        ["must", start()],
        ["must", body(b"first", more=True)],
        ["drain"],
        ["must", body()],
    ]
    data = script(*steps, method=b"POST", fields=[b"Content-Length: 1"])
    async with contextlib.AsyncExitStack() as stack:
        connections = [await stack.enter_async_context(lab.connect()) for _ in range(10)]
        for connection in connections:
            await connection.send(data)
        for connection in connections:
            await connection.arrives(b"first")
        for connection in connections:
            await connection.send(b".")
            await connection.response()


@probe(
    "no-mixing",
    MUST,
    "Concurrent requests get their own content back.",
    section="ASGI HTTP: Connection Scope",
)
async def no_mixing(lab: Lab) -> None:
    async def one(number: int) -> None:
        mine = b"%d " % number * 2000
        seen = described(await lab.fetch(post(mine, target=b"/mix/%d" % number)))
        if seen["body"] != mine or seen["path"] != f"/mix/{number}":
            raise Mismatch("a request got the content of another")

    await asyncio.gather(*(one(number) for number in range(24)))


@probe(
    "context-variables",
    MAY,
    "What one request sets in a context variable is not seen by the next one on the same "
    "connection.  (The specification is silent; applications count on it.)",
    section="ASGI HTTP: Connection Scope",
)
async def context_variables(lab: Lab) -> None:
    async with lab.connect() as connection:
        for name in (b"first", b"second", b"third"):
            await connection.send(request(b"/probe/context?" + name))
            seen = codec.loads((await connection.response()).body)
            if seen["before"]:
                raise Mismatch(f"{seen['mine']} saw what {seen['before']} set")


@probe(
    "context-variables-concurrent",
    MUST,
    "Concurrent requests do not overwrite each other's context variables.",
    section="ASGI HTTP: Connection Scope",
)
async def context_variables_concurrent(lab: Lab) -> None:
    async def one(number: int) -> None:
        response = await lab.fetch(request(b"/probe/context?r%d" % number))
        seen = codec.loads(response.body)
        if seen["after"] != seen["mine"]:
            raise Mismatch(f"{seen['mine']} came to see {seen['after']}")

    await asyncio.gather(*(one(number) for number in range(12)))
