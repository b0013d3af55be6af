"""Leaves all of this out unless ``make field`` asks for it."""

from __future__ import annotations

import os

collect_ignore_glob = [] if os.environ.get("FIELD") else ["test_*.py", "copies"]
