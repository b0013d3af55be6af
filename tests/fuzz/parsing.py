"""Cases for the parser alone."""

from __future__ import annotations

from random import Random

from subinterp_asgi.http1 import Limits, RequestParser
from tests.http1.messages import Outcome, drive

from .corpus import cut, make_stream

STATUSES = {400, 413, 414, 417, 431, 501, 505}
LIMIT_STATUSES = {413, 414, 431}
TIGHT = Limits(
    limit_request_line=80,
    limit_request_fields=8,
    limit_request_field_size=60,
    limit_header_size=300,
    limit_body_size=1000,
)
CHUNK_LINE = 4096  # which no option bounds


def run_case(seed: int, number: int) -> None:
    """Parse a stream at once and in pieces.

    Raises:
        Exception: Something is wrong.
    """
    random = Random(f"parsing {seed} {number}")
    stream = make_stream(random)
    limits = TIGHT if random.random() < 0.3 else Limits()
    pieces = cut(stream, random)
    at_once = drive(RequestParser(limits), [stream] if stream else [])
    in_pieces = drive(RequestParser(limits), pieces)
    _check(at_once)
    _check(in_pieces)
    bound = max(limits.limit_header_size, CHUNK_LINE) + max(map(len, pieces), default=0)
    assert in_pieces.largest_buffer <= bound, f"{in_pieces.largest_buffer} octets were kept"
    if at_once.status != in_pieces.status:
        # What breaks a limit and the grammar is refused for what shows first.
        statuses = {at_once.status, in_pieces.status}
        assert None not in statuses, f"{at_once.error!r}, {in_pieces.error!r}"
        assert statuses & LIMIT_STATUSES, f"{at_once.error!r}, {in_pieces.error!r}"
    assert _summary(at_once) == _summary(in_pieces), "the result depends on the cuts"


def _check(outcome: Outcome) -> None:
    assert outcome.status is None or outcome.status in STATUSES, outcome.status


def _summary(outcome: Outcome) -> list[object]:
    return [
        (
            message.head.method,
            message.head.target,
            message.head.path,
            message.head.headers,
            message.head.keep_alive,
            message.complete,
            message.body if message.complete else None,
        )
        for message in outcome.messages
    ]
