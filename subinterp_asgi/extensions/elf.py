"""Reads what the dynamic linker would read of a shared library, without loading it.

ELF for 64 bits and little endian, x86-64 and aarch64. Whatever the file says is taken for a claim:
each number is bounded before it is used, and nothing is read but in small pieces with ``read()``
(a mapping would end the process if somebody cut the file off meanwhile). What can't be so raises
``ExtensionFileError``; a file of another kind raises its subclass ``UnsupportedFileError``.
"""

from __future__ import annotations

import struct
import sys
from array import array
from bisect import bisect_left

from ..errors import ExtensionFileError, UnsupportedFileError
from ..types import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

MOST_SEGMENTS = 256
MOST_TAGS = 4096
MOST_IMPORTS = 1 << 16
MOST_RELOCATIONS = 1 << 19  # of 1,900 files that were seen none has more than 163,000
MOST_CHAINED = 1 << 16
LONGEST_NAME = 4096

_MOST_NAMES = 16 << 20
_BLOCK = 1 << 16
_MOST_BLOCKS = 64

_RELATIVE = {62: 8, 183: 1027}  # by machine; the addend is the pointer
_ABSOLUTE = {62: 1, 183: 257}  # a symbol's address and the addend make the pointer

_PT_LOAD, _PT_DYNAMIC = 1, 2
_PF_X, _PF_W, _PF_R = 1, 2, 4
_DT_NEEDED, _DT_PLTRELSZ, _DT_HASH, _DT_STRTAB, _DT_SYMTAB = 1, 2, 4, 5, 6
_DT_RELA, _DT_RELASZ, _DT_STRSZ, _DT_RPATH, _DT_RUNPATH, _DT_FLAGS = 7, 8, 10, 15, 29, 30
_DT_RELRSZ, _DT_RELR = 35, 36
_DT_GNU_HASH = 0x6FFFFEF5
_DT_TEXTREL = 22
_DF_TEXTREL, _DF_STATIC_TLS = 4, 0x10


class Elf:
    """One file, open for as long as it is asked."""

    def __init__(self, file: BinaryIO, path: str) -> None:
        self._file = file
        self._path = path
        self._blocks: dict[int, bytes] = {}
        self._size = file.seek(0, 2)
        self._machine = 0
        self._segments: list[tuple[int, int, int, int]] = []  # address, offset, size, flags
        self._tags: dict[int, int] = {}
        self._needed: list[int] = []
        self._read_head()
        self._strings = self._tags.get(_DT_STRTAB, 0)
        self._symbols = self._tags.get(_DT_SYMTAB, 0)
        self._unhashed = self._first_hashed()
        self._at = array("Q")
        self._to = array("Q")

    def _broken(self, what: str) -> ExtensionFileError:
        return ExtensionFileError(self._path, what)

    # --- octets ---------------------------------------------------------------------------------

    def _read(self, offset: int, size: int) -> bytes:
        """Return octets of the file, exactly so many."""
        if not (offset >= 0 and size >= 0 and offset + size <= self._size):
            raise self._broken(f"it ends before octet {offset + size}")
        number, begin = divmod(offset, _BLOCK)
        if begin + size <= _BLOCK:
            block = self._blocks.get(number)
            if block is None:
                if len(self._blocks) >= _MOST_BLOCKS:
                    self._blocks.clear()
                block = self._blocks[number] = self._read_file(number * _BLOCK, _BLOCK)
            data = block[begin : begin + size]
        else:
            data = self._read_file(offset, size)
        if len(data) != size:
            raise self._broken("it was cut off while it was read")
        return data

    def _read_file(self, offset: int, size: int) -> bytes:
        self._file.seek(offset)
        return self._file.read(size)

    def _offset(self, address: int) -> int | None:
        """Where in the file the contents of an address are, if it has any."""
        for start, offset, size, _ in self._segments:
            if start <= address < start + size:
                return offset + address - start
        return None

    def read(self, address: int, size: int) -> bytes | None:
        """Return what is at an address once the library is loaded; ``None`` if nothing is."""
        for start, offset, length, _ in self._segments:
            if start <= address and address + size <= start + length:
                return self._read(offset + address - start, size)
        return None

    def word(self, address: int) -> int | None:
        """Return the 64 bits at an address as they are in the file."""
        data = self.read(address, 8)
        return None if data is None else int.from_bytes(data, "little")

    def text(self, address: int, limit: int = LONGEST_NAME) -> bytes | None:
        """Return the octets up to the next zero, if it is one of the next ``limit``."""
        for start, offset, length, _ in self._segments:
            if start <= address < start + length:
                rest = min(limit, start + length - address)
                data = self._read(offset + address - start, min(rest, 64))
                if (end := data.find(0)) < 0 and rest > 64:
                    data = self._read(offset + address - start, rest)
                    end = data.find(0)
                return data[:end] if end >= 0 else None
        return None

    def is_code(self, address: int) -> bool:
        """Whether an address is in a segment that can be executed."""
        return any(
            start <= address < start + size and flags & _PF_X
            for start, _, size, flags in self._segments
        )

    def contains(self, words: tuple[bytes, ...], limit: int) -> set[bytes]:
        """Return which of the words occur in the first ``limit`` octets of constant data."""
        found: set[bytes] = set()
        longest = max(map(len, words))
        for _, offset, size, flags in self._segments:
            if flags & _PF_X or not flags & _PF_R:
                continue
            end = offset + min(size, limit)
            limit -= end - offset
            while offset < end and len(found) < len(words):
                data = self._read_file(offset, min(1 << 20, end - offset))
                found.update(word for word in words if word in data)
                if len(data) <= longest:
                    break
                offset += len(data) - longest
        return found

    # --- heads ----------------------------------------------------------------------------------

    def _read_head(self) -> None:
        if self._size < 64 or (ident := self._read(0, 64))[:4] != b"\x7fELF":
            raise UnsupportedFileError(self._path, "it is not an ELF file")
        kind, self._machine = struct.unpack_from("<HH", ident, 16)
        if ident[4:6] != b"\2\1" or self._machine not in _RELATIVE or sys.byteorder != "little":
            raise UnsupportedFileError(self._path, "it is ELF, but not for x86-64 or aarch64")
        if kind != 3:
            raise self._broken("it is not a shared library")
        (table,) = struct.unpack_from("<Q", ident, 32)
        size, count = struct.unpack_from("<HH", ident, 54)
        if size != 56 or count > MOST_SEGMENTS:
            raise self._broken(f"it claims {count} segments of {size} octets each")
        dynamic = None
        for head in struct.iter_unpack("<IIQQQQQQ", self._read(table, size * count)):
            what, flags, offset, address, _, length, _, _ = head
            if what == _PT_LOAD:
                if offset + length > self._size:
                    raise self._broken(f"it ends before octet {offset + length}")
                self._segments.append((address, offset, length, flags))
            elif what == _PT_DYNAMIC:
                dynamic = (offset, length)
        if dynamic is None:
            raise self._broken("it has no dynamic section")
        offset, length = dynamic
        if length > MOST_TAGS * 16:
            raise self._broken(f"its dynamic section claims {length} octets")
        for tag, value in struct.iter_unpack("<QQ", self._read(offset, length // 16 * 16)):
            if tag == 0:
                break
            if tag == _DT_NEEDED:
                self._needed.append(value)
            else:
                self._tags[tag] = value

    def _string(self, index: int) -> str:
        text = self.text(self._strings + index) if index < self._tags.get(_DT_STRSZ, 0) else None
        if text is None:
            raise self._broken(f"a name is missing at {index}")
        return text.decode("utf-8", "backslashreplace")

    @property
    def needed(self) -> tuple[str, ...]:
        """The libraries that are loaded first, by the names that the linker looks for."""
        return tuple(self._string(index) for index in self._needed)

    @property
    def search_path(self) -> tuple[str, ...]:
        """Where they are looked for; ``$ORIGIN`` is the folder of this one."""
        index = self._tags.get(_DT_RUNPATH, self._tags.get(_DT_RPATH))
        if index is None:
            return ()
        return tuple(part for part in self._string(index).split(":") if part)

    @property
    def static_tls(self) -> bool:
        """Whether it takes of the room for thread-local variables that can't be extended."""
        return bool(self._tags.get(_DT_FLAGS, 0) & _DF_STATIC_TLS)

    def parts(self) -> Iterator[tuple[int, int, int, int, bool]]:
        """Yield what is loaded: address, offset and size, protection, whether the linker writes it.

        (What it writes and protects then, as RELRO, counts as written.)
        """
        writes_code = _DT_TEXTREL in self._tags or self._tags.get(_DT_FLAGS, 0) & _DF_TEXTREL
        for address, offset, size, flags in self._segments:
            protection = flags >> 2 & 1 | flags & 2 | (flags & 1) << 2  # as mmap() has it
            yield address, offset, size, protection, bool(flags & _PF_W or writes_code)

    # --- symbols --------------------------------------------------------------------------------

    def _uint(self, address: int) -> int:
        data = self.read(address, 4)
        if data is None:
            raise self._broken(f"its table of symbols leads to {address:#x}, where nothing is")
        return int.from_bytes(data, "little")

    def _first_hashed(self) -> int:
        """How many symbols come before those that others can find; all others are defined.

        With the old kind of table, that has no order, it is the number of all.
        """
        if table := self._tags.get(_DT_GNU_HASH):
            return self._uint(table + 4)
        if table := self._tags.get(_DT_HASH):
            return self._uint(table + 4)
        raise self._broken("it has no table of symbols")

    def _symbol(self, index: int) -> tuple[int, int, int]:
        """Return where the name is, the section (0: imported) and the value."""
        data = self.read(self._symbols + 24 * index, 24)
        if data is None:
            raise self._broken(f"it has no symbol {index}")
        name, _, _, section, value, _ = struct.unpack("<IBBHQQ", data)
        return name, section, value

    def imports(self) -> Iterator[str]:
        """Yield the names of what it wants of others."""
        if self._unhashed > MOST_IMPORTS:
            raise self._broken(f"it claims to import {self._unhashed} symbols")
        for index in range(1, self._unhashed):
            name, section, _ = self._symbol(index)
            if not section and name:
                yield self._string(name)

    def imports_any(self, beginnings: tuple[str, ...]) -> bool:
        """Whether a name of what it wants of others begins so."""
        # Most have no such name at all, which is seen at once.
        size = self._tags.get(_DT_STRSZ, 0)
        names = self.read(self._strings, size) if size <= _MOST_NAMES else None
        if names and not any(b"\0" + beginning.encode() in names for beginning in beginnings):
            return False
        return any(name.startswith(beginnings) for name in self.imports())

    def defines(self, name: str) -> bool:
        """Whether others can find a symbol of this name in it."""
        wanted = name.encode()
        candidates = (
            self._same_gnu_hash(wanted) if _DT_GNU_HASH in self._tags else self._same_hash(wanted)
        )
        for index in candidates:
            at, section, _ = self._symbol(index)
            if section and self.text(self._strings + at) == wanted:
                return True
        return False

    def _same_gnu_hash(self, name: bytes) -> Iterator[int]:
        wanted = 5381
        for octet in name:
            wanted = (wanted * 33 + octet) & 0xFFFFFFFF
        table = self._tags[_DT_GNU_HASH]
        buckets, first, bloom = (self._uint(table + 4 * index) for index in range(3))
        if not buckets:
            return
        table += 16 + 8 * bloom
        index = self._uint(table + 4 * (wanted % buckets))
        if index < first:
            return
        for _ in range(MOST_CHAINED):
            found = self._uint(table + 4 * (buckets + index - first))
            if found | 1 == wanted | 1:
                yield index
            if found & 1:
                return
            index += 1
        raise self._broken("a chain in its table of symbols has no end")

    def _same_hash(self, name: bytes) -> Iterator[int]:
        wanted = 0
        for octet in name:
            wanted = (wanted << 4) + octet
            wanted = (wanted ^ (wanted >> 24 & 0xF0)) & 0x0FFFFFFF
        table = self._tags[_DT_HASH]
        buckets = self._uint(table)
        if not buckets:
            return
        index = self._uint(table + 8 + 4 * (wanted % buckets))
        for _ in range(MOST_CHAINED):
            if not index:
                return
            yield index
            index = self._uint(table + 8 + 4 * (buckets + index))
        raise self._broken("a chain in its table of symbols has no end")

    # --- pointers -------------------------------------------------------------------------------

    def read_relocations(self) -> None:
        """Read all that the linker writes when the library is loaded; pointers need it."""
        size = self._tags.get(_DT_RELASZ, 0)
        if size > MOST_RELOCATIONS * 24:
            raise self._broken(f"it claims {size // 24} relocations")
        at, to = self._at, self._to
        if size and (table := self._offset(self._tags.get(_DT_RELA, 0))) is None:
            raise self._broken("its relocations are missing")
        elif size:
            self._read_rela(table or 0, size // 24 * 24)
        if self._tags.get(_DT_RELRSZ, 0):
            self._read_relr(self._tags.get(_DT_RELR, 0), self._tags[_DT_RELRSZ])
        if any(map(int.__gt__, at, at[1:])):
            order = sorted(range(len(at)), key=at.__getitem__)
            self._at = array("Q", map(at.__getitem__, order))
            self._to = array("Q", map(to.__getitem__, order))

    def _read_rela(self, offset: int, size: int) -> None:
        relative, absolute = _RELATIVE[self._machine], _ABSOLUTE[self._machine]
        end = offset + size
        while offset < end:
            data = self._read(offset, min(24 << 12, end - offset))
            offset += len(data)
            words = memoryview(data).cast("Q")
            kinds = words[1::3].tolist()
            if all(kind == relative for kind in kinds):
                self._at.extend(words[0::3])
                self._to.extend(words[2::3])
                continue
            for at, kind, addend in zip(words[0::3], kinds, words[2::3], strict=True):
                if kind == relative:
                    to = addend
                elif kind & 0xFFFFFFFF == absolute:
                    _, section, value = self._symbol(kind >> 32)
                    to = (value + addend) & 0xFFFFFFFFFFFFFFFF if section else 0
                else:
                    continue
                self._at.append(at)
                self._to.append(to)

    def _read_relr(self, table: int, size: int) -> None:
        """Read the short form: an address, then bit maps of which words follow it."""
        if size > MOST_RELOCATIONS * 8:
            raise self._broken(f"it claims {size} octets of relocations")
        data = self.read(table, size // 8 * 8)
        if data is None:
            raise self._broken("its relocations are missing")
        base = 0
        for (entry,) in struct.iter_unpack("<Q", data):
            if not entry & 1:
                found, base = [entry], entry + 8
            else:
                found = [base + 8 * bit for bit in range(63) if entry >> bit + 1 & 1]
                base += 8 * 63
            if len(self._at) + len(found) > MOST_RELOCATIONS or base >> 63:
                raise self._broken("it has too many relocations")
            for at in found:
                self._at.append(at)
                self._to.append(self.word(at) or 0)

    def pointer(self, address: int) -> int | None:
        """Return where the pointer at an address leads; 0: to another library; ``None``: nowhere.

        What the linker does not write is no pointer.
        """
        index = bisect_left(self._at, address)
        if index < len(self._at) and self._at[index] == address:
            return self._to[index]
        return None

    def pointers(self) -> Iterator[tuple[int, int, int]]:
        """Yield all pointers in order: the room before it without any, its address, its target."""
        previous = 0
        for at, to in zip(self._at, self._to, strict=True):
            yield at - previous - 8, at, to
            previous = at
