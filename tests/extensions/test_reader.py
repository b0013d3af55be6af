"""What is read of extension modules, one claim of a file at a time."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from subinterp_asgi.errors import ExtensionFileError
from subinterp_asgi.extensions import reader

from .elf_files import AARCH64, FUNCTION, Library, Pointer, multi_phase

OWN, SHARED, NONE = (3, 2), (3, 1), (3, 0)
ON_315 = sys.version_info >= (3, 15)


@pytest.fixture
def inspect(tmp_path: Path):  # type: ignore[no-untyped-def]
    def inspect(library: Library, name: str = "mod.abi3.so") -> reader.Verdict:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(library.build())
        return reader.inspect(str(path))

    return inspect


@pytest.mark.parametrize("short", [False, True], ids=["RELA", "RELR"])
@pytest.mark.parametrize("old_hash", [False, True], ids=["GNU_HASH", "HASH"])
@pytest.mark.parametrize("machine", [62, AARCH64])
@pytest.mark.parametrize(
    ("slots", "support"),
    [
        (multi_phase(OWN), "own_gil"),
        (multi_phase(SHARED), "shared_gil"),
        (multi_phase(NONE), "no"),
        (multi_phase((4, 1)), "shared_gil"),
        ([OWN], "own_gil"),
        ([], "shared_gil"),
    ],
    ids=str,
)
def test_slots(inspect, slots, support, machine, old_hash, short) -> None:  # type: ignore[no-untyped-def]
    library = Library(slots=slots, machine=machine, old_hash=old_hash, short_relocations=short)
    verdict = inspect(library)
    assert (verdict.support, verdict.phase) == (support, "multi"), verdict.reason
    assert verdict.refused == (support != "own_gil")


def test_new_numbers_of_slots(inspect) -> None:  # type: ignore[no-untyped-def]
    """86 is known to 3.15 only; before, nothing can be said by it."""
    verdict = inspect(Library(slots=[(85, FUNCTION), (86, 2)]))
    assert verdict.support == ("own_gil" if ON_315 else "shared_gil")


@pytest.mark.parametrize("defines", [["PyModExport_mod"], ["PyModExport_mod", "PyInit_mod"]])
def test_exported_slots(inspect, defines) -> None:  # type: ignore[no-untyped-def]
    """Code leads to them, which is not read: an array of slots is found by its looks."""
    slots = [(100 | 4 << 16, Pointer(0x500)), (85, FUNCTION), (86, 2), (87, 1)]
    library = Library(defines=defines, imports=[], slots=slots, with_definition=False)
    verdict = inspect(library)
    if ON_315:
        assert (verdict.support, verdict.phase) == ("own_gil", "multi")
    else:
        assert verdict.support == "unknown"


def test_a_definition_with_another_name(inspect) -> None:  # type: ignore[no-untyped-def]
    assert inspect(Library(module="other", slots=multi_phase(OWN))).support == "own_gil"


def test_a_name_with_its_package(inspect) -> None:  # type: ignore[no-untyped-def]
    assert inspect(Library(module="a.b.mod", slots=multi_phase(OWN))).support == "own_gil"


def test_slots_that_code_writes_say_nothing(inspect) -> None:  # type: ignore[no-untyped-def]
    verdict = inspect(Library(slots=None, with_definition=False))
    assert (verdict.support, verdict.phase) == ("shared_gil", "multi")


@pytest.mark.parametrize("create", ["PyModule_Create2", "PyModule_FromDefAndSpec2"])
def test_a_single_phase(inspect, create) -> None:  # type: ignore[no-untyped-def]
    verdict = inspect(Library(imports=[create], slots=None))
    assert (verdict.support, verdict.phase) == ("no", "single")


@pytest.mark.parametrize(
    ("constants", "toolchain"), [(b"_cffi_backend", "cffi"), (b"app__mypyc", "mypyc")]
)
def test_modules_that_others_make(inspect, constants, toolchain) -> None:  # type: ignore[no-untyped-def]
    library = Library(imports=[], slots=None, with_definition=False, constants=constants)
    verdict = inspect(library)
    assert (verdict.support, verdict.phase, verdict.toolchain) == ("no", "single", toolchain)


@pytest.mark.parametrize(
    ("library", "toolchain"),
    [
        (Library(constants=b"pyo3_runtime"), None),
        (Library(imports=["PyModule_Create2"], slots=None), None),
        (Library(imports=[], slots=None, with_definition=False, constants=b"a__mypyc"), "mypyc"),
    ],
    ids=["multi", "single", "made by another"],
)
def test_a_worker_looks_for_no_toolchain(tmp_path: Path, library, toolchain) -> None:  # type: ignore[no-untyped-def]
    """Save where nothing else tells how it is initialised."""
    path = tmp_path / "mod.so"
    path.write_bytes(library.build())
    whole, verdict = reader.inspect(str(path)), reader.examine(str(path))
    assert whole.toolchain is not None
    assert verdict.toolchain == toolchain
    assert replace(whole, toolchain=toolchain) == verdict


def test_what_can_not_be_seen_is_unknown(inspect) -> None:  # type: ignore[no-untyped-def]
    verdict = inspect(Library(imports=["dlsym"], slots=None, with_definition=False))
    assert (verdict.support, verdict.phase) == ("unknown", "unknown")
    assert not verdict.refused


def test_another_library_is_no_module(inspect) -> None:  # type: ignore[no-untyped-def]
    verdict = inspect(Library(defines=["something"]))
    assert verdict.support == "unknown"
    assert "no PyInit_mod" in verdict.reason


@pytest.mark.parametrize(
    ("file", "defined"),
    [
        ("mod.cpython-314-x86_64-linux-gnu.so", "PyInit_mod"),
        ("pack/__init__.so", "PyInit_pack"),
        ("été.so", "PyInitU_t_9fab"),
    ],
)
def test_names(inspect, file, defined) -> None:  # type: ignore[no-untyped-def]
    assert inspect(Library(defines=[defined]), file).phase == "multi"


def test_what_matters_besides(inspect, tmp_path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "mod.libs").mkdir()
    (tmp_path / "mod.libs/libhelper.so.1").write_bytes(b"")
    library = Library(
        imports=[
            "PyModuleDef_Init",
            "malloc",
            "pthread_create",
            "Py_AddPendingCall",
            "PyGILState_Ensure",
            "_ZNSt6thread15_M_start_threadESt10unique_ptrINS_6_StateESt14default_deleteIS1_EEPFvvE",
        ],
        needed=["libhelper.so.1", "libc.so.6"],
        runpath="/usr/lib:$ORIGIN/mod.libs",
        flags=0x10,
        constants=b"pyo3_runtime.PanicException",
    )
    verdict = inspect(library)
    assert verdict.imports == (
        "PyGILState_Ensure",
        "Py_AddPendingCall",
        "pthread_create",
        "std::thread",
    )
    assert verdict.toolchain == "pyo3"
    assert verdict.needed == ("libhelper.so.1", "libc.so.6")
    assert verdict.bundled == (str(tmp_path / "mod.libs/libhelper.so.1"),)
    assert verdict.static_tls
    assert not inspect(Library()).static_tls


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"MZ" + bytes(100),
        b"\xcf\xfa\xed\xfe" + bytes(100),
        b"\x7fELF\1\1" + bytes(100),
        b"\x7fELF\2\2" + bytes(100),
        b"\x7fELF\2\1" + bytes(10) + b"\3\0\xf3\0" + bytes(100),
    ],
    ids=["empty", "Windows", "macOS", "32 bits", "big endian", "RISC-V"],
)
def test_files_of_other_systems_are_unknown(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "mod.so"
    path.write_bytes(data)
    assert reader.inspect(str(path)).support == "unknown"


@pytest.mark.parametrize("ask", [reader.inspect, reader.examine])
@pytest.mark.parametrize("path", ["missing.so", ".", "a\0b.so"])
def test_files_that_can_not_be_read(path: str, ask: Callable[[str], object]) -> None:
    with pytest.raises(ExtensionFileError, match="can't be read") as caught:
        ask(path)
    assert caught.value.path == path


def test_verdicts_are_kept_until_the_file_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "mod.so"
    path.write_bytes(Library().build())
    first = reader.examine(str(path))
    monkeypatch.setattr(reader, "inspect", lambda *_, **__: pytest.fail("it was read again"))
    assert reader.examine(str(path)) is first
    monkeypatch.undo()
    path.write_bytes(Library(slots=multi_phase(OWN)).build())
    os.utime(path, ns=(0, 0))
    assert reader.examine(str(path)).support == "own_gil"
    os.utime(path, ns=(0, 1))
    assert reader.examine(str(path)) is not first
