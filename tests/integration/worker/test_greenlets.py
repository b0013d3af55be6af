"""Workers in which threads stand in for greenlets: what they say, how they are held up and end."""

from __future__ import annotations

import ctypes  # noqa: F401  (libffi opens a descriptor, once, when it is first loaded)
import json
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from subinterp_asgi import Supervisor
from subinterp_asgi.supervisor import kept
from subinterp_asgi.supervisor.events import WorkerAbandoned, WorkerStuck
from tests.support import get, nothing_left, wait_until

pytest.importorskip("greenlet")

APP = """
    import asyncio, json, sys, threading, time

    def answer(path):
        return "ok"

    {source}

    async def spawn(function, *args):
        import greenlet
        child = greenlet.greenlet(function)
        child.gr_context = greenlet.getcurrent().gr_context
        result = child.switch(*args)
        while not child.dead:
            try:
                value = await result
            except BaseException:
                result = child.throw(*sys.exc_info())
            else:
                result = child.switch(value)
        return result

    def wait_for(awaitable):
        import greenlet
        return greenlet.getcurrent().parent.switch(awaitable)

    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            raise NotImplementedError
        result = answer(scope["path"])
        if asyncio.iscoroutine(result):
            result = await result
        body = json.dumps(result).encode()
        headers = [(b"content-length", b"%d" % len(body))]
        await send({{"type": "http.response.start", "status": 200, "headers": headers}})
        await send({{"type": "http.response.body", "body": body}})
"""

type Serve = Callable[..., Supervisor]


@pytest.fixture
def serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    monkeypatch.syspath_prepend(tmp_path)

    def start(source: str, **options: Any) -> Supervisor:
        indented = dedent(source).replace("\n", "\n    ")
        (tmp_path / "served.py").write_text(dedent(APP.format(source=indented)))
        options = {"port": 0, "access_log": False, "extensions": "private"} | options
        return stack.enter_context(Supervisor("served:app", **options))

    with nothing_left(), ExitStack() as stack:
        yield start


def ask(server: Supervisor, path: str = "/") -> Any:
    answer = get(server.url, path)
    assert answer.status == 200
    return json.loads(answer.body)


LOADED = """
def answer(path):
    return sorted(name for name in sys.modules if name.endswith((".greenlets", "._greenlet")))
"""


@pytest.mark.parametrize("extensions", ["pure", "private", "refuse"])
def test_nothing_is_loaded_before_it_is_needed(serve: Serve, extensions: str) -> None:
    assert ask(serve(LOADED, extensions=extensions)) == []


def test_the_package_is_the_real_one(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    import greenlet as real

    source = """
    import greenlet
    from greenlet import greenlet as cls, getcurrent, GreenletExit, error
    def answer(path):
        return [greenlet.__version__, greenlet.__file__, cls.__module__, bool(getcurrent()),
                sys.modules["greenlet._greenlet"].__spec__.origin]
    """
    with caplog.at_level(logging.INFO):
        server = serve(source, workers=2, log_forwarding=True)
        assert ask(server) == [real.__version__, real.__file__, "greenlet", True, None]
        server.stop()
    assert caplog.text.count("threads that hand over to each other are taken") == 1
    assert "without which the application goes on" not in caplog.text
    assert "subinterp_asgi.worker.interpreter.greenlets" not in sys.modules


SPINNING = """
    import greenlet  # before it serves: that may hold up a slow machine, too

    def spin():
        while True:
            sum(range(100))

    def sync(path):
        wait_for(asyncio.sleep(0))
        if path == "/inner":
            return wait_for(spawn(spin))
        spin()

    def answer(path):
        return "ok" if path == "/" else spawn(sync, path)
"""


@pytest.mark.parametrize("path", ["/spin", "/inner"])
def test_one_that_holds_up_the_loop(serve: Serve, path: str) -> None:
    """The stack leads to it, and it is interrupted, as if it were the loop's own thread."""
    events: list[Any] = []
    server = serve(SPINNING, timeout_worker_healthcheck=0.5, on_event=events.append)
    assert get(server.url, path).status == 500
    assert ask(server) == "ok"
    wait_until(lambda: [e for e in events if isinstance(e, WorkerStuck)])
    stack = next(e.stack for e in events if isinstance(e, WorkerStuck))
    assert stack.index("in run_until_complete") < stack.index("in spawn") < stack.index("in spin")


SUSPENDED = """
    tasks = []

    def sync(stubborn):
        import greenlet
        me = greenlet.getcurrent()
        while True:
            try:
                me.parent.switch(asyncio.Event().wait())
            except asyncio.CancelledError:
                if not stubborn:
                    raise
            finally:
                done = True

    async def begin(stubborn):
        if stubborn:  # whoever waited for it is gone
            import greenlet
            child = greenlet.greenlet(sync)
            child.switch(True).close()
            tasks.append(child)
        else:
            tasks.append(asyncio.ensure_future(spawn(sync, False)))
            await asyncio.sleep(0)
        return len([t for t in threading.enumerate() if t.name.startswith("asgi-greenlet-")])

    def answer(path):
        return begin(path == "/stubborn")
"""


@pytest.mark.parametrize("path", ["/", "/stubborn"])
def test_an_end_in_the_middle(serve: Serve, path: str, caplog: pytest.LogCaptureFixture) -> None:
    """No thread is left, nothing waits for one, and no interpreter is kept."""
    events: list[Any] = []
    server = serve(SUSPENDED, on_event=events.append, shutdown_timeout=60)
    assert [ask(server, path) for _ in range(5)] == [1, 2, 3, 4, 5]
    server.reload()
    assert ask(server, path) == 1
    server.stop(20)
    assert not [event for event in events if isinstance(event, WorkerAbandoned)]
    assert not kept.any_left()
    assert "still runs" not in caplog.text
