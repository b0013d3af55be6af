"""A lifespan that raises while its worker serves is told of at once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from subinterp_asgi.errors import ShutdownFailedError
from subinterp_asgi.supervisor.events import (
    LifespanFailed,
    WorkerChanged,
    WorkerDied,
    WorkerRecycled,
)
from subinterp_asgi.supervisor.states import WorkerState

from ...support import get, wait_until
from ..apps.pool import App
from ..supervising import Heard, Servers, generations

RAISING = "tests.integration.supervisor.test_lifespan_failure:Raising"


class Raising(App):
    """Its lifespan raises on request."""

    def __init__(self) -> None:
        super().__init__()
        self.raise_now = asyncio.Event()

    async def lifespan(self, scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        raising = asyncio.create_task(self.raise_now.wait())
        ending = asyncio.create_task(receive())
        await asyncio.wait((raising, ending), return_when="FIRST_COMPLETED")
        if raising.done():
            raise LookupError("the connection was lost")
        await send({"type": "lifespan.shutdown.complete"})

    async def do_lose(self, argument: str, receive: Any, send: Any) -> bytes:
        self.raise_now.set()
        return b"lost"


@pytest.mark.parametrize("isolation", ["interpreter", "thread"])
def test_an_event_tells(servers: Servers, isolation: str) -> None:
    heard = Heard()
    app = RAISING if isolation == "interpreter" else Raising
    server = servers.start(app, isolation=isolation, on_event=heard)
    assert get(server.url, "/lose").text == "lost"
    (event,) = heard.wait_for(LifespanFailed)
    assert event.worker_id == 0
    assert event.error.startswith("LookupError: the connection was lost\n")
    assert get(server.url).status == 200  # the worker goes on
    assert generations(server) == [1]
    with pytest.raises(ShutdownFailedError, match="LookupError: the connection was lost"):
        server.stop()


def test_the_worker_is_replaced_if_an_option_says_so(servers: Servers) -> None:
    heard = Heard()
    server = servers.start(Raising, on_event=heard, lifespan_restart=True)
    for number in (1, 2):
        heard.wait_for(WorkerChanged, state=WorkerState.SERVING, count=number)
        heard.wait_for(WorkerChanged, state=WorkerState.FAILED, count=number - 1)
        assert get(server.url, "/lose").text == "lost"
        recycled = heard.wait_for(WorkerRecycled, count=number)
        assert recycled[-1].reason == "lifespan_restart"
        heard.wait_for(LifespanFailed, count=number)
    heard.wait_for(WorkerDied, count=2)  # whose shutdown could not be
    server.stop()


class FailingAtLast(App):
    """Its shutdown fails."""

    async def lifespan(self, scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.failed", "message": "not all was saved"})


def test_a_shutdown_that_fails_in_a_reload_is_told(
    servers: Servers, caplog: pytest.LogCaptureFixture
) -> None:
    """The reload is none the worse for it."""
    heard = Heard()
    server = servers.start(FailingAtLast, on_event=heard)
    assert server.reload() == 2
    (died,) = heard.wait_for(WorkerDied, generation=1)
    assert "lifespan shutdown failed: not all was saved" in died.error
    assert died.restart_in is None
    wait_until(lambda: "worker 0 did not end well: LifespanError" in caplog.text)
    with pytest.raises(ShutdownFailedError, match=r"^asgi-worker-0 did not end well"):
        server.stop()
