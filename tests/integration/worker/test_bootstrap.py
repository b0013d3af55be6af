"""``bootstrap`` driven by hand, as a framework may do it: no supervisor is involved anywhere."""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import os
import queue
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from subinterp_asgi import Config
from subinterp_asgi.bootstrap import (
    _iic_bridge,
    _noop_receive,
    _noop_send,
    _run_worker_with_iic,
    _try_get,
    report_error,
)
from subinterp_asgi.control import interpreters
from subinterp_asgi.control.launch import Runtime
from subinterp_asgi.control.wakeup import Channel, Wakeup
from tests.support import (
    ROOT,
    Pending,
    get,
    nothing_left,
    open_descriptors,
    run_script,
    wait_until,
)

APP = "tests.integration.apps.lifecycle:app"
CALL = """
from subinterp_asgi.bootstrap import bootstrap
bootstrap(
    ctrl_queue, status_queue, config_json, lifespan_state_json, app_import_path,
    sock_fd, sock_family, worker_id, parent_sys_path,
)
"""
CALL_BY_THE_PACKAGES_NAME = CALL.replace("subinterp_asgi.bootstrap", "subinterp_asgi")


class OwnBackend:
    """This package's wrapper, on every Python."""

    create_queue = staticmethod(interpreters.create_queue)

    def __init__(self, names: dict[str, Any]) -> None:
        self._interpreter = interpreters.Interpreter()
        self._interpreter.adopt_path(tuple(sys.path))
        self._interpreter.prepare(names)

    def run(self, source: str) -> None:
        self._interpreter.execute(source)

    def close(self) -> None:
        wait_until(lambda: not self._interpreter.has_threads(), "threads to end")
        self._interpreter.close()


class PlainBackend:
    """The standard library's module and nothing else: what a framework would write."""

    @staticmethod
    def create_queue(size: int) -> Any:
        from concurrent import interpreters as stdlib

        return stdlib.create_queue(size)

    def __init__(self, names: dict[str, Any]) -> None:
        from concurrent import interpreters as stdlib

        self._interpreter = stdlib.create()
        self._interpreter.prepare_main(names)

    def run(self, source: str) -> None:
        self._interpreter.exec(source)

    def close(self) -> None:
        self._interpreter.close()


class Drive:
    """A worker in an interpreter, and what it has said so far."""

    def __init__(
        self,
        backend: Any = OwnBackend,
        *,
        app: str = APP,
        config: Config | None = None,
        config_json: str | None = None,
        state: str = "{}",
        sock: socket.socket | None = None,
        sock_fd: Any = None,
        path: tuple[str, ...] = (),
        source: str = CALL,
    ) -> None:
        if sock is None:
            sock = socket.create_server(("127.0.0.1", 0))
        self.family, name = sock.family, sock.getsockname()
        self.url = (
            "http+unix://" + name.replace("/", "%2F")
            if isinstance(name, str)
            else f"http://[{name[0]}]:{name[1]}"
            if ":" in name[0]
            else f"http://{name[0]}:{name[1]}"
        )
        if sock_fd is None:
            sock_fd = sock.detach()  # it is the worker's from now on
            self.sockets = {os.readlink(f"/proc/self/fd/{sock_fd}")}
        else:
            sock.close()
            self.sockets = set()
        if config is None:
            config = Config(access_log=False, log_level="critical", shutdown_timeout=10)
        self.commands = backend.create_queue(16)
        self._queue = backend.create_queue(16)
        self._backend = backend(
            {
                "ctrl_queue": self.commands,
                "status_queue": self._queue,
                "config_json": config.to_json() if config_json is None else config_json,
                "lifespan_state_json": state,
                "app_import_path": app,
                "sock_fd": sock_fd,
                "sock_family": int(self.family),
                "worker_id": 7,
                "parent_sys_path": (*path, str(ROOT), *sys.path),
            }
        )
        self.statuses: list[tuple[str, ...]] = []
        self._escaped: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(source,), daemon=True)
        self._thread.start()

    def _run(self, source: str) -> None:
        try:
            self._backend.run(source)
        except BaseException as exc:
            self._escaped = exc

    def collect(self) -> list[str]:
        """Take in the statuses that have come and return their names."""
        while True:
            try:
                self.statuses.append(self._queue.get_nowait())
            except queue.Empty:
                return [status[0] for status in self.statuses]

    def wait_for(self, status: str) -> None:
        wait_until(lambda: status in self.collect() or not self._thread.is_alive(), status)
        assert status in self.collect(), self.statuses

    def tell(self, command: str) -> None:
        self.commands.put_nowait((command,))

    def finish(self) -> list[str]:
        """Wait until ``bootstrap`` has returned; check that it kept nothing open."""
        self._thread.join(30)
        assert not self._thread.is_alive(), f"still running after {self.statuses}"
        statuses = self.collect()
        still_open = set(open_descriptors().values())
        self._backend.close()
        assert self._escaped is None  # no exception ever leaves
        assert not self.sockets & still_open  # closed by bootstrap, not by the interpreter's end
        return statuses

    def error(self) -> str:
        """As ``finish()``, for one that fails: return what it said of the error."""
        statuses = self.finish()
        assert statuses.count("error") == 1
        assert statuses[-1] == "error"
        text = self.statuses[-1][1]
        assert len(self.statuses[-1]) == 2
        assert "\0" not in text
        text.encode()  # no lone surrogates
        return text


BACKENDS = [
    OwnBackend,
    pytest.param(
        PlainBackend,
        marks=pytest.mark.skipif(sys.version_info < (3, 14), reason="concurrent.interpreters"),
    ),
]


@pytest.fixture(autouse=True)
def leaves_nothing() -> Iterator[None]:
    with nothing_left():
        yield


# --- a whole life


@pytest.mark.parametrize("backend", BACKENDS)
def test_serve_and_shut_down(backend: Any) -> None:
    drive = Drive(backend)
    drive.wait_for("serving")
    assert drive.collect() == ["started", "serving"]
    assert get(drive.url).text == "ok"
    drive.tell("shutdown")
    assert drive.finish() == ["started", "serving", "draining", "stopped"]


@pytest.mark.parametrize("backend", BACKENDS)
def test_drain_then_shut_down(backend: Any) -> None:
    drive = Drive(backend)
    drive.wait_for("serving")
    drive.tell("drain")
    drive.wait_for("idle")
    drive.tell("shutdown")
    assert drive.finish() == ["started", "serving", "draining", "idle", "stopped"]


def test_drain_while_a_request_is_in_flight(tmp_path: Path) -> None:
    drive = Drive()
    drive.wait_for("serving")
    pending = in_flight(drive, "until", tmp_path)
    drive.tell("drain")
    drive.wait_for("draining")
    wait_until(lambda: refuses(drive.url), "the listener to be left alone")
    assert drive.collect() == ["started", "serving", "draining"]
    (tmp_path / "go").touch()
    answer = pending.result()
    assert not isinstance(answer, Exception)
    assert answer.text == "done"
    assert answer.headers["connection"] == "close"
    drive.wait_for("idle")
    drive.tell("shutdown")
    assert drive.finish() == ["started", "serving", "draining", "idle", "stopped"]


def in_flight(drive: Drive, action: str, directory: Path) -> Pending:
    """Send a request and return once the application has begun with it."""
    pending = Pending(drive.url, f"/{action}{directory}/go")
    wait_until((directory / "go.begun").exists, "the request to be begun")
    return pending


def refuses(url: str) -> bool:
    """Whether a connection stays unaccepted; the socket itself may be open for others yet."""
    try:
        get(url, timeout=0.2)
    except OSError:
        return True
    return False


def test_a_drain_that_comes_before_it_serves_is_not_forgotten() -> None:
    drive = Drive()
    drive.tell("drain")  # most likely before the worker has even begun
    drive.wait_for("serving")
    drive.wait_for("idle")
    wait_until(lambda: refuses(drive.url), "the listener to be left alone")
    drive.tell("shutdown")
    assert drive.finish()[-1] == "stopped"


def test_shutdown_waits_for_what_is_in_flight(tmp_path: Path) -> None:
    drive = Drive()
    drive.wait_for("serving")
    pending = in_flight(drive, "until", tmp_path)
    drive.tell("shutdown")
    drive.wait_for("draining")
    (tmp_path / "go").touch()
    answer = pending.result()
    assert not isinstance(answer, Exception)
    assert answer.text == "done"
    assert drive.finish() == ["started", "serving", "draining", "stopped"]


def test_a_second_shutdown_breaks_off_what_is_in_flight(tmp_path: Path) -> None:
    drive = Drive()
    drive.wait_for("serving")
    pending = in_flight(drive, "for-ever", tmp_path)
    drive.tell("shutdown")
    drive.wait_for("draining")
    drive.tell("shutdown")
    assert drive.finish()[-1] == "stopped"
    answer = pending.result()
    assert isinstance(answer, Exception) or answer.status in (500, 503)


def test_shutdown_before_it_serves() -> None:
    drive = Drive()
    drive.tell("shutdown")
    statuses = drive.finish()
    assert statuses[0] == "started"
    assert statuses[-1] == "stopped"


def test_unknown_commands_are_passed_over() -> None:
    drive = Drive()
    drive.wait_for("serving")
    drive.tell("dance")
    assert get(drive.url).text == "ok"
    drive.tell("shutdown")
    assert drive.finish()[-1] == "stopped"


def test_by_the_name_that_the_package_exports() -> None:
    drive = Drive(source=CALL_BY_THE_PACKAGES_NAME)
    drive.wait_for("serving")
    drive.tell("shutdown")
    assert drive.finish()[-1] == "stopped"


def test_a_unix_socket(tmp_path: Path) -> None:
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(tmp_path / "socket"))
    sock.listen()
    drive = Drive(sock=sock)
    drive.wait_for("serving")
    assert get(drive.url).text == "ok"
    drive.tell("shutdown")
    assert drive.finish()[-1] == "stopped"


def test_an_ipv6_socket() -> None:
    try:
        sock = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        pytest.skip("no IPv6 on this machine")
    drive = Drive(sock=sock)
    drive.wait_for("serving")
    assert get(drive.url).text == "ok"
    drive.tell("shutdown")
    assert drive.finish()[-1] == "stopped"


def test_the_state_reaches_requests() -> None:
    drive = Drive(state='{"colour": "blue"}')
    drive.wait_for("serving")
    assert json.loads(get(drive.url, "/state").body) == {"colour": "blue"}
    drive.tell("shutdown")
    drive.finish()


def test_a_factory_by_option_and_by_parentheses() -> None:
    factory_path = APP.replace(":app", ":create_app")
    for app, factory in ((factory_path, True), (f"{factory_path}()", False)):
        drive = Drive(app=app, config=Config(factory=factory, access_log=False))
        drive.wait_for("serving")
        assert get(drive.url).text == "ok"
        drive.tell("shutdown")
        assert drive.finish()[-1] == "stopped"


# --- what travels within config_json


def test_further_listeners_are_served_and_owned_too() -> None:
    second = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{second.getsockname()[1]}"
    fd = second.detach()
    kind = os.readlink(f"/proc/self/fd/{fd}")
    runtime = Runtime(listeners=((fd, int(socket.AF_INET)),))
    drive = Drive(config_json=runtime.join(Config(access_log=False)))
    drive.sockets.add(kind)
    drive.wait_for("serving")
    assert get(drive.url).text == get(url).text == "ok"
    drive.tell("shutdown")
    assert drive.finish()[-1] == "stopped"


def test_further_listeners_are_closed_if_the_options_are_bad() -> None:
    second = socket.create_server(("127.0.0.1", 0))
    fd = second.detach()
    kind = os.readlink(f"/proc/self/fd/{fd}")
    values = json.loads(Runtime(listeners=((fd, int(socket.AF_INET)),)).join(Config()))
    values["port"] = "eighty"
    drive = Drive(config_json=json.dumps(values))
    drive.sockets.add(kind)
    assert "port: must be an integer" in drive.error()


def test_doorbells_of_a_frameworks_own() -> None:
    commands, statuses = Wakeup(), Wakeup()
    runtime = Runtime(command_wakeup=commands.numbers, status_wakeup=statuses.numbers)
    drive = Drive(config_json=runtime.join(Config(access_log=False)))
    seen: list[str] = []
    while seen[-1:] != ["serving"]:
        statuses.wait()
        statuses.clear()
        seen = drive.collect()
    drive.tell("shutdown")
    commands.set()
    assert drive.finish()[-1] == "stopped"
    for bell in (commands, statuses):
        os.fstat(bell.fileno())  # they were borrowed, and are open
        bell.close()


# --- failures


@pytest.mark.parametrize(
    ("app", "words"),
    [
        ("nonsense", "AppPathError: Invalid app path 'nonsense'"),
        ("no_such_module_at_all:app", "AppModuleNotFoundError: no module named"),
        ("tests.integration.apps.lifecycle:ap", "did you mean app"),
        ("tests.integration.apps.lifecycle:not_callable", "AppTypeError: "),
    ],
)
def test_an_application_that_is_not_there(app: str, words: str) -> None:
    drive = Drive(app=app)
    text = drive.error()
    assert words in text.splitlines()[0]
    assert "Traceback" not in text  # which would show our own frames only
    assert drive.collect() == ["started", "error"]


class Nasty:
    """Sources of modules that fail in ways which have crashed CPython on the way out."""

    str_raises = (
        "class Nasty(Exception):\n"
        "    def __str__(self): raise ValueError('no words')\n"
        "raise Nasty\n"
    )
    str_is_none = "class Nasty(Exception):\n    def __str__(self): return None\nraise Nasty\n"
    surrogate = "raise LookupError('half a character: \\ud800')"
    nul = "raise LookupError('before\\0after')"
    memory = "raise MemoryError"
    exit = "raise SystemExit(3)"
    interrupt = "raise KeyboardInterrupt"
    base = "class Nasty(BaseException): pass\nraise Nasty('base')"
    group = "raise BaseExceptionGroup('several', [KeyError('a'), SystemExit(1)])"
    recursion = "def f(): f()\nf()"
    long = "raise LookupError('x' * 1_000_000)"


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("import no_such_dependency", "imports 'no_such_dependency', which is not installed"),
        ("def broken(:", "SyntaxError"),
        (Nasty.str_raises, "Nasty"),
        (Nasty.str_is_none, "Nasty"),
        (Nasty.surrogate, r"half a character: \ud800"),
        (Nasty.nul, r"before\0after"),
        (Nasty.memory, "MemoryError"),
        (Nasty.exit, "SystemExit: 3"),
        (Nasty.interrupt, "KeyboardInterrupt"),
        (Nasty.base, "Nasty: base"),
        (Nasty.group, "several"),
        (Nasty.recursion, "RecursionError"),
        (Nasty.long, "LookupError: xxx"),
    ],
)
def test_a_module_that_fails(tmp_path: Path, source: str, words: str) -> None:
    (tmp_path / "failing_app.py").write_text(source)
    drive = Drive(app="failing_app:app", path=(str(tmp_path),))
    text = drive.error()
    assert words in text
    assert "failing_app" in text
    assert len(text) < 30_000
    assert drive.collect() == ["started", "error"]


def test_the_traceback_is_the_workers_own(tmp_path: Path) -> None:
    (tmp_path / "failing_app.py").write_text("def inner():\n    1 / 0\n\ninner()\n")
    text = Drive(app="failing_app:app", path=(str(tmp_path),)).error()
    assert f'File "{tmp_path}/failing_app.py", line 2, in inner' in text


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"startup.failed": "no database"}, "lifespan startup failed: no database"),
        ({"startup.raise": "no table"}, "no table"),
        ({"startup.hang": True}, "lifespan startup took more than startup_timeout=0.1 s"),
    ],
)
def test_a_lifespan_that_fails_to_start(state: dict[str, Any], words: str) -> None:
    drive = Drive(
        app="tests.integration.apps.lifecycle:with_lifespan",
        config=Config(lifespan="on", startup_timeout=0.1, shutdown_timeout=0.1),
        state=json.dumps(state),
    )
    assert words in drive.error()
    assert drive.collect() == ["started", "error"]


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"shutdown.failed": "not saved"}, "lifespan shutdown failed: not saved"),
        ({"shutdown.raise": "no table"}, "no table"),
        ({"shutdown.hang": True}, "lifespan shutdown took more than shutdown_timeout=0.1 s"),
    ],
)
def test_a_lifespan_that_fails_to_end(state: dict[str, Any], words: str) -> None:
    drive = Drive(
        app="tests.integration.apps.lifecycle:with_lifespan",
        config=Config(lifespan="on", startup_timeout=20, shutdown_timeout=0.1),
        state=json.dumps(state),
    )
    drive.wait_for("serving")
    drive.tell("shutdown")
    assert words in drive.error()
    assert drive.collect() == ["started", "serving", "draining", "error"]


@pytest.mark.parametrize(
    ("config_json", "words"),
    [
        ("", "config_json: not JSON"),
        ("[]", "config_json: must be a JSON object"),
        ('{"prot": 1}', "prot: no such option; did you mean port"),
        ('{"port": "eighty"}', "port: must be an integer"),
        ('{"runtime": {}}', "KeyError"),
        (
            '{"runtime": {"listeners": [1], "command_wakeup": null, "status_wakeup": null}}',
            "TypeError",
        ),
    ],
)
def test_options_that_cannot_be_understood(config_json: str, words: str) -> None:
    assert words in Drive(config_json=config_json).error()


def test_a_state_that_is_not_json() -> None:
    assert "JSONDecodeError" in Drive(state="{").error()


@pytest.mark.parametrize(
    ("sock_fd", "words"),
    [
        (999_999, "Bad file descriptor"),
        (-1, "ValueError: negative file descriptor"),
        ("three", "TypeError"),
        (None, ""),
    ],
)
def test_a_descriptor_that_is_none(sock_fd: Any, words: str) -> None:
    if sock_fd is None:  # a file: it is open, owned and closed all the same
        sock_fd = os.open(os.devnull, os.O_RDONLY)
        drive = Drive(sock_fd=sock_fd)
        assert "Socket operation on non-socket" in drive.error()
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(sock_fd)
    else:
        assert words in Drive(sock_fd=sock_fd).error()


def test_a_worker_that_dies_while_it_serves() -> None:
    drive = Drive()
    drive.wait_for("serving")
    get(drive.url, "/die")
    assert "SystemExit: the worker is told to die" in drive.error()
    assert drive.collect() == ["started", "serving", "error"]


# --- reporting


class FakeQueue:
    """Has ``put()`` and ``get_nowait()``, and counts."""

    def __init__(self, *items: Any) -> None:
        self.items = list(items)
        self.looks = 0

    def put(self, item: Any) -> None:
        self.items.append(item)

    def get_nowait(self) -> Any:
        self.looks += 1
        if not self.items:
            raise queue.Empty
        return self.items.pop(0)


def test_an_error_that_cannot_be_reported_does_not_escape() -> None:
    class Full:
        def put(self, item: Any) -> None:
            raise queue.Full

    report_error(Full(), ValueError("lost"))


def test_an_error_whose_traceback_cannot_be_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise MemoryError

    monkeypatch.setattr("traceback.format_exception", fail)
    statuses = FakeQueue()
    report_error(statuses, ValueError("words"))
    assert statuses.items == [("error", "ValueError: words\n(its traceback can't be shown)")]


# --- the bridge, with a worker and queues that have only what is documented


class FakeWorker:
    """``serve()``, ``drain()``, ``shutdown()``, ``is_idle()``."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.idle = True
        self.result: asyncio.Future[None] | None = None
        self.ends_on_shutdown = True

    async def serve(self) -> None:
        self.calls.append("serve")
        self.result = asyncio.get_running_loop().create_future()
        try:
            await self.result
        finally:
            self.calls.append("served")

    def drain(self) -> None:
        self.calls.append("drain")

    def shutdown(self) -> None:
        self.calls.append("shutdown")
        if self.ends_on_shutdown and self.result is not None and not self.result.done():
            self.result.set_result(None)

    def is_idle(self) -> bool:
        return self.idle


def run[T](main: Callable[[], Any]) -> None:
    """Run a coroutine function, and check that it leaves no task behind."""

    async def checked() -> None:
        async with asyncio.timeout(30):
            await main()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(checked())


async def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "never came true"
        await asyncio.sleep(0.001)


def test_the_bridge_ends_with_a_shutdown() -> None:
    worker, commands, statuses = FakeWorker(), FakeQueue(("shutdown",), ("later",)), FakeQueue()
    run(lambda: _iic_bridge(worker, commands, statuses))
    assert worker.calls[-1] == "shutdown"
    assert statuses.items == [("draining",)]
    assert commands.items == [("later",)]


def test_the_bridge_drains_once_and_tells_when_it_is_idle() -> None:
    worker, commands, statuses = FakeWorker(), FakeQueue(), FakeQueue()
    worker.idle = False

    async def main() -> None:
        bridge = asyncio.create_task(_iic_bridge(worker, commands, statuses))
        commands.put(("drain",))
        await until(lambda: statuses.items)
        commands.put(("drain",))
        await until(lambda: not commands.items)
        assert worker.calls == ["drain"]
        assert statuses.items == [("draining",)]
        worker.idle = True
        await until(lambda: len(statuses.items) == 2)
        looks = commands.looks
        await until(lambda: commands.looks > looks)  # it says so once only
        assert statuses.items == [("draining",), ("idle",)]
        commands.put(("shutdown",))
        await bridge

    run(main)
    assert worker.calls == ["drain", "shutdown"]
    assert statuses.items == [("draining",), ("idle",)]


def test_the_bridge_logs_commands_it_does_not_know(caplog: pytest.LogCaptureFixture) -> None:
    worker, statuses = FakeWorker(), FakeQueue()
    with caplog.at_level(logging.ERROR):
        run(lambda: _iic_bridge(worker, FakeQueue(("dance", "tango"), ("shutdown",)), statuses))
    assert "('dance', 'tango')" in caplog.text
    assert worker.calls[-1] == "shutdown"


def test_a_queue_with_a_doorbell_is_not_looked_at_in_between() -> None:
    worker, commands, statuses = FakeWorker(), FakeQueue(), FakeQueue()
    bell = Wakeup()
    rung = Channel(commands, bell)

    async def main() -> None:
        bridge = asyncio.create_task(_iic_bridge(worker, rung, statuses))
        await until(lambda: commands.looks)
        looks = commands.looks
        await asyncio.sleep(0.3)  # time for several looks of one that polls
        assert commands.looks == looks
        rung.put(("shutdown",))
        await bridge

    run(main)
    bell.close()
    assert worker.calls[-1] == "shutdown"


def test_a_command_that_rang_before_the_bridge_listened_is_seen() -> None:
    worker, commands, statuses = FakeWorker(), FakeQueue(("shutdown",)), FakeQueue()
    bell = Wakeup()  # and is silent
    run(lambda: _iic_bridge(worker, Channel(commands, bell), statuses))
    bell.close()
    assert worker.calls[-1] == "shutdown"


def test_the_worker_runs_until_it_is_told_to_shut_down() -> None:
    worker, commands, statuses = FakeWorker(), FakeQueue(), FakeQueue()

    async def main() -> None:
        running = asyncio.create_task(_run_worker_with_iic(worker, commands, statuses))
        await until(lambda: "serve" in worker.calls)
        commands.put(("drain",))
        await until(lambda: ("idle",) in statuses.items)
        commands.put(("shutdown",))
        await running

    run(main)
    assert worker.calls == ["serve", "drain", "shutdown", "served"]


def test_each_shutdown_is_passed_on_since_the_second_one_forces() -> None:
    worker, commands, statuses = FakeWorker(), FakeQueue(), FakeQueue()
    worker.ends_on_shutdown = False

    async def main() -> None:
        running = asyncio.create_task(_run_worker_with_iic(worker, commands, statuses))
        for count in (1, 2):
            commands.put(("shutdown",))
            await until(lambda: worker.calls.count("shutdown") == count)  # noqa: B023
        assert not running.done()
        assert worker.result is not None
        worker.result.set_result(None)
        await running

    run(main)
    assert worker.calls[-1] == "served"


def test_a_worker_that_ends_by_itself_ends_the_bridge() -> None:
    worker = FakeWorker()

    async def main() -> None:
        running = asyncio.create_task(_run_worker_with_iic(worker, FakeQueue(), FakeQueue()))
        await until(lambda: worker.result)
        assert worker.result is not None
        worker.result.set_result(None)
        await running

    run(main)


def test_what_the_worker_raises_is_raised() -> None:
    worker = FakeWorker()

    async def main() -> None:
        running = asyncio.create_task(_run_worker_with_iic(worker, FakeQueue(), FakeQueue()))
        await until(lambda: worker.result)
        assert worker.result is not None
        worker.result.set_exception(LookupError("words"))
        with pytest.raises(LookupError, match="words"):
            await running

    run(main)


class BrokenQueue(FakeQueue):
    def get_nowait(self) -> Any:
        raise RuntimeError("the queue is gone")


def test_a_broken_queue_ends_the_worker_since_nobody_could_command_it() -> None:
    worker = FakeWorker()

    async def main() -> None:
        with pytest.raises(RuntimeError, match="the queue is gone"):
            await _run_worker_with_iic(worker, BrokenQueue(), FakeQueue())

    run(main)
    assert worker.calls == ["serve", "served"]


def test_cancellation_ends_both() -> None:
    worker = FakeWorker()

    async def main() -> None:
        running = asyncio.create_task(_run_worker_with_iic(worker, FakeQueue(), FakeQueue()))
        await until(lambda: worker.result)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    run(main)
    assert worker.calls == ["serve", "served"]


# --- small parts


def test_try_get() -> None:
    assert _try_get(FakeQueue(("drain",))) == ("drain",)
    assert _try_get(FakeQueue()) is None
    with pytest.raises(RuntimeError, match="the queue is gone"):
        _try_get(BrokenQueue())


def test_try_get_of_real_queues() -> None:
    for real in (interpreters.create_queue(4), queue.Queue[tuple[str, ...]]()):
        assert _try_get(real) is None
        real.put_nowait(("shutdown",))
        assert _try_get(real) == ("shutdown",)
        assert _try_get(real) is None


def test_the_hooks_receive_and_send() -> None:
    async def main() -> None:
        message = await _noop_receive()
        assert isinstance(message, dict)
        assert all(isinstance(part, str) for item in message.items() for part in item)
        assert await _noop_send({"type": "anything"}) is None  # type: ignore[func-returns-value]

    run(main)


def test_the_signatures_are_those_that_are_documented() -> None:
    import subinterp_asgi.bootstrap as module

    expected = (
        "(ctrl_queue: 'Any', status_queue: 'Any', config_json: 'str', lifespan_state_json: 'str', "
        "app_import_path: 'str', sock_fd: 'int', sock_family: 'int', worker_id: 'int', "
        "parent_sys_path: 'tuple[str, ...]') -> 'None'"
    )
    assert str(inspect.signature(module.bootstrap)) == expected
    assert str(inspect.signature(module)) == expected  # which is callable, see there
    for function, parameters, result in (
        (_run_worker_with_iic, ["worker", "ctrl_queue", "status_queue"], "None"),
        (_iic_bridge, ["worker", "ctrl_queue", "status_queue"], "None"),
        (_try_get, ["queue"], "tuple[Any, ...] | None"),
        (module._import_app, ["app_path"], "Any"),
        (_noop_receive, [], "dict[str, str]"),
        (_noop_send, ["message"], "None"),
    ):
        signature = inspect.signature(function)
        assert list(signature.parameters) == parameters
        assert signature.return_annotation == result
    for function in (_run_worker_with_iic, _iic_bridge, _noop_receive, _noop_send):
        assert inspect.iscoroutinefunction(function)


def test_the_package_exports_it_before_and_after_the_module_is_imported(tmp_path: Path) -> None:
    done = run_script(
        tmp_path,
        """
        from subinterp_asgi import bootstrap
        assert callable(bootstrap)
        import subinterp_asgi.bootstrap
        assert callable(subinterp_asgi.bootstrap)
        from subinterp_asgi.bootstrap import bootstrap as function, _iic_bridge
        from subinterp_asgi import bootstrap as again
        for name in (bootstrap, again, function):
            try:
                name()
            except TypeError as exc:
                assert "ctrl_queue" in str(exc), exc
            else:
                raise AssertionError(name)
        """,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_module_imported_first(tmp_path: Path) -> None:
    done = run_script(
        tmp_path,
        """
        import subinterp_asgi.bootstrap
        from subinterp_asgi import bootstrap
        assert callable(bootstrap)
        assert bootstrap.bootstrap.__name__ == "bootstrap"
        """,
    )
    assert (done.returncode, done.stderr) == (0, "")
