"""Responses as octets."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from subinterp_asgi.http1 import DefaultFields, ResponseWriter

BARE = DefaultFields(server=False, date=False)


def render(
    status: int = 200,
    fields: Iterable[tuple[bytes, bytes]] = (),
    body: list[bytes] | bytes = b"",
    **options: Any,
) -> tuple[bytes, ResponseWriter]:
    """Write a response of one or several pieces, without Date and Server."""
    writer = ResponseWriter(BARE, **options)
    writer.start(status, fields)
    pieces = body if isinstance(body, list) else [body]
    output = b"".join(
        writer.send(piece, more=number < len(pieces)) for number, piece in enumerate(pieces, 1)
    )
    return output, writer


OK = b"HTTP/1.1 200 OK\r\n"
LENGTH_5 = (b"Content-Length", b"5")
