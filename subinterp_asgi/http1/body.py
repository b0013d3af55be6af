"""Readers for the two framings of a request's body (RFC 9112 sections 6 and 7).

A reader is given the parser's buffer and a position. It takes the body out of that as far as it has
come, and returns the decoded octets and the position after them; it keeps no bytes.
"""

from __future__ import annotations

from .errors import ProtocolError
from .fields import split_fields
from .grammar import BARE_LF, CHUNK_EXT, CHUNK_SIZE
from .heads import Limits

MAX_CHUNK_LINE = 4096
"""Octets of a chunk's size and extensions."""
MAX_CHUNK_EXTENSIONS = 65536
"""Octets of all chunk extensions of a body. They are discarded, hence nothing but a cost."""


class LengthReader:
    """A body whose length ``Content-Length`` gave; ``remaining`` octets are still to be read."""

    __slots__ = ("complete", "remaining")

    def __init__(self, length: int) -> None:
        self.complete = False
        self.remaining = length

    def read(self, data: bytes | bytearray, pos: int) -> tuple[bytes, int]:
        end = min(pos + self.remaining, len(data))
        self.remaining -= end - pos
        self.complete = self.remaining == 0
        return bytes(data[pos:end]), end


class ChunkedReader:
    """A body in chunks, with the trailer section after them checked and dropped."""

    __slots__ = ("_chunk_left", "_extensions", "_limits", "_scanned", "_total", "_want", "complete")

    remaining = None

    def __init__(self, limits: Limits) -> None:
        self.complete = False
        self._limits = limits
        self._want = self._size_line
        self._chunk_left = 0
        self._total = 0
        self._extensions = 0
        self._scanned = 0  # octets from pos on that were searched for a line end already

    def read(self, data: bytes | bytearray, pos: int) -> tuple[bytes, int]:
        pieces: list[bytes] = []
        while not self.complete:
            after = self._want(data, pos, pieces)
            if after is None:
                break
            pos = after
            self._scanned = 0
        return pieces[0] if len(pieces) == 1 else b"".join(pieces), pos

    # Each part of the coding is a method which returns the position after what it took, or None if
    # more must come first.

    def _size_line(self, data: bytes | bytearray, pos: int, pieces: list[bytes]) -> int | None:
        end = self._line_end(data, pos, MAX_CHUNK_LINE, "chunk size line too long")
        if end is None:
            return None
        size = CHUNK_SIZE.match(data, pos)
        if size is None:
            raise ProtocolError("invalid chunk size")
        if size.end() != end:
            if CHUNK_EXT.fullmatch(data, size.end(), end) is None:
                raise ProtocolError("invalid chunk extension")
            self._extensions += end - size.end()
            if self._extensions > MAX_CHUNK_EXTENSIONS:
                raise ProtocolError("too many chunk extensions")
        self._chunk_left = int(size[0], 16)
        self._total += self._chunk_left
        limit = self._limits.limit_body_size
        if limit is not None and self._total > limit:
            raise ProtocolError("request body too large", 413)
        self._want = self._chunk_data if self._chunk_left else self._trailer
        return end + 2

    def _chunk_data(self, data: bytes | bytearray, pos: int, pieces: list[bytes]) -> int | None:
        end = min(pos + self._chunk_left, len(data))
        if end == pos:
            return None
        pieces.append(bytes(data[pos:end]))
        self._chunk_left -= end - pos
        if not self._chunk_left:
            self._want = self._chunk_end
        return end

    def _chunk_end(self, data: bytes | bytearray, pos: int, pieces: list[bytes]) -> int | None:
        mark = data[pos : pos + 2]
        if mark == b"\r\n":
            self._want = self._size_line
            return pos + 2
        if not b"\r\n".startswith(mark):
            raise ProtocolError("chunk longer than its size")
        return None

    def _trailer(self, data: bytes | bytearray, pos: int, pieces: list[bytes]) -> int | None:
        limits = self._limits
        if data.startswith(b"\r\n", pos):
            self.complete = True
            return pos + 2
        end = data.find(b"\r\n\r\n", pos + max(self._scanned - 3, 0))
        if end < 0:
            if BARE_LF.search(data, pos + self._scanned):
                raise ProtocolError("line feed without carriage return")
            if len(data) - pos > limits.limit_header_size:
                raise ProtocolError("trailer section too large", 431)
            self._scanned = len(data) - pos
            return None
        if end + 4 - pos > limits.limit_header_size:
            raise ProtocolError("trailer section too large", 431)
        # Checked as strictly as a header section, then dropped: ASGI has no place for trailers of
        # requests, and merging them into the headers is forbidden (RFC 9110 section 6.5.1).
        block = bytes(data[pos : end + 2])
        split_fields(block, limits.limit_request_fields, limits.limit_request_field_size)
        self.complete = True
        return end + 4

    def _line_end(self, data: bytes | bytearray, pos: int, limit: int, too_long: str) -> int | None:
        end = data.find(b"\r\n", pos + max(self._scanned - 1, 0), pos + limit + 2)
        if end >= 0:
            return end
        if BARE_LF.search(data, pos + self._scanned):
            raise ProtocolError("line feed without carriage return")
        if len(data) - pos > limit:
            raise ProtocolError(too_long)
        self._scanned = len(data) - pos
        return None


type BodyReader = LengthReader | ChunkedReader
