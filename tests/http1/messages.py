"""Drives the request parser over a stream and tells what came out, for the tests around it."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, field

from subinterp_asgi.http1 import Limits, ProtocolError, Request, RequestParser

UNBOUNDED = Limits(
    limit_request_line=1 << 30,
    limit_request_fields=1 << 30,
    limit_request_field_size=1 << 30,
    limit_header_size=1 << 30,
)


@dataclass
class Message:
    """A request with what was read of its body."""

    head: Request
    body: bytes = b""
    complete: bool = False


@dataclass
class Outcome:
    """What a stream came to."""

    messages: list[Message] = field(default_factory=list)
    error: ProtocolError | None = None
    largest_buffer: int = 0

    @property
    def status(self) -> int | None:
        return None if self.error is None else self.error.status

    @property
    def bodies(self) -> list[bytes]:
        return [message.body for message in self.messages]


def get(*lines: bytes, version: bytes = b"1.1") -> bytes:
    """A GET with these field lines, and nothing else."""
    return b"GET / HTTP/%s\r\n%s\r\n" % (version, b"".join(line + b"\r\n" for line in lines))


def post(*lines: bytes, version: bytes = b"1.1") -> bytes:
    """The head of a POST with these field lines."""
    return b"POST / HTTP/%s\r\nHost: a\r\n%s\r\n" % (
        version,
        b"".join(line + b"\r\n" for line in lines),
    )


def drive(parser: RequestParser, pieces: Iterable[bytes]) -> Outcome:
    """Feed piece after piece and take all requests and bodies as soon as they are there."""
    outcome = Outcome()
    try:
        for piece in pieces:
            parser.feed(piece)
            _take_all(parser, outcome)
            outcome.largest_buffer = max(outcome.largest_buffer, parser.buffered)
    except ProtocolError as exc:
        outcome.error = exc
    return outcome


def parse(*pieces: bytes, limits: Limits | None = None) -> Outcome:
    """``drive()`` a new parser."""
    return drive(RequestParser(limits), pieces)


def parse_one(data: bytes, limits: Limits | None = None) -> Message:
    """Parse what must be exactly one whole request."""
    parser = RequestParser(limits)
    outcome = drive(parser, [data])
    assert outcome.error is None, f"refused: {outcome.error}"
    (message,) = outcome.messages
    assert message.complete
    assert parser.buffered == 0
    return message


def refuse(*pieces: bytes, limits: Limits | None = None) -> ProtocolError:
    """Parse what must be refused, before it has become a whole request, and return the error."""
    outcome = parse(*pieces, limits=limits)
    assert outcome.error is not None, f"accepted: {outcome.messages}"
    assert not any(message.complete for message in outcome.messages)
    return outcome.error


def split(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    """Cut a stream at some offsets."""
    edges = [0, *sorted({cut for cut in cuts if 0 < cut < len(data)}), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges)]


def octets(data: bytes) -> list[bytes]:
    """A stream one octet at a time."""
    return [data[i : i + 1] for i in range(len(data))]


def _take_all(parser: RequestParser, outcome: Outcome) -> None:
    while True:
        if outcome.messages and not outcome.messages[-1].complete:
            message = outcome.messages[-1]
            piece = parser.read_body()
            message.body += piece
            message.complete = parser.body_complete
            if not message.complete:
                return
        request = parser.next_request()
        if request is None:
            return
        outcome.messages.append(Message(request, complete=parser.body_complete))
