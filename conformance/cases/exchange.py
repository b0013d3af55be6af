"""Plays a `WireCase`: sends its octets, then finds out which allowed outcome happened.

The end of the connection is found by events, not by sleeping: where it has to be closed
we wait for the close; where it has to stay open we send one more request, with a number
of its own, and its answer must be the next thing that comes.
"""

import asyncio
from dataclasses import dataclass, field

from conformance.cases.model import (
    Answers,
    Dropped,
    End,
    HalfClose,
    Outcome,
    Quiet,
    Read,
    ReadInterim,
    Send,
    SendEach,
    Waits,
    WireCase,
    row,
)
from conformance.client.connection import Connection
from conformance.client.errors import Closed, Mismatch, NoAnswer, Truncated, Violation
from conformance.client.lab import Lab
from conformance.client.messages import request
from conformance.client.responses import Response

WAITS_FOR = 0.4
"""How long an unfinished message is given to provoke a (wrong) response."""


@dataclass(slots=True)
class Transcript:
    """What was observed: the final responses and, once known, the end."""

    responses: list[Response] = field(default_factory=list)
    end: End | None = None
    stalled: bool = False

    def __str__(self) -> str:
        parts = [row(str(response.status) for response in self.responses) or "no response"]
        if self.stalled:
            parts.append("then nothing more, connection open")
        elif self.end is not None:
            parts.append(f"then {self.end.value}")
        return ", ".join(parts)


async def play(case: WireCase, lab: Lab) -> str:
    """Run the case; return what was observed, or raise Mismatch."""
    async with lab.connect() as connection:
        seen = Transcript()
        await _perform(case, connection, seen)
        await _conclude(case, connection, seen, lab)
    problems = []
    for outcome in case.allowed:
        problem = _differs(outcome, seen)
        if problem is None:
            return str(seen)
        problems.append(problem)
    allowed = " | ".join(str(outcome) for outcome in case.allowed)
    raise Mismatch(f"{seen} ({problems[0]}); allowed: {allowed}")


async def _perform(case: WireCase, connection: Connection, seen: Transcript) -> None:
    for step in case.steps:
        if connection.ended and not isinstance(step, Read):
            return
        match step:
            case Send(data):
                await connection.send(data)
            case SendEach(data, size):
                await _send_each(connection, data, size)
            case Read():
                if not await _read(case, connection, seen, connection.timeout):
                    return
            case ReadInterim(status):
                head = await connection.next_head()
                if head.status != status:
                    raise Mismatch(f"{head.status} came instead of the interim {status}")
                connection.interim.append(head)
            case Quiet(seconds):
                await connection.quiet(seconds)
            case HalfClose():
                connection.half_close()


async def _send_each(connection: Connection, data: bytes, size: int) -> None:
    for start in range(0, len(data), size):
        if connection.ended:
            return
        await connection.send(data[start : start + size])
        await _breathe()


async def _breathe() -> None:
    """Let the kernel deliver what was written as a segment of its own."""
    await asyncio.sleep(0.0005)


async def _read(case: WireCase, connection: Connection, seen: Transcript, wait: float) -> bool:
    """Read one more response into `seen`; False when the exchange is over."""
    method = case.method(len(seen.responses))
    try:
        seen.responses.append(await connection.response(method, wait))
    except Closed as error:
        # Where a reply may be lost to a reset, half of one may arrive as well.
        if isinstance(error, Truncated) and Dropped() not in case.allowed:
            raise
        seen.end = End.CLOSED
        return False
    except NoAnswer:
        seen.stalled = True
        return False
    return True


async def _conclude(case: WireCase, connection: Connection, seen: Transcript, lab: Lab) -> None:
    while seen.end is None and not seen.stalled:
        open_to = [outcome for outcome in case.allowed if _compatible(outcome, seen)]
        if not open_to:
            return
        done = [outcome for outcome in open_to if _complete(outcome, seen)]
        if any(isinstance(outcome, Waits) for outcome in done):
            await _read(case, connection, seen, WAITS_FOR)
        elif len(done) < len(open_to) or not done:
            await _read(case, connection, seen, connection.timeout)
        elif any(
            isinstance(outcome, Answers) and outcome.end is not End.CLOSED for outcome in done
        ):
            await _prove_open(connection, seen, lab)
        else:
            await _read(case, connection, seen, connection.timeout)


def _compatible(outcome: Outcome, seen: Transcript) -> bool:
    """Whether what was seen so far can still become `outcome`."""
    if not isinstance(outcome, Answers):
        return not seen.responses
    if len(seen.responses) > len(outcome.statuses):
        return False
    pairs = zip(seen.responses, outcome.statuses, strict=False)
    return all(response.status in statuses for response, statuses in pairs)


def _complete(outcome: Outcome, seen: Transcript) -> bool:
    """Whether only the connection's end is still unknown."""
    if isinstance(outcome, Waits):
        return True
    return isinstance(outcome, Answers) and len(seen.responses) == len(outcome.statuses)


async def _prove_open(connection: Connection, seen: Transcript, lab: Lab) -> None:
    """Send a numbered request: its answer shows an open, well-framed connection."""
    if seen.responses and seen.responses[-1].says_close:
        await connection.ends()
        seen.end = End.CLOSED
        return
    if connection.half_closed:
        seen.end = End.CLOSED if connection.ended else End.OPEN
        return
    nonce = b"%d" % lab.number()
    await connection.send(request(b"/probe/alive?" + nonce))
    try:
        answer = await connection.response()
    except Truncated:
        raise
    except Closed:
        seen.end = End.CLOSED
        return
    except NoAnswer:
        seen.stalled = True
        return
    except Violation as error:
        raise Violation(f"after the response: {error}") from None
    if answer.status == 200 and answer.body == nonce:
        seen.end = End.OPEN
    else:
        seen.responses.append(answer)


def _differs(outcome: Outcome, seen: Transcript) -> str | None:
    """What keeps `seen` from being `outcome`."""
    if isinstance(outcome, Dropped):
        return None if not seen.responses and seen.end is End.CLOSED else "it was not dropped"
    if isinstance(outcome, Waits):
        return None if not seen.responses and seen.stalled else "it did not wait"
    if len(seen.responses) != len(outcome.statuses):
        return f"{len(seen.responses)} responses instead of {len(outcome.statuses)}"
    for response, statuses in zip(seen.responses, outcome.statuses, strict=True):
        if response.status not in statuses:
            return f"{response.status} is not allowed here"
    if seen.end is None or (seen.end is not outcome.end and outcome.end is not End.ANY):
        return f"the connection has to be {outcome.end.value}"
    for check in outcome.checks:
        if problem := check(seen.responses):
            return problem
    return None
