"""The application for every ordinary target: it reads the content and describes the request."""

from conformance import codec
from conformance.probes import Message, Receive, Scope, Send, probe, report, respond

_KEYS = (
    "type",
    "asgi",
    "http_version",
    "method",
    "scheme",
    "path",
    "raw_path",
    "query_string",
    "root_path",
    "headers",
    "client",
    "server",
    "state",
    "extensions",
)


async def describe(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the scope as it was given, the content and how it arrived."""
    events: list[Message] = []
    body = bytearray()
    while True:
        message = await receive()
        events.append(_outline(message))
        if message["type"] != "http.request":
            report(scope, {"events": events, "body": bytes(body)})
            return
        body += message.get("body", b"")
        if not message.get("more_body", False):
            break
    seen = {key: scope[key] for key in _KEYS if key in scope}
    seen |= {"body": bytes(body), "events": events, "keys": sorted(map(str, scope))}
    seen |= {"scope_class": type(scope).__name__}
    await respond(send, codec.dumps(seen))


def _outline(message: Message) -> Message:
    """The message with its content replaced by that content's type and size."""
    outline = dict(message)
    if "body" in outline:
        outline["body"] = (type(outline["body"]).__name__, len(outline["body"]))
    return outline


@probe("alive")
async def alive(scope: Scope, receive: Receive, send: Send) -> None:
    """Return the query string, without reading any content."""
    await respond(send, scope["query_string"])


@probe("quick")
async def quick(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer before, and without, reading any content."""
    await respond(send, b"quick")
