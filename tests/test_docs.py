"""What the documents name is there: files, modules, links, and the pictures' sources."""

from __future__ import annotations

import functools
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ROOT

PACKAGE = ROOT / "subinterp_asgi"
DOCUMENTS = sorted((ROOT / "docs").rglob("*.md")) + [
    ROOT / name for name in ("CONTRIBUTING.md", "README.md", "SECURITY.md")
]
DIAGRAMS = sorted((ROOT / "docs" / "diagrams").glob("*.dot"))

CODE_BLOCK = re.compile(r"^```.*?^```|^    .*?$", re.DOTALL | re.MULTILINE)
CODE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\]\(([^)\s]+)\)")
FILE = re.compile(
    r"[\w.*-]+(?:/[\w.*-]+)*(?:\.(?:py|md|toml|dot|svg)|/)|Makefile|\.?\w+(?:/[\w-]+)+"
)
MODULE = re.compile(r"(?:subinterp_asgi|conformance|benchmarks|tests)(?:\.\w+)+")
IN_DIAGRAM = re.compile(r"[\w/]*\w\.(?:py|md)\b|[\w/]+/(?=:)|scripts/[\w-]+")

# Of ASGI and of others: they look like paths or modules.
# The last two are made: by who follows a page, and by ``make docs``.
NO_FILES = {"and/or", "text/plain", "permessage-deflate", "hello.py", "build/site"}
NO_MODULES = re.compile(r"subinterp_asgi\.(?:worker\.(?:startup|shutdown)|error|access)\b")


def exists(path: str) -> bool:
    """Whether there is such a file or folder, in the repository or the package."""
    return any(
        any(place.glob(path.rstrip("/"))) and (not path.endswith("/") or (place / path).is_dir())
        for place in (ROOT, PACKAGE, PACKAGE / "supervisor")
    )


def names(module: str) -> bool:
    """Whether a dotted name is a module or something in one."""
    parts = module.split(".")
    for end in range(len(parts), 0, -1):
        try:
            spec = importlib.util.find_spec(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        if spec is not None:
            found: object = importlib.import_module(".".join(parts[:end]))
            for part in parts[end:]:
                if not hasattr(found, part):
                    return False
                found = getattr(found, part)
            return True
    return False


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_files_that_are_named_exist(document: Path) -> None:
    codes = CODE.findall(CODE_BLOCK.sub("", document.read_text("utf-8")))
    files = {code for code in codes if FILE.fullmatch(code)} - NO_FILES
    missing = sorted(file for file in files if not file.startswith("/") and not exists(file))
    assert not missing


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_modules_that_are_named_exist(document: Path) -> None:
    found = set(MODULE.findall(document.read_text("utf-8")))
    missing = sorted(x for x in found if not NO_MODULES.match(x) and not names(x))
    assert not missing


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    links = [link for link in LINK.findall(document.read_text("utf-8")) if ":" not in link]
    missing = [x for x in links if not (document.parent / x.partition("#")[0]).exists()]
    assert not missing


@functools.cache
def anchors(document: Path) -> set[str]:
    """Return what the headings of a document are called in links."""
    text = CODE_BLOCK.sub("", document.read_text("utf-8"))
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_to_headings_lead_somewhere(document: Path) -> None:
    missing = []
    for link in LINK.findall(document.read_text("utf-8")):
        path, _, anchor = link.partition("#")
        there = document.parent / path if path else document
        if anchor and ":" not in link and anchor not in anchors(there):
            missing.append(link)
    assert not missing


@pytest.mark.parametrize("diagram", DIAGRAMS, ids=lambda path: path.name)
def test_files_in_diagrams_exist(diagram: Path) -> None:
    """A box may name several files of a folder, the first of them with the folder."""
    text = diagram.read_text("utf-8").replace("\\n", "\n").replace("\\l", "\n")
    missing = []
    for line in text.splitlines():
        folder = ""
        for path in IN_DIAGRAM.findall(line.partition("//")[0]):
            if not exists(path) and not exists(folder + path) and not exists(f"worker/{path}"):
                missing.append(path)
            folder = path.rpartition("/")[0] + "/" if "/" in path else folder
    assert not missing


def test_there_are_documents_and_diagrams() -> None:
    assert len(DOCUMENTS) > 3
    assert len(DIAGRAMS) > 4


def test_pictures_belong_to_their_sources() -> None:
    checked = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "diagrams"), "--check"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
