"""The smallest ASGI application: no framework, no imports.

    make serve APP=examples.bare:app

Everything that a server and an application say to each other is in these few lines.
"""


async def app(scope, receive, send):
    if scope["type"] != "http":
        # The lifespan and WebSockets are optional: raising says "not here" for the first, and
        # refuses the connection for the second.
        raise NotImplementedError(scope["type"])
    body = f"Hello from {scope['path']}\n".encode()
    await send(
        {
            "type": "http.response.start",
            "status": 200,
            "headers": [
                (b"content-type", b"text/plain; charset=utf-8"),
                (b"content-length", b"%d" % len(body)),
            ],
        }
    )
    await send({"type": "http.response.body", "body": body})
