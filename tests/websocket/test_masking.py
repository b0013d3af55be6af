"""RFC 6455 section 5.3."""

from __future__ import annotations

import random

import pytest

from subinterp_asgi.websocket.masking import LANES_FROM, unmask

from .client import xor

SIZES = [
    *range(20),
    *(size + off for size in (128, LANES_FROM, 4096) for off in (-3, -2, -1, 0, 1, 2)),
]


@pytest.mark.parametrize("size", SIZES)
def test_every_size(size: int) -> None:
    source = random.Random(size)
    data, key = source.randbytes(size), source.randbytes(4)
    assert unmask(data, key) == xor(data, key)
    assert unmask(bytearray(data), bytearray(key)) == xor(data, key)


@pytest.mark.parametrize("size", [100, 2 * LANES_FROM + 1])
def test_masking_twice_changes_nothing(size: int) -> None:
    data = random.Random(1).randbytes(size)
    for key in (b"\0\0\0\0", b"\xff\xff\xff\xff", b"\0\xff\1\x80"):
        assert unmask(bytes(unmask(data, key)), key) == data


def test_the_argument_is_left_alone() -> None:
    data = bytearray(range(256)) * 8
    before = bytes(data)
    unmask(data, b"abcd")
    assert data == before


def test_every_key_octet() -> None:
    data = bytes(range(256)) * (LANES_FROM // 128)
    for octet in range(256):
        key = bytes((octet, octet ^ 1, octet ^ 0x80, octet ^ 0xFF))
        assert unmask(data, key) == xor(data, key)


def test_the_rfcs_example() -> None:
    """Section 5.7: "Hello", masked."""
    assert unmask(b"\x7f\x9f\x4d\x51\x58", b"\x37\xfa\x21\x3d") == b"Hello"
