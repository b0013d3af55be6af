"""What the page on options says of them is what ``Config`` declares; the README is short."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_option_tables_are_current() -> None:
    checked = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "option-table"), "--check"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_readme_is_read_in_five_minutes() -> None:
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) < 200
