"""Ways to unmask a WebSocket payload in pure Python, beside one another.

``python -m benchmarks.unmask`` prints the nanoseconds that each takes, by size, and marks the best.
``subinterp_asgi/websocket/masking.py`` uses the winners. The candidates take turns, and what counts
is the best of many short runs, since other programs can only make a run longer.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable

from subinterp_asgi.websocket import masking

type Unmask = Callable[[bytes, bytes], bytes | bytearray]

SIZES = (8, 20, 64, 125, 512, 1024, 2048, 4096, 16384, 65536, 262144, 1048576)
RUN_TIME = 0.0005
SLOW = 4096
"""Size from which on the candidates that work octet by octet are left out."""

_TABLES = [bytes(octet ^ other for other in range(256)) for octet in range(256)]


def loop(data: bytes, key: bytes) -> bytes:
    """What the RFC writes."""
    return bytes(octet ^ key[index & 3] for index, octet in enumerate(data))


def words(data: bytes, key: bytes) -> bytes:
    """Eight octets at a time, as elements of a cast memoryview."""
    size = len(data)
    number = int.from_bytes(key * 2, sys.byteorder)
    padded = memoryview(data + bytes(-size % 8)).cast("Q")
    return b"".join([(word ^ number).to_bytes(8, sys.byteorder) for word in padded])[:size]


def integer(data: bytes, key: bytes) -> bytes:
    """One integer as long as the payload."""
    size = len(data)
    repeated = (key * (size + 3 >> 2))[:size]
    number = int.from_bytes(data, "little") ^ int.from_bytes(repeated, "little")
    return number.to_bytes(size, "little")


def integer_big(data: bytes, key: bytes) -> bytes:
    """The same, with the byte order that needs no argument."""
    size = len(data)
    repeated = (key * (size + 3 >> 2))[:size]
    return (int.from_bytes(data) ^ int.from_bytes(repeated)).to_bytes(size)


def chunks_of(size: int) -> Unmask:
    """Integers of one size, so that the key is converted once and all stay in the caches."""

    def chunks(data: bytes, key: bytes) -> bytes:
        number = int.from_bytes(key * (size // 4), "little")
        whole = len(data) - len(data) % size
        pieces = [
            (int.from_bytes(data[at : at + size], "little") ^ number).to_bytes(size, "little")
            for at in range(0, whole, size)
        ]
        pieces.append(integer(data[whole:], key))
        return b"".join(pieces)

    return chunks


def lanes(data: bytes, key: bytes) -> bytearray:
    """Every fourth octet translated by a table, in place."""
    out = bytearray(data)
    for offset, octet in enumerate(key):
        out[offset::4] = out[offset::4].translate(_TABLES[octet])
    return out


def lanes_from_bytes(data: bytes, key: bytes) -> bytearray:
    """The same with slices of bytes, whose ``translate()`` also looks whether anything changed."""
    out = bytearray(len(data))
    for offset, octet in enumerate(key):
        out[offset::4] = data[offset::4].translate(_TABLES[octet])
    return out


def lanes_through_view(data: bytes, key: bytes) -> bytearray:
    """The same, put back through a memoryview."""
    out = bytearray(len(data))
    view = memoryview(out)
    for offset, octet in enumerate(key):
        view[offset::4] = data[offset::4].translate(_TABLES[octet])
    return out


CANDIDATES: dict[str, Unmask] = {
    "loop": loop,
    "words": words,
    "integer": integer,
    "integer, big": integer_big,
    "chunks, 1 KiB": chunks_of(1024),
    "chunks, 8 KiB": chunks_of(8192),
    "lanes": lanes,
    "lanes, bytes": lanes_from_bytes,
    "lanes, view": lanes_through_view,
    "ours": masking.unmask,
}
PER_OCTET = {"loop", "words"}


def measure(candidates: dict[str, Unmask], size: int, rounds: int) -> dict[str, float]:
    """Return the best time of each in nanoseconds."""
    data, key = os.urandom(size), os.urandom(4)
    expected = loop(data, key)
    repeats: dict[str, int] = {}
    for name, unmask in candidates.items():
        if unmask(data, key) != expected:
            raise ValueError(f"{name} is wrong")
        began = time.perf_counter()
        unmask(data, key)
        repeats[name] = max(1, int(RUN_TIME / (time.perf_counter() - began)))
    best = dict.fromkeys(candidates, float("inf"))
    for _ in range(rounds):
        for name, unmask in candidates.items():
            count = range(repeats[name])
            began = time.perf_counter()
            for _ in count:
                unmask(data, key)
            best[name] = min(best[name], (time.perf_counter() - began) / len(count))
    return {name: seconds * 1e9 for name, seconds in best.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=40)
    rounds = parser.parse_args().rounds

    print(f"CPython {sys.version.split()[0]}: ns for a payload, best of {rounds} runs")
    print(f"{'octets':>14}" + "".join(f"{size:>11}" for size in SIZES))
    table: dict[str, list[str]] = {name: [] for name in CANDIDATES}
    for size in SIZES:
        tried = {n: f for n, f in CANDIDATES.items() if size < SLOW or n not in PER_OCTET}
        times = measure(tried, size, rounds)
        best = min(times[name] for name in tried if name != "ours")
        for name, cells in table.items():
            mark = "*" if times.get(name) == best else " "
            cells.append(f"{times[name]:10.0f}{mark}" if name in times else f"{'':11}")
    for name, cells in table.items():
        print(f"{name:>14}" + "".join(cells))
    return 0


if __name__ == "__main__":
    sys.exit(main())
