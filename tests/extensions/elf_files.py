"""Makes small shared libraries that look like extension modules, octet by octet.

An address in one is the offset in its file. Nothing in them can be run.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

X86_64, AARCH64 = 62, 183
CODE = 0x1000
SLOTS_END = (0, 0)

type Slot = tuple[int, int]


class Pointer(int):
    """A value that the dynamic linker has to write."""


FUNCTION = Pointer(CODE)


def multi_phase(*slots: Slot) -> list[Slot]:
    """The slots of a module that is executed, and these."""
    return [(2, FUNCTION), *slots]


@dataclass
class Library:
    """What a file is to say; ``build()`` makes it."""

    defines: Sequence[str] = ("PyInit_mod",)
    imports: Sequence[str] = ("PyModuleDef_Init",)
    slots: Sequence[Slot] | None = field(default_factory=multi_phase)
    module: str = "mod"
    with_definition: bool = True
    machine: int = X86_64
    short_relocations: bool = False
    old_hash: bool = False
    needed: Sequence[str] = ()
    runpath: str | None = None
    flags: int = 0
    constants: bytes = b""

    def build(self) -> bytes:
        strings = _Strings()
        names = [strings.add(name) for name in (*self.imports, *self.defines)]
        needed = [strings.add(name) for name in self.needed]
        runpath = strings.add(self.runpath) if self.runpath is not None else None
        symbols = self._symbols(names)
        table = self._sysv_hash() if self.old_hash else self._gnu_hash()
        constants = self.module.encode() + b"\0" + self.constants + b"\0"

        at = 64 + 4 * 56
        parts = {}
        for name, part in {
            "strings": bytes(strings.octets),
            "symbols": symbols,
            "hash": table,
            "constants": constants,
            "relocations": bytes(24 * 64),
        }.items():
            at = at + 7 & ~7
            parts[name] = (at, part)
            at += len(part)
        assert at <= CODE
        data_at = CODE + 0x1000
        data, pointers = self._data(data_at, parts["constants"][0])
        relocations = self._relocations(pointers)
        if self.short_relocations:
            for where, target in pointers.items():
                data[where - data_at : where - data_at + 8] = target.to_bytes(8, "little")
        tags = [(1, index) for index in needed]
        if runpath is not None:
            tags.append((29, runpath))
        tags += [
            (5, parts["strings"][0]),
            (10, len(strings.octets)),
            (6, parts["symbols"][0]),
            (4 if self.old_hash else 0x6FFFFEF5, parts["hash"][0]),
            (30, self.flags),
        ]
        start = parts["relocations"][0]
        if self.short_relocations:
            tags += [(36, start), (35, len(relocations))]
        else:
            tags += [(7, start), (8, len(relocations))]
        dynamic = b"".join(struct.pack("<QQ", *tag) for tag in (*tags, (0, 0)))
        dynamic_at = data_at + len(data)
        image = bytearray(dynamic_at + len(dynamic))
        for at, part in (*parts.values(), (data_at, bytes(data)), (dynamic_at, dynamic)):
            image[at : at + len(part)] = part
        image[start : start + len(relocations)] = relocations
        image[: 64 + 4 * 56] = self._heads(data_at, dynamic_at, len(dynamic), len(image))
        return bytes(image)

    def _heads(self, data_at: int, dynamic_at: int, dynamic: int, size: int) -> bytes:
        ident = b"\x7fELF\2\1\1" + bytes(9)
        numbers = (3, self.machine, 1, 0, 64, 0, 0, 64, 56, 4, 0, 0, 0)
        heads = [struct.pack("<16sHHIQQQIHHHHHH", ident, *numbers)]
        for kind, flags, at, length in (
            (1, 4, 0, CODE),
            (1, 5, CODE, 0x1000),
            (1, 6, data_at, size - data_at),
            (2, 6, dynamic_at, dynamic),
        ):
            heads.append(struct.pack("<IIQQQQQQ", kind, flags, at, at, at, length, length, 8))
        return b"".join(heads)

    def _symbols(self, names: list[int]) -> bytes:
        symbols = [bytes(24)]
        for index, name in enumerate(names):
            defined = index >= len(self.imports)
            symbols.append(struct.pack("<IBBHQQ", name, 0x12, 0, defined, defined * CODE, 16))
        return b"".join(symbols)

    def _gnu_hash(self) -> bytes:
        first = 1 + len(self.imports)
        if not self.defines:
            return struct.pack("<IIIIQI", 1, first, 1, 0, 0, 0)
        hashes = []
        for name in self.defines:
            value = 5381
            for octet in name.encode():
                value = (value * 33 + octet) & 0xFFFFFFFF
            hashes.append(value & ~1)
        hashes[-1] |= 1
        return struct.pack(f"<IIIIQI{len(hashes)}I", 1, first, 1, 0, 0, first, *hashes)

    def _sysv_hash(self) -> bytes:
        """One bucket: the last symbol, and from each the one before it."""
        count = 1 + len(self.imports) + len(self.defines)
        chain = [0, *range(count - 1)]
        return struct.pack(f"<III{count}I", 1, count, count - 1, *chain)

    def _data(self, at: int, name: int) -> tuple[bytearray, dict[int, int]]:
        """The definition, and its slots after it."""
        words: list[int] = [0] * 4
        slots_at = at + 8 * (len(words) + 13)
        if self.with_definition:
            words += [1, 0, 0, 0, 0, Pointer(name), 0, 0, 0, 0, 0, 0, 0]
            if self.slots is not None:
                words[4 + 9] = Pointer(slots_at)
        else:
            words += [0] * 13
        if self.slots is not None:
            for slot in (*self.slots, SLOTS_END):
                words += slot
        pointers = {
            at + 8 * index: int(word)
            for index, word in enumerate(words)
            if isinstance(word, Pointer)
        }
        octets = bytearray()
        for word in words:
            octets += (0 if isinstance(word, Pointer) else word).to_bytes(8, "little")
        return octets, pointers

    def _relocations(self, pointers: dict[int, int]) -> bytes:
        if self.short_relocations:
            first = min(pointers, default=0)
            bits, base = 0, first + 8
            for at in pointers:
                if at != first:
                    bits |= 1 << (at - base) // 8 + 1
            return struct.pack("<QQ", first, bits | 1) if pointers else b""
        relative = 8 if self.machine == X86_64 else 1027
        return b"".join(struct.pack("<QQQ", at, relative, to) for at, to in pointers.items())


class _Strings:
    def __init__(self) -> None:
        self.octets = bytearray(1)

    def add(self, text: str) -> int:
        at = len(self.octets)
        self.octets += text.encode() + b"\0"
        return at
