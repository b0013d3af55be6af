"""The lifespan protocol, as far as requests can see it.

That `lifespan.shutdown` arrives is checked when the run started the server itself.
"""

from typing import Any

from conformance import codec
from conformance.cases.model import Level, Table
from conformance.client.errors import Mismatch, Skip
from conformance.client.lab import Lab
from conformance.client.messages import request

MUST, SHOULD, MAY = Level.MUST, Level.SHOULD, Level.MAY

table = Table("asgi-lifespan", "ASGI Lifespan")
probe = table.probe


async def _record(lab: Lab) -> dict[str, Any]:
    response = await lab.fetch(request(b"/probe/lifespan"))
    record = codec.loads(response.body)
    if not isinstance(record, dict):
        raise Mismatch(f"no record: {response.body!r}")
    return record


@probe("called", MUST, "The application is called once with a lifespan scope, in each worker.")
async def called(lab: Lab) -> None:
    record = await _record(lab)
    if record["calls"] != 1:
        raise Mismatch(f"{record['calls']} calls")


@probe("startup-event", MUST, "It receives lifespan.startup.", section="ASGI Lifespan: Startup")
async def startup_event(lab: Lab) -> None:
    record = await _record(lab)
    if [event["type"] for event in record["events"]] != ["lifespan.startup"]:
        raise Mismatch(f"events {record['events']!r}")


@probe(
    "complete-first",
    MUST,
    "No request is processed before lifespan.startup.complete.",
    section="ASGI Lifespan: Startup Complete",
)
async def complete_first(lab: Lab) -> None:
    if not (await _record(lab))["complete"]:
        raise Mismatch("a request ran before startup was complete")


@probe("same-loop", MUST, "The lifespan and the requests run in the same event loop.")
async def same_loop(lab: Lab) -> None:
    if not (await _record(lab))["same_loop"]:
        raise Mismatch("they run in different loops")


@probe(
    "asgi-version",
    MUST,
    "The lifespan scope carries the ASGI version.",
    section="ASGI Lifespan: Scope",
)
async def asgi_version(lab: Lab) -> None:
    asgi = (await _record(lab))["asgi"]
    if not isinstance(asgi.get("version"), str):
        raise Mismatch(f"asgi is {asgi!r}")


@probe(
    "spec-version",
    SHOULD,
    "Its spec_version is one of the lifespan specification's, not of another's.",
    section="ASGI Lifespan: Scope",
)
async def spec_version(lab: Lab) -> None:
    asgi = (await _record(lab))["asgi"]
    if asgi.get("spec_version", "1.0") not in ("1.0", "2.0"):
        raise Mismatch(f"the lifespan's spec_version is {asgi['spec_version']!r}")


async def _with_state(lab: Lab) -> dict[str, Any]:
    record = await _record(lab)
    if not record["has_state"]:
        raise Skip("the server has no lifespan state")
    return record


@probe(
    "state-reaches-requests",
    MUST,
    "What the lifespan put into its state is, as the same object, in the requests' state.",
    section="ASGI Lifespan: Lifespan State",
)
async def state_reaches_requests(lab: Lab) -> None:
    record = await _with_state(lab)
    if not record["request_has_state"] or not record["shared"]:
        raise Mismatch("the object is not there")


@probe(
    "state-is-copied",
    MUST,
    "Each request gets a shallow copy: what it adds is not seen by another.",
    section="ASGI Lifespan: Lifespan State",
)
async def state_is_copied(lab: Lab) -> None:
    await _with_state(lab)
    async with lab.connect() as connection:
        for _ in range(3):
            await connection.send(request(b"/probe/lifespan"))
            if codec.loads((await connection.response()).body)["left_over"]:
                raise Mismatch("a request saw what an earlier one had put into the state")


@probe(
    "state-begins-empty",
    MAY,
    "The state is an empty namespace at first, but for what the operator asked to be in it.",
    section="ASGI Lifespan: Scope",
)
async def state_begins_empty(lab: Lab) -> None:
    if keys := (await _with_state(lab))["initial_keys"]:
        raise Mismatch(f"it held {keys!r}")
