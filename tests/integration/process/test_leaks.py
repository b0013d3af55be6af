"""Many starts and stops in one process leave nothing behind.

Each test is a process of its own: CPython 3.13 can't give back the memory of interpreters.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import run_script

APPS = "tests.integration.apps.lifecycle"

PRELUDE = f"""
    import gc, os, sys, threading
    from subinterp_asgi import Supervisor, errors
    from subinterp_asgi.supervisor.process import exit_guard
    from subinterp_asgi.control import interpreters
    from tests.support import get, open_descriptors, wait_until

    kind = sys.argv[1]

    def left():
        return open_descriptors(), set(threading.enumerate()), interpreters.alive()

    def cycle(app="{APPS}:app", **options):
        options = {{"port": 0, "access_log": False, "lifespan": "off", **options}}
        with Supervisor(app, isolation=kind, **options) as server:
            assert get(server.url).text == "ok"

    def failing_cycle(app, **options):
        options = {{"port": 0, "isolation": kind, "lifespan": "on", **options}}
        try:
            Supervisor(app, **options).start()
        except errors.SubinterpASGIError:
            return
        raise AssertionError("it started")

    cycle()  # what is imported or opened once and kept is so from here on
    before = left()
"""

EPILOGUE = """
    assert left() == before, (left(), before)
    assert not exit_guard._watched
    print("nothing")
"""


@pytest.mark.parametrize("isolation", ["interpreter", "thread"])
def test_starting_and_stopping_fifty_times(isolation: str, tmp_path: Path) -> None:
    body = """
    for number in range(50):
        cycle(workers=2 if number % 10 == 0 else 1)
        assert left() == before, (number, left(), before)
    """
    done = run_script(tmp_path, PRELUDE + body + EPILOGUE, isolation, timeout=110)
    assert (done.returncode, done.stdout, done.stderr) == (0, "nothing\n", "")


@pytest.mark.parametrize("isolation", ["interpreter", "thread"])
def test_starts_that_fail(isolation: str, tmp_path: Path) -> None:
    body = f"""
    import atexit, socket
    taken = socket.create_server(("127.0.0.1", 0))
    atexit.register(taken.close)
    before = left()
    for _ in range(3):
        failing_cycle("nonsense", workers=2)
        failing_cycle("no_such_module_at_all:app")
        failing_cycle("{APPS}:app")  # has no lifespan
        failing_cycle("{APPS}:with_lifespan", state={{"startup.failed": "no"}}, workers=2)
        failing_cycle("{APPS}:app", port=taken.getsockname()[1])
        failing_cycle("{APPS}:app", bind=["127.0.0.1:0", "unix:/no/such/directory/socket"])
        assert left() == before, (left(), before)
    cycle()  # and it still works
    """
    done = run_script(tmp_path, PRELUDE + body + EPILOGUE, isolation, timeout=110)
    assert (done.returncode, done.stdout, done.stderr) == (0, "nothing\n", "")


def test_connections_that_are_open_at_the_end(tmp_path: Path) -> None:
    """Idle, half sent and half answered ones, each time in two interpreters."""
    body = f"""
    import socket
    for _ in range(5):
        clients = []
        with Supervisor("{APPS}:app", port=0, isolation=kind, workers=2, access_log=False,
                        lifespan="off", timeout_graceful_shutdown=0.05) as server:
            for request in (b"", b"GET / HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n", b"GET / HT",
                            b"GET /for-ever" + os.getcwd().encode() + b"/x HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n"):
                client = socket.create_connection(server.addresses[0])
                client.sendall(request)
                clients.append(client)
            wait_until(lambda: sum(w.requests for w in server.workers) >= 2)
        for client in clients:
            client.close()
        assert left() == before, (left(), before)
    """  # noqa: E501
    done = run_script(tmp_path, PRELUDE + body + EPILOGUE, "interpreter", timeout=110)
    assert (done.returncode, done.stdout) == (0, "nothing\n"), done.stderr


def test_an_idle_server_wakes_nobody_up(tmp_path: Path) -> None:
    """Counted by the kernel: how often threads of the process gave up a processor to wait."""
    body = f"""
    import time

    def waits():
        total = 0
        for task in os.listdir("/proc/self/task"):
            with open(f"/proc/self/task/{{task}}/status") as status:
                lines = [line for line in status if line.startswith("voluntary")]
            total += sum(int(line.split()[1]) for line in lines)
        return total

    with Supervisor("{APPS}:app", port=0, isolation=kind, workers=2, access_log=False) as server:
        # What connections leave behind, such as a timer, has ended by then.
        assert get(server.url).text == "ok"
        wait_until(lambda: all(w.state.value == "serving" for w in server.workers))
        time.sleep(1.2)
        began = waits()
        time.sleep(1.0)
        count = waits() - began
    # This thread's own sleep is one. Looking twenty times a second, as polling does, were 40.
    assert count <= 5, count
    """
    done = run_script(tmp_path, PRELUDE + body + EPILOGUE, "interpreter")
    assert (done.returncode, done.stdout) == (0, "nothing\n"), done.stderr
