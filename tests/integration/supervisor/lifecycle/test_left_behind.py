"""What applications leave behind: tasks and threads."""

from __future__ import annotations

from pathlib import Path

import pytest

from subinterp_asgi.supervisor.process import exit_guard
from tests.support import get, run_script

from .making import both, make


@both
def test_a_task_left_behind_is_cancelled(isolation: str) -> None:
    with make(isolation=isolation) as server:
        assert get(server.url, "/leave-task").text == "left"


THREADS = """
    import asyncio, threading, time
    from pathlib import Path
    from concurrent.futures import ThreadPoolExecutor

    def wait_for_file(name):
        while not Path(name).exists():
            time.sleep(0.005)

    pool = ThreadPoolExecutor(1, "own-pool")

    async def app(scope, receive, send):
        kind = scope["path"].strip("/")
        if kind == "default-executor":
            asyncio.get_running_loop().run_in_executor(None, wait_for_file, "gate")
        elif kind == "own-executor":
            pool.submit(wait_for_file, "gate")
        elif kind == "idle-executor":
            await asyncio.get_running_loop().run_in_executor(pool, int)
        elif kind == "thread":
            threading.Thread(target=wait_for_file, args=("gate",), name="left-behind").start()
        elif kind == "daemon":
            thread = threading.Thread(target=wait_for_file, args=("gate",), name="left-behind")
            thread.daemon = True
            thread.start()
        elif kind == "raw":
            import _thread
            _thread.start_new_thread(wait_for_file, ("gate",))
            wait_for_file_begun = time.sleep(0.05)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"left"})
"""

THREADS_HOST = """
    import sys, threading, time, urllib.request
    from pathlib import Path
    from subinterp_asgi import Supervisor, errors
    from subinterp_asgi.control import interpreters
    from subinterp_asgi.supervisor.policy import shutdown
    shutdown.STOP_MARGIN = 0.3
    kind, when = sys.argv[1:]
    server = Supervisor("left:app", port=0, access_log=False, lifespan="off",
                        shutdown_timeout=30 if when == "soon" else 0.2)
    server.start()
    urllib.request.urlopen(server.url + "/" + kind).close()
    if when == "soon":
        threading.Timer(0.2, Path("gate").touch).start()
    try:
        server.stop(0.1)
    except errors.ShutdownIncompleteError as exc:
        print("incomplete", *exc.workers)
        assert when == "never", when
        assert server.has_running_workers
        assert interpreters.alive() == 1
        if sys.argv[2] == "never":
            sys.exit(5)
    assert not server.has_running_workers
    assert interpreters.alive() == 0
    print(server.state.value)
"""


@pytest.mark.parametrize("kind", ["default-executor", "own-executor", "thread", "raw"])
def test_threads_left_behind_that_end_are_waited_for(kind: str, tmp_path: Path) -> None:
    done = run_script(tmp_path, THREADS_HOST, kind, "soon", files={"left.py": THREADS})
    assert (done.returncode, done.stdout, done.stderr) == (0, "stopped\n", "")


def test_idle_threads_of_an_executor_are_no_hindrance(tmp_path: Path) -> None:
    done = run_script(tmp_path, THREADS_HOST, "idle-executor", "x", files={"left.py": THREADS})
    assert (done.returncode, done.stdout, done.stderr) == (0, "stopped\n", "")


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("default-executor", "asyncio_0"),
        ("own-executor", "own-pool_0"),
        ("thread", "left-behind"),
    ],
)
def test_threads_left_behind_that_never_end_are_named_and_never_closed_under(
    kind: str, name: str, tmp_path: Path
) -> None:
    done = run_script(tmp_path, THREADS_HOST, kind, "never", files={"left.py": THREADS})
    assert done.stdout == "incomplete asgi-worker-0\n", done.stderr
    # Then the host ends with status 5, which is not safe with that thread in its interpreter.
    assert done.returncode == exit_guard.EXIT_STATUS
    assert "workers can't be stopped; the process ends without finalization" in done.stderr
    assert f"thread {name} still runs after shutdown_timeout=0.2 s" in done.stderr


def test_daemons_are_ended(tmp_path: Path) -> None:
    done = run_script(tmp_path, THREADS_HOST, "daemon", "never", files={"left.py": THREADS})
    assert (done.returncode, done.stdout, done.stderr) == (0, "stopped\n", "")


def test_what_no_process_waits_for_does_not_keep_a_worker_from_ending(tmp_path: Path) -> None:
    host = THREADS_HOST.replace("    assert interpreters.alive() == 0\n", "")
    done = run_script(tmp_path, host, "raw", "never", files={"left.py": THREADS})
    assert done.stdout == "stopped\n", done.stderr
    # Its interpreter is kept, and the process can't be finalized under it.
    assert done.returncode == exit_guard.EXIT_STATUS
    assert "thread of _thread still runs" in done.stderr


# --- what applications take away

CLOSES_ALL = """
    import os

    async def app(scope, receive, send):
        os.closerange(3, 1024)
"""

CLOSES_ALL_HOST = """
    import http.client, sys, urllib.request
    from subinterp_asgi import Supervisor, errors

    workers, how, isolation = sys.argv[1:4]
    options = eval(sys.argv[4])
    server = Supervisor(
        "closes_all:app", port=0, workers=int(workers), isolation=isolation, lifespan="off",
        timeout_graceful_shutdown=1000, shutdown_timeout=1000, **options,
    )
    server.start()
    try:
        urllib.request.urlopen(server.url)
    except (OSError, http.client.HTTPException):
        print("no answer")
    if how == "wait":
        try:
            server.wait()
        except errors.WorkerDiedError as exc:
            print("died:", exc)
    try:
        server.stop()
    except errors.ShutdownIncompleteError as exc:
        print(len(exc.workers), exc)
    print(server.state.value)
"""
LOST = "the application has closed descriptors that it had not opened"


LOOKS_NEVER = {"timeout_worker_healthcheck": 0}
WITH_MORE = {"log_forwarding": True, "metrics_bind": "127.0.0.1:0", "drain_delay": 1000.0}


@both
@pytest.mark.parametrize(
    ("workers", "how", "options"),
    [
        (1, "stop", LOOKS_NEVER),
        (1, "wait", LOOKS_NEVER),
        (3, "stop", LOOKS_NEVER),
        (3, "stop", WITH_MORE),
        (3, "wait", WITH_MORE),
    ],
)
def test_an_application_that_closes_all_descriptors(
    tmp_path: Path, isolation: str, workers: int, how: str, options: dict[str, object]
) -> None:
    """Workers that sleep can't be told to end. Nobody waits for them, and why is said."""
    done = run_script(
        tmp_path,
        CLOSES_ALL_HOST,
        str(workers),
        how,
        isolation,
        repr(options),
        files={"closes_all.py": CLOSES_ALL},
    )
    said = done.stdout.splitlines()
    assert said[0] == "no answer", done.stderr
    if how == "wait":
        assert LOST in said[1]
        assert said[-1] == "failed"
    if workers == 3:
        assert " still running: asgi-worker-" in f" {said[-2]}", (done.stdout, done.stderr)
        assert LOST in said[-2]
    assert "DescriptorsClosedError" in done.stderr
    assert "internal error" not in done.stderr
    assert done.returncode == (0 if workers == 1 else exit_guard.EXIT_STATUS)
