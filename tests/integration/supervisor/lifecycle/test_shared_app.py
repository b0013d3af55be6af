"""Workers in threads that share an application which only one of them can run."""

from __future__ import annotations

from typing import Any

import pytest

from subinterp_asgi.errors import ReloadError, ShutdownFailedError, StartupError

from .making import LIFESPAN, make

CURE = r"--workers 1 .* --factory"


class Once:
    """What has a lifespan only once, as session managers and routers of some frameworks have."""

    def __init__(self) -> None:
        self.starts = self.ends = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await receive()
        self.starts += 1
        if self.starts > 1:
            await self.fail(send, "startup")
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})

    async def fail(self, send: Any, event: str) -> None:
        await send({"type": f"lifespan.{event}.failed", "message": "can only be called once"})


class EndsOnce(Once):
    """As that, but it is only at its end that it notices."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        self.ends += 1
        if self.ends > 1:
            await self.fail(send, "shutdown")
        else:
            await send({"type": "lifespan.shutdown.complete"})


def test_the_cure_is_named() -> None:
    with pytest.raises(StartupError, match=CURE) as caught:
        make(Once(), workers=3).start()
    assert "LifespanError: lifespan startup failed: can only be called once" in str(caught.value)


def test_so_it_is_by_a_reload() -> None:
    with make(Once()) as server, pytest.raises(ReloadError, match=CURE):
        server.reload()


def test_and_at_the_end(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ShutdownFailedError), make(EndsOnce(), workers=2):
        pass
    (text,) = [r.message for r in caplog.records if "can only be called once" in r.message]
    assert "--workers 1" in text
    assert "--factory" in text


def test_the_cure_cures() -> None:
    with make(Once, factory=True, workers=2) as server:
        server.reload()
    with make(Once()):
        pass


def test_what_no_worker_can_start_is_another_matter() -> None:
    state = {"startup.failed": "no database"}
    with pytest.raises(StartupError, match="no database") as caught:
        make(LIFESPAN, workers=2, state=state).start()
    assert "--factory" not in str(caught.value)
