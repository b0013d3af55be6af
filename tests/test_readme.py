"""What the README says of options is what ``Config`` declares."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_option_table_is_current() -> None:
    checked = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "option-table"), "--check"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
