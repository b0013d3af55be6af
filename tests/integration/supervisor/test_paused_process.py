"""A process that does not run for a while, as after SIGSTOP, in a frozen VM or under a debugger."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from ...support import run_script

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="SIGSTOP")

SCRIPT = """
    import signal, subprocess, sys, threading, time, os
    from subinterp_asgi import Supervisor
    from subinterp_asgi.supervisor import events
    from tests.support import get, wait_until

    kind = sys.argv[1]
    seen = []
    with Supervisor("served:app", port=0, workers=2, isolation=kind, on_event=seen.append,
                    timeout_worker_healthcheck=2.0, restart_limit=0, access_log=False) as server:
        over = time.monotonic() + 60

        def ask():
            while time.monotonic() < over:
                get(server.url)

        clients = [threading.Thread(target=ask, daemon=True) for _ in range(4)]
        for client in clients:
            client.start()
        wait_until(lambda: server.stats().requests > 4)
        pause = "import os, sys, time, signal; pid = int(sys.argv[1]); os.kill(pid, signal.SIGSTOP)"
        pause += "; time.sleep(4); os.kill(pid, signal.SIGCONT)"
        subprocess.run([sys.executable, "-c", pause, str(os.getpid())], check=True)
        before = server.stats().requests
        wait_until(lambda: server.stats().requests > before + 8)
        over = 0.0
        for client in clients:
            client.join()
        assert server.state.value == "serving"
    print([type(event).__name__ for event in seen if isinstance(event, events.WorkerStuck)],
          [type(event).__name__ for event in seen if isinstance(event, events.WorkerDied)])
"""
SERVED = """
    async def app(scope, receive, send):
        if scope["type"] != "http":
            raise NotImplementedError
        total = 0
        for number in range(100_000):  # some milliseconds, which go on where they stopped
            total += number
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})
"""


@pytest.mark.parametrize("isolation", ["interpreter", "thread"])
def test_healthy_workers_are_not_taken_for_stuck(isolation: str, tmp_path: Path) -> None:
    done = run_script(tmp_path, SCRIPT, isolation, files={"served.py": SERVED}, timeout=100)
    assert (done.returncode, done.stdout) == (0, "[] []\n"), done.stderr
