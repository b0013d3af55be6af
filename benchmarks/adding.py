"""How long it takes until a worker that is added at run time serves, made anew or from a spare.

``python -m benchmarks.adding`` starts a supervisor in this process, adds workers to it one by one,
and prints the median and the slowest; with ``--app`` those of another application.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

from subinterp_asgi import Supervisor
from subinterp_asgi.supervisor.events import EventStream, WorkerChanged
from subinterp_asgi.supervisor.states import WorkerState

_PATIENCE = 60.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--app", default="examples.bare:app")
    parser.add_argument("--runs", type=int, default=9)
    arguments = parser.parse_args()
    sys.path.insert(0, str(Path(__file__).parent.parent))
    print(f"CPython {sys.version.split()[0]}, {arguments.app}, {arguments.runs} runs, milliseconds")
    for name, spares in (("made anew", 0), ("from a spare", 1)):
        took = measure(arguments.app, arguments.runs, spares)
        print(f"{name:12}  median {statistics.median(took):6.1f}  slowest {max(took):6.1f}")
    return 0


def measure(app: str, runs: int, spares: int) -> list[float]:
    """Return the milliseconds from the call of ``scale()`` until the new worker serves."""
    took = []
    server = Supervisor(app, port=0, spares=spares, access_log=False, log_level="error")
    with server.events() as events, server:
        for _ in range(runs):
            if spares:
                _wait_for_spare(events)
            began = time.monotonic()
            server.scale(2)
            took.append((time.monotonic() - began) * 1000)
            server.scale(1)
    return took


def _wait_for_spare(events: EventStream) -> None:
    """Wait until another spare has got ready; each is used once."""
    while event := events.get(_PATIENCE):
        if isinstance(event, WorkerChanged) and event.state is WorkerState.SPARE:
            return


if __name__ == "__main__":
    sys.exit(main())
