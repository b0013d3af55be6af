"""Whatever is in a file, reading it ends soon, with a verdict or with the one error."""

from __future__ import annotations

import struct
import sysconfig
import tracemalloc
from array import array
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from subinterp_asgi.errors import ExtensionFileError
from subinterp_asgi.extensions import elf, reader

from .elf_files import CODE, Library, Pointer, multi_phase

pytestmark = pytest.mark.once

SEED = Library(slots=multi_phase((3, 2)), needed=("libc.so.6",), runpath="$ORIGIN").build()
SHORT = Library(slots=multi_phase((3, 2)), short_relocations=True, old_hash=True).build()
MOST_MEMORY = 80 << 20


def read(path: Path, data: bytes) -> reader.Verdict | ExtensionFileError:
    path.write_bytes(data)
    return inspect(path)


def inspect(path: Path) -> reader.Verdict | ExtensionFileError:
    try:
        return reader.inspect(str(path))
    except ExtensionFileError as exc:
        failure = exc
    assert str(path) in str(failure)
    return failure


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("damaged") / "mod.so"


@pytest.mark.parametrize("data", [SEED, SHORT], ids=["RELA", "RELR"])
def test_every_truncation(file: Path, data: bytes) -> None:
    ends = [*range(0x700), *range(0x700, len(data), 97), *range(len(data) - 300, len(data))]
    for end in ends:
        read(file, data[:end])
    assert isinstance(read(file, data[: len(data) - 1]), ExtensionFileError)


@pytest.mark.parametrize("data", [SEED, SHORT], ids=["RELA", "RELR"])
def test_every_octet_that_counts(file: Path, data: bytes) -> None:
    for at in [at for at, octet in enumerate(data) if octet or at < 0x200]:
        for value in (0, 1, 0x7F, 0xFF):
            read(file, data[:at] + bytes((value,)) + data[at + 1 :])


damage = st.lists(
    st.tuples(st.integers(0, len(SEED) - 1), st.binary(min_size=1, max_size=8)), max_size=12
)


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.sampled_from([SEED, SHORT]), damage=damage, end=st.integers(0, len(SEED)))
def test_damage_anywhere(
    file: Path, data: bytes, damage: list[tuple[int, bytes]], end: int
) -> None:
    image = bytearray(data)
    for at, octets in damage:
        image[at : at + len(octets)] = octets
    read(file, bytes(image) if end % 3 else bytes(image[:end]))


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.binary(max_size=4096), head=st.booleans())
def test_anything(file: Path, data: bytes, head: bool) -> None:
    read(file, SEED[:64] + data if head else data)


def installed() -> list[Path]:
    """Extension modules of this environment, the larger ones last."""
    found = [
        path
        for suffix in EXTENSION_SUFFIXES
        for path in Path(sysconfig.get_path("platlib")).rglob(f"*{suffix}")
    ]
    return sorted(set(found), key=lambda path: path.stat().st_size)


@pytest.mark.parametrize("part", [0.01, 0.3, 0.6, 0.9, 0.999])
def test_truncated_real_files(tmp_path: Path, part: float) -> None:
    files = installed()[:20]
    assert files, "the environment has none"
    for path in files:
        data = path.read_bytes()
        assert isinstance(read(tmp_path / path.name, data[: int(len(data) * part)]), object)


# --- Files that claim much


def set_tag(data: bytes, tag: int, value: int) -> bytes:
    """Change an entry of the dynamic section."""
    at, size = struct.unpack_from("<Q16xQ", data, 64 + 3 * 56 + 8)
    for index in range(at, at + size, 16):
        if struct.unpack_from("<Q", data, index)[0] == tag:
            return data[: index + 8] + struct.pack("<Q", value) + data[index + 16 :]
    raise AssertionError(f"there is no {tag}")


def set_number(data: bytes, at: int, pattern: str, value: int) -> bytes:
    image = bytearray(data)
    struct.pack_into(pattern, image, at, value)
    return bytes(image)


HASH_AT = 0x6FFFFEF5


def tag_value(data: bytes, tag: int) -> int:
    at, size = struct.unpack_from("<Q16xQ", data, 64 + 3 * 56 + 8)
    found: dict[int, int] = dict(struct.iter_unpack("<QQ", data[at : at + size]))
    return found[tag]


CLAIMS = {
    "segments": set_number(SEED, 56, "<H", 0xFFFF),
    "relocations": set_tag(SEED, 8, 1 << 62),
    "relocations that are not there": set_tag(SEED, 8, 24 << 18),
    "a table at the end of memory": set_tag(SEED, 7, (1 << 64) - 24),
    "short relocations": set_tag(SHORT, 35, 1 << 62),
    "symbols": set_number(SEED, tag_value(SEED, HASH_AT) + 4, "<I", 0xFFFFFFFF),
    "symbols of the old table": set_number(SHORT, tag_value(SHORT, 4) + 4, "<I", 0xFFFFFFFF),
    "a chain that leads to itself": set_number(SHORT, tag_value(SHORT, 4) + 8, "<I", 1),
    "a dynamic section": set_number(SEED, 64 + 3 * 56 + 32, "<Q", 1 << 62),
    "names": set_tag(SEED, 10, 0),
}


@pytest.mark.parametrize("data", CLAIMS.values(), ids=CLAIMS)
def test_claims_are_bounded(tmp_path: Path, data: bytes) -> None:
    tracemalloc.start()
    try:
        read(tmp_path / "mod.so", data)
        assert tracemalloc.get_traced_memory()[1] < 10 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("rela", [True, False], ids=["RELA", "RELR"])
def test_as_many_relocations_as_are_allowed(
    tmp_path: Path, rela: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The longest that a file can make the reader work; in no order, and each worth a look.

    That takes time: it is done with an eighth of what is allowed, so with an eighth of the memory.
    """
    monkeypatch.setattr(elf, "MOST_RELOCATIONS", elf.MOST_RELOCATIONS // 8)
    if rela:
        count, strings = elf.MOST_RELOCATIONS, tag_value(SEED, 5)
        places = range(0x2000, 0x2000 + count * 48, 48)
        entries = [number for at in places[::-1] for number in (at, 8, strings)]
        data = append(set_tag(SEED, 8, count * 24), 7, array("Q", entries).tobytes(), count * 48)
        del entries
    else:
        maps = struct.pack("<Q", CODE + 0x1000) + b"\xff" * 8 * (elf.MOST_RELOCATIONS // 63)
        data = append(set_tag(SHORT, 35, len(maps)), 36, maps, elf.MOST_RELOCATIONS * 8)
    path = tmp_path / "mod.so"
    path.write_bytes(data)
    tracemalloc.start()
    try:
        verdict = inspect(path)
        assert tracemalloc.get_traced_memory()[1] < MOST_MEMORY // 8
    finally:
        tracemalloc.stop()
    assert isinstance(verdict, reader.Verdict), verdict


def append(data: bytes, tag: int, table: bytes, room: int) -> bytes:
    """Put a table of relocations at the end, and let the last segment reach that far."""
    size = struct.unpack_from("<Q", data, 64 + 2 * 56 + 32)[0]
    data = set_tag(data, tag, len(data))
    grown = max(size + len(table), room + 64)
    data = set_number(data, 64 + 2 * 56 + 32, "<Q", grown)
    data += table
    return data + bytes(CODE + 0x1000 + grown - len(data))


def test_a_huge_file_is_not_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "mod.so"
    path.write_bytes(set_number(SEED, 64 + 2 * 56 + 32, "<Q", 8 << 30))
    with path.open("r+b") as file:
        file.truncate(16 << 30)
    tracemalloc.start()
    try:
        verdict = inspect(path)
        assert tracemalloc.get_traced_memory()[1] < 10 << 20
    finally:
        tracemalloc.stop()
    assert isinstance(verdict, reader.Verdict)
    assert verdict.support == "own_gil"


def test_a_file_that_is_cut_off_meanwhile(tmp_path: Path) -> None:
    path = tmp_path / "mod.so"
    path.write_bytes(SEED)
    with path.open("rb", buffering=0) as file:
        opened = elf.Elf(file, str(path))
        opened._blocks.clear()
        path.write_bytes(SEED[:100])
        with pytest.raises(ExtensionFileError, match="cut off"):
            opened.read_relocations()


def test_arrays_that_lead_to_themselves(tmp_path: Path) -> None:
    slots = CODE + 0x1000 + 17 * 8
    library = Library(slots=[(2, Pointer(CODE)), (94, Pointer(slots))])
    verdict = read(tmp_path / "mod.so", library.build())
    assert isinstance(verdict, reader.Verdict)
    assert verdict.support == "shared_gil"
