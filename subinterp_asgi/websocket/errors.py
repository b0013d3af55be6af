"""The two errors of the WebSocket codec: one before the handshake is done, one after."""

from __future__ import annotations

from ..errors import SubinterpASGIError
from ..types import Fields


class HandshakeError(SubinterpASGIError, ValueError):
    """A request does not open a WebSocket as RFC 6455 section 4.2.1 wants it.

    Attributes:
        status: The status code to answer with.
        headers: Fields which that answer must have.
    """

    def __init__(self, message: str, status: int = 400, headers: Fields | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.headers: Fields = headers or []


class ProtocolError(SubinterpASGIError, ValueError):
    """The peer broke the protocol, or a limit. Nothing that it sent after that may be parsed.

    Attributes:
        code: The close code to fail the connection with (RFC 6455 section 7.1.7).
    """

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
