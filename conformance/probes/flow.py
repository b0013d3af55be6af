"""Applications that show whether the server limits what it buffers in either direction."""

import asyncio
import time

from conformance import codec
from conformance.probes import Receive, Scope, Send, probe, report, respond

CHUNK = bytes(65536)
FLOOD_CHUNKS = 512
"""The flood is 32 MiB: far more than socket buffers hold."""


@probe("flood")
async def flood(scope: Scope, receive: Receive, send: Send) -> None:
    """Send 32 MiB; report once sending has stood still, or how it ended without that."""
    headers = [(b"content-length", b"%d" % (len(CHUNK) * FLOOD_CHUNKS))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    sent = 0
    done = False

    async def watch() -> None:
        last = -1
        while not done:
            if sent == last:
                report(scope, {"stalled": True, "sent": sent * len(CHUNK)})
                return
            last = sent
            await asyncio.sleep(0.3)
        report(scope, {"stalled": False, "sent": sent * len(CHUNK)})

    watcher = asyncio.create_task(watch())
    try:
        for number in range(1, FLOOD_CHUNKS + 1):
            more = number < FLOOD_CHUNKS
            await send({"type": "http.response.body", "body": CHUNK, "more_body": more})
            sent = number
    finally:
        done = True
        await watcher


@probe("lazy")
async def lazy(scope: Scope, receive: Receive, send: Send) -> None:
    """Let the content wait for 1.2 s, then read it; tell when reading began and its size."""
    began = time.monotonic()
    await asyncio.sleep(1.2)
    size = largest = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return
        size += len(message.get("body", b""))
        largest = max(largest, len(message.get("body", b"")))
        if not message.get("more_body", False):
            break
    seen = {"size": size, "largest": largest, "took": time.monotonic() - began}
    await respond(send, codec.dumps(seen))
