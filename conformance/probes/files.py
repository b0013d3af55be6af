"""Responses whose content is a file: the pathsend and zerocopysend extensions."""

import tempfile

from conformance.probes import Receive, Scope, Send, probe, respond

CONTENT = bytes(range(256)) * 1024
"""What the file holds: 256 KiB, larger than usual socket buffers' first fill."""


def _start(length: int) -> dict[str, object]:
    headers = [(b"content-length", b"%d" % length)]
    return {"type": "http.response.start", "status": 200, "headers": headers}


@probe("pathsend")
async def pathsend(scope: Scope, receive: Receive, send: Send) -> None:
    """Send the file by its path."""
    if "http.response.pathsend" not in (scope.get("extensions") or {}):
        await respond(send, b"", 501)
        return
    with tempfile.NamedTemporaryFile() as file:
        file.write(CONTENT)
        file.flush()
        await send(_start(len(CONTENT)))
        await send({"type": "http.response.pathsend", "path": file.name})


@probe("zerocopysend")
async def zerocopysend(scope: Scope, receive: Receive, send: Send) -> None:
    """Send content, then two parts of an open file, then content again."""
    if "http.response.zerocopysend" not in (scope.get("extensions") or {}):
        await respond(send, b"", 501)
        return
    with tempfile.TemporaryFile() as file:
        file.write(CONTENT)
        file.seek(0)
        await send(_start(len(CONTENT) + 6))
        kind = "http.response.zerocopysend"
        await send({"type": "http.response.body", "body": b"<<<", "more_body": True})
        await send({"type": kind, "file": file, "offset": 0, "count": 1000, "more_body": True})
        await send({"type": kind, "file": file, "offset": 1000, "more_body": True})
        await send({"type": "http.response.body", "body": b">>>"})
