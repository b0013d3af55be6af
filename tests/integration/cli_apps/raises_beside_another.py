"""Never imported by the first worker that tries; the next one fails then."""

import os
import time
from pathlib import Path

try:
    (Path(os.environ["TEST_GATE"]) / "waiting").touch(exist_ok=False)
except FileExistsError:
    raise ValueError("no such luck") from None
time.sleep(3600)  # which nothing can interrupt
