"""What speaks against a private copy, one claim of a file at a time."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from subinterp_asgi.extensions import copying, reader

from .elf_files import Library

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or not getattr(sys, "_is_gil_enabled", lambda: True)(),
    reason="copies need Linux and a GIL",
)

HELPER = "mod.libs/libhelper.so.1"


def make(folder: Path, name: str, library: Library) -> str:
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(library.build())
    return str(path)


def with_helper(folder: Path, *imports: str) -> reader.Verdict:
    """A module that brings a library, which wants that of others."""
    make(folder, HELPER, Library(defines=["help"], imports=imports, slots=None))
    library = Library(needed=["libhelper.so.1"], runpath="$ORIGIN/mod.libs")
    return reader.inspect(make(folder, "mod.abi3.so", library))


@pytest.mark.parametrize(
    ("module", "imports", "flags", "against"),
    [
        ("shop.mod", ["PyModuleDef_Init"], 0, None),
        ("gevent.mod", ["PyModuleDef_Init"], 0, "greenlet"),
        ("mod", ["PyModuleDef_Init", "Py_AddPendingCall"], 0, "Py_AddPendingCall"),
        ("mod", ["PyModuleDef_Init"], 0x10, "DF_STATIC_TLS"),
        ("mod", ["PyModuleDef_Init", "PyGILState_Ensure"], 0, None),
        ("mod", ["PyModuleDef_Init", "PyGILState_Ensure", "pthread_create"], 0, "PyGILState"),
    ],
)
def test_the_module_itself(
    tmp_path: Path, module: str, imports: Sequence[str], flags: int, against: str | None
) -> None:
    library = Library(imports=imports, flags=flags)
    verdict = reader.inspect(make(tmp_path, "mod.abi3.so", library))
    objection = copying.objection(module, "mod.so", verdict)
    assert objection is None if against is None else against in (objection or "")


@pytest.mark.parametrize(
    ("imports", "shared"),
    [(["malloc"], False), (["malloc", "PyErr_Occurred"], True), (["a_PyErr", "Qy"], False)],
)
def test_a_library_that_comes_with_it(tmp_path: Path, imports: Sequence[str], shared: bool) -> None:
    verdict = with_helper(tmp_path, *imports)
    assert copying.bundled_libraries(verdict) == (str(tmp_path / HELPER),)
    objection = copying.objection("mod", "mod.so", verdict)
    wanted = "copies would share libhelper.so.1, which uses Python"
    assert objection == (wanted if shared else None)


def test_libraries_are_read_once_until_they_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    verdict = with_helper(tmp_path, "malloc")
    read: list[str] = []

    class Elf(copying.Elf):
        def __init__(self, file, path: str) -> None:  # type: ignore[no-untyped-def]
            read.append(os.path.basename(path))
            super().__init__(file, path)

    monkeypatch.setattr(copying, "Elf", Elf)
    for _ in range(2):
        assert copying.objection("mod", "mod.so", verdict) is None
        assert copying.objection("other", "other.so", verdict) is None
        assert copying.bundled_libraries(verdict)
    assert read == ["libhelper.so.1"]
    with_helper(tmp_path, "malloc", "PyErr_Occurred")
    assert copying.objection("mod", "mod.so", verdict) is not None
    assert len(read) == 2


@pytest.mark.parametrize(
    ("version", "vetted"), [("0.23.0", True), ("0.9.1", True), ("0.24.0", False), (None, False)]
)
def test_what_was_run_all_the_same_is_told_by_its_own_folder(
    tmp_path: Path, version: str | None, vetted: bool
) -> None:
    if version is not None:
        (tmp_path / f"uvloop-{version}.dist-info").mkdir()
    imports = ["PyModuleDef_Init", "PyGILState_Ensure", "pthread_create"]
    path = make(tmp_path, "uvloop/loop.abi3.so", Library(["PyInit_loop"], imports, module="loop"))
    verdict = reader.inspect(path)
    assert (copying.objection("uvloop.loop", path, verdict) is None) == vetted
