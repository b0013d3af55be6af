"""A lifespan that raises while its worker serves is told of at once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from subinterp_asgi.supervisor.events import LifespanFailed, WorkerChanged, WorkerRecycled
from subinterp_asgi.supervisor.states import WorkerState

from ...support import get
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
        await self.raise_now.wait()
        raise LookupError("the connection was lost")

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
