"""The floor of an application: what a call of it costs without a server, sockets and octets.

``python -m benchmarks.app_floor benchmarks.fastapi_endpoints:app`` calls an application from bare
asyncio, or uvloop, as often as it can within some seconds, and prints what a call has cost. What a
server takes beyond that for the same request is the server's own.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import time
from typing import Any

WARM_UP = 0.5
_HEADERS = [(b"host", b"127.0.0.1:8000")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("app")
    parser.add_argument("--path", default="/")
    parser.add_argument("--json", default="", help="the body of a POST")
    parser.add_argument("--loop", choices=("asyncio", "uvloop"), default="asyncio")
    parser.add_argument("--calls", type=int, default=32, help="how many at once")
    parser.add_argument("--seconds", type=float, default=1.0)
    arguments = parser.parse_args()
    module, _, name = arguments.app.partition(":")
    app = getattr(importlib.import_module(module), name)
    caller = Caller(app, arguments.path, arguments.json.encode())
    library = asyncio if arguments.loop == "asyncio" else importlib.import_module("uvloop")
    with asyncio.Runner(loop_factory=library.new_event_loop) as runner:
        runner.run(caller.call_for(WARM_UP, arguments.calls))
        print(json.dumps(runner.run(caller.call_for(arguments.seconds, arguments.calls))))


class Caller:
    """Calls an application, with the same request again and again."""

    def __init__(self, app: Any, path: str, body: bytes) -> None:
        self._app = app
        self._body = body
        headers = [*_HEADERS]
        if body:
            headers += [
                (b"content-type", b"application/json"),
                (b"content-length", b"%d" % len(body)),
            ]
        self._scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": "POST" if body else "GET",
            "scheme": "http",
            "server": ("127.0.0.1", 8000),
            "client": ("127.0.0.1", 40000),
            "root_path": "",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
        }
        self._headers = headers

    async def call_for(self, seconds: float, calls: int) -> dict[str, float]:
        """Have so many calls under way for some seconds; tell how often and at what price."""
        began, cpu = time.perf_counter(), time.process_time()
        end = began + seconds
        numbers = await asyncio.gather(*(self._call_until(end) for _ in range(calls)))
        return {
            "requests": sum(numbers),
            "seconds": time.perf_counter() - began,
            "cpu": (time.process_time() - cpu) / sum(numbers) * 1e6,
        }

    async def _call_until(self, end: float) -> int:
        """Call again and again, each time in a task of its own, as servers do."""
        number = 0
        while True:
            await asyncio.create_task(self._call())
            number += 1
            if time.perf_counter() >= end:
                return number

    async def _call(self) -> None:
        body: bytes | None = self._body
        complete = False
        disconnected = asyncio.get_running_loop().create_future()

        async def receive() -> dict[str, Any]:
            nonlocal body
            if body is None:
                await disconnected
                return {"type": "http.disconnect"}
            message = {"type": "http.request", "body": body, "more_body": False}
            body = None
            return message

        async def send(message: dict[str, Any]) -> None:
            nonlocal complete
            if message["type"] == "http.response.start":
                assert message["status"] == 200
            elif not message.get("more_body", False):
                complete = True
                if not disconnected.done():
                    disconnected.set_result(None)

        scope = {**self._scope, "headers": list(self._headers), "state": {}, "extensions": {}}
        await self._app(scope, receive, send)
        assert complete


if __name__ == "__main__":
    main()
