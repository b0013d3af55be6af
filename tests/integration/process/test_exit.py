"""How a host's process ends when it did not call ``stop()``: neither hanging nor crashing."""

from __future__ import annotations

from pathlib import Path

import pytest

from subinterp_asgi.supervisor.process.exit_guard import EXIT_STATUS
from tests.support import run_script

APP = """
    import asyncio, threading, time
    from pathlib import Path

    async def respond(send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})

    async def app(scope, receive, send):
        kind, _, name = scope["path"].strip("/").partition("/")
        if name:
            Path(name).touch()  # it has begun
        if kind == "compute":
            end = time.process_time() + 0.3
            while time.process_time() < end:
                pass
        elif kind == "listen":
            while (await receive())["type"] != "http.disconnect":
                pass
        elif kind == "deaf":
            await asyncio.Event().wait()
        elif kind == "loop":
            while True:
                pass
        elif kind == "sleep":
            time.sleep(3600)
        elif kind == "executor":
            await asyncio.get_running_loop().run_in_executor(None, time.sleep, 3600)
        elif kind == "thread":
            threading.Thread(target=time.sleep, args=(3600,)).start()
        elif kind == "daemon":
            threading.Thread(target=time.sleep, args=(3600,), daemon=True).start()
        await respond(send)
"""

# Arguments: isolation, number of workers, what they do, how the host ends.
HOST = """
    import atexit, sys, threading, time
    from pathlib import Path
    from subinterp_asgi import Supervisor
    from subinterp_asgi.supervisor.process import exit_guard
    from subinterp_asgi.supervisor.policy import shutdown
    from tests.support import Pending, get, wait_until

    isolation, workers, kind, end = sys.argv[1:]
    patience = 30.0  # for all that ends, on a slow machine, too
    if kind in ("loop", "sleep", "executor", "thread", "daemon"):  # it would be in vain
        patience = 0.2
        exit_guard.EXIT_GRACE, shutdown.STOP_MARGIN = 0.1, 0.3
    else:
        exit_guard.EXIT_GRACE = 0.2 if kind in ("listen", "deaf") else 30.0
    server = Supervisor("served:app", port=0, isolation=isolation, workers=int(workers),
                        access_log=False, log_level="critical", lifespan="off",
                        shutdown_timeout=patience)

    def serve():
        server.start()
        if kind == "busy":  # clients that go on and on
            def ask():
                while True:
                    try:
                        get(server.url, "/")
                    except OSError:
                        return
            for _ in range(4):
                threading.Thread(target=ask, daemon=True).start()
            wait_until(lambda: sum(w.requests for w in server.workers) > 50)
        elif kind != "idle":
            Pending(server.url, f"/{kind}/begun")
            wait_until(Path("begun").exists)
            if kind in ("thread", "daemon"):
                wait_until(lambda: get(server.url).text == "ok")

    if end == "coroutine":
        import asyncio
        async def main():
            await asyncio.to_thread(serve)
        asyncio.run(main())
    elif end == "other thread":
        thread = threading.Thread(target=serve)
        thread.start()
        thread.join()
    else:
        serve()
    print("ending", flush=True)
    if end == "raises":
        raise LookupError("the host's own")
    if end == "exits":
        sys.exit(5)
    if end == "exits with words":
        sys.exit("words")
"""

CODES = {"falls off": 0, "raises": 1, "exits": 5, "exits with words": 1, "coroutine": 0,
         "other thread": 0}  # fmt: skip
MESSAGE = "subinterp_asgi: workers can't be stopped; the process ends without finalization\n"


def run(directory: Path, isolation: str, workers: int, kind: str, end: str) -> tuple[int, str]:
    done = run_script(
        directory, HOST, isolation, str(workers), kind, end, files={"served.py": APP}, timeout=60
    )
    assert done.stdout == "ending\n", done.stderr
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    ("isolation", "workers", "kind", "end"),
    [
        ("interpreter", 2, "idle", "falls off"),
        ("interpreter", 2, "idle", "raises"),
        ("interpreter", 2, "idle", "exits"),
        ("interpreter", 2, "idle", "exits with words"),
        ("interpreter", 2, "idle", "coroutine"),
        ("interpreter", 2, "idle", "other thread"),
        ("interpreter", 4, "busy", "falls off"),
        ("interpreter", 4, "busy", "exits"),
        ("interpreter", 3, "compute", "falls off"),
        ("interpreter", 3, "compute", "raises"),
        ("thread", 2, "idle", "falls off"),
        ("thread", 2, "idle", "raises"),
        ("thread", 4, "busy", "exits"),
        ("thread", 2, "compute", "falls off"),
    ],
)
def test_the_host_ends_as_if_there_were_no_server(
    isolation: str, workers: int, kind: str, end: str, tmp_path: Path
) -> None:
    code, stderr = run(tmp_path, isolation, workers, kind, end)
    assert code == CODES[end], stderr
    if end == "raises":
        assert stderr.startswith("Traceback")
        assert stderr.endswith("LookupError: the host's own\n")
        assert stderr.count("Traceback") == 1
    else:
        assert stderr == ("words\n" if end == "exits with words" else "")


@pytest.mark.parametrize("kind", ["listen", "deaf"])
@pytest.mark.parametrize("isolation", ["interpreter", "thread"])
def test_requests_in_flight_are_broken_off_after_a_moment(
    isolation: str, kind: str, tmp_path: Path
) -> None:
    code, stderr = run(tmp_path, isolation, 2, kind, "exits")
    assert code == 5, stderr
    assert stderr == "" or (isolation, "broken off" in stderr) == ("thread", True)


@pytest.mark.parametrize(
    ("isolation", "kind", "end"),
    [
        ("interpreter", "loop", "falls off"),
        ("interpreter", "loop", "exits"),
        ("interpreter", "sleep", "falls off"),
        ("interpreter", "sleep", "raises"),
        ("interpreter", "executor", "falls off"),
        ("interpreter", "thread", "falls off"),
        ("interpreter", "daemon", "exits"),
        ("thread", "loop", "falls off"),
        ("thread", "sleep", "exits"),
    ],
)
def test_a_worker_that_cannot_be_stopped_does_not_keep_the_process(
    isolation: str, kind: str, end: str, tmp_path: Path
) -> None:
    code, stderr = run(tmp_path, isolation, 2, kind, end)
    assert code == EXIT_STATUS, stderr
    assert stderr.endswith(MESSAGE)
    assert ("LookupError: the host's own" in stderr) is (end == "raises")


def test_the_default_timeouts_are_no_reason_to_wait_for_a_worker_that_is_stuck(
    tmp_path: Path,
) -> None:
    """They are for workers that end; one that does not even answer is given up soon."""
    host = HOST.replace("exit_guard.EXIT_GRACE, shutdown.STOP_MARGIN = 0.1, 0.3", "pass")
    host = host.replace("patience = 0.2", "patience = 3600")
    done = run_script(
        tmp_path, host, "interpreter", "2", "loop", "falls off", files={"served.py": APP}
    )
    assert done.returncode == EXIT_STATUS, done.stderr
    assert done.stderr.endswith(MESSAGE)


def test_what_the_host_printed_is_not_lost_with_the_process(tmp_path: Path) -> None:
    host = HOST + "    atexit.register(print, 'said at exit')\n"
    done = run_script(
        tmp_path,
        host,
        *("interpreter", "1", "loop", "falls off"),
        files={"served.py": APP},
        environment={"PYTHONUNBUFFERED": ""},
    )
    assert (done.returncode, done.stdout) == (EXIT_STATUS, "ending\nsaid at exit\n")


def test_an_impatient_interrupt_at_exit_ends_it_at_once(tmp_path: Path) -> None:
    host = (
        HOST
        + """
    import os, signal
    shutdown.STOP_MARGIN = exit_guard.EXIT_GRACE = 3600
    def interrupt():
        wait_until(lambda: server.state.value == "stopping")
        time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGINT)
    threading.Thread(target=interrupt, daemon=True).start()
    """
    )
    done = run_script(
        tmp_path, host, "interpreter", "2", "loop", "falls off", files={"served.py": APP}
    )
    assert done.returncode == EXIT_STATUS, done.stderr
    assert done.stderr.endswith(MESSAGE)


def test_the_hosts_own_exit_functions_run_as_ever(tmp_path: Path) -> None:
    """Those that were registered before the server was started can still use it."""
    host = """
    import atexit
    atexit.register(lambda: print("earlier", server.state.value))
    from subinterp_asgi import Supervisor
    server = Supervisor("served:app", port=0, access_log=False, lifespan="off")
    server.start()
    atexit.register(lambda: print("later", server.state.value))
    """
    done = run_script(tmp_path, host, files={"served.py": APP})
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "later serving\nearlier stopped\n"


def test_several_servers_are_stopped(tmp_path: Path) -> None:
    host = """
    import atexit
    from subinterp_asgi import Supervisor
    servers = []
    atexit.register(lambda: print([server.state.value for server in servers]))
    for isolation in ("interpreter", "thread", "interpreter"):
        servers.append(Supervisor("served:app", port=0, isolation=isolation, lifespan="off"))
        servers[-1].start()
    servers[0].stop()
    """
    done = run_script(tmp_path, host, files={"served.py": APP})
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "['stopped', 'stopped', 'stopped']\n"


def test_the_lifespan_is_shut_down_and_the_unix_socket_removed(tmp_path: Path) -> None:
    host = """
    from subinterp_asgi import Supervisor
    Supervisor("tests.integration.apps.lifecycle:with_lifespan", uds="socket", workers=2,
               lifespan="on", state={"log": "log"}).start()
    """
    done = run_script(tmp_path, host)
    assert (done.returncode, done.stderr) == (0, "")
    events = [line.split()[1] for line in (tmp_path / "log").read_text().splitlines()]
    assert events == ["startup", "startup", "shutdown", "shutdown"]
    assert not (tmp_path / "socket").exists()


def test_a_server_of_a_forked_child_is_stopped_when_the_child_ends(tmp_path: Path) -> None:
    """The parent had one before, in threads; the child is not to mistake that for its own."""
    host = """
    import atexit, os, sys, warnings
    warnings.simplefilter("ignore")  # CPython's, of forking with threads
    servers = []
    atexit.register(lambda: print([server.state.value for server in servers], flush=True))
    from subinterp_asgi import Supervisor
    with Supervisor("served:app", port=0, isolation="thread", lifespan="off"):
        pass
    if (child := os.fork()) == 0:
        servers.append(Supervisor("served:app", port=0, workers=2, lifespan="off"))
        servers[0].start()
        sys.exit(6)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
    """
    done = run_script(tmp_path, host, files={"served.py": APP})
    assert (done.returncode, done.stdout, done.stderr) == (0, "['stopped']\n6\n[]\n", "")


@pytest.mark.parametrize("isolation", ["interpreter", "thread"])
def test_the_hosts_process_stays_the_hosts(isolation: str, tmp_path: Path) -> None:
    host = """
    import asyncio, gc, locale, logging, os, resource, signal, sys, threading, warnings
    from subinterp_asgi import Supervisor
    from tests.support import get

    def loggers():
        return {
            name: (logger.level, logger.propagate, list(logger.handlers), logger.disabled)
            for name, logger in [("root", logging.root), *logging.root.manager.loggerDict.items()]
            if isinstance(logger, logging.Logger)
        }

    def everything():
        umask = os.umask(0)
        os.umask(umask)
        wakeup = signal.set_wakeup_fd(-1)
        signal.set_wakeup_fd(wakeup)
        return {
            "signals": {number: signal.getsignal(number) for number in signal.valid_signals()},
            "signal mask": signal.pthread_sigmask(signal.SIG_BLOCK, ()),
            "wakeup": wakeup,
            "logging": loggers(),
            "last resort": logging.lastResort,
            "warnings": list(warnings.filters),
            "directory": os.getcwd(),
            "path": list(sys.path),
            "environment": dict(os.environ),
            "hooks": (sys.excepthook, sys.unraisablehook, threading.excepthook, sys.displayhook),
            "tracing": (sys.gettrace(), sys.getprofile(), threading.gettrace()),
            "streams": (sys.stdin, sys.stdout, sys.stderr),
            "umask": umask,
            "limits": resource.getrlimit(resource.RLIMIT_NOFILE),
            "garbage": (gc.isenabled(), gc.get_threshold(), gc.get_debug()),
            "switches": (sys.getswitchinterval(), sys.getrecursionlimit(), threading.stack_size()),
            "locale": locale.setlocale(locale.LC_ALL),
            "thread class": (threading.Thread.__init__, threading.Thread.daemon),
            "arguments": list(sys.argv),
            "ssl": "ssl" in sys.modules,
        }

    import tests.support, http.client, ssl, unittest.mock
    for name in ("", ".error", ".access"):
        logging.getLogger("subinterp_asgi" + name)
    before = everything()
    with Supervisor("served:app", port=0, isolation=sys.argv[1], workers=2, lifespan="off") as server:
        assert get(server.url).text == "ok"
        during = everything()
    after = everything()
    for name in before:
        assert before[name] == during[name] == after[name], (name, before[name], during[name], after[name])
    """  # noqa: E501
    done = run_script(tmp_path, host, isolation, files={"served.py": APP})
    assert done.returncode == 0, done.stderr
