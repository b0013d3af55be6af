"""What ``docs/embedding.md`` promises to hosts, one test for each sentence there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ...support import ROOT, nothing_left, run_script
from ..supervising import Servers, both

PREAMBLE = """
    import os, socket, sys, threading
    from subinterp_asgi import Config, Supervisor, errors
    from subinterp_asgi.testing import faults
    from tests.support import get, wait_until

    APP = "tests.integration.apps.pool:App"
    OPTIONS = {"port": 0, "factory": True, "access_log": False, "restart_delay": 0.01,
               "isolation": sys.argv[1], "log_level": "critical"}

    def live(**options):
        "Start, serve, reload, scale, lose a worker, stop; and fail to start."
        options = {**OPTIONS, **options}
        with Supervisor(APP, **options) as server:
            assert get(server.url).status == 200
            server.reload()
            server.scale(2)
            server.scale(1)
            with server.events() as events:
                faults.crash_worker(server)
                for event in events:
                    if type(event).__name__ == "WorkerChanged" and event.state.value == "serving":
                        break
        try:
            Supervisor("no_such_module:app", **options).start()
        except errors.StartupError:
            pass
"""


def run(directory: Path, isolation: str, source: str) -> str:
    """Run a host; return what it printed."""
    done = run_script(directory, PREAMBLE + source, isolation, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_each_promise_has_its_test() -> None:
    page = (ROOT / "docs" / "embedding.md").read_text("utf-8")
    named = re.findall(r"\| `(test_\w+)` \|", page)
    assert len(named) == page.count("\n| ") - 1  # but for the head
    sources = "".join(path.read_text("utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    assert [name for name in named if f"def {name}(" not in sources] == []


@both
def test_it_reads_no_environment(isolation: str, tmp_path: Path) -> None:
    source = """
    from dataclasses import fields

    for option in fields(Config):
        os.environ[f"SUBINTERP_ASGI_{option.name.upper()}"] = "7"
    os.environ |= {"WEB_CONCURRENCY": "7", "FORWARDED_ALLOW_IPS": "*", "PORT": "7", "HOST": "x"}
    os.environ |= {"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid()), "NOTIFY_SOCKET": "/x"}
    live()  # so that all is imported
    read = []

    class Environment(type(os.environ)):
        def __getitem__(self, name):
            read.append(name)
            return super().__getitem__(name)

    os.environ.__class__ = Environment
    live()
    print([name for name in read if not name.startswith("PYTHON")])
    print(Supervisor(APP, **OPTIONS).config == Config(**OPTIONS))
    """
    assert run(tmp_path, isolation, source) == "[]\nTrue\n"


@both
def test_it_takes_no_descriptor_that_it_was_not_given(isolation: str, tmp_path: Path) -> None:
    source = """
    os.closerange(3, 20)
    inherited = socket.create_server(("127.0.0.1", 0))
    assert inherited.fileno() == 3  # where systemd leaves it
    reading, writing = os.pipe()
    os.environ |= {"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid())}

    def identity():
        return [(os.fstat(fd).st_ino, os.get_inheritable(fd), os.get_blocking(fd))
                for fd in (0, 1, 2, 3, reading, writing)]

    before = identity()
    with socket.create_connection(inherited.getsockname()):
        live()
        inherited.settimeout(20)
        inherited.accept()[0].close()  # nobody else has
    inherited.setblocking(True)
    os.write(writing, b"x")
    assert os.read(reading, 9) == b"x"
    assert identity() == before
    """
    run(tmp_path, isolation, source)


@both
def test_sockets_stay_the_hosts(isolation: str, tmp_path: Path) -> None:
    source = """
    with socket.create_server(("127.0.0.1", 0)) as sock:
        address = sock.getsockname()
        for _ in range(2):
            live(sockets=[sock])
            assert sock.getsockname() == address
            assert sock.getblocking() and os.get_blocking(sock.fileno())
            with socket.create_connection(address):
                sock.accept()[0].close()
    """
    run(tmp_path, isolation, source)


@both
def test_it_neither_replaces_the_process_nor_starts_one(isolation: str, tmp_path: Path) -> None:
    source = """
    seen = []
    others = ("os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.system",
              "subprocess.Popen", "os.startfile", "os.spawn")
    sys.addaudithook(lambda event, arguments: event in others and seen.append(event))
    live()
    print(seen)
    os.system("true")
    print(seen)
    """
    assert run(tmp_path, isolation, source) == "[]\n['os.system']\n"


@both
def test_what_goes_wrong_is_raised(isolation: str, tmp_path: Path) -> None:
    source = """
    for app, options, kind in (
        ("no_such_module:app", {}, errors.StartupError),
        ("sys:exit", {}, errors.StartupError),
        (APP, {"host": "192.0.2.1"}, errors.BindError),
        (APP, {"workers": 0}, errors.ConfigError),
        (APP, {"ssl_certfile": "nowhere"}, errors.ConfigError),
    ):
        try:
            Supervisor(app, **{**OPTIONS, **options}).start()
        except kind as exc:
            assert isinstance(exc, errors.SubinterpASGIError)
        else:
            raise AssertionError(kind)
    server = Supervisor(APP, **OPTIONS, restart_limit=0)
    with server:
        faults.crash_worker(server)
        try:
            server.wait()
        except errors.WorkerDiedError:
            print("raised")
    """
    assert run(tmp_path, isolation, source) == "raised\n"


@both
def test_it_starts_in_any_thread_with_and_without_a_loop(isolation: str, tmp_path: Path) -> None:
    source = """
    import asyncio

    async def main():
        loop, live_in_loop = asyncio.get_running_loop(), live()
        assert asyncio.get_running_loop() is loop

    thread = threading.Thread(target=live)
    thread.start()
    thread.join()
    asyncio.run(main())
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        print("none")
    """
    assert run(tmp_path, isolation, source) == "none\n"


@both
@pytest.mark.parametrize("app", ["tests.integration.apps.pool:App", "no_such_module:app"])
def test_nothing_of_it_is_left(isolation: str, app: str, servers: Servers) -> None:
    with nothing_left():
        server = servers.make(app, isolation=isolation)
        try:
            server.start()
        except RuntimeError:
            assert app == "no_such_module:app"
        server.stop()


@both
def test_several_at_once_and_one_after_the_other(isolation: str, tmp_path: Path) -> None:
    source = """
    with Supervisor(APP, **OPTIONS) as first, Supervisor(APP, **OPTIONS) as second:
        assert first.port != second.port
        live()
        assert get(first.url).status == get(second.url).status == 200
    live()
    """
    run(tmp_path, isolation, source)
