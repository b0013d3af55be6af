"""What ``scripts/check-site`` finds in a site; making the real one is for ``make docs``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ROOT

GOOD = """
<html><head><link rel="stylesheet" href="style.css?v=1">
<link rel="icon" href="data:image/svg"></head>
<body id="top"><a href="#top">up</a><a href="sub/other.html#a%C3%A4">other</a>
<a href="https://example.org/">elsewhere, if the reader wants to</a></body></html>
"""


def check(site: Path, page: str) -> subprocess.CompletedProcess[str]:
    (site / "index.html").write_text(page)
    (site / "style.css").write_text("a { color: red; background: url(data:image/png) }")
    (site / "sub").mkdir()
    (site / "sub" / "other.html").write_text('<h1 id="aä">A</h1><a href="../index.html">back</a>')
    return subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "check-site"), str(site)],
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_a_site_that_is_well(tmp_path: Path) -> None:
    checked = check(tmp_path, GOOD)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "4 links inside lead somewhere" in checked.stdout


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('<a href="missing.html">x</a>', "index.html: no file missing.html"),
        ('<a href="sub/other.html#b">x</a>', "index.html: no such place sub/other.html#b"),
        ('<a href="#b">x</a>', "index.html: no such place #b"),
        ('<img src="picture.svg">', "index.html: no file picture.svg"),
        ('<script src="https://example.org/x.js">', "<script> fetches https://example.org/x.js"),
        (
            '<link rel="stylesheet" href="//example.org/x.css">',
            "<link> fetches //example.org/x.css",
        ),
    ],
)
def test_what_is_wrong(line: str, said: str, tmp_path: Path) -> None:
    checked = check(tmp_path, f"{GOOD}{line}")
    assert checked.returncode == 1
    assert said in checked.stdout


def test_styles_fetch_nothing(tmp_path: Path) -> None:
    (tmp_path / "more.css").write_text("@import url('https://example.org/font.css');")
    checked = check(tmp_path, GOOD)
    assert (checked.returncode, checked.stdout) == (
        1,
        "more.css: fetches something from elsewhere\n",
    )
