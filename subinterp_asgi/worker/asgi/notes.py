"""What is noted of each request where an id of it, or its log, asks for more than usual.

The application is wrapped for that, so that nothing is paid where nobody asks.
"""

from __future__ import annotations

import os
import re

from ...config import Config
from ...config.trust import TrustedProxies
from ...control.log_records import REQUEST_ID
from ...types import TYPE_CHECKING, ASGIApp
from ..interpreter.marks import takes_interrupts

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from ...types import Message

_SOUND_ID = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,200}")


class Notes:
    """What was noted of a request.

    Attributes:
        request_id: Its id, or ``"-"``.
        fields: The fields of its response.
        size: Octets of its response's body, as the application has sent them.
    """

    __slots__ = ("fields", "request_id", "size")

    def __init__(self) -> None:
        self.request_id = "-"
        self.fields: Sequence[tuple[bytes, bytes]] = ()
        self.size = 0


def noting(app: ASGIApp, config: Config, trusted: TrustedProxies) -> ASGIApp:
    """Wrap an application; ``notes`` of what serves a request are there when it is called."""
    header = config.request_id_header
    name = None if header is None else header.lower().encode("ascii")
    recording = config.access_log and config.access_log_format is not None

    @takes_interrupts
    def noted(scope: Any, receive: Any, send: Any) -> Any:
        session = receive.__self__  # an exchange, or a WebSocket's session
        notes = session.notes = Notes()
        if name is not None:
            peer = session.connection.client
            believed = trusted.trusts(None if peer is None else peer[0])
            notes.request_id = _identify(scope, name, believed=believed)
            REQUEST_ID.set(notes.request_id)  # in the context of this request alone
        return app(scope, receive, _recording(notes, send) if recording else send)

    return noted


def _identify(scope: dict[str, Any], name: bytes, *, believed: bool) -> str:
    """Take the id that a proxy has given, or make one, and tell the application."""
    others = [field for field in scope["headers"] if field[0] != name]
    given = [value for key, value in scope["headers"] if key == name]
    if not (believed and len(given) == 1 and _SOUND_ID.fullmatch(given[0])):
        given = [os.urandom(16).hex().encode("ascii")]
    scope["headers"] = [*others, (name, given[0])]
    request_id: str = given[0].decode("ascii")
    scope["state"]["request_id"] = request_id
    return request_id


def _recording(notes: Notes, send: Any) -> Any:
    async def recorded(message: Message) -> None:
        # Before it is sent, since the request may be logged in there. What is malformed is left to
        # ``send()``, which says so.
        kind = message["type"]
        if kind.endswith((".start", ".accept")):
            fields = message.get("headers", ())
            if not isinstance(fields, list | tuple | None):
                fields = list(fields)  # which may be readable only once
                message = {**message, "headers": fields}
            notes.fields = fields or ()
        elif kind.endswith(".response.body"):
            body = message.get("body")
            notes.size += len(body) if isinstance(body, bytes | bytearray | memoryview) else 0
        await send(message)

    return recorded
