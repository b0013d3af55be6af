"""``bootstrap`` driven by hand, in place of a supervisor."""

from __future__ import annotations

import asyncio
import os
import queue
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from subinterp_asgi import Config
from subinterp_asgi.control import interpreters
from tests.support import ROOT, Pending, get, open_descriptors, wait_until

APP = "tests.integration.apps.lifecycle:app"
CALL = """
from subinterp_asgi.bootstrap import bootstrap
bootstrap(
    ctrl_queue, status_queue, config_json, lifespan_state_json, app_import_path,
    sock_fd, sock_family, worker_id, parent_sys_path,
)
"""


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


class BrokenQueue(FakeQueue):
    def get_nowait(self) -> Any:
        raise RuntimeError("the queue is gone")
