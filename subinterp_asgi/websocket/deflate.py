"""permessage-deflate's compression (RFC 7692 section 7.2).

It needs ``zlib``, hence is imported only for connections that have agreed upon the extension.

Streams are made with the first message that needs them, so that an idle connection holds none.
"""

from __future__ import annotations

import zlib
from functools import partial

from .errors import ProtocolError
from .frames import CloseCode

TAIL = b"\x00\x00\xff\xff"
"""What ends each message of the stream and is not sent (sections 7.2.1 and 7.2.2)."""

# Octets given to a stream that follows another in the same message. What it leaves over is copied,
# which would make a message of nothing but ended streams quadratic.
_AFTER_FINAL_BLOCK = 1024


class Inflater:
    """Decompresses what the peer sends.

    Args:
        window_bits: The window that the peer compresses with, or a larger one.
        context_takeover: A message may refer to those before it.
    """

    __slots__ = ("_context_takeover", "_stream", "_window_bits")

    def __init__(self, *, window_bits: int = 15, context_takeover: bool = True) -> None:
        self._window_bits = window_bits
        self._context_takeover = context_takeover
        self._stream: zlib._Decompress | None = None

    def inflate(self, data: bytes | bytearray, limit: int, *, final: bool = False) -> bytes:
        """Decompress a part of a message, perhaps an empty one, as far as its octets say.

        ``ProtocolError``: there would be more than ``limit`` octets (1009; no more than that were
        made to find out), or these are not deflated data (1007).
        """
        if final:
            data = data + TAIL
        stream = self._stream
        if stream is None:
            stream = self._stream = zlib.decompressobj(-self._window_bits)
        try:
            plain = stream.decompress(data, limit + 1)
            if stream.eof and len(plain) <= limit:
                plain += self._inflate_rest(stream, limit - len(plain))
        except zlib.error:
            raise ProtocolError(CloseCode.INVALID_DATA, "invalid compressed data") from None
        if len(plain) > limit:
            raise ProtocolError(CloseCode.TOO_BIG, "message too big")
        if final and not self._context_takeover:
            self._stream = None
        return plain

    def _inflate_rest(self, stream: zlib._Decompress, limit: int) -> bytes:
        """Go on after a block with BFINAL set (section 7.2.3.4).

        That needs a stream of its own here. Its window is empty, as that of the peer's next stream.
        """
        pieces: list[bytes] = []
        rest = memoryview(stream.unused_data)
        while rest and limit >= 0:
            if stream.eof:
                stream = zlib.decompressobj(-self._window_bits)
            part = rest[:_AFTER_FINAL_BLOCK]
            plain = stream.decompress(part, limit + 1)
            limit -= len(plain)
            pieces.append(plain)
            rest = rest[len(part) - len(stream.unused_data) :]
        self._stream = None if stream.eof else stream
        return b"".join(pieces)


class Deflater:
    """Compresses messages.

    Args:
        window_bits: Window to compress with, 9 to 15.
        context_takeover: Messages refer to those before them.
        memory_level: As that of ``zlib.compressobj()``.
        level: As well.
        threshold: Octets below which a message should not be compressed.
    """

    __slots__ = ("_context_takeover", "_new_stream", "_stream", "threshold")

    def __init__(
        self,
        *,
        window_bits: int = 15,
        context_takeover: bool = True,
        memory_level: int = 8,
        level: int = 1,
        threshold: int = 0,
    ) -> None:
        self._new_stream = partial(
            zlib.compressobj, level, zlib.DEFLATED, -window_bits, memory_level
        )
        self._context_takeover = context_takeover
        self._stream: zlib._Compress | None = None
        self.threshold = threshold

    def deflate(self, data: bytes) -> bytes:
        """Compress a message."""
        stream = self._stream or self._new_stream()
        if self._context_takeover:
            self._stream = stream
        return (stream.compress(data) + stream.flush(zlib.Z_SYNC_FLUSH)).removesuffix(TAIL)
