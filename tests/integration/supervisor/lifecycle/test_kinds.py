"""What an error of the start says: its kind, its cause, and the application's own frames, once."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import pytest

from subinterp_asgi import errors
from subinterp_asgi.supervisor.events import Event, WorkerChanged
from subinterp_asgi.supervisor.policy import rollout
from subinterp_asgi.supervisor.states import WorkerState
from tests.support import get

from .making import APPS, LIFESPAN, both, in_background, make

SOURCE = """
    import os
    def inner(): return os.environ["NO_SUCH_VARIABLE"]
    class Site:
        async def __call__(self, scope, receive, send):
            if scope["type"] == "lifespan":
                await receive()
                inner()
    site = Site()
    def make_it(): inner()
    def returns_nothing(*args): return None
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(tmp_path)
    # A worker that is late says so itself, however busy the machine is.
    monkeypatch.setattr(rollout, "START_MARGIN", 30.0)
    for name in [name for name in sys.modules if name.startswith("kinds_")]:
        monkeypatch.delitem(sys.modules, name)  # of the test before
    return tmp_path


def write(folder: Path, name: str, source: str) -> None:
    (folder / f"{name}.py").write_text("\n".join(line[4:] for line in source.splitlines()))


def failure(app: object, isolation: str, **options: object) -> errors.StartupError:
    with pytest.raises(errors.StartupError) as caught:
        make(app, isolation, **options).start()
    return caught.value


@both
@pytest.mark.parametrize(
    ("app", "options", "kind", "cause"),
    [
        ("nonsense", {}, "not_found", "AppPathError: Invalid app path 'nonsense'"),
        ("no_such_module:app", {}, "not_found", "AppModuleNotFoundError: no module named"),
        (f"{APPS}:ap", {}, "not_found", "AppAttributeError: "),
        (f"{APPS}:not_callable", {}, "not_asgi", "AppTypeError: "),
        ("kinds_{}:returns_nothing", {}, "not_asgi", "AppTypeError: "),
        ("kinds_{}:make_it()", {}, "import", "KeyError: 'NO_SUCH_VARIABLE'"),
        ("kinds_{}_raises:app", {}, "import", "KeyError: 'NO_SUCH_VARIABLE'"),
        ("kinds_{}_syntax:app", {}, "import", "SyntaxError: "),
        ("kinds_{}:site", {"lifespan": "on"}, "lifespan", "KeyError: 'NO_SUCH_VARIABLE'"),
        (
            LIFESPAN,
            {"lifespan": "on", "startup_timeout": 0.1, "state": {"startup.hang": True}},
            "timeout",
            "LifespanTimeoutError: lifespan startup took more than",
        ),
        (
            LIFESPAN,
            {"lifespan": "on", "state": {"startup.failed": "no database"}},
            "lifespan",
            "LifespanError: lifespan startup failed: no database",
        ),
        (
            f"{APPS}:app",
            {"ssl_context_factory": "kinds_{}:returns_nothing"},
            "config",
            "ConfigError: ssl_context_factory: must return",
        ),
        (
            f"{APPS}:app",
            {"ssl_context_factory": "no_such_module:make"},
            "config",
            "AppModuleNotFoundError: no module named 'no_such_module', looking for 'no_such_",
        ),
        (
            f"{APPS}:app",
            {"access_log": True, "access_log_filter": f"{APPS}:absent"},
            "config",
            f"AppAttributeError: {APPS!r} has no attribute 'absent'",
        ),
        (
            f"{APPS}:app",
            {"access_log": True, "access_log_filter": f"{APPS}:not_callable"},
            "config",
            f"ConfigError: access_log_filter: {APPS}:not_callable can't be called",
        ),
    ],
)
def test_kind_and_cause(
    folder: Path, isolation: str, app: str, options: dict[str, object], kind: str, cause: str
) -> None:
    write(folder, f"kinds_{isolation}", SOURCE)
    write(folder, f"kinds_{isolation}_raises", SOURCE + "\n    inner()\n")
    write(folder, f"kinds_{isolation}_syntax", "    def inner(:\n")
    options = {
        name: value.format(isolation) if isinstance(value, str) else value
        for name, value in options.items()
    }
    exc = failure(app.format(isolation), isolation, **options)
    assert exc.kind == kind
    assert exc.cause is not None
    assert exc.cause.startswith(cause)
    assert exc.worker_id == 0


def test_logging_that_can_not_be_configured(folder: Path) -> None:
    file = folder / "logging.json"
    file.write_text('{"version": 1, "handlers": {"out": {"class": "no_such_module.Handler"}}}')
    exc = failure(f"{APPS}:app", "interpreter", log_config=str(file))
    assert exc.kind == "config"
    assert f"ConfigError: log_config: {str(file)!r}: Unable to configure handler 'out'" in str(exc)


@both
def test_what_workers_reject_is_not_tried_again(isolation: str) -> None:
    heard: list[Event] = []
    options = {"access_log": True, "access_log_filter": "no_such_module:wanted"}
    exc = failure(f"{APPS}:app", isolation, workers=2, on_event=heard.append, **options)
    assert "ConfigError: access_log_filter: no module named 'no_such_module'" in str(exc)
    assert "--app-dir" in str(exc)
    started = [event for event in heard if isinstance(event, WorkerChanged)]
    started = [event for event in started if event.state is WorkerState.STARTING]
    assert sorted(event.worker_id for event in started) == [0, 1]


@both
@pytest.mark.parametrize("option", ["access_log_filter", "ssl_context_factory"])
def test_it_is_known_before_the_lifespan_starts(isolation: str, option: str) -> None:
    options: dict[str, object] = {"access_log": True, option: "no_such_module:wanted"}
    options |= {"lifespan": "on", "startup_timeout": 30.0, "state": {"startup.hang": True}}
    exc = failure(LIFESPAN, isolation, **options)
    assert exc.kind == "config"
    assert f"ConfigError: {option}: no module named 'no_such_module'" in str(exc)


@pytest.mark.parametrize("option", ["access_log_filter", "ssl_context_factory"])
def test_what_is_no_import_path(option: str) -> None:
    """That is known before there is any worker."""
    with pytest.raises(errors.ConfigError, match=f"{option}: must be an import path such as "):
        make(f"{APPS}:app", **{option: "shop/certificates.py"})


def test_an_event_handler_that_is_none() -> None:
    with pytest.raises(errors.ConfigError, match="on_event: must be a function, not 'print'"):
        make(f"{APPS}:app", on_event="print")


@both
@pytest.mark.parametrize(
    ("app", "first"),
    [("kinds_{}:site", "line 8, in __call__"), ("kinds_{}:make_it()", "line 10, in make_it")],
)
def test_the_traceback_begins_at_the_applications_code(
    folder: Path, isolation: str, app: str, first: str
) -> None:
    write(folder, f"kinds_{isolation}", SOURCE)
    text = str(failure(app.format(isolation), isolation, lifespan="on"))
    lines = text.splitlines()
    assert lines[1] == "Traceback (most recent call last):"
    assert lines[2] == f'  File "{folder}/kinds_{isolation}.py", {first}'
    assert text.count("Traceback") == 1
    assert text.endswith("KeyError: 'NO_SUCH_VARIABLE'")
    assert "subinterp_asgi/" not in text


@both
def test_a_syntax_error_shows_its_caret_only(folder: Path, isolation: str) -> None:
    write(folder, f"kinds_{isolation}_syntax", "    def inner(:\n")
    lines = str(failure(f"kinds_{isolation}_syntax:app", isolation)).splitlines()
    assert lines[1] == f'  File "{folder}/kinds_{isolation}_syntax.py", line 1'
    assert lines[3].strip() == "^"
    assert lines[4] == "SyntaxError: invalid syntax"
    assert len(lines) == 5


def test_a_start_that_was_stopped(folder: Path) -> None:
    server = make(LIFESPAN, lifespan="on", state={"startup.hang": True})
    with server.events() as events:
        thread, outcome = in_background(server.start)
        next(events)
        server.stop(0)
        thread.join()
    assert isinstance(outcome[0], errors.StartupError)
    assert outcome[0].kind == "stopped"
    assert outcome[0].cause is None


@both
def test_a_reload_says_it_too(folder: Path, isolation: str) -> None:
    write(folder, f"reloaded_{isolation}", SOURCE + "\n    async def app(s, r, d): ...\n")
    made = threading.Event()

    def factory() -> object:
        if made.is_set():
            raise KeyError("NO_SUCH_VARIABLE")
        made.set()

        async def app(scope: object, receive: object, send: object) -> None: ...

        return app

    thread = isolation == "thread"
    app = factory if thread else f"reloaded_{isolation}:app"
    with make(app, isolation, lifespan="off", factory=thread) as server:
        write(folder, f"reloaded_{isolation}", SOURCE + "\n    inner()\n\n")
        with pytest.raises(errors.ReloadError) as caught:
            server.reload()
    assert caught.value.cause == "KeyError: 'NO_SUCH_VARIABLE'"
    assert caught.value.kind == "import"


SPEECHLESS = """
    class Speechless(ImportError):
        def __str__(self): raise KeyError("no words")
        __repr__ = __str__
    def make_it(): raise Speechless
    class Site:
        async def __call__(self, scope, receive, send):
            state = scope["state"]
            if scope["type"] == "http":
                raise Speechless
            while (await receive())["type"] != state["raises"]:
                await send({"type": "lifespan.startup.complete"})
            raise Speechless
    site = Site()
"""


@both
@pytest.mark.parametrize(
    ("app", "state", "kind"),
    [
        ("speechless_{}_raises:site", {}, "import"),
        ("speechless_{}:make_it()", {}, "import"),
        ("speechless_{}:site", {"raises": "lifespan.startup"}, "lifespan"),
    ],
)
def test_an_exception_that_can_t_be_shown_has_its_kind_all_the_same(
    folder: Path, isolation: str, app: str, state: dict[str, str], kind: str
) -> None:
    write(folder, f"speechless_{isolation}", SPEECHLESS)
    write(folder, f"speechless_{isolation}_raises", SPEECHLESS + "\n    make_it()\n")
    exc = failure(app.format(isolation), isolation, lifespan="on", state=state)
    assert exc.kind == kind
    assert exc.cause == "Speechless: (its message can't be shown)"
    assert "raise Speechless" in str(exc)


@both
def test_an_exception_that_can_t_be_shown_in_a_request_and_in_the_shutdown(
    folder: Path, isolation: str
) -> None:
    write(folder, f"speechless_{isolation}", SPEECHLESS)
    state = {"raises": "lifespan.shutdown"}
    server = make(f"speechless_{isolation}:site", isolation, lifespan="on", state=state)
    server.start()
    assert get(server.url).status == 500
    assert get(server.url).status == 500  # of the same worker, which has not died
    assert [worker.state for worker in server.workers] == [WorkerState.SERVING]
    with pytest.raises(errors.ShutdownFailedError, match="Speechless") as caught:
        server.stop()
    assert "raise Speechless" in str(caught.value)


def test_the_script_itself_is_not_to_be_found_in_an_interpreter() -> None:
    assert "name the module by its file" in str(failure("__main__:app", "interpreter"))
