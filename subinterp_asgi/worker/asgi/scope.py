"""What the scopes of HTTP requests and of WebSockets have in common."""

from __future__ import annotations

from ...types import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Any

    from ...http1.heads import Request
    from ..net.connection import Connection
    from .state import ServerState

HTTP_SPEC_VERSION = "2.3"
"""What uvicorn announces too. With 2.4 send() would have to raise for a client that is gone, and
Starlette, which relies on that, would not watch receive() while it waits for something to send."""
WEBSOCKET_SPEC_VERSION = "2.4"


def make_scope(
    kind: str,
    scheme: str,
    extensions: dict[str, dict[str, object]],
    request: Request,
    server_state: ServerState,
    connection: Connection,
) -> dict[str, Any]:
    """Make the scope of a request; what it holds is the application's to change.

    Args:
        kind: ``scope["type"]``.
        scheme: The scheme as the connection tells it; trusted proxies may tell another.
        extensions: The extensions to advertise, to which ``tls`` is added where it applies.
        request: The request, whose list of headers goes into the scope.
        server_state: What is served.
        connection: Where the request came from.
    """
    spec_version = HTTP_SPEC_VERSION if kind == "http" else WEBSOCKET_SPEC_VERSION
    client, server, headers = connection.client, connection.server, list(request.items)
    if request.fields.forwarded and server_state.proxies is not None:
        if client is None and server_state.unix_unheard:
            server_state.tell_of_unix_peer(connection.server, headers)
        client, server, scheme, host = server_state.proxies.apply(headers, client, server, scheme)
        if host is not None:
            headers = [(b"host", host), *(field for field in headers if field[0] != b"host")]
    path, raw_path = request.path, request.raw_path
    if server_state.root_path and path != "*":  # which names the server, not a place in it
        path = server_state.root_path + path
        raw_path = server_state.root_path_bytes + raw_path
    supported: dict[str, Any] = extensions.copy()
    if connection.tls is not None:
        supported["tls"] = connection.tls
    return {
        "type": kind,
        "asgi": {"version": "3.0", "spec_version": spec_version},
        "http_version": request.http_version,
        "server": server,
        "client": client,
        "scheme": scheme,
        "root_path": server_state.root_path,
        "path": path,
        "raw_path": raw_path,
        "query_string": request.query,
        "headers": headers,
        "state": server_state.state.copy(),
        "extensions": supported,
    }
