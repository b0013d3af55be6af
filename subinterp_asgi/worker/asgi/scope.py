"""What the scopes of HTTP requests and of WebSockets have in common."""

from __future__ import annotations

from ...http1.heads import Request
from ...types import Any
from ..net.connection import Connection
from .state import ServerState

HTTP_SPEC_VERSION = "2.3"
"""What uvicorn announces too. With 2.4 send() would have to raise for a client that is gone, and
Starlette, which relies on that, would not watch receive() while it waits for something to send."""
WEBSOCKET_SPEC_VERSION = "2.4"
WEBSOCKET_EXTENSIONS: dict[str, dict[str, object]] = {"websocket.http.response": {}}


def make_scope(
    kind: str, request: Request, server_state: ServerState, connection: Connection
) -> dict[str, Any]:
    """Make the scope of a request; what it holds is the application's to change.

    (What only one ``kind`` of scope has, its maker adds.)
    """
    if kind == "http":
        scheme, spec_version = server_state.scheme, HTTP_SPEC_VERSION
        supported: dict[str, Any] = server_state.extensions.copy()
    else:
        scheme, spec_version = server_state.scheme.replace("http", "ws"), WEBSOCKET_SPEC_VERSION
        supported = WEBSOCKET_EXTENSIONS.copy()
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
