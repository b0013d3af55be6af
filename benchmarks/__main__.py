"""``python -m benchmarks``: the measurements there are."""

from __future__ import annotations

import sys

from benchmarks import startup

if __name__ == "__main__":
    sys.exit(startup.main())
