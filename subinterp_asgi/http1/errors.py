"""The one error of the HTTP/1.1 codec, with the answer that it deserves."""

from __future__ import annotations

from ..errors import SubinterpASGIError


class ProtocolError(SubinterpASGIError, ValueError):
    """The peer broke HTTP/1.1, or a limit. Nothing after the offending bytes may be parsed.

    Attributes:
        status: The status code to answer with, if an answer can still be given.
        reusable: Whether the connection may serve another request. Framing errors leave no way to
            tell where the next request begins (RFC 9112 section 9), so that this is ``False``
            for all errors but those that concern a well-framed request.
    """

    def __init__(self, message: str, status: int = 400, *, reusable: bool = False) -> None:
        super().__init__(message)
        self.status = status
        self.reusable = reusable
