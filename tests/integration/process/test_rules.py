"""What CPython's interpreters demand of a host, one test for each rule.

Breaking one of them is a crash, a hang or a silent loss, so that the tests are processes of their
own wherever that could happen to them. Each fails if the library ceases to keep the rule.
"""

from __future__ import annotations

import queue
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

import subinterp_asgi
from subinterp_asgi import Config
from subinterp_asgi.control import interpreters, messages, scoreboard
from subinterp_asgi.control.wakeup import Wakeup
from subinterp_asgi.supervisor.pool import isolation
from subinterp_asgi.supervisor.process.exit_guard import EXIT_STATUS
from tests.support import run_script

APPS = "tests.integration.apps.lifecycle"

PREAMBLE = """
    import os, sys, threading, time
    from pathlib import Path
    from subinterp_asgi import Supervisor, errors
    from subinterp_asgi.supervisor import kept
    from subinterp_asgi.supervisor.process import exit_guard
    from subinterp_asgi.control import interpreters
    from subinterp_asgi.supervisor.policy import shutdown
    from tests.support import Pending, get, wait_until
"""


# --- No exception may cross the border of an interpreter: C code that formats it may crash, and
# --- MemoryError looks like success.

NASTY = {
    "str raises": "class E(Exception):\n    def __str__(self): raise ValueError\nraise E",
    "str is no string": "class E(Exception):\n    def __str__(self): return 1\nraise E",
    "lone surrogate": "raise ValueError('\\ud800')",
    "NUL": "raise ValueError('\\0')",
    "no memory": "raise MemoryError",
    "base exception": "class E(BaseException):\n    def __str__(self): raise ValueError\nraise E",
}


@pytest.mark.parametrize("source", NASTY.values(), ids=NASTY.keys())
def test_no_exception_crosses_the_border(source: str, tmp_path: Path) -> None:
    """Neither from the import nor from a running application; each is reported as text."""
    (tmp_path / "failing_app.py").write_text(source)
    served = "def fail():\n" + "".join(f"    {line}\n" for line in source.splitlines())
    served += """
async def app(scope, receive, send):
    import asyncio
    loop = asyncio.get_running_loop()
    def leave():
        try:
            fail()
        except BaseException as exc:
            raise SystemExit from exc
    loop.call_soon(leave)
"""
    (tmp_path / "dying_app.py").write_text(served)
    done = run_script(
        tmp_path,
        PREAMBLE
        + """
    try:
        Supervisor("failing_app:app", port=0, workers=2).start()
    except errors.StartupError as exc:
        assert "failing_app" in str(exc), exc
        str(exc).encode()
    server = Supervisor(
        "dying_app:app", port=0, lifespan="off", access_log=False, restart_limit=0
    )
    server.start()
    try:
        get(server.url)
    except OSError:
        pass
    try:
        server.wait(20)
    except errors.WorkerDiedError as exc:
        assert "SystemExit" in str(exc), exc
        assert "dying_app" in str(exc), exc
    assert interpreters.alive() == 0
    print("survived")
    """,
    )
    assert (done.returncode, done.stdout) == (0, "survived\n"), done.stderr


# --- `datetime` must be imported in the main interpreter before the first other one is created: on
# --- 3.13 two interpreters that both imported it abort the process when they are closed.


def test_datetime_is_imported_before_the_first_interpreter(tmp_path: Path) -> None:
    served = """
    import datetime, sqlite3, zoneinfo
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})
    """
    done = run_script(
        tmp_path,
        """
        import sys
        from subinterp_asgi import Supervisor
        for _ in range(3):
            with Supervisor("served:app", port=0, workers=3, lifespan="off"):
                assert "datetime" in sys.modules
        print("survived")
        """,
        files={"served.py": served},
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "survived\n", "")


def test_datetime_is_there_for_what_is_collected_last(tmp_path: Path) -> None:
    """As for progress bars of tqdm, which tell at their end how long they took."""
    served = """
    from datetime import timedelta
    class Bar:
        def __init__(self):
            self.itself = self
        def __del__(self, timedelta=timedelta):
            print(timedelta(seconds=1))
    bar = Bar()
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})
    """
    done = run_script(
        tmp_path,
        """
        from subinterp_asgi import Supervisor
        with Supervisor("served:app", port=0, lifespan="off"):
            pass
        print("survived")
        """,
        files={"served.py": served},
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "0:00:01\nsurvived\n", "")


# --- The process must never be finalized while a worker runs: it would crash or hang.


def test_the_process_is_not_finalized_under_a_running_worker(tmp_path: Path) -> None:
    served = """
    from pathlib import Path
    async def app(scope, receive, send):
        Path("begun").touch()
        while True:
            pass
    """
    done = run_script(
        tmp_path,
        PREAMBLE
        + """
    exit_guard.EXIT_GRACE, shutdown.STOP_MARGIN = 0.05, 0.2
    server = Supervisor("served:app", port=0, workers=4, lifespan="off", shutdown_timeout=0.1)
    server.start()
    Pending(server.url, "/")
    wait_until(Path("begun").exists)
    """,
        files={"served.py": served},
    )
    assert done.returncode == EXIT_STATUS, done.stderr
    assert "the process ends without finalization" in done.stderr


# --- An interpreter must not be closed while it has threads: closing waits for ordinary ones, for
# --- ever perhaps, and on 3.13 aborts the process under those of `_thread`.


@pytest.mark.parametrize("module", ["threading", "_thread"])
@pytest.mark.parametrize("flags", [(), ("-O",)], ids=["", "-O"])
def test_no_interpreter_is_closed_under_its_threads(
    module: str, flags: tuple[str, ...], tmp_path: Path
) -> None:
    start = {
        "threading": "threading.Thread(target=hold).start()",
        "_thread": "_thread.start_new_thread(hold, ())",
    }[module]
    served = f"""
    import _thread, threading, time
    from pathlib import Path

    def hold():
        Path("begun").touch()
        while not Path("gate").exists():
            time.sleep(0.005)

    async def app(scope, receive, send):
        {start}
        await send({{"type": "http.response.start", "status": 200, "headers": []}})
        await send({{"type": "http.response.body", "body": b""}})
    """
    done = run_script(
        tmp_path,
        PREAMBLE
        + """
    shutdown.STOP_MARGIN = 0.2
    closed = []
    close = interpreters.Interpreter.close
    interpreters.Interpreter.close = lambda self: (closed.append(1), close(self))
    server = Supervisor("served:app", port=0, lifespan="off", access_log=False,
                        log_level="critical", shutdown_timeout=0.1)
    server.start()
    get(server.url)
    wait_until(Path("begun").exists)
    try:
        server.stop(0)
    except errors.ShutdownIncompleteError:
        print("incomplete")
    print(len(closed), interpreters.alive())
    Path("gate").touch()
    wait_until(lambda: not (server.has_running_workers or interpreters.alive()))
    print(len(closed), interpreters.alive())
    server.stop()
    wait_until(lambda: not kept.any_left())
    """,
        files={"served.py": served},
        flags=flags,
    )
    assert (done.returncode, done.stderr) == (0, "")
    # (No process waits for a thread of `_thread`, so that no worker does.)
    assert done.stdout == ("incomplete\n" if module == "threading" else "") + "0 1\n1 0\n"


# --- No fork while another interpreter exists: the child dies at once. Nobody can prevent that from
# --- here, but a warning can explain it.

FORKS = {
    "os.fork": """
        if (child := os.fork()) == 0:
            os._exit(0)
        os.waitpid(child, 0)
    """,
    "preexec_fn": """
        import subprocess
        try:
            subprocess.run(["true"], preexec_fn=int)
        except subprocess.SubprocessError:
            pass
    """,
    "multiprocessing": """
        import multiprocessing
        process = multiprocessing.get_context("fork").Process(target=int)
        process.start()
        process.join()
    """,
}


@pytest.mark.parametrize("how", FORKS)
def test_a_fork_while_interpreters_exist_is_warned_of(how: str, tmp_path: Path) -> None:
    body = f"""
    import warnings

    def fork():
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            {FORKS[how].strip().replace(chr(10), chr(10) + "    ")}
        return [str(w.message) for w in caught if w.category is RuntimeWarning]

    with Supervisor("{APPS}:app", port=0, lifespan="off"):
        (message,) = fork()
        print(message)
    assert fork() == []  # the interpreters are gone
    with Supervisor("{APPS}:app", port=0, lifespan="off", isolation="thread"):
        assert fork() == []  # there are none
    """
    done = run_script(tmp_path, PREAMBLE + body)
    assert done.returncode == 0, done.stderr
    assert "fork() while subinterpreters exist: CPython kills the child at once" in done.stdout
    assert "'spawn'" in done.stdout


def test_other_ways_to_start_a_process_work_and_are_not_warned_of(tmp_path: Path) -> None:
    body = f"""
    import multiprocessing, subprocess, warnings

    if __name__ == "__main__":
        warnings.simplefilter("error")
        with Supervisor("{APPS}:app", port=0, lifespan="off", access_log=False) as server:
            assert subprocess.run([sys.executable, "-c", "print(1)"], stdout=-1).stdout == b"1\\n"
            assert os.waitpid(os.posix_spawn("/bin/true", ["true"], {{}}), 0)[1] == 0
            assert os.system("true") == 0
            process = multiprocessing.get_context("spawn").Process(target=int)
            process.start()
            process.join()
            assert process.exitcode == 0
            assert get(server.url).text == "ok"
    """
    done = run_script(tmp_path, PREAMBLE + body)
    assert (done.returncode, done.stderr) == (0, "")


# --- What a worker has put into a queue is lost when its interpreter is closed, and a queue of 300
# --- items or more leaks.


def test_queues_are_bounded_well_below_what_leaks(monkeypatch: pytest.MonkeyPatch) -> None:
    assert messages.QUEUE_SIZE <= 256
    sizes: list[int] = []
    create = interpreters.create_queue

    def watched(size: int) -> Any:
        sizes.append(size)
        return create(size)

    monkeypatch.setattr(interpreters, "create_queue", watched)
    with subinterp_asgi.Supervisor(f"{APPS}:app", port=0, workers=2, lifespan="off"):
        pass
    assert sizes == [messages.QUEUE_SIZE] * 4


def test_statuses_are_taken_before_the_interpreter_is_closed() -> None:
    statuses = interpreters.create_queue(messages.QUEUE_SIZE)
    taken: list[tuple[str, ...]] = []

    def take() -> None:
        while True:
            try:
                taken.append(statuses.get_nowait())
            except queue.Empty:
                return

    command_wakeup, status_wakeup = Wakeup(), Wakeup()
    sock = socket.create_server(("127.0.0.1", 0))
    job = isolation.Job(
        app="nonsense",
        config=Config(),
        state_json="{}",
        generation=1,
        worker_id=0,
        listeners=[(sock.detach(), int(socket.AF_INET))],
        path=tuple(sys.path),
        board=scoreboard.new_board(1),
        slot=1,
        ctrl_queue=interpreters.create_queue(messages.QUEUE_SIZE),
        status_queue=statuses,
        command_wakeup=command_wakeup,
        status_wakeup=status_wakeup,
        before_close=take,
    )
    before = interpreters.alive()
    isolation.run_in_interpreter(job)  # nobody else looks at the queue meanwhile
    assert interpreters.alive() == before
    assert [status[0] for status in taken] == ["started", "failure", "error"]
    assert "Invalid app path" in taken[-1][1]
    command_wakeup.close()
    status_wakeup.close()


# --- Daemon threads are refused in interpreters, which breaks libraries that rely on them.

DAEMONS = """
    import threading
    async def app(scope, receive, send):
        thread = threading.Thread(target=int, daemon=True)
        thread.start()
        thread.join()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})
"""


@pytest.mark.parametrize(("option", "status"), [("demote", 200), ("refuse", 500)])
def test_daemon_threads_of_applications_work_unless_refused(
    option: str, status: int, tmp_path: Path
) -> None:
    body = f"""
    with Supervisor("served:app", port=0, workers=2, lifespan="off", daemon_threads="{option}",
                    access_log=False) as server:
        print([get(server.url).status for _ in range(4)])
    """
    done = run_script(tmp_path, PREAMBLE + body, files={"served.py": DAEMONS})
    assert (done.returncode, done.stdout) == (0, f"{[status] * 4}\n"), done.stderr
    assert ("daemon threads are disabled" in done.stderr) is (option == "refuse")


def test_daemon_threads_of_the_host_stay_daemons(tmp_path: Path) -> None:
    body = """
    with Supervisor("served:app", port=0, lifespan="off", isolation="thread") as server:
        assert threading.Thread(daemon=True).daemon
        assert get(server.url).status == 200
    """
    done = run_script(tmp_path, PREAMBLE + body, files={"served.py": DAEMONS})
    assert (done.returncode, done.stderr) == (0, "")


# --- `sys._current_frames()` corrupts memory on 3.13 while interpreters run.


def test_nobody_looks_at_all_frames() -> None:
    package = Path(subinterp_asgi.__file__).parent
    sources = list(package.rglob("*.py"))
    assert len(sources) > 20
    for source in sources:
        if source.name == "watchdog.py":  # which knows, and has a test of its own
            continue
        text = source.read_text()
        for name in ("_current_frames", "_current_exceptions", "dump_traceback_later"):
            assert name not in text, source
