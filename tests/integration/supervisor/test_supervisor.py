"""The supervisor: starting, serving, stopping, and everything that may go wrong in between."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import queue
import re
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from subinterp_asgi import Config, Supervisor
from subinterp_asgi.control import interpreters
from subinterp_asgi.errors import (
    BindError,
    ConfigError,
    ShutdownIncompleteError,
    StartupError,
    StateError,
    WorkerDiedError,
)
from subinterp_asgi.supervisor import exit_guard
from subinterp_asgi.supervisor.policy.shutdown import Shutdown
from subinterp_asgi.supervisor.states import SupervisorState, WorkerState
from tests.integration.apps import lifecycle
from tests.support import Pending, get, nothing_left, run_script, wait_until

APPS = "tests.integration.apps.lifecycle"
APP = f"{APPS}:app"
LIFESPAN = f"{APPS}:with_lifespan"
HOOKS = f"{APPS}:with_hooks"

both = pytest.mark.parametrize("isolation", ["interpreter", "thread"])


_made: list[Supervisor] = []


@pytest.fixture(autouse=True)
def leaves_nothing() -> Iterator[None]:
    _made.clear()
    with nothing_left():
        yield
        serving = [server for server in _made if server.state is SupervisorState.SERVING]
        for server in serving:  # a test has failed; the next one shall not suffer from it
            server.stop(0)
        assert not serving
    assert not exit_guard._watched


def make(app: Any = APP, isolation: str = "thread", **options: Any) -> Supervisor:
    """A supervisor with a free port; in threads, which is fast, unless it matters."""
    server = Supervisor(app, **{"port": 0, "isolation": isolation, "access_log": False, **options})
    _made.append(server)
    return server


def in_flight(server: Supervisor, action: str, directory: Path) -> Pending:
    """Send a request and return once the application has begun with it."""
    pending = Pending(server.url, f"/{action}{directory}/{action}")
    wait_until((directory / f"{action}.begun").exists, "the request to be begun")
    return pending


def in_background(function: Callable[[], object]) -> tuple[threading.Thread, list[Any]]:
    """Call in a thread; return that and a list which will hold the result or the exception."""
    outcome: list[Any] = []

    def call() -> None:
        try:
            outcome.append(function())
        except BaseException as exc:
            outcome.append(exc)

    thread = threading.Thread(target=call, name="test-caller")
    thread.start()
    return thread, outcome


def text_of(answer: Any) -> str:
    assert not isinstance(answer, Exception), answer
    text: str = answer.text
    return text


# --- three ways to use it


@both
def test_with(isolation: str) -> None:
    with make(isolation=isolation, workers=2) as server:
        assert server.state is SupervisorState.SERVING
        assert get(server.url).text == "ok"
        url = server.url
    assert server.state is SupervisorState.STOPPED
    with pytest.raises(ConnectionRefusedError):
        get(url)


@both
def test_async_with(isolation: str) -> None:
    async def main() -> None:
        async with make(isolation=isolation, workers=2) as server:
            assert server.state is SupervisorState.SERVING
            answer = await asyncio.to_thread(get, server.url)
            assert answer.text == "ok"
        assert server.state is SupervisorState.STOPPED

    asyncio.run(main())


@both
def test_run_until_another_thread_stops_it(isolation: str) -> None:
    server = make(isolation=isolation)
    thread, outcome = in_background(server.run)
    wait_until(lambda: server.state is SupervisorState.SERVING, "serving")
    assert get(server.url).text == "ok"
    assert thread.is_alive()
    server.stop()
    thread.join(20)
    assert outcome == [None]


def test_an_exception_in_the_block_goes_on_and_the_server_is_stopped() -> None:
    with pytest.raises(LookupError, match="the host's own"), make() as server:
        raise LookupError("the host's own")
    assert server.state is SupervisorState.STOPPED


def test_async_with_does_not_block_the_callers_loop(tmp_path: Path) -> None:
    """The lifespan waits for what only the caller's loop does, at both ends."""
    gates = {"startup.gate": str(tmp_path / "in"), "shutdown.gate": str(tmp_path / "out")}

    async def open_gates() -> None:
        for gate in gates.values():
            while not os.path.exists(f"{gate}.reached"):  # noqa: ASYNC110
                await asyncio.sleep(0.001)
            Path(gate).touch()

    async def main() -> None:
        opening = asyncio.create_task(open_gates())
        async with make(LIFESPAN, lifespan="on", state=gates) as server:
            assert server.state is SupervisorState.SERVING
        await opening

    asyncio.run(main())


@both
def test_a_cancelled_entry_ends_what_had_begun(isolation: str, tmp_path: Path) -> None:
    gate = tmp_path / "gate"  # which nobody opens

    async def main() -> None:
        server = make(
            LIFESPAN, isolation, lifespan="on", state={"startup.gate": str(gate)}, workers=2
        )

        async def enter() -> None:
            async with server:
                pytest.fail("it can't have started")

        entering = asyncio.create_task(enter())
        while not os.path.exists(f"{gate}.reached"):  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        entering.cancel()
        with pytest.raises(asyncio.CancelledError):
            await entering
        assert server.state is SupervisorState.FAILED
        assert not server.has_running_workers

    asyncio.run(main())


def test_an_entry_cancelled_before_it_began() -> None:
    async def main() -> None:
        entering = asyncio.create_task(make().__aenter__())
        entering.cancel()
        with pytest.raises(asyncio.CancelledError):
            await entering

    asyncio.run(main())


def test_a_loop_that_is_closed_under_a_cancelled_exit_hears_nothing_more(tmp_path: Path) -> None:
    """What is left to do is done in the background, without complaints of the closed loop."""
    done = run_script(
        tmp_path,
        f"""
        import asyncio, time
        from pathlib import Path
        from subinterp_asgi import Supervisor
        gate = Path("gate")
        server = Supervisor("{LIFESPAN}", port=0, isolation="thread", lifespan="on",
                            state={{"shutdown.gate": "gate"}})

        async def main():
            async with server:
                pass

        async def cancelled():
            task = asyncio.create_task(main())
            while not Path("gate.reached").exists():
                await asyncio.sleep(0.001)
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()

        asyncio.run(cancelled())
        gate.touch()
        server.stop()
        print(server.state.value)
        """,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "stopped\n", "")


# --- options


def test_options_go_over_those_of_the_config() -> None:
    config = Config(port=1, workers=3, root_path="/a")
    server = Supervisor(APP, config, port=0, workers=2)
    assert (server.config.port, server.config.workers, server.config.root_path) == (0, 2, "/a")
    assert config.port == 1


def test_bad_options_are_named_before_anything_happens() -> None:
    with pytest.raises(ConfigError, match="wokers: no such option; did you mean workers"):
        Supervisor(APP, wokers=2)
    with pytest.raises(ConfigError) as caught:
        Supervisor(APP, workers=0)
    assert caught.value.option == "workers"


async def object_app(scope: Any, receive: Any, send: Any) -> None:
    await lifecycle.app(scope, receive, send)


def test_an_application_object_is_refused_for_interpreters() -> None:
    for options in ({}, {"isolation": "interpreter"}):
        with pytest.raises(ConfigError) as caught:
            Supervisor(object_app, **options)
        assert caught.value.option == "app"
        assert "'module:attribute'" in str(caught.value)
        assert "isolation='thread'" in str(caught.value)


@pytest.mark.parametrize("app", [None, 17, b"module:app", {}])
def test_what_is_no_application_at_all(app: Any) -> None:
    for isolation in ("interpreter", "thread", "auto"):
        with pytest.raises(ConfigError, match="app: must be an import path or an ASGI app"):
            Supervisor(app, isolation=isolation)


@pytest.mark.parametrize("isolation", ["thread", "auto"])
def test_an_application_object_in_a_thread(isolation: str) -> None:
    with make(object_app, isolation) as server:
        assert server.in_threads
        assert get(server.url).text == "ok"


def test_auto_runs_an_import_path_in_an_interpreter() -> None:
    before = interpreters.alive()
    with make(isolation="auto") as server:
        assert not server.in_threads
        assert interpreters.alive() == before + 1


def test_a_closure_sees_what_it_closes_over() -> None:
    seen: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            seen.append(scope["path"])
        await lifecycle.app(scope, receive, send)

    with make(app, workers=2) as server:
        get(server.url, "/a")
        get(server.url, "/b")
    assert seen == ["/a", "/b"]


def test_a_factory_object_and_a_factory_path() -> None:
    with make(lambda: object_app, factory=True, workers=2) as server:
        assert get(server.url).text == "ok"
    with make(f"{APPS}:create_app()") as server:
        assert get(server.url).text == "ok"
    with make(f"{APPS}:create_app", factory=True) as server:
        assert get(server.url).text == "ok"


# --- addresses


def test_there_is_no_url_before_the_start() -> None:
    server = make()
    assert server.addresses == ()
    with pytest.raises(StateError, match="no address before"):
        _ = server.url
    assert server.workers == ()


def test_url_and_addresses(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with make(bind=["127.0.0.1:0", f"unix:{path}"]) as server:
        (host, port), unix = server.addresses
        assert server.url == f"http://{host}:{port}"
        assert unix == (path, None)
        assert get(server.url).text == "ok"
        assert get(f"http+unix://{path.replace('/', '%2F')}").text == "ok"
    assert not os.path.exists(path)
    assert server.addresses[1] == (path, None)  # what it was is not forgotten


@both
def test_a_unix_socket_alone(isolation: str, tmp_path: Path) -> None:
    with make(isolation=isolation, uds=str(tmp_path / "socket"), workers=2) as server:
        assert server.url.startswith("http+unix://")
        assert get(server.url).text == "ok"
    assert list(tmp_path.iterdir()) == []


@both
def test_the_callers_socket_is_served_and_stays_open(isolation: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as given:
        with make(isolation=isolation, sockets=[given], workers=2) as server:
            assert server.addresses == (given.getsockname(),)
            assert get(server.url).text == "ok"
        assert given.getblocking()
        assert os.get_blocking(given.fileno())
        with make(sockets=[given]) as server:  # and can be served again
            assert get(server.url).text == "ok"


def test_all_workers_share_one_port() -> None:
    with make(isolation="interpreter", workers=3) as server:
        assert len(server.addresses) == 1


# --- workers


def all_workers(server: Supervisor, path: str = "/count") -> dict[str, int]:
    """Send requests until each worker has answered one; return token: last count."""
    counts: dict[str, int] = {}

    def ask() -> bool:
        answer = json.loads(get(server.url, path).body)
        counts[answer["token"]] = answer["counter"]
        return len(counts) == server.config.workers

    wait_until(ask, "each worker to serve a request")
    return counts


def test_each_interpreter_has_globals_of_its_own_and_all_serve() -> None:
    with make(isolation="interpreter", workers=2) as server:
        counts = all_workers(server)
        for _ in range(10):
            answer = json.loads(get(server.url, "/count").body)
            counts[answer["token"]] += 1  # each counts its own requests only
            assert answer["counter"] == counts[answer["token"]]
        assert lifecycle.TOKEN not in counts
        wait_until(  # (a worker counts once it has nothing left to do)
            lambda: sorted(worker.requests for worker in server.workers) == sorted(counts.values())
        )


def test_threads_share_the_hosts_globals() -> None:
    with make(workers=2) as server:
        before = lifecycle.counter
        for _ in range(4):
            answer = json.loads(get(server.url, "/count").body)
            assert answer["token"] == lifecycle.TOKEN
        assert lifecycle.counter == before + 4


@both
def test_what_is_known_of_the_workers(isolation: str) -> None:
    with make(isolation=isolation, workers=2) as server:
        infos = server.workers
        assert [info.id for info in infos] == [0, 1]
        assert [info.generation for info in infos] == [1, 1]
        assert [info.state for info in infos] == [WorkerState.SERVING] * 2
        assert [info.requests for info in infos] == [0, 0]
        names = {thread.name for thread in threading.enumerate()}
        assert {info.thread_name for info in infos} <= names
        assert len({info.thread_name for info in infos}) == 2
        for count in range(1, 4):
            get(server.url)  # (a worker counts once it has nothing left to do)
            wait_until(lambda count=count: sum(x.requests for x in server.workers) == count)
    assert [info.state for info in server.workers] == [WorkerState.STOPPED] * 2
    assert sum(info.requests for info in server.workers) == 3


def test_the_threads_of_workers_carry_their_name() -> None:
    with make() as server:
        assert get(server.url, "/thread").text == server.workers[0].thread_name


@both
def test_workers_start_in_parallel(isolation: str, tmp_path: Path) -> None:
    """Each lifespan waits for the other one to have begun."""
    state = {"startup.meet": [str(tmp_path), 2]}
    with make(LIFESPAN, isolation, workers=2, lifespan="on", state=state, startup_timeout=30):
        pass


# --- starts that fail


@both
def test_the_workers_own_traceback_is_in_the_message(isolation: str, tmp_path: Path) -> None:
    (tmp_path / f"broken_{isolation}.py").write_text("def inner():\n    1 / 0\n\ninner()\n")
    sys.path.insert(0, str(tmp_path))
    try:
        with pytest.raises(StartupError) as caught:
            make(f"broken_{isolation}:app", isolation, workers=2).start()
    finally:
        sys.path.remove(str(tmp_path))
    message = str(caught.value)
    assert re.match(r"worker [01] could not start: AppModuleFailedError: ", message)
    assert "ZeroDivisionError: division by zero" in message
    assert f'broken_{isolation}.py", line 2, in inner' in message
    assert caught.value.worker_id in (0, 1)


@both
@pytest.mark.parametrize(
    ("app", "words"),
    [
        ("nonsense", "Invalid app path 'nonsense'"),
        ("no_such_module_at_all:app", "no module named 'no_such_module_at_all'"),
        (f"{APPS}:ap", "did you mean app"),
        (f"{APPS}:not_callable", "is not an ASGI application"),
        (f"{APPS}:not_callable()", "is not a factory"),
    ],
)
def test_an_application_that_is_not_there(isolation: str, app: str, words: str) -> None:
    server = make(app, isolation)
    with pytest.raises(StartupError) as caught:
        server.start()
    assert words in str(caught.value)
    assert server.state is SupervisorState.FAILED
    assert not server.has_running_workers


@both
def test_one_worker_that_fails_takes_the_others_down(isolation: str, tmp_path: Path) -> None:
    state = {"startup.one_fails": str(tmp_path / "first"), "log": str(tmp_path / "log")}
    server = make(LIFESPAN, isolation, workers=3, lifespan="on", state=state)
    with pytest.raises(StartupError, match="one of them fails"):
        server.start()
    assert all(info.state in (WorkerState.STOPPED, WorkerState.FAILED) for info in server.workers)
    # Those that had started were shut down properly.
    events = [line.split()[1] for line in (tmp_path / "log").read_text().splitlines()]
    assert events.count("startup") == events.count("shutdown")


@both
def test_a_start_whose_other_worker_hangs_fails_at_once(isolation: str, tmp_path: Path) -> None:
    """The hanging lifespan is cancelled; nobody waits for the timeouts, which are a minute."""
    state = {"startup.one_fails": str(tmp_path / "first"), "startup.hang": True}
    server = make(LIFESPAN, isolation, workers=2, lifespan="on", state=state)
    began = time.monotonic()
    with pytest.raises(StartupError, match="one of them fails"):
        server.start()
    assert time.monotonic() - began < server.config.startup_timeout / 2


@both
def test_a_lifespan_that_takes_too_long(isolation: str) -> None:
    server = make(
        LIFESPAN, isolation, lifespan="on", state={"startup.hang": True}, startup_timeout=0.2
    )
    with pytest.raises(StartupError, match=r"more than startup_timeout=0\.2 s"):
        server.start()


def test_a_port_that_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        server = make(port=port)
        with pytest.raises(BindError) as caught:
            server.start()
    assert caught.value.errno == errno.EADDRINUSE
    assert f"127.0.0.1:{port}" in str(caught.value)
    assert server.state is SupervisorState.FAILED
    server.stop()


def test_after_a_failed_start_nothing_can_be_started_again_and_all_can_be_stopped() -> None:
    server = make("nonsense")
    with pytest.raises(StartupError):
        server.start()
    with pytest.raises(StateError, match="can't start: the supervisor is failed"):
        server.start()
    server.stop()
    with pytest.raises(WorkerDiedError, match="Invalid app path"):
        server.wait()


def test_a_system_that_has_no_thread_left(monkeypatch: pytest.MonkeyPatch) -> None:
    for refused in ("asgi-supervisor", "asgi-worker-0", "asgi-worker-1"):
        start = threading.Thread.start

        def refuse(self: threading.Thread, name: str = refused, start: Any = start) -> None:
            if self.name == name:
                raise RuntimeError("can't start new thread")
            start(self)

        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            server = make(workers=2)
            with pytest.raises(RuntimeError, match="can't start new thread"):
                server.start()
        assert server.state is SupervisorState.FAILED
        assert not server.has_running_workers
        server.stop()


def test_a_system_that_has_no_descriptor_left(tmp_path: Path) -> None:
    """With each number of descriptors too few, the start fails and leaves nothing."""
    done = run_script(
        tmp_path,
        f"""
        import gc, os, resource, sys, threading
        from subinterp_asgi import Supervisor; from subinterp_asgi.control import interpreters
        kind = sys.argv[1]
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]

        def left():
            gc.collect()  # asyncio leaves half of a loop, when it can't make a whole one
            descriptors = sorted(os.listdir("/proc/self/fd"))
            return descriptors, threading.active_count(), interpreters.alive()

        with Supervisor("{APP}", port=0, isolation=kind, workers=2):
            pass  # what is imported or opened once and kept is so now
        before = left()
        failed = 0
        for more in range(100):
            resource.setrlimit(resource.RLIMIT_NOFILE, (len(before[0]) - 1 + more, hard))
            server = Supervisor("{APP}", port=0, isolation=kind, workers=2, access_log=False)
            try:
                server.start()
            except Exception as exc:
                outcome = exc
            else:
                outcome = None
                server.stop()
            resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))
            assert left() == before, (more, outcome, left(), before)
            if outcome is None:
                break
            failed += 1
        else:
            raise outcome
        assert failed > 8, failed
        """,
        "thread",
    )
    assert done.returncode == 0, done.stderr


# --- states


@both
def test_the_states_in_turn(isolation: str, tmp_path: Path) -> None:
    gates = {"startup.gate": str(tmp_path / "in"), "shutdown.gate": str(tmp_path / "out")}
    server = make(LIFESPAN, isolation, lifespan="on", state=gates)
    assert server.state is SupervisorState.NEW
    starter, started = in_background(server.start)
    wait_until((tmp_path / "in.reached").exists, "startup")
    assert server.state is SupervisorState.STARTING
    assert server.workers[0].state is WorkerState.STARTING
    (tmp_path / "in").touch()
    starter.join(20)
    assert started == [None]
    assert server.state is SupervisorState.SERVING
    stopper, stopped = in_background(server.stop)
    wait_until((tmp_path / "out.reached").exists, "shutdown")
    assert server.state is SupervisorState.STOPPING
    (tmp_path / "out").touch()
    stopper.join(20)
    assert stopped == [None]
    assert server.state is SupervisorState.STOPPED


def test_it_starts_once() -> None:
    with (
        make() as server,
        pytest.raises(StateError, match="can't start: the supervisor is serving"),
    ):
        server.start()
    with pytest.raises(StateError, match="can't start: the supervisor is stopped"):
        server.start()


def test_of_two_threads_that_start_it_one_does() -> None:
    server = make()
    outcomes: list[Any] = []
    callers = [in_background(server.start) for _ in range(2)]
    for thread, outcome in callers:
        thread.join(20)
        outcomes += outcome
    assert outcomes.count(None) == 1
    assert sum(isinstance(outcome, StateError) for outcome in outcomes) == 1
    server.stop()


# --- wait


def test_wait() -> None:
    server = make()
    with pytest.raises(StateError, match="was not started"):
        server.wait()
    with server:
        assert server.wait(0) is False
        assert server.wait(0.01) is False
        waiter, waited = in_background(server.wait)
    waiter.join(20)
    assert waited == [True]
    assert server.wait() is True


# --- stop


@both
def test_stop_is_idempotent(isolation: str) -> None:
    server = make(isolation=isolation)
    server.start()
    for _ in range(3):
        server.stop()
        assert server.state is SupervisorState.STOPPED


def test_stop_before_start() -> None:
    server = make()
    server.stop()
    server.stop()
    assert server.state is SupervisorState.STOPPED
    assert server.wait() is True
    with pytest.raises(StateError):
        server.start()


@both
def test_stop_from_several_threads_at_once(isolation: str) -> None:
    server = make(isolation=isolation, workers=2)
    server.start()
    callers = [in_background(server.stop) for _ in range(8)]
    for thread, outcome in callers:
        thread.join(20)
        assert outcome == [None]
        assert server.state is SupervisorState.STOPPED


@both
def test_stop_during_start(isolation: str, tmp_path: Path) -> None:
    gate = {"startup.gate": str(tmp_path / "in")}  # which nobody opens
    server = make(LIFESPAN, isolation, workers=2, lifespan="on", state=gate)
    starter, started = in_background(server.start)
    wait_until((tmp_path / "in.reached").exists, "startup")
    server.stop()
    starter.join(20)
    (outcome,) = started
    assert isinstance(outcome, StartupError)
    assert "stop() was called before the workers served" in str(outcome)
    assert not server.has_running_workers


def test_stop_at_any_moment_of_a_start() -> None:
    """Whatever it meets, it returns, and nothing is left."""
    for delay in (0, 0.0005, 0.001, 0.002, 0.004):
        server = make()
        starter, started = in_background(server.start)
        time.sleep(delay)
        server.stop()
        starter.join(20)
        (outcome,) = started
        assert outcome is None or isinstance(outcome, StartupError | StateError), outcome
        assert not server.has_running_workers


@both
def test_a_request_in_flight_is_completed(isolation: str, tmp_path: Path) -> None:
    server = make(isolation=isolation, workers=2)
    server.start()
    pending = in_flight(server, "until", tmp_path)
    stopper, stopped = in_background(server.stop)
    # Until then the workers have heard of it, and would have broken off what they don't wait for.
    wait_until(lambda: is_refused(server.addresses[0]), "the listener to be closed")
    assert server.state is SupervisorState.STOPPING
    (tmp_path / "until").touch()
    assert text_of(pending.result()) == "done"
    stopper.join(20)
    assert stopped == [None]


@both
@pytest.mark.parametrize("kind", ["for-ever", "deaf"])
def test_a_request_that_takes_too_long_is_broken_off(
    isolation: str, kind: str, tmp_path: Path
) -> None:
    server = make(isolation=isolation, workers=2)
    server.start()
    pending = in_flight(server, kind, tmp_path)
    server.stop(timeout=0.05)
    answer = pending.result()
    assert isinstance(answer, Exception) or answer.status in (500, 503)
    assert server.state is SupervisorState.STOPPED


def test_the_option_bounds_requests_in_flight_too(tmp_path: Path) -> None:
    server = make(timeout_graceful_shutdown=0.05)
    server.start()
    pending = in_flight(server, "for-ever", tmp_path)
    server.stop()
    pending.result()


@both
def test_stop_may_wait_longer_than_the_option_says(isolation: str, tmp_path: Path) -> None:
    server = make(isolation=isolation, workers=2, timeout_graceful_shutdown=0)
    server.start()
    pending = in_flight(server, "until", tmp_path)
    stopper, stopped = in_background(lambda: server.stop(timeout=3600))
    wait_until(lambda: is_refused(server.addresses[0]), "the listener to be closed")
    assert stopper.is_alive()
    (tmp_path / "until").touch()
    assert text_of(pending.result()) == "done"
    stopper.join(20)
    assert stopped == [None]


def test_a_longer_stop_can_be_shortened_too(tmp_path: Path) -> None:
    server = make(timeout_graceful_shutdown=0)
    server.start()
    pending = in_flight(server, "for-ever", tmp_path)
    stopper, stopped = in_background(lambda: server.stop(timeout=3600))
    wait_until(lambda: server.state is SupervisorState.STOPPING, "stopping")
    server.stop(timeout=0)
    stopper.join(20)
    assert stopped == [None]
    pending.result()


@both
def test_a_second_stop_shortens_the_first(isolation: str, tmp_path: Path) -> None:
    server = make(isolation=isolation, timeout_graceful_shutdown=3600)
    server.start()
    pending = in_flight(server, "for-ever", tmp_path)
    stopper, stopped = in_background(server.stop)
    wait_until(lambda: server.state is SupervisorState.STOPPING, "stopping")
    assert stopper.is_alive()
    server.stop(timeout=0)
    stopper.join(20)
    assert stopped == [None]
    pending.result()


def test_a_second_stop_shortens_the_first_even_if_no_worker_listens(tmp_path: Path) -> None:
    """A worker whose loop is blocked does not say that it drains."""
    gate = tmp_path / "gate"

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            (tmp_path / "begun").touch()
            while not gate.exists():
                time.sleep(0.001)
        await lifecycle.app(scope, receive, send)

    server = make(app, timeout_graceful_shutdown=3600, shutdown_timeout=30)
    server.start()
    pending = Pending(server.url, "/")
    wait_until((tmp_path / "begun").exists, "the request to be begun")
    stopper, stopped = in_background(server.stop)
    wait_until(lambda: server.state is SupervisorState.STOPPING, "stopping")
    stopper_2, stopped_2 = in_background(lambda: server.stop(timeout=0))
    # It is refused to clients as soon as nobody is waited for any more.
    wait_until(lambda: is_refused(server.addresses[0]), "the listener to be closed")
    gate.touch()
    for thread, outcome in ((stopper, stopped), (stopper_2, stopped_2)):
        thread.join(20)
        assert outcome == [None]
    pending.result()


def is_refused(address: Any) -> bool:
    try:
        socket.create_connection(address, timeout=0.2).close()
    except TimeoutError:
        return False
    except ConnectionError:
        return True
    return False


def test_a_worker_thread_cannot_stop_its_own_supervisor() -> None:
    outcomes: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            try:
                server.stop()
            except StateError as exc:
                outcomes.append(exc)
        await lifecycle.app(scope, receive, send)

    server = make(app)
    with server:
        assert get(server.url).text == "ok"
        assert server.state is SupervisorState.SERVING
    assert "a worker can't stop its own supervisor" in str(outcomes[0])


def test_a_worker_that_does_not_end_is_named_and_forgiven_once_it_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("subinterp_asgi.supervisor.policy.shutdown.STOP_MARGIN", 0.05)
    gate = tmp_path / "gate"

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            (tmp_path / "begun").touch()
            while not gate.exists():
                time.sleep(0.001)
        await lifecycle.app(scope, receive, send)

    server = make(app, workers=2, shutdown_timeout=0.05)
    server.start()
    pending = Pending(server.url, "/")
    wait_until((tmp_path / "begun").exists, "the request to be begun")
    for _ in range(2):
        with pytest.raises(ShutdownIncompleteError, match="still running: asgi-worker-") as caught:
            server.stop(timeout=0)
        (name,) = caught.value.workers
        assert name in ("asgi-worker-0", "asgi-worker-1")
        assert server.state is SupervisorState.STOPPED
        assert server.has_running_workers
    assert is_refused(server.addresses[0])
    gate.touch()
    wait_until(lambda: not server.has_running_workers, "the worker to end")
    server.stop()  # nothing is left to complain of, nor to release: see the fixture
    pending.result()


# --- workers that die


def die(server: Supervisor) -> None:
    get(server.url, "/die")


@both
def test_all_workers_dying_ends_the_wait(isolation: str, caplog: pytest.LogCaptureFixture) -> None:
    server = make(isolation=isolation, workers=1, restart_limit=0)
    server.start()
    die(server)
    with pytest.raises(WorkerDiedError) as caught:
        server.wait(20)
    assert "worker 0 died: SystemExit: the worker is told to die" in str(caught.value)
    assert "Traceback" in str(caught.value)
    assert server.state is SupervisorState.FAILED
    assert "worker 0 died" in caplog.text  # the host's logging hears of it
    server.stop()
    with pytest.raises(StateError):
        server.start()


@both
def test_the_others_go_on_serving(isolation: str) -> None:
    server = make(isolation=isolation, workers=2, restart_delay=60)
    server.start()
    die(server)
    wait_until(lambda: len(server.workers) == 1, "one worker to be dead")
    assert server.state is SupervisorState.SERVING
    for _ in range(10):
        assert get(server.url).text == "ok"
    assert server.wait(0) is False
    server.stop()


def test_run_raises_when_workers_die() -> None:
    server = make(restart_limit=0)
    thread, outcome = in_background(server.run)
    wait_until(lambda: server.state is SupervisorState.SERVING, "serving")
    die(server)
    thread.join(20)
    assert isinstance(outcome[0], WorkerDiedError)


@both
def test_a_worker_that_died_does_not_hinder_a_stop(isolation: str) -> None:
    with make(isolation=isolation, workers=2) as server:
        die(server)
    assert server.state is SupervisorState.STOPPED


def test_a_worker_that_dies_as_the_start_completes_is_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its ring was heard before the supervisor served; nothing else would ring again."""
    settled = Supervisor._wait_for_start

    def wait_and_die(self: Supervisor, rollout: Any) -> None:
        settled(self, rollout)
        die(self)
        wait_until(lambda: self._handles()[0].exited, "the worker to be dead")
        wait_until(lambda: not select_readable(self._wakeup), "the monitor to have heard")

    monkeypatch.setattr(Supervisor, "_wait_for_start", wait_and_die)
    server = make(restart_limit=0)
    server.start()
    with pytest.raises(WorkerDiedError):
        server.wait(20)
    server.stop()


def select_readable(bell: Any) -> bool:
    import select

    return bool(select.select([bell], [], [], 0)[0])


# --- state


GOOD_STATE = {
    "text": "höst",
    "number": 17,
    "real": 1.5,
    "flag": True,
    "nothing": None,
    "list": [1, [2, {"deep": "er"}]],
    "dict": {"key": "value"},
}


@both
def test_the_state_reaches_each_request_as_a_copy(isolation: str) -> None:
    state = dict(GOOD_STATE)
    with make(isolation=isolation, workers=2, state=state) as server:
        state["later"] = 1
        for _ in range(4):
            get(server.url, "/spoil")
            assert json.loads(get(server.url, "/state").body) == GOOD_STATE


@both
def test_the_lifespan_adds_to_it_in_each_worker(isolation: str) -> None:
    with make(LIFESPAN, isolation, workers=2, lifespan="on", state={"given": 1}) as server:
        tokens = set()
        for _ in range(20):
            state = json.loads(get(server.url, "/state").body)
            assert state.keys() == {"given", "from_startup"}
            tokens.add(state["from_startup"])
        assert (lifecycle.TOKEN in tokens) is (isolation == "thread")


@pytest.mark.parametrize(
    "value",
    [
        object(),
        (1, 2),
        {1: "number as key"},
        {"nested": {1, 2}},
        b"bytes",
        float("nan"),
        1j,
        [object()],
        lambda: None,
    ],
)
def test_what_json_cannot_carry_is_refused_by_name(value: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        Supervisor(APP, state={"fine": 1, "culprit": value})
    assert caught.value.option == "state"
    assert "'culprit' can't be carried by JSON unchanged" in str(caught.value)


def test_a_state_that_contains_itself_is_refused() -> None:
    circle: list[Any] = []
    circle.append(circle)
    with pytest.raises(ConfigError, match="'culprit'"):
        Supervisor(APP, state={"culprit": circle})


def test_a_name_that_is_no_string_is_refused() -> None:
    with pytest.raises(ConfigError, match="1 can't be carried"):
        Supervisor(APP, state={1: "one"})  # type: ignore[dict-item]


# --- lifespan


def events(log: Path) -> list[str]:
    return [line.split(" ", 1)[1] for line in log.read_text().splitlines()]


@both
def test_the_lifespan_runs_in_each_worker(isolation: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with make(LIFESPAN, isolation, workers=3, lifespan="on", state={"log": str(log)}):
        assert events(log) == ["startup"] * 3
    assert events(log) == ["startup"] * 3 + ["shutdown"] * 3
    tokens = {line.split()[0] for line in log.read_text().splitlines()}
    assert len(tokens) == (3 if isolation == "interpreter" else 1)


def test_lifespan_off_does_not_call_the_application(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with make(LIFESPAN, lifespan="off", state={"log": str(log)}) as server:
        assert get(server.url).text == "ok"
    assert not log.exists()


def test_lifespan_auto_runs_it_where_it_is_supported(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with make(LIFESPAN, lifespan="auto", state={"log": str(log)}):
        pass
    assert events(log) == ["startup", "shutdown"]


def test_lifespan_auto_serves_an_application_that_has_none() -> None:
    with make(APP, lifespan="auto") as server:
        assert get(server.url).text == "ok"


@both
def test_lifespan_on_insists(isolation: str) -> None:
    with pytest.raises(StartupError, match="raised during lifespan startup") as caught:
        make(APP, isolation, lifespan="on").start()
    assert "NotImplementedError: lifespan" in str(caught.value)


@pytest.mark.parametrize("mode", ["auto", "on"])
@both
def test_a_startup_that_failed_is_told_with_its_message(isolation: str, mode: str) -> None:
    state = {"startup.failed": "the database is down"}
    with pytest.raises(StartupError, match="lifespan startup failed: the database is down"):
        make(LIFESPAN, isolation, lifespan=mode, state=state).start()


@both
def test_a_shutdown_that_failed_is_told(isolation: str, caplog: pytest.LogCaptureFixture) -> None:
    with make(
        LIFESPAN, isolation, lifespan="on", state={"shutdown.failed": "not all was saved"}
    ) as server:
        pass
    (info,) = server.workers
    assert info.state is WorkerState.FAILED
    assert "lifespan shutdown failed: not all was saved" in caplog.text


@both
def test_a_shutdown_that_hangs_is_ended(isolation: str, caplog: pytest.LogCaptureFixture) -> None:
    with make(LIFESPAN, isolation, lifespan="on", state={"shutdown.hang": 1}, shutdown_timeout=0.1):
        pass
    assert "lifespan shutdown took more than shutdown_timeout=0.1 s" in caplog.text


# --- hooks


@both
def test_worker_hooks(isolation: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    options: dict[str, Any] = {"workers": 2, "worker_hooks": True, "lifespan": "on"}
    with make(HOOKS, isolation, state={"log": str(log)}, **options):
        begun = sorted(events(log))
    kind = "subinterp_asgi.worker"
    assert begun == sorted(
        ["startup", "startup", *(f"{kind}.startup {n} http.disconnect" for n in (0, 1))]
    )
    all_events = events(log)
    assert sorted(all_events[4:]) == sorted(
        ["shutdown", "shutdown", *(f"{kind}.shutdown {n} http.disconnect" for n in (0, 1))]
    )


def test_hooks_stand_between_the_lifespans_ends(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with make(HOOKS, worker_hooks=True, lifespan="on", state={"log": str(log)}):
        pass
    assert [event.split(" ")[0].rpartition(".")[2] for event in events(log)] == [
        "startup",
        "startup",
        "shutdown",
        "shutdown",
    ]
    assert events(log)[0] == "startup"
    assert events(log)[-1] == "shutdown"


def test_no_hooks_unless_asked_for(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with make(HOOKS, lifespan="on", state={"log": str(log)}):
        pass
    assert events(log) == ["startup", "shutdown"]


@both
def test_a_hook_that_raises_fails_the_start(isolation: str) -> None:
    with pytest.raises(StartupError, match="LookupError: no licence"):
        make(HOOKS, isolation, worker_hooks=True, state={"hook.raise": "no licence"}).start()


@both
def test_an_end_hook_that_hangs_is_ended(
    isolation: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = tmp_path / "log"
    with make(
        HOOKS,
        isolation,
        worker_hooks=True,
        lifespan="on",
        state={"hook.hang": 1, "log": str(log)},
        shutdown_timeout=0.1,
    ):
        pass
    assert "TimeoutError" in caplog.text
    assert events(log)[-1] == "shutdown"  # the lifespan had its turn all the same


def test_no_end_hook_without_a_start_hook(tmp_path: Path) -> None:
    log = tmp_path / "log"
    state = {"log": str(log), "startup.failed": "no database"}
    with pytest.raises(StartupError, match="no database"):
        make(HOOKS, worker_hooks=True, lifespan="on", state=state).start()
    assert not log.exists()


# --- what applications leave behind


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


@pytest.mark.parametrize("kind", ["default-executor", "own-executor", "thread", "daemon", "raw"])
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
        ("daemon", "left-behind (a daemon)"),
        ("raw", None),
    ],
)
def test_threads_left_behind_that_never_end_are_named_and_never_closed_under(
    kind: str, name: str | None, tmp_path: Path
) -> None:
    done = run_script(tmp_path, THREADS_HOST, kind, "never", files={"left.py": THREADS})
    assert done.stdout == "incomplete asgi-worker-0\n", done.stderr
    # Then the host ends with status 5, which is not safe with that thread in its interpreter.
    assert done.returncode == exit_guard.EXIT_STATUS
    assert "workers can't be stopped; the process ends without finalization" in done.stderr
    if name is not None:
        assert f"thread {name} still runs after shutdown_timeout=0.2 s" in done.stderr


# --- interrupted


INTERRUPTED = f"""
    import os, signal, sys, threading, time
    from pathlib import Path
    from subinterp_asgi import Supervisor
    from tests.support import Pending, wait_until
    server = Supervisor("{APP}", port=0, workers=2, isolation=sys.argv[1], access_log=False,
                        lifespan="off", timeout_graceful_shutdown=3600)

    def interrupt():
        wait_until(lambda: server.state.value == "serving")
        Pending(server.url, "/for-ever" + os.getcwd() + "/x")
        wait_until(Path("x.begun").exists)
        os.kill(os.getpid(), signal.SIGINT)
        if sys.argv[2] == "twice":
            wait_until(lambda: server.state.value == "stopping")
            time.sleep(0.05)
            os.kill(os.getpid(), signal.SIGINT)
        else:
            server.stop(0)

    threading.Thread(target=interrupt).start()
    try:
        server.run()
    except KeyboardInterrupt:
        print("interrupted", flush=True)
        if sys.argv[2] == "twice":
            raise
    print(server.state.value)
"""


@both
def test_an_interrupted_run_stops_the_workers_and_goes_on(isolation: str, tmp_path: Path) -> None:
    done = run_script(tmp_path, INTERRUPTED, isolation, "once")
    assert (done.returncode, done.stdout) == (0, "interrupted\nstopped\n"), done.stderr
    assert done.stderr == "" or "broken off" in done.stderr


@both
def test_an_interrupted_stop_is_completed_when_the_process_ends(
    isolation: str, tmp_path: Path
) -> None:
    """It must not be waited for by anybody for ever, least of all at exit."""
    done = run_script(tmp_path, INTERRUPTED, isolation, "twice")
    assert done.stdout == "interrupted\n", done.stderr
    # By SIGINT, as Python ends a program that did not catch it. (1 on 3.13, which forgets what the
    # reason was when code is executed in another interpreter afterwards.)
    assert done.returncode in ((-2,) if sys.version_info >= (3, 14) else (-2, 1))
    assert "KeyboardInterrupt" in done.stderr


def test_a_stop_that_was_interrupted_can_be_called_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = make(workers=2)
    server.start()
    run = Shutdown.run
    interruptions = iter([KeyboardInterrupt, KeyboardInterrupt])

    def interrupted(self: Shutdown, listeners: Any) -> None:
        for interruption in interruptions:
            raise interruption
        run(self, listeners)

    monkeypatch.setattr(Shutdown, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        server.stop()
    waiter, waited = in_background(server.wait)
    with pytest.raises(KeyboardInterrupt):
        server.stop()
    server.stop()
    assert server.state is SupervisorState.STOPPED
    waiter.join(20)
    assert waited == [True]


def test_a_start_whose_cleaning_up_was_interrupted_can_be_stopped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = make("nonsense")
    run = Shutdown.run
    interruptions = iter([KeyboardInterrupt])

    def interrupted(self: Shutdown, listeners: Any) -> None:
        for interruption in interruptions:
            raise interruption
        run(self, listeners)

    monkeypatch.setattr(Shutdown, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        server.start()
    server.stop()
    assert not server.has_running_workers


# --- several


@both
def test_two_supervisors_at_once(isolation: str) -> None:
    with make(isolation=isolation) as first:
        with make(LIFESPAN, isolation, state={"which": 2}) as second:
            assert first.url != second.url
            assert json.loads(get(first.url, "/state").body) == {}
            assert json.loads(get(second.url, "/state").body)["which"] == 2
        assert get(first.url).text == "ok"


def test_one_after_the_other_on_the_same_port() -> None:
    with make() as first:
        port = first.addresses[0][1]
    with make(port=port) as second:
        assert get(second.url).text == "ok"


def test_a_thread_of_the_host_may_own_it() -> None:
    urls: queue.Queue[str] = queue.Queue()
    done = threading.Event()

    def own() -> None:
        with make(isolation="interpreter") as server:
            urls.put(server.url)
            done.wait(20)

    owner = threading.Thread(target=own)
    owner.start()
    assert get(urls.get(timeout=20)).text == "ok"
    done.set()
    owner.join(20)
    assert not owner.is_alive()
