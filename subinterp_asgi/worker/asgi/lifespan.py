"""The lifespan of an application (ASGI lifespan specification 2.0), run in each worker."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Callable

from ...config import LifespanMode
from ...errors import AppTypeError, ASGIProtocolError, LifespanError, LifespanTimeoutError
from ...types import Any, ASGIApp, Message
from ..interpreter.importer import refusal
from ..interpreter.marks import takes_interrupts
from .state import of_application

logger = logging.getLogger("subinterp_asgi.error")

_LAST_WORDS = 0.1  # seconds for a call to return that has said that its startup failed


class Lifespan:
    """Runs an application's lifespan call from ``startup()`` to ``shutdown()``.

    Args:
        mode: ``"on"``: a failure is an error; ``"auto"``: an application that raises before it
            answers the startup event is taken not to support it; ``"off"``: it is not called.
        state: The dict that becomes ``scope["state"]``; filled by the application.

        on_failure: Called with what the call has raised between startup and shutdown.

    Attributes:
        brief: That there is none need not be said; others have.
        context: The context that the call runs in, with the variables that it sets.
    """

    def __init__(
        self,
        app: ASGIApp,
        mode: LifespanMode,
        state: dict[str, Any],
        on_failure: Callable[[BaseException], None] | None = None,
    ) -> None:
        self._app = app
        self._mode = mode
        self._state = state
        self._on_failure = on_failure
        self.brief = False
        self._received = False  # it knows what a lifespan is
        self.context = contextvars.copy_context()
        self._events: asyncio.Queue[Message] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None
        self._startup: asyncio.Future[None] | None = None
        self._shutdown: asyncio.Future[None] | None = None

    async def startup(self, timeout: float) -> None:
        """Send the startup event and wait for the answer.

        ``LifespanError``: the application reported a failure, raised, or took too long.
        """
        if self._mode == "off":
            return
        self._startup = asyncio.get_running_loop().create_future()
        task = self._task = asyncio.create_task(
            self._call_app(), name="subinterp-asgi-lifespan", context=self.context
        )
        self._events.put_nowait({"type": "lifespan.startup"})
        await asyncio.wait(
            (self._startup, self._task), timeout=timeout, return_when="FIRST_COMPLETED"
        )
        if self._startup.done():
            if self._startup.exception() is not None:
                await self._end(min(timeout, _LAST_WORDS))  # the answer is final
                self._task = None
            self._startup.result()
            task.add_done_callback(self._call_ended)
            return
        if not self._task.done():
            await self.cancel()
            self._task = None
            raise LifespanTimeoutError(
                f"lifespan startup took more than startup_timeout={timeout:g} s"
            )
        error = None if self._task.cancelled() else self._task.exception()
        self._task = None
        if isinstance(error, AppTypeError):
            raise error  # whatever the mode: it can't serve requests either
        if error is not None and (self._mode == "on" or not isinstance(error, Exception)):
            refused = refusal(error)
            raise LifespanError(
                "the application raised during lifespan startup"
                + (f": {refused}" if refused else "")
            ) from error
        if self._mode == "on":
            raise LifespanError("the application left its lifespan before startup was complete")
        if self._received and error is not None:
            logger.warning(
                "the application raised in its lifespan, after it had received startup; "
                "it is served all the same (lifespan='on' makes that an error)",
                exc_info=of_application(error),
            )
            return
        if not self.brief:
            logger.info("the application does not support lifespan (it answered with %r)", error)

    async def shutdown(self, timeout: float, option: float | None = None) -> None:
        """Send the shutdown event and wait for the answer, if ``startup()`` was answered.

        ``option`` is ``shutdown_timeout``, of which ``timeout`` is what is left. Errors as
        those of ``startup()``.
        """
        if self._task is None:
            return
        if self._startup is not None and not (
            self._startup.done() and self._startup.exception() is None
        ):
            await self.cancel()  # startup() was interrupted
            return
        if not self._task.done():
            self._shutdown = asyncio.get_running_loop().create_future()
            self._events.put_nowait({"type": "lifespan.shutdown"})
            await asyncio.wait(
                (self._shutdown, self._task), timeout=timeout, return_when="FIRST_COMPLETED"
            )
            if self._shutdown.done():
                await self._end(timeout)
                self._shutdown.result()
                return
        if not self._task.done():
            await self.cancel()
            option = timeout if option is None else option
            raise LifespanTimeoutError(
                f"lifespan shutdown took more than shutdown_timeout={option:g} s"
            )
        error = None if self._task.cancelled() else self._task.exception()
        if error is not None:
            raise LifespanError("the application raised in its lifespan") from error

    def _call_ended(self, task: asyncio.Task[None]) -> None:
        """Say it at once if the call has failed, rather than when the worker ends."""
        error = None if task.cancelled() else task.exception()
        if error is not None and self._shutdown is None:
            logger.error(
                "the application's lifespan failed while it was served",
                exc_info=of_application(error),
            )
            if self._on_failure is not None:
                self._on_failure(error)

    async def cancel(self) -> None:
        """End the lifespan call where it stands."""
        if self._task is None:
            return
        if not self._task.done():
            self._task.cancel()
            await asyncio.wait((self._task,), timeout=1.0)
        if self._task.done() and not self._task.cancelled():
            self._task.exception()  # nobody is interested, and asyncio need not complain of that

    async def _end(self, timeout: float) -> None:
        """Give the call the time to return after its last message; what it raises was reported."""
        if self._task is not None:
            await asyncio.wait((self._task,), timeout=timeout)
            await self.cancel()

    @takes_interrupts
    async def _call_app(self) -> None:
        scope = {
            "type": "lifespan",
            "asgi": {"version": "3.0", "spec_version": "2.0"},
            "state": self._state,
        }
        call: Any = self._app(scope, self._receive, self._send)
        if not hasattr(call, "__await__"):
            raise AppTypeError(
                f"the application is not an ASGI application: its call returned {call!r:.100}, "
                "which can't be awaited; is it a factory (--factory, factory=True)?"
            )
        await call

    async def _receive(self) -> Message:
        self._received = True
        return await self._events.get()

    async def _send(self, message: Message) -> None:
        kind = message["type"]
        event, _, result = kind.removeprefix("lifespan.").partition(".")
        future = {"startup": self._startup, "shutdown": self._shutdown}.get(event)
        if result not in ("complete", "failed") or future is None:
            raise ASGIProtocolError(f"unexpected message {kind!r} in the lifespan")
        if future.done():
            raise ASGIProtocolError(f"{kind!r} was sent after the {event} had been answered")
        if result == "complete":
            future.set_result(None)
        else:
            text = message.get("message") or "no message was given"
            future.set_exception(LifespanError(f"lifespan {event} failed: {text}"))
            future.exception()  # whoever has ceased to wait for it needs no complaint from asyncio
