"""Unmasking (RFC 6455 section 5.3): XOR with a key of four octets, repeated.

The standard library has no function for it, and octet by octet it would take fifty times as long.
``benchmarks/unmask.py`` compares the ways around that; the two that are used here were the fastest
on CPython 3.13, 3.14 and 3.15, each in its range of sizes.
"""

from __future__ import annotations

LANES_FROM = 1024
"""Octets from which on four translated lanes beat one long integer. Converting an integer forth and
back takes as long for an octet as a lane's three passes do, 0.8 ns, until it outgrows the caches;
but lanes cost something before their first octet. 20 octets take 0.23 µs as an integer and 0.50 µs
in lanes, 64 KiB take 141 µs and 52 µs."""


class _Tables(dict[int, bytes]):
    """For an octet of a key: the table that ``translate()`` needs to XOR with it, made when first
    needed, since all of them would add 70 KB to every interpreter."""

    def __missing__(self, octet: int) -> bytes:
        table = self[octet] = bytes(octet ^ other for other in range(256))
        return table


_tables = _Tables()


def unmask(data: bytes | bytearray | memoryview, key: bytes | bytearray) -> bytes | bytearray:
    """XOR octets with a key of four, repeated; masking is the same."""
    size = len(data)
    if size < LANES_FROM:
        repeated = (key * (size + 3 >> 2))[:size]
        number = int.from_bytes(data, "little") ^ int.from_bytes(repeated, "little")
        return number.to_bytes(size, "little")
    # In place, since a bytearray's translate() and slices cost less than those of bytes.
    lanes = bytearray(data)
    a, b, c, d = key
    lanes[::4] = lanes[::4].translate(_tables[a])
    lanes[1::4] = lanes[1::4].translate(_tables[b])
    lanes[2::4] = lanes[2::4].translate(_tables[c])
    lanes[3::4] = lanes[3::4].translate(_tables[d])
    return lanes
