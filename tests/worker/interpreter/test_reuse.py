"""Which modules are the application's own, and whether files are those that were loaded."""

from __future__ import annotations

import os
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import pytest

from subinterp_asgi.worker.interpreter import reuse

INSTALLED = "/env/lib/python3/site-packages"
STDLIB = os.path.dirname(os.__file__)


def add(
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    file: str | None = None,
    path: list[str] | None = None,
    origin: str | None = None,
) -> None:
    module = ModuleType(name)
    module.__spec__ = ModuleSpec(name, None, origin=origin)
    if file is not None:
        module.__file__ = file
    if path is not None:
        module.__path__ = path
    monkeypatch.setitem(sys.modules, name, module)


def test_own_modules_are_told_by_their_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reuse, "_application", "shop")
    own = {
        "x_editable": "/work/x_editable/__init__.py",
        "x_sources": "/srv/app/x_sources.py",
        "shop": f"{INSTALLED}/shop/__init__.py",  # which the import path names
        "shop.web": f"{INSTALLED}/shop/web.py",
    }
    others = {
        "x_library": f"{INSTALLED}/x_library/__init__.py",
        "x_of_debian": "/usr/lib/python3/dist-packages/x_of_debian.py",
        "x_standard": f"{STDLIB}/x_standard.py",
        "shopping": f"{INSTALLED}/shopping.py",
        "subinterp_asgi.x": "/work/subinterp_asgi/x.py",
    }
    for name, file in (own | others).items():
        add(monkeypatch, name, file)
    found = reuse.own_modules()
    assert found >= own.keys()
    assert not found & others.keys()


def test_namespaces_and_modules_without_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reuse, "_application", "shop")
    add(monkeypatch, "x_shared", path=["/srv/app/x_shared", f"{INSTALLED}/x_shared"])
    add(monkeypatch, "x_shared.library", f"{INSTALLED}/x_shared/library.py")
    add(monkeypatch, "x_shared.web", "/srv/app/x_shared/web.py")
    add(monkeypatch, "x_space", path=["/srv/app/x_space"])
    add(monkeypatch, "x_space.inner")
    add(monkeypatch, "x_made")  # as by types.ModuleType()
    add(monkeypatch, "x_library", f"{INSTALLED}/x_library.py")
    add(monkeypatch, "x_library.moves")  # as six does
    add(monkeypatch, "x_built_in", origin="built-in")
    monkeypatch.setitem(sys.modules, "x_hidden", None)  # type: ignore[arg-type]
    found = {name for name in reuse.own_modules() if name.startswith("x_")}
    assert found == {"x_shared.web", "x_space", "x_space.inner", "x_made"}


@pytest.mark.parametrize("how", ["written", "replaced", "switched", "removed"])
def test_a_changed_file_is_noticed(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    releases = [tmp_path / "1" / "site-packages", tmp_path / "2" / "site-packages"]
    for release in releases:
        release.mkdir(parents=True)
        (release / "x_library.py").write_text("x = 1")
    current = tmp_path / "current"
    current.symlink_to(releases[0].parent)
    path = current / "site-packages" / "x_library.py"
    add(monkeypatch, "x_library", str(path))
    monkeypatch.setattr(reuse, "_stamps", {})
    monkeypatch.setattr(reuse, "_began", path.stat().st_ctime_ns + 10 * reuse._CLOCK_STEP)
    monkeypatch.setattr(sys, "modules", {"x_library": sys.modules["x_library"]})
    reuse.note_files()
    assert reuse.is_current()
    stat = path.stat()
    if how == "written":
        path.write_text("x = 2")
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    elif how == "replaced":
        other = path.with_name("other")
        other.write_text("x = 2")
        os.utime(other, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        other.replace(path)
    elif how == "switched":
        current.unlink()
        current.symlink_to(releases[1].parent)
    else:
        path.unlink()
    assert not reuse.is_current()


def test_a_file_that_changed_while_it_was_loaded_counts_as_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "site-packages" / "x_library.py"
    path.parent.mkdir()
    path.write_text("x = 1")
    add(monkeypatch, "x_library", str(path))
    monkeypatch.setattr(reuse, "_stamps", {})
    monkeypatch.setattr(reuse, "_began", path.stat().st_ctime_ns - 1)
    monkeypatch.setattr(sys, "modules", {"x_library": sys.modules["x_library"]})
    reuse.note_files()
    assert not reuse.is_current()
