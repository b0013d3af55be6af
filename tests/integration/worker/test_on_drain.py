"""Applications learn that their worker drains, by ``on_drain()``."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from subinterp_asgi import Supervisor
from subinterp_asgi.errors import StateError
from subinterp_asgi.worker import on_drain
from tests.support import get, wait_until

from ..apps.pool import App, note
from ..serving import Gate, Notes, respond, serving
from ..supervising import both

TELLING = "tests.integration.worker.test_on_drain:Telling"


class Telling(App):
    """Notes in a file when its worker drains, and whether it is told in that one's loop."""

    async def startup(self, state: Any) -> None:
        loop = asyncio.get_running_loop()

        def tell() -> None:
            note(state["path"], str(asyncio.get_running_loop() is loop))

        on_drain(tell)


@both
def test_each_worker_tells_its_own_application(isolation: str, tmp_path: Path) -> None:
    path = tmp_path / "notes"
    options: dict[str, Any] = {"port": 0, "workers": 2, "factory": True}
    with Supervisor(
        TELLING, isolation=isolation, state={"path": str(path)[1:]}, **options
    ) as server:
        assert get(server.url).status == 200
        assert not path.exists()
        server.reload()
        assert path.read_text().splitlines() == ["True", "True"]
        path.unlink()
    assert path.read_text().splitlines() == ["True", "True"]


def test_it_is_told_once_and_mistakes_are_logged() -> None:
    notes = Notes()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        on_drain(lambda: notes("first"))
        on_drain(lambda: 1 / 0)
        await asyncio.to_thread(on_drain, lambda: notes("of a thread"))
        on_drain(lambda: notes("taken back"))()
        await respond(send)

    with serving(app) as served, served.connect() as client:
        assert client.get(b"/").status == 200
        served.call(served.worker.drain)
        served.call(served.worker.drain)
        served.call(served.worker.shutdown)
        wait_until(lambda: served.worker.state.value == "stopped")
        assert notes.wait() == ["first", "of a thread"]
        (text,) = served.records.messages
        assert text.startswith("worker 0: a callback of on_drain() failed: ZeroDivisionError")


def test_one_that_comes_late_is_told_at_once() -> None:
    gate, notes = Gate(), Notes()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await gate.wait()
        told = asyncio.Event()
        on_drain(told.set)
        await told.wait()
        notes("told")
        await respond(send)

    with serving(app) as served, served.connect() as client:
        client.send(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
        gate.wait_reached()
        served.call(served.worker.drain)
        gate.open()
        assert client.response().status == 200
        assert notes.wait() == ["told"]


def test_it_wants_a_worker() -> None:
    with pytest.raises(StateError, match="call it in the lifespan's startup, or in a request"):
        on_drain(print)
