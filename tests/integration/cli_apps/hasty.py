"""The command line with changes that take no time, and threads that signals may be delivered to."""

from __future__ import annotations

import sys
import threading
import time
from typing import Any

from subinterp_asgi import Supervisor
from subinterp_asgi import __main__ as cli


class HastySupervisor(Supervisor):
    """Says that it has done what it was asked for."""

    def reload(self, **options: Any) -> int:
        return 2

    def scale(self, workers: int) -> None:
        pass


def _wake_often() -> None:
    while True:
        time.sleep(0.001)


if __name__ == "__main__":
    for _ in range(4):
        threading.Thread(target=_wake_often, daemon=True).start()
    cli.Supervisor = HastySupervisor  # type: ignore[misc]
    sys.exit(cli.main())
