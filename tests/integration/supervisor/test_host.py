"""Signal handlers and log handlers that are the host's, and come in the middle of everything."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from subinterp_asgi.errors import StateError
from subinterp_asgi.supervisor.events import WorkerChanged
from subinterp_asgi.supervisor.states import WorkerState
from subinterp_asgi.testing import faults
from tests.support import get, run_script

from ..apps.pool import App
from ..supervising import Heard, Servers, both

# --- log handlers


def test_a_log_handler_may_look_at_the_supervisor(tmp_path: Path) -> None:
    """While it is called for a record of the host's, the supervisor has one for it, too."""
    done = run_script(
        tmp_path,
        """
        import logging, threading
        from subinterp_asgi import Supervisor
        from subinterp_asgi.testing import faults
        from tests.support import wait_until

        server = Supervisor("tests.integration.apps.pool:App", port=0, factory=True,
                            access_log=False, restart_delay=0.01)
        supervisor_logs = threading.Event()

        class Handler(logging.Handler):
            def emit(self, record):  # with its lock held
                if record.name == "host":
                    faults.crash_worker(server)
                    assert supervisor_logs.wait(20)
                server.stats()
                assert len(server.workers) <= 1
                print(record.getMessage().partition(":")[0])

        def notice(record):  # before any lock is taken
            supervisor_logs.set()
            return True

        logging.getLogger().addHandler(Handler())
        logging.getLogger("subinterp_asgi.error").addFilter(notice)
        with server:
            logging.getLogger("host").error("here")
            wait_until(lambda: [w.state.value for w in server.workers] == ["serving"])
        """,
        timeout=30,
    )
    assert (done.returncode, done.stdout) == (0, "here\nworker 0 died\n"), done.stderr


class Broken(logging.Handler):
    """Raises something else each time."""

    raised = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.raised += 1
        raise LookupError if self.raised % 2 else SystemExit


@pytest.fixture
def broken() -> Iterator[Broken]:
    handler = Broken()
    logger = logging.getLogger("subinterp_asgi.error")
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


def test_a_log_handler_that_raises_does_no_harm(
    servers: Servers, broken: Broken, capsys: pytest.CaptureFixture[str]
) -> None:
    heard = Heard()
    # (In interpreters, so that nobody but the supervisor calls the handler.)
    server = servers.start(isolation="interpreter", on_event=heard, restart_delay=0.01)
    for number in (1, 2):
        faults.crash_worker(server)
        heard.wait_for(WorkerChanged, state=WorkerState.SERVING, count=number + 1)
    assert get(server.url).status == 200
    server.stop()
    assert broken.raised == 2
    errors = capsys.readouterr().err  # where logging itself reports such errors
    assert "\nLookupError" in errors
    assert "\nSystemExit" in errors


# --- signal handlers

PREAMBLE = """
    import os, signal, sys, threading
    from pathlib import Path
    from subinterp_asgi import Supervisor, errors
    from tests.support import Pending, wait_until

    gate, reached = Path("gate").absolute(), Path("gate.reached")
    server = Supervisor("tests.integration.apps.pool:App", port=0, factory=True,
                        isolation=sys.argv[1], access_log=False, state={"gate": str(gate)},
                        timeout_graceful_shutdown=3600)

    def interrupt(number):  # the main thread, wherever that is
        signal.pthread_kill(threading.main_thread().ident, number)
"""


def run(directory: Path, isolation: str, source: str, *arguments: str) -> str:
    """Run a host; return what it printed."""
    done = run_script(directory, PREAMBLE + source, isolation, *arguments, timeout=30)
    assert done.returncode == 0, done.stderr
    return done.stdout


@both
def test_stop_in_a_signal_handler_that_interrupts_start(isolation: str, tmp_path: Path) -> None:
    source = """
    def stop():
        wait_until(reached.exists)
        interrupt(signal.SIGTERM)

    signal.signal(signal.SIGTERM, lambda *_: server.stop())
    threading.Thread(target=stop).start()
    try:
        server.run()
    except errors.StartupError as exc:
        print(exc, server.state.value)
    """
    told = "stop() was called before the workers served failed\n"
    assert run(tmp_path, isolation, source) == told


def test_stop_in_a_signal_handler_that_interrupts_stop(tmp_path: Path) -> None:
    """The second signal has what is in flight broken off."""
    source = """
    graces = [0, None]

    def stop_twice():
        wait_until(lambda: server.state.value == "serving")
        Pending(server.url, f"/until{os.getcwd()}/never")
        wait_until(Path("never.begun").exists)
        interrupt(signal.SIGTERM)
        wait_until(lambda: server.state.value == "stopping")
        interrupt(signal.SIGTERM)

    gate.touch()
    signal.signal(signal.SIGTERM, lambda *_: server.stop(graces.pop()))
    threading.Thread(target=stop_twice).start()
    server.run()
    print(server.state.value, graces)
    """
    assert run(tmp_path, "thread", source) == "stopped []\n"


@pytest.mark.parametrize("locked", [False, True])
def test_stop_in_a_signal_handler_that_interrupts_reload(tmp_path: Path, locked: bool) -> None:
    """Whether that waits for its workers or is about to start them, with the lock."""
    source = """
    from subinterp_asgi.supervisor.pool.pool import Pool

    def stop():
        wait_until(reached.exists)
        interrupt(signal.SIGTERM)

    def start(*arguments, **options):
        signal.raise_signal(signal.SIGTERM)
        return Pool.real_start(*arguments, **options)

    gate.touch()
    signal.signal(signal.SIGTERM, lambda *_: server.stop())
    server.start()
    gate.unlink()
    reached.unlink()
    if sys.argv[2] == "locked":
        Pool.real_start, Pool.start = Pool.start, start
    else:
        threading.Thread(target=stop).start()
    try:
        server.reload()
    except errors.StateError as exc:
        print(exc, server.wait(20), server.state.value)
    """
    told = "the supervisor is ending True stopped\n"
    assert run(tmp_path, "thread", source, "locked" if locked else "not locked") == told


def test_reload_in_a_signal_handler_that_interrupts_reload(tmp_path: Path) -> None:
    source = """
    def reload_again(*_):
        for change in (server.reload, lambda: server.scale(2)):
            try:
                change()
            except errors.StateError as exc:
                print(exc)
        gate.touch()

    def hang_up():
        wait_until(reached.exists)
        interrupt(signal.SIGHUP)

    gate.touch()
    signal.signal(signal.SIGHUP, reload_again)
    with server:
        gate.unlink()
        reached.unlink()
        threading.Thread(target=hang_up).start()
        print(server.reload())
        print(server.reload())  # now it may
    """
    why = "here: it would wait for itself; use another thread"
    assert run(tmp_path, "thread", source) == f"can't reload {why}\ncan't scale {why}\n2\n3\n"


# --- workers that are threads of the host


def test_a_worker_can_not_wait_for_its_own_replacement(servers: Servers) -> None:
    class Reloading(App):
        async def do_reload(self, *arguments: object) -> bytes:
            try:
                return b"%d" % server.reload()
            except StateError as exc:
                return str(exc).encode()

    server = servers.start(Reloading, timeout_graceful_shutdown=0.1, shutdown_timeout=0.1)
    assert "can't reload here" in get(server.url, "/reload").text
    assert server.reload() == 2
