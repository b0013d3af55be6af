"""Ways to use a supervisor, its options and its addresses."""

from __future__ import annotations

import asyncio
import json
import os
import queue
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from subinterp_asgi import Config, Supervisor, Worker
from subinterp_asgi.control import interpreters
from subinterp_asgi.errors import AppTypeError, BindError, ConfigError, StateError
from subinterp_asgi.supervisor.states import SupervisorState
from tests.integration.apps import lifecycle
from tests.support import get, run_script, wait_until

from .making import APP, APPS, LIFESPAN, both, in_background, make

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


# --- what is given in the place of something else


def test_a_dict_in_the_place_of_a_config() -> None:
    options: Any = {"workers": 2}
    for kind, served in ((Supervisor, APP), (Worker, lifecycle.app)):
        with pytest.raises(ConfigError, match=r"must be a Config, not dict; Config\(\*\*options\)"):
            kind(served, options)


def test_an_import_path_in_the_place_of_a_workers_application() -> None:
    with pytest.raises(AppTypeError, match=r"'pkg\.mod:app' is not an ASGI application: str obj"):
        Worker("pkg.mod:app")  # type: ignore[arg-type]


def test_a_worker_without_a_socket() -> None:
    with pytest.raises(ConfigError, match="sock: the worker needs a listening socket"):
        asyncio.run(Worker(lifecycle.app).serve())


def test_a_worker_with_a_socket_that_does_not_listen() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        with pytest.raises(BindError, match=r"'127.0.0.1'.*: the socket does not listen: listen\("):
            asyncio.run(Worker(lifecycle.app, Config(), sock).serve())


# --- names that are guessed


def test_host_and_port(tmp_path: Path) -> None:
    server = make()
    for name in ("host", "port"):
        with pytest.raises(StateError, match="no address before it is started"):
            getattr(server, name)
    with server:
        assert (server.host, server.port) == server.addresses[0]
        assert server.url == f"http://{server.host}:{server.port}"


def test_host_and_port_of_unix_sockets(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with make(bind=f"unix:{path}") as server:
        assert (server.host, server.port) == (path, None)
    with make(bind=[f"unix:{path}", "127.0.0.1:0"]) as server:
        assert server.host == "127.0.0.1"
        assert server.port == server.addresses[1][1]


def test_restart_is_reload() -> None:
    with make(isolation="interpreter") as server:
        assert server.restart() == 2
        assert server.generation == 2


def test_errors_and_events_are_attributes_of_the_package(tmp_path: Path) -> None:
    """Where the README names them, without any other import."""
    done = run_script(
        tmp_path,
        """
        import subinterp_asgi
        print(subinterp_asgi.errors.StartupError.__name__)
        print(subinterp_asgi.events.WorkerStuck.__name__)
        """,
    )
    assert done.stdout == "StartupError\nWorkerStuck\n", done.stderr
