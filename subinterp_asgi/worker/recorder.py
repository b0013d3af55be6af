"""What ``testing`` asks of a worker: to record what it is given and what is raised, and to answer.

Imported only in workers under test, whose application it wraps. Exceptions are found where they are
logged: by this package if they have left the application, by asyncio if a task has ended with one,
by a framework (or Django's signal) if that has made a response of status 500 of them.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import sys
import threading
import traceback
import weakref
from collections import deque
from contextvars import ContextVar
from time import monotonic, monotonic_ns

from ..control.messages import STATUS_ANSWER
from ..types import TYPE_CHECKING
from .interpreter.importer import import_object, message_of
from .interpreter.marks import takes_interrupts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from ..control.counters import Counters
    from ..types import ASGIApp, Message, Receive, Scope, Send
    from .log_forwarder import LogForwarder

_MOST_REQUESTS = 1000
_MOST_BODY = 64 * 1024
_MOST_TEXT = 20_000
_ROOM_INTERVAL = 0.001  # seconds between looks whether forwarded records are out
_OUR_LOGGER = "subinterp_asgi.error"
_WATCHED = ("", _OUR_LOGGER)  # the second one too, in case it does not propagate

_BEFORE_THE_APPLICATION = {__name__.partition(".")[0], "asyncio", "concurrent", "threading"}

_current: ContextVar[_Call] = ContextVar("subinterp_asgi call")


class _Call:
    """A call of the application, for a request."""

    def __init__(self, recorder: Recorder, scope: Scope) -> None:
        self.recorder = recorder
        self.scope = scope
        self.method: str = scope.get("method", "GET")
        self.body = bytearray()
        self.status: int | None = None
        self.answered = False  # the response is complete
        self.done = False
        self.suspects: list[BaseException] = []  # logged, which alone need not be a failure
        self.reported: set[int] = set()

    def receiving(self, receive: Receive) -> Receive:
        async def recorded() -> Message:
            message = await receive()
            if message["type"] == "http.request" and len(self.body) < _MOST_BODY:
                self.body += message.get("body", b"")[: _MOST_BODY - len(self.body)]
            return message

        return recorded

    def sending(self, send: Send) -> Send:
        async def recorded(message: Message) -> None:
            kind = message["type"]
            if kind in ("http.response.start", "websocket.http.response.start"):
                self.status = message.get("status")
            elif kind == "websocket.accept":
                self.status = 101
            elif kind == "websocket.close":
                self.status, self.answered = self.status or 403, True
            elif kind != "websocket.send":
                self.answered = not message.get("more_body", False)
            await send(message)

        return recorded

    def __str__(self) -> str:
        return f"{self.method} {self.scope['path']}"

    def record(self) -> dict[str, Any]:
        return {
            "type": self.scope["type"],
            "method": self.method,
            "path": self.scope["path"],
            "query": self.scope["query_string"].decode("latin-1"),
            "headers": [
                (name.decode("latin-1"), value.decode("latin-1"))
                for name, value in self.scope["headers"]
            ],
            "body": self.body.decode("latin-1"),
            "status": self.status,
            "done": self.done,
        }


class Recorder(logging.Handler):
    """Stands before the application, and answers on the status queue.

    Args:
        own_interpreter: What happens in threads is the worker's alone.

    Attributes:
        on_error: Called with what is reported.
    """

    on_error: Callable[[BaseException], None] | None = None

    def __init__(
        self,
        app: ASGIApp,
        *,
        loop: asyncio.AbstractEventLoop,
        status_queue: Any,
        counters: Counters,
        log_forwarder: LogForwarder | None,
        own_interpreter: bool,
    ) -> None:
        super().__init__(logging.ERROR)
        self._app = app
        self._loop = loop
        self._status_queue = status_queue
        self._counters = counters
        self._log_forwarder = log_forwarder
        self._own_interpreter = own_interpreter
        self._thread = threading.get_ident()
        self._calls: dict[_Call, None] = {}  # in flight, in the order in which they came
        self._ended: deque[_Call] = deque(maxlen=_MOST_REQUESTS)  # not handed over yet
        self._answering: set[asyncio.Task[None]] = set()
        self._progress = asyncio.Event()  # a call has ended
        self._excepthook = threading.excepthook
        if own_interpreter:
            threading.excepthook = self._thread_failed
        self._django: Any = None
        self._last: Callable[[], logging.LogRecord | None] = lambda: None
        self.attach()

    # --- what happens

    @takes_interrupts
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Call the application."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        call = _Call(self, scope)
        self._calls[call] = None
        _current.set(call)  # (the context is this call's own)
        try:
            await self._app(scope, call.receiving(receive), call.sending(send))
        finally:
            call.done = True
            del self._calls[call]
            self._ended.append(call)
            self._progress.set()
            if call.status is None or call.status >= 500:
                for suspect in call.suspects:
                    self._report(suspect, call)
            call.suspects.clear()

    def attach(self) -> None:
        """Listen to loggers, which the application may have configured anew, and to Django."""
        for name in _WATCHED:
            logger = logging.getLogger(name)
            if self not in logger.handlers:
                logger.addHandler(self)
        logging.getLogger(_OUR_LOGGER).disabled = False
        signals: Any = sys.modules.get("django.core.signals")
        if signals is not None and self._django is None:
            self._django = signals.got_request_exception
            self._django.connect(self._request_failed, weak=False)

    def emit(self, record: logging.LogRecord) -> None:
        """Take what is logged as an error. Called by ``logging``."""
        call = _current.get(None)
        if call.recorder is not self if call else self._is_others():
            return
        if self._last() is record:
            return  # it has come to the second logger
        self._last = weakref.ref(record)
        error = record.exc_info[1] if record.exc_info else None
        ours = record.name == _OUR_LOGGER
        if error is None:
            if ours and call:
                self._tell_error("ASGIProtocolError", (), record.getMessage(), "", call)
        elif ours or record.name == "asyncio":
            self._report(error, call)
        elif call:
            call.suspects.append(error)

    def _is_others(self) -> bool:
        return not self._own_interpreter and threading.get_ident() != self._thread

    def _request_failed(self, **_: Any) -> None:
        call, error = _current.get(None), sys.exc_info()[1]
        if call and call.recorder is self and error:
            call.suspects.append(error)

    def _thread_failed(self, args: Any) -> None:
        if args.exc_value is not None:
            self._report(args.exc_value, _current.get(None))
        self._excepthook(args)

    # --- is told

    def _report(self, error: BaseException, call: _Call | None) -> None:
        if call is not None:
            if id(error) in call.reported:
                return
            call.reported.add(id(error))
        if Recorder.on_error is not None:
            Recorder.on_error(error)
        types = [f"{each.__module__}.{each.__qualname__}" for each in type(error).__mro__]
        self._tell_error(
            type(error).__name__, types, message_of(error)[:_MOST_TEXT], _traceback(error), call
        )

    def _tell_error(
        self, name: str, types: Iterable[str], message: str, trace: str, call: _Call | None
    ) -> None:
        self._tell(
            error={
                "type": name,
                "types": tuple(types) or (name,),
                "message": message,
                "traceback": trace,
                "method": call and call.method,
                "path": call and call.scope["path"],
            }
        )

    def _tell(self, number: int = 0, **what: Any) -> None:
        self._status_queue.put((STATUS_ANSWER, number, json.dumps(what)))

    def tell_hung(self) -> None:
        """Name the requests that are still in flight, which will be broken off."""
        self.tell_left(f"request {call}" for call in self._calls)

    def tell_tasks(self, tasks: Iterable[asyncio.Task[Any]]) -> None:
        """Name the tasks that are left when all requests have ended."""
        names = {
            task.get_name(): getattr(task.get_coro(), "__qualname__", "?")
            for task in tasks
            if task not in self._answering
        }
        self.tell_left(f"task {name} ({call})" for name, call in names.items())

    def tell_left(self, names: Iterable[str]) -> None:
        """Name what the application has left behind."""
        if names := list(names):
            self._tell(left=names)

    def end(self) -> None:
        """Hand over the rest, and listen no more."""
        for name in _WATCHED:
            logging.getLogger(name).removeHandler(self)
        if self._django is not None:
            self._django.disconnect(self._request_failed)
        if self._own_interpreter:
            threading.excepthook = self._excepthook
        self._tell(requests=self._take_requests(), in_flight=[])

    def _take_requests(self) -> list[dict[str, Any]]:
        requests = [call.record() for call in self._ended]
        self._ended.clear()
        return requests

    # --- is asked

    def ask(self, number: int, question: str) -> None:
        """Answer a question, at once or later; called on the loop."""
        what = json.loads(question)
        answer = self._flush(number, what) if "flush" in what else self._call(number, what)
        task = self._loop.create_task(answer, name=f"asgi-{next(iter(what))}")
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)

    async def _flush(self, number: int, what: dict[str, Any]) -> None:
        """Answer once all that answered requests have led to is told, or time is over."""
        deadline = monotonic() + what["flush"]
        while busy := [call for call in self._calls if call.answered]:
            self._progress.clear()
            try:
                async with asyncio.timeout(deadline - monotonic()):
                    await self._progress.wait()
            except TimeoutError:
                break
        await asyncio.sleep(0)  # what they have put off to the end of the turn
        if self._log_forwarder is not None:
            self._log_forwarder.flush()
            while self._log_forwarder.behind and monotonic() < deadline:  # noqa: ASYNC110
                await asyncio.sleep(_ROOM_INTERVAL)
        self._counters.flush(monotonic_ns())
        in_flight = [call.record() for call in self._calls]
        requests = self._take_requests()
        self._tell(number, busy=list(map(str, busy)), requests=requests, in_flight=in_flight)

    async def _call(self, number: int, what: dict[str, Any]) -> None:
        try:
            result = await self._run(what["call"], what["arguments"], what["more"])
            try:
                self._tell(number, result=result)
            except (TypeError, ValueError) as exc:
                raise TypeError(
                    f"{what['call']} has returned what JSON can't carry: {exc}"
                ) from None
        except asyncio.CancelledError:
            raise  # the worker ends, which will be noticed
        except BaseException as exc:
            text = {"type": type(exc).__name__, "message": message_of(exc)[:_MOST_TEXT]}
            self._tell(number, failed={**text, "traceback": _traceback(exc)})

    @takes_interrupts
    async def _run(self, path: str, arguments: list[Any], more: dict[str, Any]) -> Any:
        function = import_object(path)
        if inspect.iscoroutinefunction(function):
            result = function(*arguments, **more)
        else:  # (Django refuses its database to a thread in which a loop runs.)
            result = await asyncio.to_thread(function, *arguments, **more)
        return await result if inspect.isawaitable(result) else result


def _traceback(error: BaseException) -> str:
    """Format an exception, from where it is the application's own."""
    trace = error.__traceback__
    while trace and trace.tb_next:
        module = str(trace.tb_frame.f_globals.get("__name__"))
        if module.partition(".")[0] not in _BEFORE_THE_APPLICATION:
            break
        trace = trace.tb_next
    try:
        return "".join(traceback.format_exception(type(error), error, trace))[-_MOST_TEXT:]
    except Exception:
        return "(its traceback can't be shown)"
