"""A real server for a test: started in a moment, told what it has seen, and gone afterwards."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import warnings
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

from ..errors import (
    AppRaisedError,
    BindError,
    ConfigError,
    NoAnswerError,
    ShutdownFailedError,
    ShutdownIncompleteError,
    StateError,
    SubinterpASGIError,
)
from ..supervisor.supervisor import Supervisor, _in_thread
from ..types import ASGIApp
from . import handed_over
from .clients import Response, fetch, library
from .interpreters import stock
from .observer import Observer
from .records import AppError, Expected, LeftBehindWarning, Received

if TYPE_CHECKING:
    import httpx
    from websockets.asyncio.client import connect as async_connect
    from websockets.sync.client import ClientConnection

type Fresh = Literal["interpreter", "modules"]

_FLUSH_AT_END = 1.0  # seconds
_LEFT = "the application has left behind: "
_CHANGES_AT_END = 30.0  # seconds for workers that replace others, and for these
_DEFAULTS = {
    "log_forwarding": True,
    # Clients are done when a test ends, and what still runs hangs.
    "timeout_graceful_shutdown": 0.1,
    "timeout_linger": 0.0,
    "shutdown_timeout": 2.0,
}
_LISTENING = ("bind", "uds", "fd", "sockets")
_OF_INTERPRETERS = ("extensions", "hide_modules", "daemon_threads")
_REUSE = "subinterp_asgi.worker.interpreter.reuse"
_ACCEPTED: set[object] = set()  # applications that may be served by interpreters used before


class LiveServer:
    """Serves an application while a test runs, on a free port of the loopback interface::

        with LiveServer("package.module:app") as server:
            assert server.get("/").status == 200

    With ``async with`` likewise, under asyncio and trio. When it ends, it fails the test if the
    application has raised what nobody expected, with the worker's traceback.

    Args:
        app: Import path of the application, or with ``isolation="thread"`` the application.
        env: Environment variables for the workers, over those of the process; ``None`` removes one.
        state: Initial content of the lifespan's state, as JSON can carry it.
        allow_errors: Exceptions that the application may raise: all (``True``), or some, by their
            classes or the names of these. Derived ones are meant too.
        fresh: ``"modules"``: begin in an interpreter that an earlier server of this application
            has left, if there is one; see ``fresh()``.
        options: Options of ``Config``.

    Attributes:
        allow_errors: As the argument.

    Raises:
        ConfigError: An argument is of a kind that can't be meant, or an option's value is bad.
    """

    def __init__(
        self,
        app: str | ASGIApp,
        *,
        isolation: str = "interpreter",
        workers: int = 1,
        env: Mapping[str, str | None] | None = None,
        state: Mapping[str, Any] | None = None,
        allow_errors: Expected = (),
        fresh: Fresh = "interpreter",
        **options: Any,
    ) -> None:
        if fresh not in ("interpreter", "modules"):
            raise ConfigError("fresh", f"must be 'interpreter' or 'modules', not {fresh!r}")
        given: Any
        for name, given in (("env", env), ("state", state)):
            if not isinstance(given, Mapping | None):
                raise ConfigError(name, f"must be a dict, not {given!r}")
        for variable, given in (env or {}).items():
            if not isinstance(given, str | None):
                raise ConfigError("env", f"{variable!r} must be a string or None, not {given!r}")
        self.allow_errors = allow_errors
        if not isinstance(allow_errors, bool | str | type):
            several: Any = tuple(allow_errors) if hasattr(allow_errors, "__iter__") else (None,)
            if not all(isinstance(each, str | type) for each in several):
                text = f"must be classes of exceptions, or their names, not {allow_errors!r}"
                raise ConfigError("allow_errors", text)
            self.allow_errors = several
        self._app = app
        self._fresh = fresh
        self._env = dict(env or {})
        self._lifespan_state = dict(state or {})
        self._options = {**_DEFAULTS, "isolation": isolation, "workers": workers, **options}
        self._sockets: Sequence[socket.socket] = ()
        self._supervisor: Supervisor | None = None
        self._observer = Observer({})
        self._environ: dict[str, str] | None = None  # of this process, as it was
        self._given_up = False
        self._make_supervisor()  # which checks the arguments

    # --- where it is

    @property
    def supervisor(self) -> Supervisor:
        """The ``Supervisor`` that runs the workers; after ``fresh()`` it is another one."""
        if self._supervisor is None:
            raise StateError("the server is not started")
        return self._supervisor

    @property
    def url(self) -> str:
        """Base URL, as ``http://127.0.0.1:54321``."""
        return self.supervisor.url

    @property
    def ws_url(self) -> str:
        """Base URL for WebSockets, as ``ws://127.0.0.1:54321``."""
        return "ws" + self.url.removeprefix("http")

    @property
    def host(self) -> str:
        """Address that it listens on."""
        return self.supervisor.addresses[0][0]

    @property
    def port(self) -> int:
        """Port that it listens on."""
        port = self.supervisor.addresses[0][1]
        if port is None:
            raise StateError("the server listens on a Unix socket, which has no port")
        return port

    # --- its life

    def start(self) -> Self:
        """Listen, and return when the workers serve.

        Raises:
            StartupError: The application could not be started; its traceback is in the message.
            BindError: The port asked for is taken.
        """
        if self._supervisor is not None:
            raise StateError("the server is started already")
        if not any(name in self._options for name in _LISTENING):
            self._sockets = [_listen(self._options)]
        try:
            self._start()
        except BaseException:
            self._close_sockets()
            raise
        return self

    def stop(self, timeout: float | None = None) -> None:
        """Stop, and tell what is wrong; does nothing if it is not started.

        What the application has left behind, such as requests and tasks that hang, is named by a
        ``LeftBehindWarning``.

        Args:
            timeout: Seconds that requests in flight may take; 0 breaks them off at once.

        Raises:
            AppRaisedError: The application has raised what was not expected.
            ShutdownFailedError: Its shutdown failed.
            ShutdownIncompleteError: A worker did not end, or a thread of the application's; call
                this again later, to release what they have held.
        """
        self._stop(timeout, stacklevel=3)

    def _stop(self, timeout: float | None, stacklevel: int) -> None:
        supervisor, observer = self._supervisor, self._observer
        if supervisor is None:
            return
        try:
            if timeout is None or timeout > 0:
                observer.settle(_CHANGES_AT_END)
                with contextlib.suppress(StateError, NoAnswerError):  # (the stop names what hangs)
                    observer.flush(_FLUSH_AT_END)
            observer.stop(timeout)
            self._supervisor = None
        except SubinterpASGIError as exc:
            if observer.left:
                exc.add_note(_LEFT + ", ".join(observer.left))
                observer.left.clear()
            if not isinstance(exc, ShutdownIncompleteError):
                self._supervisor = None
            raise
        finally:
            self._close_sockets()
            self._restore_environ()
        # (Who wants requests broken off need not be told of them.)
        left = [name for name in observer.left if timeout != 0 or not name.startswith("request")]
        if left:
            warnings.warn(_LEFT + ", ".join(left), LeftBehindWarning, stacklevel=stacklevel)
        self._raise_unexpected(())

    def fresh(
        self,
        *,
        env: Mapping[str, str | None] | None = None,
        state: Mapping[str, Any] | None = None,
        fresh: Fresh = "interpreter",
    ) -> Self:
        """Begin anew on the same port: new modules, new lifespan, and nothing recorded.

        Args:
            env: As for ``LiveServer``; by default what it was given.
            state: As ``env``.
            fresh: ``"interpreter"``: the workers get interpreters that nobody has used.
                ``"modules"``: they use theirs again, in which the application's own modules are
                imported anew; those of libraries stay, with all that was left in them.
        """
        self.check()
        if fresh == "modules" or self.supervisor.in_threads:
            self._refuse_shared_state(fresh)
        sockets, self._sockets = self._sockets, ()
        try:
            self._stop(None, stacklevel=3)
            self._sockets = sockets
            if env is not None:
                self._env = dict(env)
            if state is not None:
                self._lifespan_state = dict(state)
            self._fresh = fresh
            self._start()
        except BaseException:
            self._sockets = sockets
            self._close_sockets()
            raise
        return self

    def shared_modules(self) -> list[str]:
        """Modules that ``fresh="modules"`` does not import anew, by their topmost packages."""
        found: list[str] = self.call(f"{_REUSE}:shared_packages", self._app)
        return found

    def _refuse_shared_state(self, fresh: Fresh) -> None:
        if self.supervisor.in_threads:
            pool = self.supervisor._pool
            if fresh == "modules" or (pool is not None and pool.shares_app):
                raise StateError(
                    "workers in threads share the modules of the test, which stay as they are; "
                    "have a factory, 'module:create_app()', make the application anew"
                )
        elif reason := self.call(f"{_REUSE}:kept_state"):
            raise StateError(f'fresh="modules" is refused: {reason}; use fresh="interpreter"')

    def _make_supervisor(self) -> Supervisor:
        return Supervisor(
            self._app,
            sockets=self._sockets,
            state=self._lifespan_state,
            **{"port": 0, **self._options},
        )

    def _start(self) -> None:
        supervisor = self._make_supervisor()
        key = (self._app, *(getattr(supervisor.config, name) for name in _OF_INTERPRETERS))
        reserve = None
        if self._fresh == "modules":
            reserve = stock.reserve(key)
            reserve.limit = max(reserve.limit, supervisor.config.workers)
        if supervisor.in_threads and self._env:
            self._environ = dict(os.environ)
            for name, value in self._env.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value
        prelude = None if supervisor.in_threads else handed_over.prelude(self._options)
        self._observer = Observer(self._env, reserve, prelude)
        self._observer.watch(supervisor)
        self._supervisor = supervisor
        try:
            if self._given_up:
                raise StateError("who wanted the server was cancelled")
            supervisor.start()
            if reserve is not None and key not in _ACCEPTED:
                self._refuse_shared_state(self._fresh)
                _ACCEPTED.add(key)
        except BaseException:
            self._supervisor = None
            self._restore_environ()
            self._observer.stop(0)
            raise

    def _restore_environ(self) -> None:
        environ, self._environ = self._environ, None
        if environ is not None:
            for name in self._env:
                os.environ.pop(name, None)
                if name in environ:
                    os.environ[name] = environ[name]

    def _close_sockets(self) -> None:
        for sock in self._sockets:
            sock.close()
        self._sockets = ()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            self._stop(None, stacklevel=3)
        except (AppRaisedError, ShutdownFailedError) as exc:
            if error is None:
                raise
            error.add_note(str(exc))  # which is likely the reason

    async def __aenter__(self) -> Self:
        self._given_up = False
        try:
            await _in_thread(self.start)
        except BaseException:
            self._given_up = True  # a start that goes on has not got as far as stop() can see
            await _in_thread(self.stop, shield=True)  # it was cancelled, perhaps
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await _in_thread(lambda: self.__exit__(kind, error, traceback), shield=True)

    # --- to speak to it

    def get(self, path: str = "/", **more: Any) -> Response:
        """``request("GET", ...)``."""
        return self.request("GET", path, **more)

    def post(self, path: str = "/", body: bytes | str | None = None, **more: Any) -> Response:
        """``request("POST", ...)``."""
        return self.request("POST", path, body=body, **more)

    def request(
        self,
        method: str,
        path: str = "/",
        *,
        headers: dict[str, str] | None = None,
        body: bytes | str | None = None,
        json: Any = None,
        timeout: float = 10.0,
        context: ssl.SSLContext | None = None,
    ) -> Response:
        """Send a request by ``http.client``, on a connection of its own, and read the response.

        Args:
            path: What follows the URL; with a query string if it has one.
            json: To be sent as the body instead of ``body``.
            context: For TLS; by default the system's certificates are trusted.
        """
        return fetch(
            self.url,
            method,
            path,
            headers=headers,
            body=body,
            json_body=json,
            timeout=timeout,
            context=context,
        )

    def client(self, **options: Any) -> httpx.Client:
        """A ``httpx.Client`` with the server's URL as its base; ``options`` are those of httpx."""
        client: httpx.Client = library("httpx", "httpx", "client()").Client(
            base_url=self.url, **options
        )
        return client

    def async_client(self, **options: Any) -> httpx.AsyncClient:
        """A ``httpx.AsyncClient``, as ``client()``."""
        client: httpx.AsyncClient = library("httpx", "httpx", "async_client()").AsyncClient(
            base_url=self.url, **options
        )
        return client

    def websocket(self, path: str = "/", **options: Any) -> ClientConnection:
        """Open a WebSocket: a connection of the library ``websockets``, and a context manager."""
        module = library("websockets", "websockets.sync.client", "websocket()")
        connection: ClientConnection = module.connect(
            self.ws_url + path, **{"proxy": None, **options}
        )
        return connection

    def async_websocket(self, path: str = "/", **options: Any) -> async_connect:
        """The same for asyncio: to be awaited, or used by ``async with``."""
        module = library("websockets", "websockets.asyncio.client", "async_websocket()")
        opening: async_connect = module.connect(self.ws_url + path, **{"proxy": None, **options})
        return opening

    # --- what it has seen

    def flush(self, timeout: float = 5.0) -> None:
        """Wait until all that answered requests have led to is here.

        That is what they have logged, raised and counted, their events, and what they do after
        their response, such as background tasks.

        Raises:
            NoAnswerError: A worker has not answered in time, or a request goes on that has.
        """
        self.supervisor  # noqa: B018  (it must be started)
        self._observer.flush(timeout)

    def errors(self) -> list[AppError]:
        """What the application has raised and nobody has handled, since ``reset()``.

        After ``stop()`` that can still be asked, as can ``received()``.
        """
        self._flush_if_serving()
        return self._observer.errors()

    def received(self) -> list[Received]:
        """The requests that the application was given since ``reset()``, the last 1,000."""
        self._flush_if_serving()
        return self._observer.received()

    def reset(self) -> None:
        """Forget what was recorded: errors, too, which are no failure then."""
        self.flush()
        self._observer.reset()

    def check(self, allow_errors: Expected = ()) -> None:
        """Raise if the application has raised what is not allowed; for each error once.

        Args:
            allow_errors: Beside those that the server was told of.

        Raises:
            AppRaisedError: It has; with the workers' tracebacks.
        """
        self._flush_if_serving()
        self._raise_unexpected(allow_errors)

    def _flush_if_serving(self) -> None:
        if self._supervisor is not None:
            self.flush()

    def _raise_unexpected(self, allowed: Expected) -> None:
        errors = tuple(
            error
            for error in self._observer.unchecked()
            if not (error.is_one_of(self.allow_errors) or error.is_one_of(allowed))
        )
        if errors:
            text = "\n\n".join(map(str, errors))
            raise AppRaisedError(f"the application has raised:\n{text}", errors)

    def call(
        self,
        function: str,
        *arguments: Any,
        worker: int | str | None = None,
        timeout: float = 10.0,
        **more: Any,
    ) -> Any:
        """Call ``"package.module:function"`` in a worker, and return what it returns.

        Arguments and result are carried as JSON. An ``async`` function runs on the worker's loop,
        others in a thread beside it.

        Args:
            worker: Its number; by default the first that serves. ``"all"``: in each of them, for a
                list of results.
            more: Further arguments of the function.

        Raises:
            CallFailedError: The function has raised; the worker's traceback is in the message.
            NoAnswerError: It has not returned in time.
            StateError: There is no such worker that serves.
        """
        self.supervisor  # noqa: B018  (it must be started)
        question = {"call": function, "arguments": arguments, "more": more}
        results = self._observer.call(worker, question, timeout)
        return results if worker == "all" else results[0]


def serve(app: str | ASGIApp, **options: Any) -> LiveServer:
    """A ``LiveServer``, for ``with`` and ``async with``."""
    return LiveServer(app, **options)


def _listen(options: Mapping[str, Any]) -> socket.socket:
    host, port = options.get("host", "127.0.0.1"), options.get("port", 0)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as exc:
        raise BindError(f"{host}:{port}", exc.strerror or str(exc), exc.errno) from None
