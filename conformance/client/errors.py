"""What can end a case other than success.

`Mismatch` and its subclasses are verdicts about the server; `Skip` says that the case
does not apply to it.  Any other exception that leaves a case is a fault of the suite.
"""


class Mismatch(Exception):
    """The server did something that the case does not allow."""


class Violation(Mismatch):
    """The server's bytes are not a valid HTTP/1.1 response."""


class Closed(Mismatch):
    """The connection ended where a response was due; nothing of the response had come."""


class Truncated(Closed):
    """The connection ended inside a response."""

    def __init__(self, text: str, status: int | None = None, body: bytes = b"") -> None:
        super().__init__(text)
        self.status = status
        self.body = body


class NoAnswer(Mismatch):
    """Nothing more came within the time allowed."""


class Skip(Exception):
    """The case says nothing about this server, for example an extension it does not offer."""
