"""What documents show is what happens: their blocks of code are run, page by page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support import ROOT

from . import running
from .blocks import MARKS, blocks, pattern, steps
from .running import Folder

DOCUMENTS = [
    ROOT / "README.md",
    *(page for page in sorted((ROOT / "docs").rglob("*.md")) if blocks(page)),
]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_code_in_documents_runs(document: Path, tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    for block in blocks(document):
        assert block.mark in MARKS
        try:
            folder.run(block)
        except BaseException:
            print(f"{document.relative_to(ROOT)}:{block.line}")
            raise


def test_there_are_blocks_to_run() -> None:
    assert len(DOCUMENTS) > 2
    assert sum(block.mark == "" for page in DOCUMENTS for block in blocks(page)) > 5


@pytest.mark.parametrize(
    "document", [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")], ids=lambda path: path.name
)
def test_no_code_goes_without_a_fence(document: Path) -> None:
    """It would not be run."""
    text = re.sub(r"^```.*?^```$", "", document.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    assert re.findall(r"(?<=\n\n)    +\S.*", text) == []
    assert not re.search(r"^~~~|^ +```(?:python|console)", text, re.MULTILINE)


# --- that a mistake in a document is found


def document(folder: Path, text: str) -> Path:
    page = folder / "page.md"
    page.write_text(text)
    return page


def run(folder: Path, text: str) -> None:
    place = Folder(folder)
    for block in blocks(document(folder, text)):
        place.run(block)


def test_marks_and_lines(tmp_path: Path) -> None:
    text = "# A\n\n<!-- not run: why not -->\n```console\n$ rm x\n```\n\n```ini\na=1\n```\n"
    (block,) = blocks(document(tmp_path, text))
    assert (block.language, block.line) == ("console", 5)
    assert (block.mark, block.of) == ("not run", "why not")


def test_steps(tmp_path: Path) -> None:
    text = "```console\n$ one \\\n  two\nprinted 12 ms\n...\n$ three\n```\n"
    first, second = steps(blocks(document(tmp_path, text))[0])
    assert (first.command, first.output) == ("one   two", ("printed 12 ms", "..."))
    assert (second.command, second.output) == ("three", ())
    assert pattern("printed 12 ms (3.15)") == r"printed\ \d+(?:\.\d+)*\ ms\ \(\d+(?:\.\d+)*\)"


@pytest.mark.once
@pytest.mark.parametrize(
    "text",
    [
        "```python\nimport missing_module\n```\n",
        "<!-- fragment -->\n```python\nwith:\n```\n",
        "<!-- file: shop/prices.py -->\n```python\nprice = 3\n```\n\n"
        "```python\nfrom shop.prices import cost\n```\n",
        "```console\n$ subinterp-asgi shop.missing:app\n```\n",
        "```console\n$ subinterp-asgi shop.web:app --no-such-option\n```\n",
        "```console\n$ subinterp-asgi shop.web:app\nSomething else\n```\n",
        "```console\n$ subinterp-asgi --version\nsubinterp-asgi of another time\n```\n",
        "```console\n$ make nothing\n```\n",
    ],
)
def test_mistakes_are_found(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "LINE_TIMEOUT", 3.0)
    with pytest.raises((AssertionError, SyntaxError, pytest.fail.Exception)):
        run(tmp_path, text)
