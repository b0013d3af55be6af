"""The lifespan protocol by itself: no worker, no sockets."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from subinterp_asgi.errors import ASGIProtocolError, LifespanError
from subinterp_asgi.worker.asgi.lifespan import Lifespan

type App = Callable[[Any, Any, Any], Awaitable[None]]


def run(main: Callable[[], Awaitable[None]]) -> None:
    """Run a coroutine function; asyncio must have nothing to complain of afterwards."""
    complaints: list[dict[str, Any]] = []

    async def checked() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: complaints.append(context))
        async with asyncio.timeout(30):
            await main()
        assert asyncio.all_tasks() == {asyncio.current_task()}
        gc.collect()

    asyncio.run(checked())
    gc.collect()
    assert complaints == []


def lifespan(app: App, mode: Any = "on", state: dict[str, Any] | None = None) -> Lifespan:
    return Lifespan(app, mode, {} if state is None else state)


async def good(scope: Any, receive: Any, send: Any) -> None:
    assert (await receive()) == {"type": "lifespan.startup"}
    scope["state"]["begun"] = True
    await send({"type": "lifespan.startup.complete"})
    assert (await receive()) == {"type": "lifespan.shutdown"}
    scope["state"]["ended"] = True
    await send({"type": "lifespan.shutdown.complete"})


async def none(scope: Any, receive: Any, send: Any) -> None:
    raise NotImplementedError


@pytest.mark.parametrize("mode", ["on", "auto"])
def test_a_whole_life(mode: str) -> None:
    state = {"given": 1}

    async def main() -> None:
        life = lifespan(good, mode, state)
        await life.startup(20)
        assert state == {"given": 1, "begun": True}
        await life.shutdown(20)
        assert state["ended"] is True
        await life.shutdown(20)  # nothing is left to do

    run(main)


def test_the_scope() -> None:
    scopes: list[Any] = []
    state: dict[str, Any] = {}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scopes.append(scope)
        await good(scope, receive, send)

    async def main() -> None:
        life = lifespan(app, state=state)
        await life.startup(20)
        await life.shutdown(20)

    run(main)
    (scope,) = scopes
    assert scope["type"] == "lifespan"
    assert scope["asgi"] == {"version": "3.0", "spec_version": "2.0"}
    assert scope["state"] is state
    assert scope.keys() == {"type", "asgi", "state"}


def test_off_does_not_call_the_application() -> None:
    async def main() -> None:
        life = lifespan(none, "off")
        await life.startup(20)
        await life.shutdown(20)

    run(main)


def test_auto_takes_an_exception_for_no(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        life = lifespan(none, "auto")
        with caplog.at_level(logging.INFO, "subinterp_asgi.error"):
            await life.startup(20)
        await life.shutdown(20)

    run(main)
    assert "does not support lifespan (it answered with NotImplementedError())" in caplog.text


def test_on_takes_an_exception_for_a_failure() -> None:
    async def main() -> None:
        with pytest.raises(LifespanError, match="raised during lifespan startup") as caught:
            await lifespan(none).startup(20)
        assert isinstance(caught.value.__cause__, NotImplementedError)

    run(main)


async def leaves(scope: Any, receive: Any, send: Any) -> None:
    await receive()


def test_an_application_that_leaves_without_an_answer() -> None:
    async def main() -> None:
        with pytest.raises(LifespanError, match="left its lifespan before startup was complete"):
            await lifespan(leaves).startup(20)
        life = lifespan(leaves, "auto")
        await life.startup(20)
        await life.shutdown(20)

    run(main)


def failing(event: str, **message: Any) -> App:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if event == "shutdown":
            await receive()
            await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": f"lifespan.{event}.failed", **message})
        raise LookupError("which says no more than was said already")

    return app


@pytest.mark.parametrize("mode", ["on", "auto"])
@pytest.mark.parametrize(
    ("message", "words"),
    [({"message": "no database"}, "no database"), ({}, "no message was given")],
)
def test_a_failure_that_is_reported(mode: str, message: dict[str, str], words: str) -> None:
    async def main() -> None:
        life = lifespan(failing("startup", **message), mode)
        with pytest.raises(LifespanError, match=f"^lifespan startup failed: {words}$"):
            await life.startup(20)
        await life.shutdown(20)  # which was not begun, so that there is nothing to end
        life = lifespan(failing("shutdown", **message), mode)
        await life.startup(20)
        with pytest.raises(LifespanError, match=f"^lifespan shutdown failed: {words}$"):
            await life.shutdown(20)

    run(main)


async def hangs(scope: Any, receive: Any, send: Any) -> None:
    await asyncio.Event().wait()


async def hangs_at_the_end(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await asyncio.Event().wait()


async def never_returns(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})
    await asyncio.Event().wait()


def test_times_are_bounded_and_what_hangs_is_cancelled() -> None:
    async def main() -> None:
        with pytest.raises(LifespanError, match=r"startup took more than startup_timeout=0\.01 s"):
            await lifespan(hangs).startup(0.01)
        life = lifespan(hangs_at_the_end)
        await life.startup(20)
        with pytest.raises(LifespanError, match="shutdown took more than shutdown_timeout"):
            await life.shutdown(0.01)
        life = lifespan(never_returns)
        await life.startup(20)
        await life.shutdown(0.01)

    run(main)


def test_an_application_that_raises_in_the_middle_of_its_life() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        raise LookupError("the connection was lost")

    async def main() -> None:
        life = lifespan(app)
        await life.startup(20)
        with pytest.raises(LifespanError, match="raised in its lifespan") as caught:
            await life.shutdown(20)
        assert isinstance(caught.value.__cause__, LookupError)

    run(main)


def test_a_failure_is_told_at_once(caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await asyncio.sleep(0)
        raise LookupError("the connection was lost")

    async def main() -> None:
        told: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
        life = Lifespan(app, "auto", {}, told.set_result)
        await life.startup(20)
        async with asyncio.timeout(20):
            assert isinstance(await told, LookupError)
        with pytest.raises(LifespanError):
            await life.shutdown(20)

    run(main)
    assert caplog.text.count("lifespan failed while it was served") == 1
    assert "LookupError: the connection was lost" in caplog.text


def test_one_that_knows_lifespan_and_raises_is_not_taken_for_one_that_does_not(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        raise LookupError("no database")

    async def main() -> None:
        life = lifespan(app, "auto")
        await life.startup(20)
        await life.shutdown(20)

    run(main)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "after it had received startup" in record.getMessage()
    assert "LookupError: no database" in caplog.text


def test_a_failed_startup_is_final_though_the_application_waits_on() -> None:
    cancelled = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})
        try:
            await receive()  # as Sanic does
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    async def main() -> None:
        async with asyncio.timeout(20):
            with pytest.raises(LifespanError, match="no database"):
                await lifespan(app).startup(3600)

    run(main)
    assert cancelled == [True]


def test_an_application_that_leaves_in_the_middle_of_its_life() -> None:
    """That is allowed: it has nothing to do at the end."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})

    async def main() -> None:
        life = lifespan(app)
        await life.startup(20)
        await life.shutdown(20)

    run(main)


@pytest.mark.parametrize("ends", ["hangs", "failed", "raises"])
def test_a_startup_that_is_interrupted_is_not_waited_for(ends: str) -> None:
    """The worker was told to end; it is cancelled, whatever it then says or raises."""
    cancelled: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.append(ends)
            if ends == "failed":
                await send({"type": "lifespan.startup.failed", "message": "interrupted"})
            elif ends == "raises":
                raise LookupError("interrupted")

    async def main() -> None:
        life = lifespan(app)
        starting = asyncio.create_task(life.startup(3600))
        await asyncio.sleep(0.01)
        starting.cancel()
        await asyncio.wait([starting])
        await life.shutdown(3600)

    run(main)
    assert cancelled == [ends]


def test_a_failure_in_the_moment_of_an_interruption() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})
        await asyncio.Event().wait()

    async def main() -> None:
        life = lifespan(app)
        starting = asyncio.create_task(life.startup(3600))
        await asyncio.sleep(0)  # startup() has begun the call
        await asyncio.sleep(0)  # which has answered
        starting.cancel()  # before startup() could see it
        await asyncio.wait([starting])
        await life.shutdown(3600)

    run(main)


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        (["lifespan.shutdown.complete"], "unexpected message 'lifespan.shutdown.complete'"),
        (["http.response.start"], "unexpected message 'http.response.start'"),
        (["lifespan.startup.done"], "unexpected message 'lifespan.startup.done'"),
        (
            ["lifespan.startup.complete", "lifespan.startup.complete"],
            "was sent after the startup had been answered",
        ),
    ],
)
def test_messages_that_may_not_come_are_errors_in_the_application(
    messages: list[str], words: str
) -> None:
    errors: list[Exception] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        try:
            for message in messages:
                await send({"type": message})
        except ASGIProtocolError as exc:
            errors.append(exc)

    async def main() -> None:
        life = lifespan(app, "auto")
        await life.startup(20)
        await life.shutdown(20)

    run(main)
    assert words in str(errors[0])


def test_context_variables_that_it_sets_are_in_its_context() -> None:
    import contextvars

    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        variable.set("set by the lifespan")
        await good(scope, receive, send)

    async def main() -> None:
        life = lifespan(app)
        await life.startup(20)
        assert life.context[variable] == "set by the lifespan"
        assert variable.get() == "unset"
        await life.shutdown(20)

    run(main)
