"""Takes as long to import as the test likes."""

import os
import time
from pathlib import Path

from plain import app as app

directory = Path(os.environ["TEST_GATE"])
(directory / "waiting").touch()
while not (directory / "open").exists():
    time.sleep(0.01)
