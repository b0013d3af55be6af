"""What the pytest plugin does once one of its fixtures is used; loaded not before that."""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from inspect import signature
from typing import Any

import pytest

from ..config.suggestion import suggestion
from ..errors import AppRaisedError, NoAnswerError, StateError
from . import handed_over, in_worker
from .forks import no_forks
from .records import Expected, LeftBehindWarning, NotReachedWarning
from .server import LiveServer

_EXPLAINING_TIME = 1.0  # seconds for what a failure is to be explained by
_DEBUGGING_TIME = 1e6
_FORGET = f"{in_worker.__name__}:forget"
_POST_MORTEM = f"{in_worker.__name__}:post_mortem"
_MARKED = {"env", "state", "options", "isolation", "allow_errors"}
_STAY_HERE = {"monkeypatch", "mocker", "settings"}
_INSTEAD = 'env=, state= and call() do, and with isolation="thread" it is one interpreter'
_FRAMES_ARE_SAFE = sys.version_info >= (3, 13, 18)  # those of other interpreters: see watchdog


class Session:
    """The servers of a session of pytest, and what is changed while there are any.

    Attributes:
        shared: The server of ``asgi_server``.
    """

    def __init__(self, config: pytest.Config) -> None:
        self.shared: LiveServer | None = None
        self._config = config
        self._live: list[LiveServer] = []
        self._interrupted = False
        self._cleanup = ExitStack()
        config.add_cleanup(self._cleanup.close)
        self._keep_terminal()
        self._watch_timeouts()
        if config.getoption("usepdb", False):
            handed_over.keep_errors = True
            in_worker.keep_errors()  # of workers in threads
            in_worker.terminal = handed_over.terminal

    def _keep_terminal(self) -> None:
        capture: Any = self._config.pluginmanager.getplugin("capturemanager")
        if capture is not None:
            capture.suspend(in_=True)
        try:
            terminal = os.dup(0), os.dup(1)
        except OSError:
            return  # there is none
        finally:
            if capture is not None:
                capture.resume()
        handed_over.terminal = terminal

        def forget() -> None:
            handed_over.terminal = None
            for fd in terminal:
                os.close(fd)

        self._cleanup.callback(forget)

    def _watch_timeouts(self) -> None:
        """Have pytest-timeout show the stacks of workers beside those that it finds itself."""
        plugin: Any = sys.modules.get("pytest_timeout")
        dump_stacks = getattr(plugin, "dump_stacks", None)
        if dump_stacks is None:
            return

        def dump_all(terminal: Any) -> None:
            if _FRAMES_ARE_SAFE or not self._live:
                dump_stacks(terminal)
            for server in self._live:
                with contextlib.suppress(StateError):  # the test has stopped it
                    text = server.supervisor.dump()
                    terminal.sep("~", title=f"Workers of {server._app}")
                    terminal.write(text)

        plugin.dump_stacks = dump_all
        self._cleanup.callback(setattr, plugin, "dump_stacks", dump_stacks)

    # --- Django

    def use_django(self, item: pytest.Item) -> None:
        """Have a test use Django's databases as one with pytest-django's ``live_server`` does."""
        if not handed_over.real_names:
            handed_over.note_real_names()
            self._cleanup.callback(handed_over.real_names.clear)
        if handed_over.real_names:
            mark = item.get_closest_marker("django_db")
            arguments = () if mark is None else mark.args[1:]
            more = {"databases": "__all__"} if mark is None else dict(mark.kwargs)
            more.pop("transaction", None)
            transactional = pytest.mark.django_db(True, *arguments, **more)
            item.add_marker(transactional, append=False)

    def prepare(self, request: pytest.FixtureRequest) -> None:
        """See to it that there are test databases."""
        has_plugin = self._config.pluginmanager.hasplugin("django")
        if has_plugin and handed_over.django_is_tested():
            request.getfixturevalue("django_db_setup")

    # --- servers

    @contextmanager
    def serving(self, app: Any, item: pytest.Item | None, **options: Any) -> Iterator[LiveServer]:
        """Serve an application as the ini file, the test's mark and these options say."""
        values = {**self._options(item), **options}
        app = app or self._config.getini("asgi_app")
        if not app:
            raise pytest.UsageError(
                "no application to serve: give serve_asgi() one, or name it in the ini file, as "
                "asgi_app = package.module:attribute"
            )
        with ExitStack() as stack:
            if values["isolation"] != "thread":
                stack.enter_context(no_forks())
            server = LiveServer(app, **values)
            self._live.append(server)
            try:
                yield stack.enter_context(server)
            finally:
                self._live.remove(server)
                if self._interrupted:  # nobody wants to hear what was not finished
                    with contextlib.suppress(Exception), warnings.catch_warnings(action="ignore"):
                        server.stop(0)

    def _options(self, item: pytest.Item | None) -> dict[str, Any]:
        values = {} if item is None else _marked(item)
        ini = self._config.getini
        workers = ini("asgi_workers")
        return {
            "isolation": ini("asgi_isolation"),
            "workers": int(workers) if workers.isdecimal() else workers,  # which the server checks
            **values.pop("options", {}),
            **values,
        }

    def _used_by(self, item: pytest.Item) -> list[LiveServer]:
        shared = "asgi_server" in getattr(item, "fixturenames", ())
        return [server for server in self._live if server is not self.shared or shared]

    # --- tests

    @contextmanager
    def watching(self, item: pytest.Item, phase: str) -> Iterator[None]:
        """Have what the application raises fail a test, or be shown beside its failure."""
        if phase == "setup":
            self._begin(item)
        try:
            yield
        except pytest.skip.Exception:
            raise
        except (pytest.exit.Exception, KeyboardInterrupt):
            self._interrupted = True
            raise
        except BaseException:
            self._explain(item, phase)
            raise
        else:
            if phase == "call":
                self._check(item)
        finally:
            if phase == "teardown":
                self._end(item)

    def _begin(self, item: pytest.Item) -> None:
        if handed_over.keep_errors:
            self._call(item, _FORGET, _EXPLAINING_TIME)
        marked = _marked(item)
        names = set(getattr(item, "fixturenames", ()))
        alone = marked.keys() - {"allow_errors"}
        if alone and "asgi_server" in names and not names & {"fresh_asgi_server", "serve_asgi"}:
            raise pytest.UsageError(
                f"{item.nodeid}: asgi_server is shared by all tests, so that "
                f"{', '.join(f'{name}=' for name in sorted(alone))} of the mark asgi can't be for "
                "this one; use fresh_asgi_server"
            )
        if self._options(item)["isolation"] != "thread" and handed_over.django_is_tested():
            from django.test.signals import setting_changed

            setting_changed.connect(_warn_of_setting)

    def _check(self, item: pytest.Item) -> None:
        allowed: Expected = _marked(item).get("allow_errors", ())
        for server in self._used_by(item):
            raised = ""
            try:
                server.check(allowed)
            except AppRaisedError as exc:
                raised = str(exc).replace(":\n", " ", 1)  # so that the summary names the first
            except NoAnswerError as exc:
                warnings.warn(f"{item.nodeid}: {exc}", LeftBehindWarning, stacklevel=1)
            if raised:
                pytest.fail(raised, pytrace=False)

    def _explain(self, item: pytest.Item, phase: str) -> None:
        """Show beside a failure what the application has to do with it."""
        for server in self._used_by(item):
            with contextlib.suppress(StateError):  # it serves no more
                try:
                    server.flush(_EXPLAINING_TIME)
                    busy = bool(server.supervisor.stats().in_flight)
                except NoAnswerError:
                    busy = True
                errors = "\n\n".join(map(str, server._observer.unchecked()))
                if errors:
                    item.add_report_section(phase, "the application's errors", errors)
                if busy:
                    item.add_report_section(phase, "its workers", server.supervisor.dump())
        function = getattr(item, "function", None)
        changed = _STAY_HERE.intersection(signature(function).parameters if function else ())
        if changed and self._options(item)["isolation"] != "thread":
            text = (
                f"What {' and '.join(sorted(changed))} changes does not reach workers: {_INSTEAD}."
            )
            item.add_report_section(phase, "of interpreters", text)

    def _end(self, item: pytest.Item) -> None:
        signals: Any = sys.modules.get("django.test.signals")
        if signals is not None:
            signals.setting_changed.disconnect(_warn_of_setting)
        if self.shared is not None and self.shared in self._used_by(item):
            self.shared._observer.reset()  # what has answered is here: the check has seen to that

    def debug(self, item: pytest.Item) -> None:
        """Look at what was raised in the workers with a debugger, before pytest does so."""
        self._call(item, _POST_MORTEM, _DEBUGGING_TIME)

    def _call(self, item: pytest.Item, function: str, timeout: float) -> None:
        for server in self._used_by(item):
            with contextlib.suppress(NoAnswerError, StateError):
                server.call(function, worker="all", timeout=timeout)


def _marked(item: pytest.Item) -> dict[str, Any]:
    """What the marks of a test say, the closest last."""
    values: dict[str, Any] = {}
    for mark in reversed([*item.iter_markers("asgi")]):
        unknown = sorted(mark.kwargs.keys() - _MARKED)
        if unknown or mark.args:
            wrong = ", ".join([*map(repr, mark.args), *(f"{name}=" for name in unknown)])
            hint = suggestion(unknown[0], _MARKED) if unknown else ""
            raise pytest.UsageError(f"{item.nodeid}: the mark asgi takes no {wrong}{hint}")
        for name, value in mark.kwargs.items():
            both = isinstance(value, Mapping) and name in values
            values[name] = {**values[name], **value} if both else value
    return values


def _warn_of_setting(setting: str, enter: bool = True, **_: Any) -> None:
    if enter:
        import django

        places = [os.path.dirname(str(django.__file__)), os.path.dirname(__file__)]
        plugin = sys.modules.get("pytest_django")
        if plugin is not None:
            places.append(os.path.dirname(str(plugin.__file__)))
        warnings.warn(
            f"the setting {setting} is changed in the test only, which does not reach workers: "
            f"{_INSTEAD}",
            NotReachedWarning,
            skip_file_prefixes=tuple(places),
            stacklevel=2,
        )
