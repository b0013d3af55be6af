"""The scripted application: it does what the request's `x-script` header says.

A script is a list of steps; each step's result, or the exception that it raised, is
written down, given to the client by the step `tell`, and reported at the end.

    ["send", message]        send; an exception is recorded and the script goes on
    ["must", message]        send; an exception leaves the application
    ["repeat", n, message]   send the same message n times
    ["fill", n, size]        send n parts of content, of so many zero octets
    ["receive"]              receive one message
    ["receive", seconds]     the same, giving up after some time
    ["drain"]                receive until the request's content ends or the peer is gone
    ["await", type]          receive until a message of this type
    ["listen"]               begin to receive one message in a task of its own
    ["heard"]                wait for what that task receives
    ["sleep", seconds]
    ["mark", token]          report that this step was reached, under a token of its own
    ["tell"]                 send all results so far as the response's last content
    ["raise", text]          raise RuntimeError(text)
    ["return"]               leave the application
"""

import asyncio
from typing import Any

from conformance import codec
from conformance.probes import Message, Receive, Scope, Send, header, probe, report


class Leave(Exception):
    """Ends the script without an error."""


@probe("script")
async def script(scope: Scope, receive: Receive, send: Send) -> None:
    """Run the script of the request."""
    steps = codec.loads(header(scope, b"x-script") or b"[]")
    results: list[Any] = []
    stage = _Stage(scope, receive, send, results)
    try:
        for step in steps:
            try:
                results.append(await stage.play(step))
            except (Leave, asyncio.CancelledError):
                raise
            except Exception as error:
                results.append(_described(error))
                if step[0] in ("must", "raise"):
                    raise
    except Leave:
        pass
    except BaseException as error:
        if isinstance(error, asyncio.CancelledError):
            results.append(_described(error))
        raise
    finally:
        report(scope, results)


class _Stage:
    """One running script: the application's callables and its results so far."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, results: list[Any]) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._results = results
        self._listener: asyncio.Task[Message] | None = None

    async def play(self, step: list[Any]) -> Any:
        """Do one step; its value goes into the results."""
        match step:
            case ["send" | "must", message]:
                return await self._send(message)
            case ["repeat", count, message]:
                for _ in range(count):
                    await self._send(dict(message))
                return None
            case ["fill", count, size]:
                part = {"type": "http.response.body", "body": bytes(size), "more_body": True}
                for _ in range(count):
                    await self._send(dict(part))
                return None
            case ["receive"]:
                return await self._receive()
            case ["receive", seconds]:
                return await asyncio.wait_for(self._receive(), seconds)
            case ["drain"]:
                return await _drain(self._receive)
            case ["await", kind]:
                return await _await(self._receive, kind)
            case ["listen"]:
                self._listener = asyncio.ensure_future(self._receive())
                return await asyncio.sleep(0)
            case ["heard"] if self._listener is not None:
                return await self._listener
            case ["sleep", seconds]:
                return await asyncio.sleep(seconds)
            case ["mark", token]:
                return report(self._scope, None, token)
            case ["tell"]:
                body = codec.dumps(self._results)
                return await self._send({"type": "http.response.body", "body": body})
            case ["raise", text]:
                raise RuntimeError(text)
            case ["return"]:
                raise Leave
            case _:
                raise ValueError(f"unknown step {step!r}")


async def _await(receive: Receive, kind: str) -> Message:
    while (message := await receive())["type"] != kind:
        pass
    return message


async def _drain(receive: Receive) -> list[Message]:
    messages = []
    while True:
        message = await receive()
        messages.append(message)
        if message["type"] != "http.request" or not message.get("more_body", False):
            return messages


def _described(error: BaseException) -> dict[str, Any]:
    names = [kind.__name__ for kind in type(error).__mro__]
    return {"raised": type(error).__name__, "kinds": names, "text": str(error)}
