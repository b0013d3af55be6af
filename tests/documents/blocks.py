"""Reads the fenced blocks of a document, with what the comment before one says of it.

``python`` and ``console`` blocks are run, one after the other, in one folder for each document.
A comment on the line before the fence can say otherwise:

- ``<!-- fragment -->``: a piece of Python that is not complete. It must compile.
- ``<!-- file: shop/web.py -->``: what it holds is written into that file, for blocks that follow.
- ``<!-- edit: shop/web.py -->``: a server that the block starts sees that file change.
- ``<!-- serves -->``: Python that serves until it is told to stop.
- ``<!-- not run: why -->``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_BLOCK = re.compile(
    r"^(?:<!-- (?P<mark>[a-z ]+)(?:: (?P<of>.+?))? -->\n)?"
    r"^```(?P<language>\w+)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
MARKS = {"", "fragment", "file", "edit", "serves", "not run"}


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        language: What stands behind the fence.
        text: What is in it.
        line: Of its first line, from 1.
        mark: What the comment before it says, if there is one, and of what.
    """

    language: str
    text: str
    line: int
    mark: str = ""
    of: str = ""


@dataclass(frozen=True)
class Step:
    """A command of a ``console`` block, and the lines that it is said to print."""

    command: str
    output: tuple[str, ...]


def blocks(document: Path) -> list[Block]:
    """Return the blocks of a document that are of a language that is run, or are marked."""
    text = document.read_text("utf-8")
    return [
        Block(
            found["language"],
            found["text"],
            text.count("\n", 0, found.start("text")) + 1,
            found["mark"] or "",
            found["of"] or "",
        )
        for found in _BLOCK.finditer(text)
        if found["mark"] or found["language"] in ("python", "console")
    ]


def steps(block: Block) -> list[Step]:
    """Return the commands of a ``console`` block; each begins with ``$`` and a space."""
    found: list[tuple[str, list[str]]] = []
    for line in block.text.replace("\\\n", "").splitlines():
        if line.startswith("$ "):
            found.append((line[2:], []))
        elif found:
            found[-1][1].append(line)
    return [Step(command, tuple(output)) for command, output in found]


def pattern(line: str) -> str:
    """Return what a line that is printed has to match: numbers are others at each run."""
    if line.strip() == "...":
        return "(?:.*\n)*?.*"
    return r"\d+(?:\.\d+)*".join(map(re.escape, re.split(r"\d+(?:\.\d+)*", line.rstrip())))
