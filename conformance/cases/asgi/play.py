"""Scripts for the probe application: short names for messages, and ways to run a script."""

import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from conformance import codec
from conformance.client.connection import Connection
from conformance.client.errors import Closed, Mismatch, Skip
from conformance.client.lab import Lab
from conformance.client.messages import request
from conformance.client.responses import Response

Step = Sequence[Any]
Message = dict[str, Any]


def start(status: int = 200, *headers: tuple[bytes, bytes], **extra: Any) -> Message:
    """A response start."""
    return {"type": "http.response.start", "status": status, "headers": list(headers), **extra}


def body(data: bytes = b"", more: bool = False) -> Message:
    """A part of the response's content."""
    return {"type": "http.response.body", "body": data, "more_body": more}


def script(
    *steps: Step,
    method: bytes = b"GET",
    fields: Sequence[bytes] = (),
    content: bytes = b"",
    version: bytes = b"HTTP/1.1",
) -> bytes:
    """A request that makes the application play `steps`."""
    lines = [b"X-Script: " + codec.dumps([list(step) for step in steps]), *fields]
    if content:
        lines.append(b"Content-Length: %d" % len(content))
        method = b"POST"
    return request(b"/probe/script", *lines, method=method, body=content, version=version)


def raised(result: Any) -> str | None:
    """The name of the exception that a step raised, or None if it did not raise."""
    return str(result["raised"]) if isinstance(result, dict) and "raised" in result else None


async def told(lab: Lab, *steps: Step, **options: Any) -> list[Any]:
    """Play `steps`, which end with `tell`, and return their results."""
    response = await lab.fetch(script(*steps, **options))
    try:
        results = codec.loads(response.body)
    except ValueError:
        raise Mismatch(f"{response.status}, not the results: {response.body[:60]!r}") from None
    if not isinstance(results, list):
        raise Mismatch(f"not the results: {response.body[:60]!r}")
    return results


@dataclass(slots=True)
class Scene:
    """A script in play, with the connection to do things to meanwhile."""

    lab: Lab
    connection: Connection
    token: str
    marks: dict[str, str]

    async def mark(self, name: str) -> None:
        """Wait until the script reached its step `["mark", name]`."""
        await self.lab.reports.get(self.marks[name])

    async def results(self) -> list[Any]:
        """Wait for the end of the script and return the steps' results."""
        results = await self.lab.reports.get(self.token)
        if not isinstance(results, list):
            raise Mismatch(f"the application ended with {results!r}")
        return results

    async def response(self, method: str = "GET") -> Response:
        """Read the response."""
        return await self.connection.response(method)


@contextlib.asynccontextmanager
async def scene(lab: Lab, *steps: Step, **options: Any) -> AsyncIterator[Scene]:
    """Send a script whose end is reported; marks get tokens of their own."""
    token = lab.reports.expect()
    marks: dict[str, str] = {}
    prepared: list[Step] = []
    for step in steps:
        if step[0] == "mark":
            marks[step[1]] = lab.reports.expect()
            prepared.append(["mark", marks[step[1]]])
        else:
            prepared.append(step)
    fields = [*options.pop("fields", ()), b"X-Report: %d/%s" % (lab.reports.port, token.encode())]
    buffer = options.pop("receive_buffer", None)
    async with lab.connect(buffer) as connection:
        await connection.send(script(*prepared, fields=fields, **options))
        yield Scene(lab, connection, token, marks)


async def outcome(lab: Lab, data: bytes) -> Response | None:
    """The response to `data`, or None when the connection ended without a whole one."""
    try:
        return await lab.fetch(data)
    except Closed:
        return None


async def spec_version(lab: Lab) -> tuple[int, int]:
    """The version of the HTTP specification that the server says it understands."""
    text = str((await lab.describe())["asgi"].get("spec_version", "2.0"))
    try:
        major, minor = text.split(".")
        return int(major), int(minor)
    except ValueError:
        raise Mismatch(f"spec_version is {text!r}") from None


async def need_extension(lab: Lab, name: str) -> dict[str, Any]:
    """Skip unless the server advertises the extension `name`; return the scope."""
    seen = await lab.describe()
    if name not in (seen.get("extensions") or {}):
        raise Skip(f"{name} is not advertised")
    return seen
