"""Cases for the reader of extension modules: files that look nearly right."""

from __future__ import annotations

import os
import tempfile
from random import Random

from subinterp_asgi.errors import ExtensionFileError
from subinterp_asgi.extensions import reader
from tests.extensions.elf_files import AARCH64, Library, multi_phase

SEEDS = [
    Library(
        slots=multi_phase((3, 2), (4, 1)),
        machine=machine,
        old_hash=old_hash,
        short_relocations=short,
        needed=("libc.so.6",),
        runpath="$ORIGIN/libs",
    ).build()
    for machine in (62, AARCH64)
    for old_hash in (False, True)
    for short in (False, True)
]
CASES = [(data, [at for at in range(0, len(data), 4) if any(data[at : at + 4])]) for data in SEEDS]
FOLDER = "/dev/shm" if os.path.isdir("/dev/shm") else None
NUMBERS = [
    0,
    1,
    7,
    8,
    24,
    56,
    0x1000,
    0x2000,
    0xFFFF,
    1 << 31,
    (1 << 32) - 1,
    1 << 62,
    (1 << 64) - 1,
]


def run_case(seed: int, number: int) -> None:
    """Read a damaged file.

    Raises:
        Exception: Something is wrong.
    """
    random = Random(f"files {seed} {number}")
    seed_data, used = random.choice(CASES)
    data = bytearray(seed_data)
    for _ in range(random.choice((0, 1, 1, 2, 5, 20))):
        at = random.choice(used) if random.random() < 0.8 else random.randrange(len(data))
        size = random.choice((1, 2, 4, 8))
        value = random.choice(NUMBERS) if random.random() < 0.7 else random.getrandbits(64)
        data[at : at + size] = (value & (1 << 8 * size) - 1).to_bytes(size, "little")
    if random.random() < 0.3:
        del data[random.randrange(len(data)) :]
    with tempfile.NamedTemporaryFile(prefix="mod.", suffix=".so", dir=FOLDER) as file:
        file.write(data)
        file.flush()
        _check(file.name)


def _check(path: str) -> None:
    try:
        verdict = reader.inspect(path)
    except ExtensionFileError as exc:
        if not str(exc).startswith(path):
            raise AssertionError(f"it does not name the file: {exc}") from exc
    else:
        assert verdict.support in ("own_gil", "shared_gil", "no", "unknown"), verdict
